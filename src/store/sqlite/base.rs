//! The writing connection to SQLite: each call is one transaction on it.
//!
//! Nothing is believed after a commit that failed: the connection is opened anew and the head row read again.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::watch;

use super::{
    commit::{Committed, begin_life, commit_group, expire, write_audit},
    compaction::{FORGET_SECRETS, forget_rows, raise_floor},
};
use crate::{
    domain::{Clock, Epoch, Revision, WriteSet, audit::AuditEvent},
    store::{
        Lease,
        chain::ChainKeys,
        failure::Failure,
        rows::{HeadState, write_time},
        tail::Tail,
        writer::{Answer, Base},
    },
};

/// The state of the writing connection.
pub(super) struct SqliteBase {
    pub options: SqliteConnectOptions,
    /// `None` after a failure, until the next call opens it anew.
    pub connection: Option<SqliteConnection>,
    pub keys: Arc<ChainKeys>,
    pub clock: Arc<dyn Clock>,
    pub bell: watch::Sender<u64>,
    /// Where the last commit left the head; `None` where that is not known.
    pub left_at: Option<HeadState>,
    /// What was committed last.
    pub tail: Arc<Tail>,
}

#[async_trait]
impl Base for SqliteBase {
    const SYSTEM: &'static str = "sqlite";

    async fn commit(&mut self, writes: &[WriteSet]) -> Result<Vec<Answer>, Failure> {
        let keys = Arc::clone(&self.keys);
        let (connection, left_at) = self.connection().await?;
        let done = commit_group(connection, left_at, &keys, writes).await;
        let Committed { answers, before, effects } = self.or_forget(done).await?;
        self.left_at = Some(effects.as_ref().map_or(before, |effects| effects.head));
        if let Some(effects) = effects {
            let newest = effects.head.head.revision.0;
            self.tail.push(before.head.revision, effects);
            self.bell.send_replace(newest);
        }
        Ok(answers)
    }

    async fn audit(&mut self, events: &[AuditEvent]) -> Result<(), Failure> {
        let done = write_audit(self.connection().await?.0, events).await;
        self.or_forget(done).await
    }

    async fn expire(&mut self, requests: DateTime<Utc>, audit: DateTime<Utc>) -> Result<(), Failure> {
        let done = expire(self.connection().await?.0, requests, audit).await;
        self.or_forget(done).await
    }

    // There is no other replica that could have taken the lease.
    async fn raise_floor(&mut self, _: Option<&Lease>, floor: Revision) -> Result<Revision, Failure> {
        let (keys, time) = (Arc::clone(&self.keys), write_time(self.clock.now()));
        let done = raise_floor(self.connection().await?.0, &keys, floor, time).await;
        let head = self.or_forget(done).await?;
        self.left_at = Some(head);
        // It may hold what is being forgotten, and a reader must learn of the floor.
        self.tail.clear();
        Ok(head.head.floor)
    }

    async fn forget_rows(&mut self, from: i64, floor: Revision) -> Result<Option<(i64, u64)>, Failure> {
        let done = forget_rows(self.connection().await?.0, from, floor).await;
        self.or_forget(done).await
    }

    async fn forget_secrets(&mut self) -> Result<(), Failure> {
        let done = sqlx::query(FORGET_SECRETS).execute(self.connection().await?.0).await;
        self.or_forget(done.map(drop).map_err(Failure::from)).await
    }

    async fn begin_life(&mut self, seen: Epoch) -> Result<Epoch, Failure> {
        let now = self.clock.now();
        let (connection, left_at) = self.connection().await?;
        let done = begin_life(connection, left_at, seen, now).await;
        let head = self.or_forget(done).await?;
        self.left_at = Some(head);
        // What it holds is of the old life.
        self.tail.clear();
        self.bell.send_modify(|rings| *rings += 1);
        Ok(head.head.epoch)
    }

    async fn close(&mut self) {
        // So that the file is whole by itself: the last connection to close is one that can't write.
        if let Some(connection) = &mut self.connection
            && let Err(error) = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(connection).await
        {
            tracing::warn!(failure = ?Failure::from(error), "the write-ahead log was not folded into the database");
        }
        self.forget_connection().await;
    }
}

impl SqliteBase {
    /// After a failure the connection is not believed any more, nor where the head was left: a commit that failed may have
    /// taken place. Damage is remembered, so that a head row that was edited is not written over by the next write.
    async fn or_forget<T>(&mut self, done: Result<T, Failure>) -> Result<T, Failure> {
        let Err(failure) = done else { return done };
        if matches!(failure, Failure::Refused(_)) {
            return Err(failure);
        }
        tracing::warn!(?failure, "the store did not take a write");
        self.tail.clear();
        if !matches!(failure, Failure::Damaged(_)) {
            self.left_at = None;
        }
        self.forget_connection().await;
        Err(failure)
    }

    async fn forget_connection(&mut self) {
        if let Some(connection) = self.connection.take()
            && tokio::time::timeout(Duration::from_secs(5), connection.close()).await.is_err()
        {
            tracing::warn!("the database's connection did not close in time");
        }
    }

    /// The connection, opened anew after a failure, and where the head was left.
    async fn connection(&mut self) -> Result<(&mut SqliteConnection, Option<HeadState>), Failure> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok((self.connection.insert(connection), self.left_at))
    }
}
