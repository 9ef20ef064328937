//! What becomes of streams, counted for whoever asks: how much they were sent, and why some had to begin anew or to go.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::proto::v1::ResetReason;

/// Why a stream did not go on from where it was, with the words that it is counted under.
const RESETS: [(ResetReason, &str); 6] = [
    (ResetReason::Compacted, "compacted"),
    (ResetReason::OtherStore, "other_store"),
    (ResetReason::ViewChanged, "view_changed"),
    (ResetReason::Ahead, "ahead"),
    (ResetReason::Lagged, "lagged"),
    (ResetReason::InvalidToken, "invalid_token"),
];

/// Why the connection of a stream was cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cut {
    /// It has lost its rights, and does not read.
    Rights,
    /// It leaves unread what it is sent.
    Stalled,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Rights => "a stream has lost its rights and does not read",
            Self::Stalled => "a stream leaves unread what it is sent",
        })
    }
}

/// Counts of all streams, from the start on.
#[derive(Default)]
pub(super) struct Tally {
    deliveries: AtomicU64,
    snapshots: AtomicU64,
    log_reads: AtomicU64,
    resets: [AtomicU64; RESETS.len()],
    rights: AtomicU64,
    stalled: AtomicU64,
}

/// What was counted, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamCounts {
    /// Streams that are open.
    pub open: u64,
    /// Bytes that the ring of the newest revisions holds.
    pub ring_bytes: usize,
    /// Revisions handed to streams: one for each stream that sees a part of one.
    pub deliveries: u64,
    /// Snapshots begun.
    pub snapshots: u64,
    /// Pages of the log read for streams that the ring had gone on without.
    pub log_reads: u64,
    /// Streams that had to begin anew, by the reason's word.
    pub resets: Vec<(&'static str, u64)>,
    /// Connections cut, by the reason's word.
    pub cut: [(&'static str, u64); 2],
}

impl Tally {
    pub fn delivered(&self, revisions: u64) {
        if revisions > 0 {
            self.deliveries.fetch_add(revisions, Relaxed);
        }
    }

    /// A snapshot begins; with the reason if the client had another cursor.
    pub fn snapshot(&self, reset: Option<ResetReason>) {
        self.snapshots.fetch_add(1, Relaxed);
        let place = RESETS.iter().position(|(reason, _)| Some(*reason) == reset);
        if let Some(count) = place.and_then(|place| self.resets.get(place)) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub fn log_read(&self) {
        self.log_reads.fetch_add(1, Relaxed);
    }

    pub fn cut(&self, why: Cut) {
        match why {
            Cut::Rights => &self.rights,
            Cut::Stalled => &self.stalled,
        }
        .fetch_add(1, Relaxed);
    }

    pub fn counts(&self, open: u64, ring_bytes: usize) -> StreamCounts {
        let Self { deliveries, snapshots, log_reads, resets, rights, stalled } = self;
        StreamCounts {
            open,
            ring_bytes,
            deliveries: deliveries.load(Relaxed),
            snapshots: snapshots.load(Relaxed),
            log_reads: log_reads.load(Relaxed),
            resets: RESETS
                .iter()
                .zip(resets)
                .map(|((_, word), count)| (*word, count.load(Relaxed)))
                .collect(),
            cut: [("rights", rights.load(Relaxed)), ("stalled", stalled.load(Relaxed))],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_under_its_own_word() {
        let tally = Tally::default();
        for number in 1..=i32::MAX {
            let Ok(reason) = ResetReason::try_from(number) else { break };
            tally.snapshot(Some(reason));
        }
        tally.snapshot(None);
        tally.cut(Cut::Stalled);
        let counts = tally.counts(0, 0);
        assert_eq!(counts.snapshots, RESETS.len() as u64 + 1);
        assert!(counts.resets.iter().all(|(_, count)| *count == 1), "{counts:?}");
        assert_eq!(counts.cut, [("rights", 0), ("stalled", 1)]);
    }
}
