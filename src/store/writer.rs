//! The one task of a process that writes, whatever the database: what waits is taken together.
//!
//! A write runs here to its end, whatever becomes of its caller. Everything that waits when the task looks becomes one
//! transaction; nobody waits for a group to fill. Nothing is answered before the commit. It must not know SQL: that is
//! the [`Base`]'s.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use super::{Lease, StoreError, failure::Failure, refusal::Refusal, transaction::Transaction};
use crate::domain::{Applied, ApplyError, Epoch, PlannedChange, Revision, WriteSet, audit::AuditEvent};

/// Jobs that may wait; more callers wait for a place.
const QUEUE: usize = 1024;
/// Writes of one group at most.
const GROUP_WRITES: usize = 256;
/// Bytes after which a group takes no further write.
const GROUP_BYTES: usize = 8 * 1024 * 1024;

/// The answer to a write.
pub type Answer = Result<Applied, ApplyError>;

/// What the writing task asks of its database. Each call is one transaction: whole, or as if it had never been.
/// After a failure nothing is believed; the next call begins anew.
#[async_trait]
pub trait Base: Send + 'static {
    /// What the database is called in traces.
    const SYSTEM: &'static str;

    /// Commits a group; one answer for each write.
    async fn commit(&mut self, writes: &[WriteSet]) -> Result<Vec<Answer>, Failure>;
    /// Writes audit events.
    async fn audit(&mut self, events: &[AuditEvent]) -> Result<(), Failure>;
    /// Forgets requests and audit events that are older than these times.
    async fn expire(&mut self, requests: DateTime<Utc>, audit: DateTime<Utc>) -> Result<(), Failure>;
    /// Raises the floor, never lowers it, and says where it now is. Refuses if the lease is another's by now.
    async fn raise_floor(&mut self, lease: Option<&Lease>, floor: Revision) -> Result<Revision, Failure>;
    /// One step of forgetting after the revision `from`: where it ended and how many rows went; `None` when nothing is
    /// left to look at.
    async fn forget_rows(&mut self, from: i64, floor: Revision) -> Result<Option<(i64, u64)>, Failure>;
    /// Forgets the sealed values that nothing refers to any more.
    async fn forget_secrets(&mut self) -> Result<(), Failure>;
    /// See [`super::Log::begin_life`].
    async fn begin_life(&mut self, seen: Epoch) -> Result<Epoch, Failure>;
    /// Closes the database.
    async fn close(&mut self);
}

/// What the writer is asked to do.
pub enum Job {
    /// Make a write durable, on behalf of a span.
    Apply(Box<WriteSet>, Span, oneshot::Sender<Answer>),
    /// Write audit events.
    Audit(Vec<AuditEvent>, oneshot::Sender<Result<(), StoreError>>),
    /// Forget requests and audit events older than these times.
    Expire([DateTime<Utc>; 2], oneshot::Sender<Result<(), StoreError>>),
    /// Forget the log up to a floor, as whoever holds a lease.
    Compact(Option<Lease>, Revision, oneshot::Sender<Result<(Revision, u64), StoreError>>),
    /// Begin a new life.
    BeginLife(Epoch, oneshot::Sender<Result<Epoch, StoreError>>),
}

/// The writing task, as the store holds it.
pub struct WriterHandle {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    task: Mutex<Option<JoinHandle<()>>>,
    refusal: Refusal,
    died: CancellationToken,
}

impl WriterHandle {
    /// Starts the task on the runtime that this is called on. `held` is let go of after the last statement; `died` is
    /// cancelled if the task panics.
    pub fn start<B: Base, H: Send + 'static>(base: B, held: H, died: CancellationToken) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let refusal = Refusal::default();
        let writer = Writer { base, compacting: false, refusal: refusal.clone() };
        // A panic drops it.
        let guard = died.clone().drop_guard();
        let task = tokio::spawn(async move {
            writer.run(queue).await;
            guard.disarm();
            drop(held);
        });
        Self { jobs: Mutex::new(Some(jobs)), task: Mutex::new(Some(task)), refusal, died }
    }

    /// See [`super::Store::died`].
    pub fn died(&self) -> CancellationToken {
        self.died.clone()
    }

    /// What became of the last write, as far as it has to be told.
    pub fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// Hands a job to the writer and waits for its answer. The writer goes on if the caller does not wait.
    pub async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, Failure> {
        const CLOSED: Failure = Failure::Unavailable("it is shutting down");
        let jobs = self.jobs.lock().clone().ok_or(CLOSED)?;
        let (reply, answer) = oneshot::channel();
        jobs.send(job(reply)).await.map_err(|_| CLOSED)?;
        answer.await.map_err(|_| CLOSED)
    }

    /// Ends the task after what it has taken on, then waits for `rest`; gives up after `deadline`.
    pub async fn close(&self, deadline: Duration, rest: impl Future<Output = ()>) {
        drop(self.jobs.lock().take());
        let task = self.task.lock().take();
        let ends = async {
            if let Some(task) = task {
                // A writer that panicked has nothing left to close.
                let _ = task.await;
            }
            rest.await;
        };
        if tokio::time::timeout(deadline, ends).await.is_err() {
            tracing::warn!("the store did not close in time");
        }
    }
}

struct Writer<B> {
    base: B,
    /// Whether a compaction is under way, between whose steps other jobs are done.
    compacting: bool,
    refusal: Refusal,
}

impl<B: Base> Writer<B> {
    /// Works until every sender is gone and the queue is empty, then closes the database.
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            self.work(job, &mut jobs).await;
        }
        self.base.close().await;
    }

    /// Does one job, and those that it met on the way.
    async fn work(&mut self, job: Job, jobs: &mut mpsc::Receiver<Job>) {
        let mut next = Some(job);
        while let Some(job) = next.take() {
            match job {
                Job::Apply(write, caller, reply) => next = self.group((*write, caller, reply), jobs).await,
                // A caller that went away does not need its answer.
                Job::Audit(events, reply) => {
                    let _ = reply.send(self.base.audit(&events).await.map_err(StoreError::from));
                }
                Job::Expire([requests, audit], reply) => {
                    let _ = reply.send(self.base.expire(requests, audit).await.map_err(StoreError::from));
                }
                Job::Compact(lease, floor, reply) => {
                    let _ = reply.send(self.compact(lease.as_ref(), floor, jobs).await);
                }
                Job::BeginLife(seen, reply) => {
                    let _ = reply.send(self.base.begin_life(seen).await.map_err(StoreError::from));
                }
            }
        }
    }

    /// Commits a write together with all that wait behind it. Gives back a job of another sort that it met.
    async fn group(
        &mut self,
        (first, caller, reply): (WriteSet, Span, oneshot::Sender<Answer>),
        jobs: &mut mpsc::Receiver<Job>,
    ) -> Option<Job> {
        let mut bytes = size(&first);
        let (mut writes, mut replies, mut met) = (vec![first], vec![reply], None);
        let mut callers = vec![caller];
        while writes.len() < GROUP_WRITES && bytes < GROUP_BYTES {
            match jobs.try_recv() {
                Ok(Job::Apply(write, caller, reply)) => {
                    bytes += size(&write);
                    writes.push(*write);
                    replies.push(reply);
                    callers.push(caller);
                }
                Ok(other) => {
                    met = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let transaction = Transaction::begin(B::SYSTEM, &mut writes, callers);
        let answers = self.answer(&writes).instrument(transaction.span()).await;
        transaction.end(&answers);
        for (reply, answer) in replies.into_iter().zip(answers) {
            let _ = reply.send(answer);
        }
        met
    }

    /// Commits a group. If a constraint refuses it, each write is tried by itself, so that only the culprit fails.
    async fn answer(&mut self, writes: &[WriteSet]) -> Vec<Answer> {
        match self.commit(writes).await {
            Ok(answers) => answers,
            Err(Failure::Refused(_)) if writes.len() > 1 => {
                let mut answers = Vec::with_capacity(writes.len());
                for write in writes {
                    let mut single = self.commit(std::slice::from_ref(write)).await;
                    let answer = single.as_mut().map(Vec::pop).map_err(|failure| failure.clone().into());
                    answers.push(answer.and_then(|answer| answer.unwrap_or_else(unanswered)));
                }
                answers
            }
            Err(failure) => writes.iter().map(|_| Err(failure.clone().into())).collect(),
        }
    }

    async fn commit(&mut self, writes: &[WriteSet]) -> Result<Vec<Answer>, Failure> {
        let began = Instant::now();
        let committed = self.base.commit(writes).await;
        self.refusal.note(began, &committed);
        committed
    }

    /// See [`super::Store::compact`]. In steps, so that writes go on between them: the floor is raised first, in one
    /// transaction with its checkpoint. From then on the rows below are not part of the log, whether they are gone yet or
    /// not; a compaction that was cut short is completed by the next one.
    async fn compact(
        &mut self,
        lease: Option<&Lease>,
        floor: Revision,
        jobs: &mut mpsc::Receiver<Job>,
    ) -> Result<(Revision, u64), StoreError> {
        if self.compacting {
            return Err(StoreError::Unavailable("it is being compacted already".into()));
        }
        self.compacting = true;
        let done = self.compact_in_steps(lease, floor, jobs).await;
        self.compacting = false;
        Ok(done?)
    }

    async fn compact_in_steps(
        &mut self,
        lease: Option<&Lease>,
        floor: Revision,
        jobs: &mut mpsc::Receiver<Job>,
    ) -> Result<(Revision, u64), Failure> {
        let floor = self.base.raise_floor(lease, floor).await?;
        let (mut from, mut forgotten) = (0, 0);
        while let Some((end, rows)) = self.base.forget_rows(from, floor).await? {
            (from, forgotten) = (end, forgotten + rows);
            if let Ok(job) = jobs.try_recv() {
                Box::pin(self.work(job, jobs)).await;
            }
        }
        if forgotten > 0 {
            self.base.forget_secrets().await?;
        }
        Ok((floor, forgotten))
    }
}

fn unanswered() -> Answer {
    Err(ApplyError::Internal { detail: "a write got no answer".into() })
}

/// About the bytes that a write puts into the database.
fn size(write: &WriteSet) -> usize {
    let changes = write.changes.iter().map(|change| match change {
        PlannedChange::Put(put) => 2 * put.spec_json.len() + 1024,
        PlannedChange::Delete { .. } => 1024,
    });
    let sealed = write.sealed.iter().map(|secret| secret.token.len());
    changes.chain(sealed).sum()
}
