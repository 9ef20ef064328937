//! The one task that writes. It owns the writing connection, so that groups, compaction and audit never meet.
//!
//! A write runs here to its end, whatever becomes of its caller. Everything that waits when the task looks becomes one
//! transaction; nobody waits for a group to fill. Nothing is answered before the commit, and nothing is believed
//! after one that failed: the connection is opened anew and the head row read again.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    commit::{Committed, commit_group, expire, write_audit},
    failure::Failure,
    tail::Tail,
};
use crate::{
    domain::{Applied, ApplyError, Clock, PlannedChange, Revision, WriteSet, audit::AuditEvent},
    store::{StoreError, chain::ChainKeys, rows::HeadState},
};

/// Jobs that may wait; more callers wait for a place.
pub(super) const QUEUE: usize = 1024;
/// Writes of one group at most.
const GROUP_WRITES: usize = 256;
/// Bytes after which a group takes no further write.
const GROUP_BYTES: usize = 8 * 1024 * 1024;

/// The answer to a write.
pub(super) type Answer = Result<Applied, ApplyError>;

/// What the writer is asked to do.
pub(super) enum Job {
    /// Make a write durable.
    Apply(Box<WriteSet>, oneshot::Sender<Answer>),
    /// Write audit events.
    Audit(Vec<AuditEvent>, oneshot::Sender<Result<(), StoreError>>),
    /// Forget requests and audit events older than these times.
    Expire([DateTime<Utc>; 2], oneshot::Sender<Result<(), StoreError>>),
    /// Forget the log up to a floor.
    Compact(Revision, oneshot::Sender<Result<(Revision, u64), StoreError>>),
}

/// The state of the writing task.
pub(super) struct Writer {
    pub options: SqliteConnectOptions,
    /// `None` after a failure, until the next job opens it anew.
    pub connection: Option<SqliteConnection>,
    pub keys: Arc<ChainKeys>,
    pub clock: Arc<dyn Clock>,
    pub bell: watch::Sender<u64>,
    /// Where the last commit left the head; `None` where that is not known.
    pub left_at: Option<HeadState>,
    /// What was committed last.
    pub tail: Arc<Tail>,
    /// Whether a compaction is under way, between whose steps other jobs are done.
    pub compacting: bool,
}

impl Writer {
    /// Works until every sender is gone and the queue is empty, then closes the database.
    pub async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            self.work(job, &mut jobs).await;
        }
        // So that the file is whole by itself: the last connection to close is one that can't write.
        if let Some(connection) = &mut self.connection
            && let Err(error) = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(connection).await
        {
            tracing::warn!(failure = ?Failure::from(error), "the write-ahead log was not folded into the database");
        }
        self.forget_connection().await;
    }

    /// Does one job, and those that it met on the way.
    pub async fn work(&mut self, job: Job, jobs: &mut mpsc::Receiver<Job>) {
        let mut next = Some(job);
        while let Some(job) = next.take() {
            match job {
                Job::Apply(write, reply) => next = self.group(*write, reply, jobs).await,
                // A caller that went away does not need its answer.
                Job::Audit(events, reply) => {
                    let _ = reply.send(self.audit(&events).await.map_err(StoreError::from));
                }
                Job::Expire(times, reply) => {
                    let _ = reply.send(self.expire(times).await.map_err(StoreError::from));
                }
                Job::Compact(floor, reply) => {
                    let _ = reply.send(self.compact(floor, jobs).await);
                }
            }
        }
    }

    /// Commits a write together with all that wait behind it. Gives back a job of another sort that it met.
    async fn group(
        &mut self,
        first: WriteSet,
        reply: oneshot::Sender<Answer>,
        jobs: &mut mpsc::Receiver<Job>,
    ) -> Option<Job> {
        let mut bytes = size(&first);
        let (mut writes, mut replies, mut met) = (vec![first], vec![reply], None);
        while writes.len() < GROUP_WRITES && bytes < GROUP_BYTES {
            match jobs.try_recv() {
                Ok(Job::Apply(write, reply)) => {
                    bytes += size(&write);
                    writes.push(*write);
                    replies.push(reply);
                }
                Ok(other) => {
                    met = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let answers = self.answer(&writes).await;
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

    /// One transaction for a group. When it fails, nothing of it is believed.
    async fn commit(&mut self, writes: &[WriteSet]) -> Result<Vec<Answer>, Failure> {
        let keys = Arc::clone(&self.keys);
        let (connection, left_at) = self.connection().await?;
        let done = commit_group(connection, left_at, &keys, writes).await;
        match done {
            Ok(Committed { answers, before, effects }) => {
                self.left_at = Some(effects.as_ref().map_or(before, |effects| effects.head));
                if let Some(effects) = effects {
                    let newest = effects.head.head.revision.0;
                    self.tail.push(before.head.revision, effects);
                    self.bell.send_replace(newest);
                }
                Ok(answers)
            }
            Err(failure) => Err(self.failed(failure).await),
        }
    }

    /// After a failure the connection is not believed any more, nor where the head was left: a commit that failed may have
    /// taken place. Damage is remembered, so that a head row that was edited is not written over by the next write.
    pub async fn failed(&mut self, failure: Failure) -> Failure {
        if matches!(failure, Failure::Refused(_)) {
            return failure;
        }
        tracing::warn!(?failure, "the store did not take a write");
        self.tail.clear();
        if !matches!(failure, Failure::Damaged(_)) {
            self.left_at = None;
        }
        self.forget_connection().await;
        failure
    }

    async fn forget_connection(&mut self) {
        if let Some(connection) = self.connection.take()
            && tokio::time::timeout(Duration::from_secs(5), connection.close()).await.is_err()
        {
            tracing::warn!("the database's connection did not close in time");
        }
    }

    /// The connection, opened anew after a failure, and where the head was left.
    pub async fn connection(&mut self) -> Result<(&mut SqliteConnection, Option<HeadState>), Failure> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok((self.connection.insert(connection), self.left_at))
    }

    async fn audit(&mut self, events: &[AuditEvent]) -> Result<(), Failure> {
        let (connection, _) = self.connection().await?;
        let done = write_audit(connection, events).await;
        match done {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.failed(failure).await),
        }
    }

    async fn expire(&mut self, [requests, audit]: [DateTime<Utc>; 2]) -> Result<(), Failure> {
        let (connection, _) = self.connection().await?;
        let done = expire(connection, requests, audit).await;
        match done {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.failed(failure).await),
        }
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
