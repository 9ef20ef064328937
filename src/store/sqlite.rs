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

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use sqlx::{Connection as _, SqliteConnection, SqlitePool};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(super) use self::failure::failure_of;
use self::{base::SqliteBase, moment::SqliteReads, open::Lock};
use super::{
    Connections, Doorbell, DoorbellState, StoreError,
    chain::ChainKeys,
    connections,
    failure::Failure,
    opened::{Engine, Opened},
    reads::Reader,
    tail::Tail,
    writer::WriterHandle,
};
use crate::domain::{
    Clock, Release,
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

/// The store.
pub type SqliteStore = Opened<SqliteEngine>;

/// What the store needs of SQLite beside the writer's connection.
pub struct SqliteEngine {
    readers: SqlitePool,
    /// For the rare writes that have nothing to do with the log.
    aside: SqlitePool,
    bell: Doorbell,
}

impl SqliteDatabase {
    /// Opens the file at `path`, or makes it if `create` says so; takes its lock and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if there is no file, another process has it, a newer binary wrote it, or it was moved
    /// away; [`StoreError::Damaged`] if it is no store of ours or was cut. These texts are for the operator: they name the file.
    pub async fn open(path: &Path, create: bool) -> Result<Self, StoreError> {
        Self::open_as(Release::CURRENT, path, create).await
    }

    /// As [`SqliteDatabase::open`], as the binary of a release.
    ///
    /// # Errors
    /// As [`SqliteDatabase::open`].
    pub async fn open_as(release: Release, path: &Path, create: bool) -> Result<Self, StoreError> {
        let mut database = Self::open_fenced(release, path, create).await?;
        match open::read_fence(&mut database.writer).await? {
            None => {
                open::tell_of_schema(path, &database.identity, release);
                Ok(database)
            }
            Some(fence) => {
                database.close().await;
                Err(fence.refusal())
            }
        }
    }

    /// As [`SqliteDatabase::open`], even if the store was moved away.
    async fn open_fenced(release: Release, path: &Path, create: bool) -> Result<Self, StoreError> {
        let lock = open::prepare_files(path, create)?;
        let mut writer = open::open_writer(path, release).await?;
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
        let reader =
            Reader { moments: Arc::new(SqliteReads(readers.clone())), keys, tail, floor: Arc::default() };
        // The lock is let go of after the last statement, not before.
        let writer = WriterHandle::start(base, lock, CancellationToken::new());
        Ok(Opened::new(reader, writer, identity, SqliteEngine { readers, aside, bell: rung }))
    }

    /// Lets go of the file without unlocking it.
    pub async fn close(self) {
        self.readers.close().await;
        // It is only read from; there is nothing to lose.
        let _ = self.writer.close().await;
    }
}

#[async_trait]
impl Engine for SqliteEngine {
    const KIND: &'static str = "sqlite";

    fn connections(&self) -> Connections {
        connections(&self.readers)
    }

    fn doorbell(&self) -> Doorbell {
        self.bell.clone()
    }

    fn doorbell_state(&self) -> DoorbellState {
        DoorbellState::Local
    }

    async fn integrity(&self) -> Result<Vec<String>, StoreError> {
        let lines = sqlx::query_scalar("PRAGMA integrity_check(20)").fetch_all(&self.readers).await;
        let lines: Vec<String> = lines.map_err(Failure::from)?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    async fn close(&self) {
        self.readers.close().await;
        self.aside.close().await;
    }
}
