//! What a watcher leaves of what it has heard: health, metrics, reports, the cache on disk.
//!
//! Owns what is told to whom. Must not know deadlines.

use super::{Applied, Error, Filled, Health, Metric, Rejection, ResetReason, Signal, Transport, Watcher};

impl<T: Transport> Watcher<T> {
    /// Has it reported that what is served now is run: in the session that `synced` names, or in the one before.
    pub(super) fn tell(&self, synced: Option<&str>) {
        if !self.stream.synced && synced.is_none() {
            return;
        }
        let rejection = self.replica.rejection();
        self.running.send_if_modified(|running| {
            let revision = match (rejection, synced) {
                (None, _) => self.replica.served().revision(),
                (Some(_), None) => running.revision,
                (Some(_), Some(_)) => 0,
            };
            let same = synced.is_none_or(|session| session == running.session)
                && running.revision == revision
                && running.rejection.as_ref() == rejection;
            if let Some(session) = synced {
                running.over = self.transport.reports().filter(|_| self.reports());
                session.clone_into(&mut running.session);
            }
            running.revision = revision;
            running.rejection = rejection.cloned();
            !same
        });
    }

    /// Whether anybody is to be told at all.
    fn reports(&self) -> bool {
        self.request.worker.as_ref().is_some_and(|worker| !worker.silent)
    }

    /// Sees to it that what is on disk is what an event has made of it.
    pub(super) fn keep(&mut self, applied: &Applied, changed: bool) {
        let Some(keeper) = &mut self.keeper else { return };
        let in_sync = match &applied.signal {
            Signal::Synced(_) => true,
            Signal::Reset(_) => false,
            _ => self.stream.synced,
        };
        if in_sync && self.replica.rejection().is_none() {
            keeper.vouch(self.transport.subject());
        }
        if let Signal::Reset(reason) = applied.signal
            && !matches!(reason, ResetReason::Compacted | ResetReason::Lagged)
        {
            keeper.refute();
        }
        let health = self.publisher.health();
        // Before a first state is accepted there is nothing to keep.
        let confirmed = health.confirmed.filter(|_| health.is_loaded());
        keeper.take_note(&self.replica, applied, changed, confirmed);
    }

    /// Records what an event has done.
    pub(super) fn note(&self, applied: &Applied, health: &mut Health) {
        let (now, rejection) = (self.publisher.now(), self.replica.rejection());
        health.last_message = Some(now);
        if let Some(age) = applied.confirmed_age {
            health.confirmed = Some(now.before(age));
        }
        if self.publisher.is_fresh(applied.confirmed_age) && !self.stream.confirmation.is_overdue() {
            health.last_error = None;
        }
        let mut completes = health.rejection.is_some();
        match &applied.signal {
            Signal::Synced(session_id) => {
                completes = true;
                health.session_id.clone_from(session_id);
                health.nameless = false;
                // A server that tells nothing fresh is in the way until one does, however many streams it opens.
                health.last_error.take_if(|error| !matches!(**error, Error::Unconfirmed(_)));
            }
            Signal::Reset(reason) => {
                health.resets += 1;
                // What is served on until the snapshot is complete may be of a life of the store that is over.
                health.refuted |= matches!(reason, ResetReason::OtherStore | ResetReason::Ahead);
            }
            Signal::None | Signal::Revoked | Signal::GoingAway { .. } => {}
        }
        if completes && rejection.is_none() {
            health.source = Filled::Stream;
            health.refuted = false;
            health.demand = *self.demands.borrow();
        }
        if let Some(Rejection { revision, reason }) = rejection.filter(|_| applied.rejected) {
            tracing::warn!(revision, reason, "a revision is not accepted");
        }
        health.rejection = rejection.cloned();
    }

    pub(super) fn measure(&mut self, changed: Option<usize>, applied: &Applied) {
        // After a reset it is in sync once more, and nothing was asked for again.
        let asked = if matches!(applied.signal, Signal::Synced(_)) { self.stream.asked.take() } else { None };
        let told = |metric| self.metrics.tell(metric);
        let count = |count: fn(&Health) -> u64| count(&self.publisher.health());
        told(Metric::Revision(self.replica.served().revision()));
        if let Some(changed) = changed {
            told(Metric::Changes(changed));
        }
        if let Some(age) = applied.confirmed_age {
            told(Metric::ConfirmedAge(age));
        }
        if let Some(asked) = asked {
            told(Metric::Load(asked.elapsed()));
        }
        self.metrics.tell_reads();
        match applied.signal {
            Signal::Synced(_) => told(Metric::Reconnects(count(|health| health.streams.saturating_sub(1)))),
            Signal::Reset(_) => told(Metric::Resets(count(|health| health.resets))),
            Signal::Revoked => told(Metric::Revoked),
            Signal::None | Signal::GoingAway { .. } => {}
        }
    }

    /// What is told while no message comes that could tell it.
    pub(super) fn measure_outage(&self) {
        self.metrics.tell_reads();
        let confirmed = self.publisher.health().confirmed;
        if let Some(confirmed) = confirmed {
            self.metrics.tell(Metric::ConfirmedAge(self.publisher.now().since(confirmed)));
        }
    }

    /// Known to be wrong is not fresh, whenever it was confirmed.
    pub(super) fn note_mismatch(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.refute();
        }
        self.publisher.record(|health| {
            health.digest_mismatches += 1;
            health.refuted = true;
        });
        let mismatches = self.publisher.health().digest_mismatches;
        self.metrics.tell(Metric::DigestMismatches(mismatches));
    }
}
