//! How fresh the cache is, and what has happened to the stream.
//!
//! Owns the rule of staleness. Takes the present from its caller.

use std::{sync::Arc, time::Duration};

use super::{cache::CacheError, clock::Moment, error::Error, validation::Rejection};

/// How a client is at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// Whether the cache is there and fresh: what a readiness probe wants to know. Never true while the client has been cut
    /// off for longer than the staleness bound.
    pub ready: bool,
    /// Whether there is something to read, fresh or not.
    pub loaded: bool,
    /// Whether the cache may be older than the staleness bound. True before there is one.
    pub stale: bool,
    /// Revision of the cache; 0 before the first snapshot.
    pub revision: u64,
    /// Where the cache was filled from last.
    pub source: Filled,
    /// How long ago the store itself last confirmed the cache: the server's own age when it said so, and the time since.
    pub confirmed_age: Option<Duration>,
    /// The server's name for the present stream; empty before the first one is in sync.
    pub session_id: String,
    /// What stands in the way of following the stream; `None` while it is followed. An [`Error::Unconfirmed`] stays until the
    /// store is heard of again.
    pub last_error: Option<Arc<Error>>,
    /// Why the cache on disk could not be used or written last; `None` where it could, or where there is none.
    pub cache_error: Option<Arc<CacheError>>,
    /// Streams opened after the first.
    pub reconnects: u64,
    /// Resets that servers announced.
    pub resets: u64,
    /// Times that the cache was found to differ from the server's, and was built anew.
    pub digest_mismatches: u64,
    /// The newest revision, where it is not accepted. What was accepted last is served on meanwhile, and `ready` stays as it
    /// is.
    pub rejection: Option<Rejection>,
}

/// Where a cache was filled from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Filled {
    /// It was not yet.
    #[default]
    Nowhere,
    /// The cache on disk.
    Disk,
    /// The service.
    Stream,
    /// The variables of the providers, because the service is not used.
    Environment,
}

/// What the status is computed from.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    pub(super) revision: u64,
    pub(super) source: Filled,
    pub(super) last_message: Option<Moment>,
    /// Whether the cache is known to be wrong, or of a life of the store that is over.
    pub(super) refuted: bool,
    /// When the store confirmed the cache last.
    pub(super) confirmed: Option<Moment>,
    pub(super) session_id: String,
    /// The demand for a new snapshot that was met last.
    pub(super) demand: u64,
    pub(super) last_error: Option<Arc<Error>>,
    /// Whether there may be a session at the service whose name has not come yet.
    pub(super) nameless: bool,
    pub(super) streams: u64,
    pub(super) resets: u64,
    pub(super) digest_mismatches: u64,
    pub(super) rejection: Option<Rejection>,
}

impl Health {
    /// Whether there is something to read.
    pub(super) fn is_loaded(&self) -> bool {
        self.source != Filled::Nowhere
    }

    /// Whether the present stream's session has a name, or none is waited for: nobody answers.
    pub(super) fn is_settled(&self) -> bool {
        let answers = self.last_error.as_ref().is_none_or(|error| matches!(**error, Error::Unconfirmed(_)));
        !self.nameless || !answers
    }

    /// What stands in the way of the present state.
    pub(super) fn obstacle(&self) -> Option<Arc<Error>> {
        let rejected = || self.rejection.clone().map(|rejection| Arc::new(Error::Rejected(rejection)));
        self.last_error.clone().or_else(rejected)
    }

    /// The status at a moment. Stale: nothing heard within the bound, or the server itself has not heard from the
    /// store within it.
    pub(super) fn status(&self, now: Moment, bound: Duration) -> Status {
        let confirmed_age = self.confirmed.map(|confirmed| now.since(confirmed));
        let silent = self.last_message.is_none_or(|last| now.since(last) > bound);
        let unconfirmed = confirmed_age.is_none_or(|age| age > bound);
        let stale = !self.is_loaded() || self.refuted || silent || unconfirmed;
        Status {
            ready: !stale,
            loaded: self.is_loaded(),
            stale,
            revision: self.revision,
            source: self.source,
            confirmed_age,
            session_id: self.session_id.clone(),
            last_error: self.last_error.clone(),
            cache_error: None,
            reconnects: self.streams.saturating_sub(1),
            resets: self.resets,
            digest_mismatches: self.digest_mismatches,
            rejection: self.rejection.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Filled, Health, Moment};
    use crate::client::clock::Clock;

    const BOUND: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    fn heard(age: Duration, at: Moment) -> Health {
        let confirmed = Some(at.before(age));
        Health { source: Filled::Stream, last_message: Some(at), confirmed, ..Health::default() }
    }

    #[test]
    fn a_silent_server_makes_the_cache_stale_and_unready() {
        let start = Clock::MACHINE.now();
        let health = heard(Duration::ZERO, start);
        let status = health.status(start.after(BOUND), BOUND);
        assert!(status.ready && !status.stale);
        let status = health.status(start.after(BOUND + SECOND), BOUND);
        assert!(!status.ready && status.stale && status.loaded);
        assert_eq!(health.status(start.after(SECOND), BOUND).confirmed_age, Some(SECOND));
    }

    #[test]
    fn a_talking_server_that_lost_its_store_does_too() {
        let start = Clock::MACHINE.now();
        let health = heard(BOUND - SECOND, start);
        assert!(!health.status(start, BOUND).stale);
        assert!(health.status(start.after(2 * SECOND), BOUND).stale);
        assert!(heard(BOUND + SECOND, start).status(start, BOUND).stale);
    }

    #[test]
    fn nothing_heard_yet_is_neither_ready_nor_fresh() {
        let status = Health::default().status(Clock::MACHINE.now(), BOUND);
        assert!(!status.ready && !status.loaded && status.stale);
        assert_eq!((status.reconnects, status.confirmed_age), (0, None));
    }
}
