//! How changes reach those who asked for them: a bounded queue, and callbacks on top of it.
//!
//! Owns what happens to a listener that is too slow. Must not know streams.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tokio::{runtime::Handle, sync::broadcast, task::AbortHandle};

use super::{
    events::{ChangeEvent, ChangeSet, difference},
    publisher::Readers,
    selector::Selector,
    snapshot::Snapshot,
    trace,
};

/// What a subscription yields.
#[derive(Clone, Debug)]
pub enum Update {
    /// One step of the cache.
    Changes(Arc<ChangeSet>),
    /// The subscriber was too slow, and change sets are lost to it. A `Resync` follows.
    Lagged {
        /// How many.
        missed: u64,
    },
    /// The whole state, in place of what was missed; what comes next follows on it.
    Resync(Arc<Snapshot>),
}

/// Every change of the cache from a snapshot on, in order, through a bounded queue.
pub struct Subscription {
    /// `None` when the watcher had ended before.
    changes: Option<broadcast::Receiver<Arc<ChangeSet>>>,
    readers: Readers,
    start: Arc<Snapshot>,
    /// Sequence of the last snapshot that this subscriber has been given in whole or in steps.
    seen: u64,
    resync: bool,
}

impl Subscription {
    pub(super) fn new(readers: &Readers) -> Self {
        // Subscribed before the snapshot is taken, so that nothing falls between; what comes twice is left out below.
        let changes = readers.changes.upgrade().map(|changes| changes.subscribe());
        let start = readers.served();
        Self { changes, readers: readers.clone(), seen: start.sequence, start, resync: false }
    }

    /// The state that the first update follows on. Empty when the client was not ready yet: the first update then
    /// holds the whole first snapshot as created.
    #[must_use]
    pub fn start(&self) -> Arc<Snapshot> {
        self.start.clone()
    }

    /// The next update; `None` once the client is gone. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Update> {
        if std::mem::take(&mut self.resync) {
            let snapshot = self.readers.served();
            self.seen = snapshot.sequence;
            return Some(Update::Resync(snapshot));
        }
        let changes = self.changes.as_mut()?;
        loop {
            match changes.recv().await {
                Ok(changes) if changes.snapshot.sequence <= self.seen => {}
                Ok(changes) => return Some(Update::Changes(changes)),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    self.resync = true;
                    return Some(Update::Lagged { missed });
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// A callback in force; dropping this ends it.
#[must_use = "dropping this ends the callback at once; `forever` keeps it as long as the client"]
#[derive(Debug)]
pub struct Callback(Option<AbortHandle>);

impl Callback {
    /// Lets the callback live as long as the client.
    pub fn forever(mut self) {
        self.0 = None;
    }

    pub(super) fn start(
        runtime: &Handle,
        subscription: Subscription,
        selector: Selector,
        callback: impl Fn(&ChangeEvent) + Send + 'static,
    ) -> Self {
        let task = runtime.spawn(call_back(subscription, selector, callback));
        Self(Some(task.abort_handle()))
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Calls back for every event. One that is too slow gets the difference between what it has seen and what is.
async fn call_back(mut subscription: Subscription, selector: Selector, callback: impl Fn(&ChangeEvent)) {
    let mut seen = subscription.start();
    while let Some(update) = subscription.next().await {
        match update {
            Update::Changes(changes) => {
                deliver(&changes.events, &selector, &callback);
                seen = changes.snapshot.clone();
            }
            Update::Lagged { missed } => {
                tracing::warn!(missed, "a callback is too slow and skips to the present")
            }
            Update::Resync(snapshot) => {
                deliver(&difference(&seen, &snapshot), &selector, &callback);
                seen = snapshot;
            }
        }
    }
}

fn deliver(events: &[ChangeEvent], selector: &Selector, callback: &impl Fn(&ChangeEvent)) {
    for event in events.iter().filter(|event| event.matches(selector)) {
        // One bad event must not silence all that follow.
        let call = || catch_unwind(AssertUnwindSafe(|| callback(event)));
        if trace::of_callback(event).in_scope(call).is_err() {
            tracing::error!(name = event.name, "a callback panicked");
        }
    }
}
