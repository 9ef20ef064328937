//! Where the watcher leaves what it has learnt, and readers find it.
//!
//! Owns the published snapshot, the queue of changes and the health record, the order in which they are written, and what
//! may be read at the present age. Must not know streams.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{broadcast, watch};

use super::{
    cache::keeper::Trouble,
    clock::{Clock, Moment},
    events::ChangeSet,
    health::{Health, Status},
    snapshot::Snapshot,
    staleness::Staleness,
};

/// The writing end; there is one, in the watcher.
pub(super) struct Publisher {
    shared: Arc<Shared>,
    changes: broadcast::Sender<Arc<ChangeSet>>,
    health: watch::Sender<Health>,
}

/// The reading ends.
#[derive(Clone)]
pub(super) struct Readers {
    shared: Arc<Shared>,
    pub(super) changes: broadcast::WeakSender<Arc<ChangeSet>>,
    pub(super) health: watch::Receiver<Health>,
}

struct Shared {
    served: ArcSwap<Snapshot>,
    /// What is left of a snapshot at some age, so that it is not made for each reader.
    aged: ArcSwap<Snapshot>,
    /// Until this moment nothing is refused for its age.
    fresh_until: AtomicI64,
    staleness: Staleness,
    clock: Clock,
    /// With the cache on disk.
    trouble: Trouble,
}

pub(super) fn channel(
    first: Arc<Snapshot>,
    queue: usize,
    staleness: Staleness,
    clock: Clock,
) -> (Publisher, Readers) {
    let shared = Arc::new(Shared {
        aged: ArcSwap::new(first.clone()),
        served: ArcSwap::new(first),
        fresh_until: AtomicI64::new(Moment::LONG_AGO.to_bits()),
        staleness,
        clock,
        trouble: Trouble::default(),
    });
    let changes = broadcast::Sender::new(queue);
    let (health, health_receiver) = watch::channel(Health::default());
    let readers = Readers {
        shared: shared.clone(),
        // Weak, so that subscriptions end with the watcher and not with the last handle.
        changes: changes.downgrade(),
        health: health_receiver,
    };
    (Publisher { shared, changes, health }, readers)
}

impl Publisher {
    /// Makes a state visible: first to getters, then to subscribers, last to those who wait for a revision, so that
    /// whoever is woken finds what woke him.
    pub(super) fn publish(
        &self,
        served: &Arc<Snapshot>,
        changes: Option<ChangeSet>,
        record: impl FnOnce(&mut Health),
    ) {
        if !Arc::ptr_eq(&self.shared.served.load(), served) {
            self.shared.served.store(served.clone());
        }
        if let Some(changes) = changes {
            // An error says that nobody listens.
            let _ = self.changes.send(Arc::new(changes));
        }
        self.record(|health| {
            health.revision = served.revision();
            record(health);
        });
    }

    /// Notes what happened to the stream.
    pub(super) fn record(&self, record: impl FnOnce(&mut Health)) {
        self.health.send_modify(|health| {
            record(health);
            if let Some(confirmed) = health.confirmed {
                let limit = self.shared.staleness.first_limit();
                let until = limit.map_or(Moment::NEVER, |limit| confirmed.after(limit));
                self.shared.fresh_until.store(until.to_bits(), Ordering::Release);
            }
        });
    }

    /// Where the cache on disk tells its trouble.
    pub(super) fn trouble(&self) -> Trouble {
        self.shared.trouble.clone()
    }

    /// The present.
    pub(super) fn now(&self) -> Moment {
        self.shared.clock.now()
    }

    /// Beyond this age the client is stale.
    pub(super) fn bound(&self) -> Duration {
        self.shared.staleness.bound
    }

    /// Whether a word of the store that is so old, if there is one, is within the staleness bound.
    pub(super) fn is_fresh(&self, age: Option<Duration>) -> bool {
        age.is_some_and(|age| age <= self.shared.staleness.bound)
    }

    /// What has been recorded so far.
    pub(super) fn health(&self) -> watch::Ref<'_, Health> {
        self.health.borrow()
    }
}

impl Readers {
    /// The present state, as far as it may be read at its age. Takes no lock while nothing is refused.
    pub(super) fn current(&self) -> Guard<Arc<Snapshot>> {
        let fresh_until = Moment::from_bits(self.shared.fresh_until.load(Ordering::Acquire));
        if self.shared.clock.now() <= fresh_until {
            return self.shared.served.load();
        }
        Guard::from_inner(self.at_its_age())
    }

    /// The present state, whatever its age: what changes are told against.
    pub(super) fn served(&self) -> Arc<Snapshot> {
        self.shared.served.load_full()
    }

    /// How the client is now.
    pub(super) fn status(&self) -> Status {
        let status = self.health.borrow().status(self.shared.clock.now(), self.shared.staleness.bound);
        Status { cache_error: self.shared.trouble.load_full(), ..status }
    }

    fn at_its_age(&self) -> Arc<Snapshot> {
        let confirmed = self.health.borrow().confirmed;
        let served = self.shared.served.load_full();
        // Before there is anything there are only overrides and defaults.
        let Some(confirmed) = confirmed else { return served };
        let aging = self.shared.staleness.aging(self.shared.clock.now().since(confirmed));
        if aging.refuses_nothing() {
            return served;
        }
        let aged = self.shared.aged.load_full();
        if aged.sequence == served.sequence && *aged.aging() == aging {
            return aged;
        }
        let aged = Arc::new(served.at_age(aging));
        self.shared.aged.store(aged.clone());
        aged
    }
}
