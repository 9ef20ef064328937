//! How fresh the cache is, and what has happened to the stream.
//!
//! Owns the rule of staleness. Knows only the monotonic clock, and takes the present from its caller.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::error::Error;

/// How a client is at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// Whether there has been a complete snapshot, so that the cache can be read.
    pub ready: bool,
    /// Whether the cache may be older than the staleness bound. True before it is ready.
    pub stale: bool,
    /// Revision of the cache; 0 before the first snapshot.
    pub revision: u64,
    /// When the store itself last confirmed the cache, through its server.
    pub last_confirmed: Option<Instant>,
    /// How long ago that was.
    pub confirmed_age: Option<Duration>,
    /// What stands in the way of following the stream; `None` while it is followed.
    pub last_error: Option<Arc<Error>>,
    /// Streams opened after the first.
    pub reconnects: u64,
    /// Resets that servers announced.
    pub resets: u64,
    /// Times that the cache was found to differ from the server's, and was built anew.
    pub digest_mismatches: u64,
}

/// What the status is computed from.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    pub(super) ready: bool,
    pub(super) revision: u64,
    pub(super) last_message: Option<Instant>,
    /// How old the store's confirmation was, and when that was said.
    pub(super) confirmed: Option<(Duration, Instant)>,
    pub(super) last_error: Option<Arc<Error>>,
    pub(super) streams: u64,
    pub(super) resets: u64,
    pub(super) digest_mismatches: u64,
}

impl Health {
    /// The status at a moment. Stale: nothing heard within the bound, or the server itself has not heard from the
    /// store within it.
    pub(super) fn status(&self, now: Instant, bound: Duration) -> Status {
        let confirmed_age =
            self.confirmed.map(|(age, told)| age.saturating_add(now.saturating_duration_since(told)));
        let silent = self.last_message.is_none_or(|last| now.saturating_duration_since(last) > bound);
        let unconfirmed = confirmed_age.is_none_or(|age| age > bound);
        Status {
            ready: self.ready,
            stale: !self.ready || silent || unconfirmed,
            revision: self.revision,
            last_confirmed: confirmed_age.and_then(|age| now.checked_sub(age)),
            confirmed_age,
            last_error: self.last_error.clone(),
            reconnects: self.streams.saturating_sub(1),
            resets: self.resets,
            digest_mismatches: self.digest_mismatches,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Health, Instant};

    const BOUND: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    fn heard(age: Duration, at: Instant) -> Health {
        Health { ready: true, last_message: Some(at), confirmed: Some((age, at)), ..Health::default() }
    }

    #[test]
    fn a_silent_server_makes_the_cache_stale() {
        let start = Instant::now();
        let health = heard(Duration::ZERO, start);
        assert!(!health.status(start + BOUND, BOUND).stale);
        assert!(health.status(start + BOUND + SECOND, BOUND).stale);
        assert_eq!(health.status(start + SECOND, BOUND).confirmed_age, Some(SECOND));
        assert_eq!(health.status(start + SECOND, BOUND).last_confirmed, Some(start));
    }

    #[test]
    fn a_talking_server_that_lost_its_store_does_too() {
        let start = Instant::now();
        let health = heard(BOUND - SECOND, start);
        assert!(!health.status(start, BOUND).stale);
        assert!(health.status(start + 2 * SECOND, BOUND).stale);
        assert!(heard(BOUND + SECOND, start).status(start, BOUND).stale);
    }

    #[test]
    fn nothing_heard_yet_is_neither_ready_nor_fresh() {
        let status = Health::default().status(Instant::now(), BOUND);
        assert!(!status.ready && status.stale);
        assert_eq!((status.reconnects, status.confirmed_age), (0, None));
    }
}
