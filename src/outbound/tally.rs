//! Counts what calls came to, for who watches over the service: by what was called and by a word, never by whom or where.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Answer, Fault, Found, Trouble};

/// What is called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Called {
    /// A provider's API.
    Provider,
    /// A database.
    Database,
}

/// Calls to others, in numbers.
#[derive(Clone, Debug, Default)]
pub struct CallCounts {
    /// Calls that have ended, by what was called and what came of it.
    pub ended: Vec<([&'static str; 2], u64)>,
    /// The time that they took, by what was called.
    pub took: Vec<(&'static str, Duration)>,
    /// Calls under way.
    pub open: usize,
}

/// The counters.
#[derive(Default)]
pub(super) struct Tally(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    ended: BTreeMap<(Called, &'static str), u64>,
    took: BTreeMap<Called, Duration>,
}

impl Called {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Provider, Self::Database];

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Database => "database",
        }
    }
}

impl Tally {
    /// A call that began then has ended.
    pub fn count(&self, called: Called, outcome: &'static str, begun: Instant) {
        let mut counted = self.0.lock();
        *counted.ended.entry((called, outcome)).or_default() += 1;
        *counted.took.entry(called).or_default() += begun.elapsed();
    }

    /// What was counted, beside the calls that are under way.
    pub fn counts(&self, open: usize) -> CallCounts {
        let counted = self.0.lock();
        // There from the beginning, so that the first call is seen as a rise.
        let mut ended: BTreeMap<_, _> = Called::ALL.map(|called| ((called, OK), 0)).into();
        ended.extend(counted.ended.iter().map(|(key, count)| (*key, *count)));
        let took = Called::ALL.map(|called| (called, counted.took.get(&called).copied().unwrap_or_default()));
        CallCounts {
            ended: ended.into_iter().map(|((called, word), count)| ([called.word(), word], count)).collect(),
            took: took.into_iter().map(|(called, took)| (called.word(), took)).collect(),
            open,
        }
    }
}

const OK: &str = "ok";

/// What came of a call of a provider.
pub(super) fn of_answer(answer: &Result<Answer, Fault>) -> &'static str {
    match answer {
        Ok(answer) if answer.status < 400 => OK,
        Ok(_) => "refused",
        Err(fault) => of_fault(*fault),
    }
}

/// What came of a try of a database.
pub(super) fn of_found(found: &Found) -> &'static str {
    match &found.trouble {
        None => OK,
        Some(Trouble::Fault(fault)) => of_fault(*fault),
        Some(Trouble::Refused { .. }) => "refused",
        Some(Trouble::Unsupported(_) | Trouble::NotTried | Trouble::Lacks(_)) => "not_tried",
    }
}

const fn of_fault(fault: Fault) -> &'static str {
    match fault {
        Fault::EgressRefused(_) => "egress_refused",
        Fault::NoSuchHost => "no_such_host",
        Fault::ConnectionRefused => "connection_refused",
        Fault::Unreachable => "unreachable",
        Fault::Tls(_) => "tls",
        Fault::Timeout => "timeout",
        Fault::TooLarge => "too_large",
        Fault::Redirected => "redirected",
        Fault::BadAnswer => "bad_answer",
        Fault::Unsendable => "unsendable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_what_came_of_them() {
        let (tally, begun) = (Tally::default(), Instant::now());
        let answered = |status| Ok(Answer { status, body: bytes::Bytes::new() });
        for answer in [answered(200), answered(401), answered(200), Err(Fault::Timeout)] {
            tally.count(Called::Provider, of_answer(&answer), begun);
        }
        let counts = tally.counts(3);
        let wanted = [
            (["provider", OK], 2),
            (["provider", "refused"], 1),
            (["provider", "timeout"], 1),
            (["database", OK], 0),
        ];
        assert_eq!(counts.ended, wanted);
        assert_eq!(counts.open, 3);
    }
}
