//! The fleet: sessions of workers, and what they report to run.
//!
//! A session is one stream in one life of the store. A report is a state and not an event: two of one session merge, in
//! whatever order they come.

use std::fmt;

use super::{Epoch, Labels, ReplicaId, Revision, Subject};

/// Names one stream of a worker in one life of the store; public, and no proof of anything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub String);

/// A session, as the replica that serves its stream knows it. It never changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// Which one it is.
    pub id: SessionId,
    /// The replica that serves it.
    pub replica: ReplicaId,
    /// The life of the store that it shows.
    pub epoch: Epoch,
    /// Whose token it has.
    pub subject: Subject,
    /// The worker's id, in its own words.
    pub worker: String,
    /// The worker's labels, in its own words.
    pub labels: Labels,
    /// Version of its client.
    pub client_version: String,
    /// What its stream shows, as text; see `fleet::view`.
    pub view: String,
    /// Whether its stream opens secrets.
    pub secrets: bool,
    /// Whether it never reports.
    pub silent: bool,
}

/// What a worker has refused to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// The revision.
    pub revision: Revision,
    /// Why, in its own words.
    pub reason: String,
    /// Names of the resources that are the reason, in its own words.
    pub names: Vec<String>,
}

/// What the process behind one session runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The session.
    pub session: SessionId,
    /// The newest revision that it runs; 0 if none.
    pub applied: Revision,
    /// The newest one that it has refused.
    pub rejection: Option<Rejection>,
    /// Whether it is done with the stream.
    pub left: bool,
}

impl Report {
    /// That a session is over, whatever it ran.
    #[must_use]
    pub fn leaving(session: SessionId) -> Self {
        Self { session, applied: Revision::ZERO, rejection: None, left: true }
    }

    /// Takes in another report of the same session. Says whether that told anything new.
    pub fn merge(&mut self, other: Self) -> bool {
        let before = (self.applied, self.rejected(), self.left);
        self.applied = self.applied.max(other.applied);
        self.left |= other.left;
        if other.rejected() > self.rejected() {
            self.rejection = other.rejection;
        }
        before != (self.applied, self.rejected(), self.left)
    }

    /// What it has refused and not overcome by a later revision.
    #[must_use]
    pub fn standing_rejection(&self) -> Option<&Rejection> {
        self.rejection.as_ref().filter(|rejection| rejection.revision > self.applied)
    }

    fn rejected(&self) -> Option<Revision> {
        self.rejection.as_ref().map(|rejection| rejection.revision)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(applied: u64, rejected: Option<u64>, left: bool) -> Report {
        let rejection = rejected.map(|revision| Rejection {
            revision: Revision(revision),
            reason: format!("no {revision}"),
            names: vec![],
        });
        Report { session: SessionId("s".into()), applied: Revision(applied), rejection, left }
    }

    #[test]
    fn reports_merge_to_the_same_in_any_order_and_however_often() {
        let all = [report(3, None, false), report(5, Some(6), false), report(4, Some(8), true)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut merged = report(0, None, false);
            for index in order {
                assert!(merged.merge(all[index].clone()) || order != [0, 1, 2]);
                assert!(!merged.merge(all[index].clone()), "twice is once");
            }
            assert_eq!(merged, report(5, Some(8), true));
        }
    }

    #[test]
    fn a_rejection_stands_until_a_later_revision_runs() {
        assert!(report(5, Some(6), false).standing_rejection().is_some());
        assert!(report(6, Some(6), false).standing_rejection().is_none());
        assert!(report(7, Some(6), false).standing_rejection().is_none());
    }
}
