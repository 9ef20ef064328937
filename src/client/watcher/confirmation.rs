//! By when a stream has to bring word of the store.
//!
//! Owns the arithmetic. Must not know what follows where no word comes.

use std::time::Duration;

use tokio::time::Instant;

use crate::client::replica::Applied;

/// Of one stream.
pub(super) struct Confirmation {
    /// How old the last word may be before another server is looked for.
    pub(super) patience: Duration,
    /// How long there may be none while a stream brings new revisions.
    longest: Duration,
    /// None until the stream has brought anything.
    by: Option<Instant>,
    catch_up_by: Option<Instant>,
}

impl Confirmation {
    pub(super) fn new(patience: Duration, longest: Duration) -> Self {
        Self { patience, longest, by: None, catch_up_by: None }
    }

    /// Notes what an event says; whether that is within the staleness bound, and whether it is the first time that the stream
    /// is in sync.
    pub(super) fn note(&mut self, applied: &Applied, fresh: bool, first_sync: bool) {
        let now = Instant::now();
        // The first word sets the time in which a resumed stream has to come in sync, and that sets it once more.
        let begins = first_sync || self.by.is_none();
        if begins || fresh {
            self.catch_up_by = Some(now + self.longest);
        }
        let by = now + self.patience;
        // Heartbeats come behind all that is queued, and who has something new to send has its store.
        let by = if begins || applied.advanced {
            Some(self.catch_up_by.map_or(by, |last| by.min(last)))
        } else {
            applied.confirmed_age.and_then(|age| by.checked_sub(age))
        };
        self.by = self.by.max(by);
    }

    /// Whether there was no word for too long.
    pub(super) fn is_overdue(&self) -> bool {
        self.by.is_some_and(|by| by <= Instant::now())
    }
}
