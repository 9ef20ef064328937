//! The audit trail: who read secrets, who ran the service.
//!
//! Events are written in groups, as they come. What must not happen unaudited waits for its event to be durable; the
//! end of a stream does not, and is buffered while the store is away. A full buffer leaves a gap, which is marked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{PATIENCE, store_error};
use crate::{
    domain::{Clock, Error, Principal, Result, audit::AuditEvent},
    store::{AuditLog, StoreError},
};

/// Events that wait for the store at most.
const BUFFER: usize = 4096;
/// Events that are written at once.
const GROUP: usize = 512;
/// When whoever is told that an event can't be written may ask again.
const AGAIN: Duration = Duration::from_secs(1);
/// Pause before buffered events are tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// Takes events. Cheap to clone.
#[derive(Clone)]
pub struct AuditTrail {
    entries: mpsc::Sender<Entry>,
    lost: Arc<AtomicU64>,
    lost_ever: Arc<AtomicU64>,
    /// Why the last event was not written, if it was not.
    refused: Arc<Mutex<Option<StoreError>>>,
    clock: Arc<dyn Clock>,
}

/// How the trail is, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditCounts {
    /// Events that wait to be taken up by the writer.
    pub waiting: usize,
    /// Events that were lost since the start, each in a gap that is marked.
    pub lost: u64,
}

/// Writes what the trail took.
pub struct AuditWriter {
    entries: mpsc::Receiver<Entry>,
    lost: Arc<AtomicU64>,
    refused: Arc<Mutex<Option<StoreError>>>,
    store: Arc<dyn AuditLog>,
    clock: Arc<dyn Clock>,
}

struct Entry {
    event: AuditEvent,
    /// Who waits for it, if anybody does.
    written: Option<oneshot::Sender<Result<(), StoreError>>>,
}

impl AuditTrail {
    /// A trail, and the writer that has to be run for it.
    #[must_use]
    pub fn new(store: Arc<dyn AuditLog>, clock: Arc<dyn Clock>) -> (Self, AuditWriter) {
        let (sender, entries) = mpsc::channel(BUFFER);
        let lost = Arc::new(AtomicU64::new(0));
        let refused = Arc::<Mutex<Option<StoreError>>>::default();
        let (lost_too, refused_too) = (Arc::clone(&lost), Arc::clone(&refused));
        let writer =
            AuditWriter { entries, lost: lost_too, refused: refused_too, store, clock: Arc::clone(&clock) };
        (Self { entries: sender, lost, lost_ever: Arc::default(), refused, clock }, writer)
    }

    /// Writes an event, and returns when it is durable.
    ///
    /// # Errors
    /// `Unavailable` when it can't be written: then what it tells of must not happen.
    pub async fn require(&self, caller: &Principal, event: &'static str, detail: String) -> Result<()> {
        let (written, answer) = oneshot::channel();
        let entry = Entry { event: self.event(caller, event, detail), written: Some(written) };
        let stopped = |_| Error::internal("the audit trail has ended");
        self.entries.send(entry).await.map_err(|_| Error::internal("the audit trail has ended"))?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(answer) => answer.map_err(stopped)?.map_err(unaudited),
            Err(_) => {
                let silent = || StoreError::Unavailable("the database does not take it".into());
                Err(unaudited(self.refused.lock().clone().unwrap_or_else(silent)))
            }
        }
    }

    /// Takes an event without waiting. If there is no room, it is counted as lost, and the gap is marked later.
    pub fn note(&self, caller: &Principal, event: &'static str, detail: String) {
        let entry = Entry { event: self.event(caller, event, detail), written: None };
        if self.entries.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.lost_ever.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How the trail is.
    #[must_use]
    pub fn counts(&self) -> AuditCounts {
        let waiting = self.entries.max_capacity() - self.entries.capacity();
        AuditCounts { waiting, lost: self.lost_ever.load(Ordering::Relaxed) }
    }

    fn event(&self, caller: &Principal, event: &'static str, detail: String) -> AuditEvent {
        AuditEvent { time: self.clock.now(), actor: caller.subject.clone(), event, detail }
    }
}

/// What a caller is told whose call has to be audited first.
fn unaudited(error: StoreError) -> Error {
    match error {
        StoreError::Unavailable(reason) => Error::Unavailable {
            reason: "STORE_UNAVAILABLE",
            description: format!("the audit can't be written now, and without it this is not done: {reason}"),
            retry_after: AGAIN,
        },
        other => store_error(other),
    }
}

impl AuditWriter {
    /// Writes until every trail is gone.
    pub async fn run(mut self) {
        let mut group = Vec::with_capacity(GROUP);
        while self.entries.recv_many(&mut group, GROUP).await > 0 {
            self.write(&mut group).await;
        }
    }

    /// Writes one group. Whoever waits is told if it fails; the rest is tried until it is written.
    async fn write(&mut self, group: &mut Vec<Entry>) {
        loop {
            let lost = self.lost.swap(0, Ordering::Relaxed);
            let mut events: Vec<AuditEvent> = group.iter().map(|entry| entry.event.clone()).collect();
            events.extend((lost > 0).then(|| self.gap(lost)));
            let outcome = self.store.audit(events).await;
            *self.refused.lock() = outcome.as_ref().err().cloned();
            if outcome.is_err() {
                self.lost.fetch_add(lost, Ordering::Relaxed);
            }
            // Whoever waits is answered either way; if the event failed, so does what it tells of, and it is dropped.
            let failed = outcome.is_err();
            group.retain_mut(|entry| match entry.written.take() {
                Some(written) => {
                    let _ = written.send(outcome.clone());
                    !failed
                }
                None => true,
            });
            let Err(error) = outcome else { break };
            if group.is_empty() {
                return;
            }
            tracing::error!(%error, waiting = group.len(), "audit events can't be written");
            tokio::time::sleep(PAUSE).await;
        }
        group.clear();
    }

    fn gap(&self, lost: u64) -> AuditEvent {
        let detail =
            format!("{lost} events are missing before this one: the store was away, and the buffer full");
        AuditEvent { time: self.clock.now(), actor: "signalbox".into(), event: "audit_gap", detail }
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
