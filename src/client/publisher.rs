//! Where the watcher leaves what it has learnt, and readers find it.
//!
//! Owns the published snapshot, the queue of changes and the health record, and the order in which they are written.
//! Must not know streams.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, watch};

use super::{events::ChangeSet, health::Health, snapshot::Snapshot};

/// The writing end; there is one, in the watcher.
pub(super) struct Publisher {
    served: Arc<ArcSwap<Snapshot>>,
    changes: broadcast::Sender<Arc<ChangeSet>>,
    health: watch::Sender<Health>,
}

/// The reading ends.
pub(super) struct Readers {
    pub(super) served: Arc<ArcSwap<Snapshot>>,
    pub(super) changes: broadcast::WeakSender<Arc<ChangeSet>>,
    pub(super) health: watch::Receiver<Health>,
}

pub(super) fn channel(first: Arc<Snapshot>, queue: usize) -> (Publisher, Readers) {
    let served = Arc::new(ArcSwap::new(first));
    let changes = broadcast::Sender::new(queue);
    let (health, health_receiver) = watch::channel(Health::default());
    let readers = Readers {
        served: served.clone(),
        // Weak, so that subscriptions end with the watcher and not with the last handle.
        changes: changes.downgrade(),
        health: health_receiver,
    };
    let publisher = Publisher { served, changes, health };
    (publisher, readers)
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
        if !Arc::ptr_eq(&self.served.load(), served) {
            self.served.store(served.clone());
        }
        if let Some(changes) = changes {
            // An error says that nobody listens.
            let _ = self.changes.send(Arc::new(changes));
        }
        self.health.send_modify(|health| {
            health.revision = served.revision();
            record(health);
        });
    }

    /// Notes what happened to the stream.
    pub(super) fn record(&self, record: impl FnOnce(&mut Health)) {
        self.health.send_modify(record);
    }
}
