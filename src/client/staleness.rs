//! What may still be read of a cache that has not been confirmed for a while.
//!
//! Owns the policy, by kind. Must not know clocks, streams or snapshots.

use std::{collections::BTreeMap, time::Duration};

use super::selector::Kind;

const BOUND: Duration = Duration::from_secs(30);
const SECRETS: Duration = Duration::from_secs(3_600);

/// How old the last word from the store may be.
///
/// ```
/// # use signalbox::client::{Kind, Staleness};
/// # use std::time::Duration;
/// // Keys of yesterday are used on and on, flags of yesterday are not.
/// let staleness = Staleness::default().secrets(None).kind(Kind::FeatureFlag, Duration::from_secs(86_400));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Staleness {
    pub(super) bound: Duration,
    secrets: Option<Duration>,
    kinds: BTreeMap<Kind, Duration>,
}

impl Default for Staleness {
    /// Not ready beyond 30 s, no secrets beyond an hour, everything else for ever.
    fn default() -> Self {
        Self { bound: BOUND, secrets: Some(SECRETS), kinds: BTreeMap::new() }
    }
}

impl Staleness {
    /// Beyond this age the client calls itself stale, and is not ready; a server that has no younger word is left for another.
    /// Longer than the progress interval.
    pub fn bound(mut self, bound: Duration) -> Self {
        self.bound = bound;
        self
    }

    /// Beyond this age no secret is given out any more, of whatever kind: a key that was revoked meanwhile would be used
    /// on and on. `None` trusts them for ever.
    pub fn secrets(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.secrets = limit.into();
        self
    }

    /// Beyond this age resources of the kind can't be read at all. Kinds that have no limit are served on: a prompt of
    /// yesterday is better than none.
    pub fn kind(mut self, kind: Kind, limit: Duration) -> Self {
        self.kinds.insert(kind, limit);
        self
    }

    /// Whether each limit is one.
    pub(super) fn is_sound(&self) -> bool {
        let mut limits = self.limits().chain([self.bound]);
        limits.all(|limit| !limit.is_zero())
    }

    /// The age up to which nothing is refused; `None` where nothing ever is.
    pub(super) fn first_limit(&self) -> Option<Duration> {
        self.limits().min()
    }

    /// What is refused at an age.
    pub(super) fn aging(&self, age: Duration) -> Aging {
        let kinds = self.kinds.iter().filter(|(_, limit)| age > **limit).map(|(kind, _)| *kind);
        Aging { secrets: self.secrets.is_some_and(|limit| age > limit), kinds: kinds.collect() }
    }

    fn limits(&self) -> impl Iterator<Item = Duration> {
        self.kinds.values().copied().chain(self.secrets)
    }
}

/// What is refused at some age. The default refuses nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Aging {
    pub(super) secrets: bool,
    pub(super) kinds: Vec<Kind>,
}

impl Aging {
    pub(super) fn refuses_nothing(&self) -> bool {
        !self.secrets && self.kinds.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Aging, Duration, Kind, Staleness};

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn each_limit_counts_for_itself() {
        let staleness = Staleness::default().kind(Kind::FeatureFlag, 2 * HOUR);
        assert_eq!(staleness.first_limit(), Some(HOUR));
        assert!(staleness.aging(HOUR).refuses_nothing());
        assert_eq!(staleness.aging(HOUR * 2), Aging { secrets: true, kinds: Vec::new() });
        assert_eq!(staleness.aging(HOUR * 3), Aging { secrets: true, kinds: vec![Kind::FeatureFlag] });
        let trusting = Staleness::default().secrets(None);
        assert_eq!(trusting.first_limit(), None);
        assert!(trusting.aging(HOUR * 1_000).refuses_nothing());
    }

    #[test]
    fn no_limit_is_zero() {
        assert!(Staleness::default().is_sound());
        for staleness in [
            Staleness::default().bound(Duration::ZERO),
            Staleness::default().secrets(Duration::ZERO),
            Staleness::default().kind(Kind::Model, Duration::ZERO),
        ] {
            assert!(!staleness.is_sound());
        }
    }
}
