//! The store in one file of SQLite: opened in two steps, written by one task, read by a few connections.
//!
//! A [`SqliteDatabase`] is locked, checked and migrated, and knows no key; with the log key it becomes a [`SqliteStore`].

mod commit;
mod compaction;
mod failure;
mod open;
mod reads;
mod tail;
mod verify;
mod writer;

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use sqlx::{Connection as _, SqliteConnection, SqlitePool};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use self::{
    failure::Failure,
    open::Lock,
    reads::Reader,
    tail::Tail,
    writer::{Job, QUEUE, Writer},
};
use super::{
    Doorbell, Head, Log, LogPage, StateSnapshot, Store, StoreError, Verification, chain::ChainKeys,
    plan::replayed,
};
use crate::domain::{
    Applied, ApplyError, ChainHash, Clock, LoggedChange, Record, ResourceName, Revision, StoreId, WriteSet,
    audit::AuditEvent,
    keys::{FirstKeys, Identity, LogKey},
};

/// How long a request's answer is kept.
const REQUESTS_KEPT: TimeDelta = TimeDelta::days(1);
/// How long an audit event is kept.
const AUDIT_KEPT: TimeDelta = TimeDelta::days(90);

/// A database that is open and ours alone, but locked: nothing in it can be checked or written without its log key.
#[derive(Debug)]
pub struct SqliteDatabase {
    writer: SqliteConnection,
    readers: SqlitePool,
    identity: Identity,
    options: sqlx::sqlite::SqliteConnectOptions,
    lock: Lock,
}

/// The store. Cheap to share behind an `Arc`; [`Store::close`] ends it in order.
pub struct SqliteStore {
    reader: Reader,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    bell: Doorbell,
    store_id: StoreId,
    schema_version: u32,
}

impl SqliteDatabase {
    /// Opens the file at `path`, or makes it if `create` says so; takes its lock and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if there is no file, another process has it, or a newer binary wrote it;
    /// [`StoreError::Damaged`] if it is no store of ours or was cut. These texts are for the operator: they name the file.
    pub async fn open(path: &Path, create: bool) -> Result<Self, StoreError> {
        let lock = open::prepare_files(path, create)?;
        let mut writer = open::open_writer(path).await?;
        let identity = open::read_identity(&mut writer).await?;
        let readers = open::open_readers(path).await?;
        Ok(Self { writer, readers, identity, options: open::writer_options(path), lock })
    }

    /// What the store says of itself.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Gives a fresh store its first keys, all in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Internal`], and nothing is written, if the store is not fresh.
    pub async fn initialise(&mut self, first: FirstKeys) -> Result<(), StoreError> {
        if !commit::write_first_keys(&mut self.writer, &first).await? {
            return Err(StoreError::Internal("the store has keys already".into()));
        }
        self.identity = open::read_identity(&mut self.writer).await?;
        Ok(())
    }

    /// Bounds the file to so many pages, as a full disk would: writes beyond are refused until compaction frees some.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the database does not answer.
    pub async fn bound_pages(&mut self, pages: u32) -> Result<(), StoreError> {
        // In the options too, for when the connection is opened anew.
        self.options = self.options.clone().pragma("max_page_count", pages.to_string());
        let text = format!("PRAGMA max_page_count = {pages}");
        sqlx::query(sqlx::AssertSqlSafe(text)).execute(&mut self.writer).await.map_err(Failure::from)?;
        Ok(())
    }

    /// Unlocks the store and starts its writer on the runtime that this is called on. `clock` dates checkpoints.
    ///
    /// # Errors
    /// Only a defect: the key's length is fixed.
    pub fn into_store(self, key: &LogKey, clock: Arc<dyn Clock>) -> Result<SqliteStore, StoreError> {
        let Self { writer: connection, readers, identity, options, lock } = self;
        let keys = Arc::new(ChainKeys::derive(key)?);
        let tail = Arc::new(Tail::default());
        let (bell, rung) = watch::channel(0);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = Writer {
            options,
            connection: Some(connection),
            keys: Arc::clone(&keys),
            clock,
            bell,
            left_at: None,
            tail: Arc::clone(&tail),
            compacting: false,
        };
        let task = tokio::spawn(async move {
            writer.run(queue).await;
            // Not before the last statement.
            drop(lock);
        });
        Ok(SqliteStore {
            reader: Reader { pool: readers, keys, tail },
            jobs: Mutex::new(Some(jobs)),
            writer: Mutex::new(Some(task)),
            bell: rung,
            store_id: identity.store_id,
            schema_version: identity.schema_version,
        })
    }

    /// Lets go of the file without unlocking it.
    pub async fn close(self) {
        self.readers.close().await;
        // It is only read from; there is nothing to lose.
        let _ = self.writer.close().await;
    }
}

impl SqliteStore {
    /// What the database's own full check finds; empty if nothing. Reads every page: seconds for a large store.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the database can't be read at all.
    pub async fn integrity(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.reader.integrity().await?)
    }

    /// Hands a job to the writer and waits for its answer. The writer goes on if the caller does not wait.
    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, Failure> {
        const CLOSED: Failure = Failure::Unavailable("it is shutting down");
        let jobs = self.jobs.lock().clone().ok_or(CLOSED)?;
        let (reply, answer) = oneshot::channel();
        jobs.send(job(reply)).await.map_err(|_| CLOSED)?;
        answer.await.map_err(|_| CLOSED)
    }
}

#[async_trait]
impl Log for SqliteStore {
    async fn head(&self) -> Result<Head, StoreError> {
        Ok(self.reader.head().await?)
    }

    async fn snapshot(&self) -> Result<StateSnapshot, StoreError> {
        Ok(self.reader.snapshot().await?)
    }

    async fn changes_after(&self, after: Revision, limit: usize) -> Result<LogPage, StoreError> {
        Ok(self.reader.changes_after(after, limit).await?)
    }

    async fn hash_at(&self, revision: Revision) -> Result<Option<ChainHash>, StoreError> {
        Ok(self.reader.hash_at(revision).await?)
    }

    fn doorbell(&self) -> Doorbell {
        self.bell.clone()
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn schema_version(&self) -> u32 {
        self.schema_version
    }

    fn store_id(&self) -> &StoreId {
        &self.store_id
    }

    async fn apply(&self, write: WriteSet) -> Result<Applied, ApplyError> {
        self.ask(|reply| Job::Apply(Box::new(write), reply)).await?
    }

    async fn replay(&self, principal: &str, id: &str, mac: &[u8; 32]) -> Result<Option<Applied>, ApplyError> {
        let found = self.reader.request(principal, id).await?;
        found.map(|(head, row)| replayed(&head, &row, mac)).transpose()
    }

    async fn record_at(
        &self,
        name: &ResourceName,
        revision: Revision,
    ) -> Result<Option<LoggedChange>, StoreError> {
        Ok(self.reader.record_at(name, revision).await?)
    }

    async fn records_at(&self, revision: Revision) -> Result<Vec<Record>, StoreError> {
        Ok(self.reader.records_at(revision).await?)
    }

    async fn compact(&self, floor: Revision) -> Result<(Revision, u64), StoreError> {
        self.ask(|reply| Job::Compact(floor, reply)).await?
    }

    async fn revision_before(&self, time: DateTime<Utc>) -> Result<Revision, StoreError> {
        Ok(self.reader.revision_before(time).await?)
    }

    async fn verify(&self, anchor: Option<(Revision, [u8; 16])>) -> Result<Verification, StoreError> {
        Ok(self.reader.verify(anchor).await?)
    }

    async fn audit(&self, events: Vec<AuditEvent>) -> Result<(), StoreError> {
        self.ask(|reply| Job::Audit(events, reply)).await?
    }

    async fn expire(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let times = [now - REQUESTS_KEPT, now - AUDIT_KEPT];
        self.ask(|reply| Job::Expire(times, reply)).await?
    }

    async fn close(&self, deadline: Duration) {
        drop(self.jobs.lock().take());
        let writer = self.writer.lock().take();
        let ends = async {
            if let Some(writer) = writer {
                // A writer that panicked has nothing left to close.
                let _ = writer.await;
            }
            self.reader.pool.close().await;
        };
        if tokio::time::timeout(deadline, ends).await.is_err() {
            tracing::warn!("the store did not close in time");
        }
    }
}
