//! The store in one file of SQLite: opened in two steps, written by one task, read by a few connections.
//!
//! A [`SqliteDatabase`] is locked, checked and migrated, and knows no key; with the log key it becomes a [`SqliteStore`].

mod base;
mod cluster;
mod commit;
mod compaction;
mod failure;
mod fleet;
mod moment;
mod moving;
mod observations;
mod open;

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Connection as _, SqliteConnection, SqlitePool};
use tokio::sync::watch;
use tracing::Span;

pub(super) use self::failure::failure_of;
use self::{base::SqliteBase, moment::SqliteReads, open::Lock};
use super::{
    AUDIT_KEPT, AuditLog, Connections, Doorbell, DoorbellState, Head, HistoryPage, HistoryQuery, Lease, Log,
    LogPage, REQUESTS_KEPT, StateSnapshot, Store, StoreError, Verification,
    chain::ChainKeys,
    failure::Failure,
    reads::Reader,
    tail::Tail,
    writer::{Job, WriterHandle},
};
use crate::domain::{
    Applied, ApplyError, ChainHash, Clock, Epoch, KindName, LoggedChange, Record, ResourceName, Revision,
    RevisionBatch, RevisionToken, StoreId, WriteSet,
    audit::AuditEvent,
    keys::{FirstKeys, Identity, LogKey},
};

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
    readers: SqlitePool,
    /// For the rare writes that have nothing to do with the log.
    aside: SqlitePool,
    writer: WriterHandle,
    bell: Doorbell,
    store_id: StoreId,
    schema_version: u32,
}

impl SqliteDatabase {
    /// Opens the file at `path`, or makes it if `create` says so; takes its lock and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if there is no file, another process has it, a newer binary wrote it, or it was moved
    /// away; [`StoreError::Damaged`] if it is no store of ours or was cut. These texts are for the operator: they name the file.
    pub async fn open(path: &Path, create: bool) -> Result<Self, StoreError> {
        let mut database = Self::open_fenced(path, create).await?;
        match open::read_fence(&mut database.writer).await? {
            None => Ok(database),
            Some(fence) => {
                database.close().await;
                Err(fence.refusal())
            }
        }
    }

    /// As [`SqliteDatabase::open`], even if the store was moved away.
    async fn open_fenced(path: &Path, create: bool) -> Result<Self, StoreError> {
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
        let aside = open::aside(options.clone());
        let base = SqliteBase {
            options,
            connection: Some(connection),
            keys: Arc::clone(&keys),
            clock,
            bell,
            left_at: None,
            tail: Arc::clone(&tail),
        };
        Ok(SqliteStore {
            reader: Reader { moments: Arc::new(SqliteReads(readers.clone())), keys, tail },
            readers,
            aside,
            // The lock is let go of after the last statement, not before.
            writer: WriterHandle::start(base, lock),
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

#[async_trait]
impl Log for SqliteStore {
    async fn head(&self) -> Result<Head, StoreError> {
        Ok(self.reader.head().await?)
    }

    async fn snapshot(&self) -> Result<StateSnapshot, StoreError> {
        Ok(self.reader.snapshot().await?)
    }

    async fn changes_after(&self, at: &RevisionToken, limit: usize) -> Result<LogPage, StoreError> {
        Ok(self.reader.changes_after(at, limit).await?)
    }

    async fn changes_of(
        &self,
        kind: KindName,
        after: Revision,
        through: Revision,
        limit: usize,
    ) -> Result<Vec<(Revision, LoggedChange)>, StoreError> {
        Ok(self.reader.changes_of(kind, after, through, limit).await?)
    }

    fn remembered_after(&self, at: &RevisionToken, limit: usize) -> Result<Vec<RevisionBatch>, StoreError> {
        Ok(self.reader.remembered_after(at, limit)?)
    }

    async fn hash_at(&self, revision: Revision) -> Result<Option<ChainHash>, StoreError> {
        Ok(self.reader.hash_at(revision).await?)
    }

    fn doorbell(&self) -> Doorbell {
        self.bell.clone()
    }

    fn doorbell_state(&self) -> DoorbellState {
        DoorbellState::Local
    }

    async fn begin_life(&self, seen: Epoch) -> Result<Epoch, StoreError> {
        self.writer.ask(|reply| Job::BeginLife(seen, reply)).await?
    }
}

#[async_trait]
impl AuditLog for SqliteStore {
    async fn audit(&self, events: Vec<AuditEvent>) -> Result<(), StoreError> {
        self.writer.ask(|reply| Job::Audit(events, reply)).await?
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

    fn connections(&self) -> Connections {
        let idle = u32::try_from(self.readers.num_idle()).unwrap_or(u32::MAX);
        Connections { open: self.readers.size(), idle }
    }

    async fn apply(&self, write: WriteSet) -> Result<Applied, ApplyError> {
        self.writer.ask(|reply| Job::Apply(Box::new(write), Span::current(), reply)).await?
    }

    async fn replay(&self, principal: &str, id: &str, mac: &[u8; 32]) -> Result<Option<Applied>, ApplyError> {
        self.reader.replay(principal, id, mac).await
    }

    async fn record_at(
        &self,
        name: &ResourceName,
        revision: Revision,
    ) -> Result<Option<LoggedChange>, StoreError> {
        Ok(self.reader.record_at(name, revision).await?)
    }

    async fn history(&self, query: HistoryQuery) -> Result<HistoryPage, StoreError> {
        Ok(self.reader.history(&query).await?)
    }

    async fn records_at(&self, revision: Revision) -> Result<Vec<Record>, StoreError> {
        Ok(self.reader.records_at(revision).await?)
    }

    async fn compact_under(
        &self,
        lease: Option<Lease>,
        floor: Revision,
    ) -> Result<(Revision, u64), StoreError> {
        self.writer.ask(|reply| Job::Compact(lease, floor, reply)).await?
    }

    async fn revision_before(&self, time: DateTime<Utc>) -> Result<Revision, StoreError> {
        Ok(self.reader.revision_before(time).await?)
    }

    async fn verify(&self, anchor: Option<(Revision, [u8; 16])>) -> Result<Verification, StoreError> {
        Ok(self.reader.verify(anchor).await?)
    }

    async fn integrity(&self) -> Result<Vec<String>, StoreError> {
        let lines = sqlx::query_scalar("PRAGMA integrity_check(20)").fetch_all(&self.readers).await;
        let lines: Vec<String> = lines.map_err(Failure::from)?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    async fn expire(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let times = [now - REQUESTS_KEPT, now - AUDIT_KEPT];
        self.writer.ask(|reply| Job::Expire(times, reply)).await?
    }

    async fn close(&self, deadline: Duration) {
        let rest = async {
            self.readers.close().await;
            self.aside.close().await;
        };
        self.writer.close(deadline, rest).await;
    }
}
