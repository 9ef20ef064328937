//! Counts and times what is asked of the store. What is asked, and what an answer means, its decorator knows
//! (`store::measured`).

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use parking_lot::Mutex;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::metrics::{Labels, seconds};
use crate::domain::{Epoch, Revision};

/// Calls of the store, and what they told. Clones count together.
#[derive(Clone)]
pub struct StoreCalls {
    seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
    errors: Family<Labels<2>, Counter>,
    open: Family<Labels<1>, Gauge>,
    leases: Family<Labels<1>, Gauge>,
    head: Gauge<u64, AtomicU64>,
    position: Arc<Mutex<Option<(Epoch, Revision)>>>,
    doorbell_changes: Counter,
    doorbell: Arc<Mutex<Option<&'static str>>>,
}

impl Default for StoreCalls {
    fn default() -> Self {
        Self {
            seconds: Family::new_with_constructor(seconds),
            errors: Family::default(),
            open: Family::default(),
            leases: Family::default(),
            head: Gauge::default(),
            position: Arc::default(),
            doorbell_changes: Counter::default(),
            doorbell: Arc::default(),
        }
    }
}

impl StoreCalls {
    pub(super) fn register(&self, registry: &mut Registry) {
        let Self { seconds, errors, open, leases, head, doorbell_changes, position: _, doorbell: _ } = self;
        registry.register(
            "signalbox_store_call_seconds",
            "Time that calls of the store took, by call; apply is a durable write, with its wait for a place",
            seconds.clone(),
        );
        registry.register(
            "signalbox_store_errors",
            "Calls of the store that failed, by call and error; stale is a write that lost a race and is planned again",
            errors.clone(),
        );
        registry.register(
            "signalbox_store_calls_open",
            "Calls of the store under way; of apply it is the depth of the writer's queue",
            open.clone(),
        );
        registry.register(
            "signalbox_store_head_revision",
            "The newest revision that this replica has heard of, by its own writes, by reading, or from another replica",
            head.clone(),
        );
        registry.register(
            "signalbox_store_doorbell_changes",
            "How often the way in which commits of others are heard of has changed",
            doorbell_changes.clone(),
        );
        registry.register(
            "signalbox_leases_held",
            "Work that only one replica may do and this one is doing, by work",
            leases.clone(),
        );
    }

    /// A call begins.
    #[must_use]
    pub fn begin(&self, call: &'static str) -> StoreCall<'_> {
        self.open.get_or_create(&[("call", call)]).inc();
        StoreCall { calls: self, call, begun: Instant::now() }
    }

    /// Shows errors of a call from the beginning, so that the first one is seen as a rise.
    pub fn expect(&self, call: &'static str, errors: &[&'static str]) {
        for error in errors {
            drop(self.errors.get_or_create_owned(&[("call", call), ("error", *error)]));
        }
    }

    /// The log is known to reach as far as this. A life that is over counts no longer.
    pub fn reached(&self, epoch: Epoch, revision: Revision) {
        let mut position = self.position.lock();
        let newer = position.is_none_or(|(life, known)| life != epoch || known < revision);
        if newer {
            *position = Some((epoch, revision));
            self.head.set(revision.0);
        }
    }

    /// Another replica says that the log reaches as far as this. It may still be in a life that is over.
    pub fn told(&self, epoch: Epoch, revision: Revision) {
        let own = self.position.lock().map(|(life, _)| life);
        if own == Some(epoch) {
            self.reached(epoch, revision);
        }
    }

    /// A lease was taken, or given back.
    pub fn lease(&self, work: &'static str, held: bool) {
        self.leases.get_or_create(&[("work", work)]).set(i64::from(held));
    }

    /// How commits of others are heard of at present, in a word.
    pub fn doorbell(&self, state: &'static str) {
        let before = self.doorbell.lock().replace(state);
        if before.is_some_and(|before| before != state) {
            self.doorbell_changes.inc();
        }
    }
}

/// One call under way. One that nobody waits for any more ends when it is let go of.
pub struct StoreCall<'a> {
    calls: &'a StoreCalls,
    call: &'static str,
    begun: Instant,
}

impl StoreCall<'_> {
    /// It failed.
    pub fn failed(&self, error: &'static str) {
        self.calls.errors.get_or_create(&[("call", self.call), ("error", error)]).inc();
    }
}

impl Drop for StoreCall<'_> {
    fn drop(&mut self) {
        let labels = [("call", self.call)];
        self.calls.open.get_or_create(&labels).dec();
        self.calls.seconds.get_or_create(&labels).observe(self.begun.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_only_rises_within_a_life() {
        let calls = StoreCalls::default();
        for (epoch, revision, shown) in [(1, 5, 5), (1, 3, 5), (1, 6, 6), (2, 2, 2), (2, 1, 2)] {
            calls.reached(Epoch(epoch), Revision(revision));
            assert_eq!(calls.head.get(), shown, "{epoch} {revision}");
        }
        calls.told(Epoch(1), Revision(9));
        assert_eq!(calls.head.get(), 2, "who is still in another life does not know");
        calls.told(Epoch(2), Revision(9));
        assert_eq!(calls.head.get(), 9);
    }

    #[test]
    fn a_doorbell_that_stays_has_not_changed() {
        let calls = StoreCalls::default();
        for state in ["polling", "polling", "notify", "notify", "polling"] {
            calls.doorbell(state);
        }
        assert_eq!(calls.doorbell_changes.get(), 2);
    }

    #[test]
    fn a_call_is_open_until_it_is_let_go_of() {
        let calls = StoreCalls::default();
        let open = || calls.open.get_or_create_owned(&[("call", "apply")]).get();
        let call = calls.begin("apply");
        assert_eq!(open(), 1);
        call.failed("stale");
        drop(call);
        let errors = calls.errors.get_or_create_owned(&[("call", "apply"), ("error", "stale")]);
        assert_eq!((open(), errors.get()), (0, 1));
        let (mut registry, mut text) = (Registry::default(), String::new());
        calls.register(&mut registry);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("signalbox_store_call_seconds_count{call=\"apply\"} 1\n"), "{text}");
    }
}
