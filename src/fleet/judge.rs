//! How a worker stands to a revision.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use super::{known::Worker, view::View};
use crate::domain::{Epoch, Rejection, Revision};

/// How a worker stands to a revision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum State {
    /// It runs it, or nothing that it sees has changed up to it.
    Converged,
    /// It has not reported it yet.
    Pending,
    /// It has not, and its stream has ended.
    Disconnected,
    /// It has refused it, or the last change up to it of what it sees.
    Rejected,
    /// It never reports.
    Silent,
}

impl State {
    /// Every state, with its word.
    pub const WORDS: [(Self, &'static str); 5] = [
        (Self::Converged, "converged"),
        (Self::Pending, "pending"),
        (Self::Disconnected, "disconnected"),
        (Self::Rejected, "rejected"),
        (Self::Silent, "silent"),
    ];
}

/// The revision that workers are to run, in one life of the store.
pub struct Goal<'a> {
    /// The life.
    pub epoch: Epoch,
    /// The revision.
    pub revision: Revision,
    unchanged_since: &'a dyn Fn(&View) -> Revision,
    /// What was found for each view. Most workers have the same few.
    found: RefCell<HashMap<Arc<str>, Revision>>,
}

impl<'a> Goal<'a> {
    /// A goal; `unchanged_since` tells for a view the earliest revision from which on nothing in it has changed up to the
    /// goal's, as far as that is known.
    #[must_use]
    pub fn new(epoch: Epoch, revision: Revision, unchanged_since: &'a dyn Fn(&View) -> Revision) -> Self {
        Self { epoch, revision, unchanged_since, found: RefCell::default() }
    }

    /// The revision that a worker with this view needs to run at least.
    fn needed(&self, view: &View) -> Revision {
        let mut found = self.found.borrow_mut();
        *found.entry(Arc::clone(&view.text)).or_insert_with(|| (self.unchanged_since)(view))
    }

    /// How a worker stands to it.
    #[must_use]
    pub fn state(&self, worker: &Worker) -> State {
        if worker.session.silent {
            return State::Silent;
        }
        // A session of another life is about to be replaced: its revisions are not those of this one.
        let report = worker.report.as_ref().filter(|_| worker.session.epoch == self.epoch);
        let enough = |revision: Revision| {
            revision >= self.revision || (revision > Revision::ZERO && revision >= self.needed(&worker.view))
        };
        // What it has refused before it has yet to see what it needs tells nothing of that.
        let refused = |rejection: &Rejection| enough(rejection.revision);
        match report {
            Some(report) if enough(report.applied) => State::Converged,
            Some(report) if report.standing_rejection().is_some_and(refused) => State::Rejected,
            _ if worker.connected => State::Pending,
            _ => State::Disconnected,
        }
    }

    /// By how many revisions a worker that has not converged is behind.
    #[must_use]
    pub fn lag(&self, worker: &Worker) -> u64 {
        let report = worker.report.as_ref().filter(|_| worker.session.epoch == self.epoch);
        self.revision.0.saturating_sub(report.map_or(0, |report| report.applied.0))
    }
}
