//! A store that is open and unlocked, as far as it is the same on every database: what is read goes to the reader, what is
//! written to the one writing task. It must not know SQL: what only one database has is its [`Engine`]'s.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::{
    AUDIT_KEPT, AuditLog, Cluster, Connections, Doorbell, DoorbellState, Fleet, Head, HistoryPage,
    HistoryQuery, Lease, Log, LogPage, Observations, REQUESTS_KEPT, StateSnapshot, Store, StoreError,
    Verification,
    chain::ChainKeys,
    reads::Reader,
    writer::{Job, WriterHandle},
};
use crate::domain::{
    Applied, ApplyError, ChainHash, Epoch, KindName, LoggedChange, Record, ResourceName, Revision,
    RevisionBatch, RevisionToken, StoreId, WriteSet, audit::AuditEvent, keys::Identity,
};

/// What a database does for an open store beside reading and writing the log.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// See [`Store::kind`].
    const KIND: &'static str;
    /// See [`Store::connections`].
    fn connections(&self) -> Connections;
    /// See [`Log::doorbell`].
    fn doorbell(&self) -> Doorbell;
    /// See [`Log::doorbell_state`].
    fn doorbell_state(&self) -> DoorbellState;
    /// See [`Store::explain`]. A database that nobody else writes to waits for nobody.
    async fn explain(&self, _why: &str) -> Option<&'static str> {
        None
    }
    /// See [`Store::integrity`].
    async fn integrity(&self) -> Result<Vec<String>, StoreError>;
    /// Ends everything but the writer, which is ended before.
    async fn close(&self);
}

/// The store. Cheap to share behind an `Arc`; [`Store::close`] ends it in order.
pub struct Opened<E> {
    reader: Reader,
    writer: WriterHandle,
    store_id: StoreId,
    schema_version: u32,
    /// What the traits about state beside the log are implemented on, by each database for itself.
    pub(super) engine: E,
}

impl<E: Engine> Opened<E> {
    /// Puts a store together from its parts.
    pub(super) fn new(reader: Reader, writer: WriterHandle, identity: Identity, engine: E) -> Self {
        let Identity { store_id, schema_version, .. } = identity;
        Self { reader, writer, store_id, schema_version, engine }
    }

    /// What tells whether what lies beside the log is what was written.
    pub(super) fn keys(&self) -> &ChainKeys {
        &self.reader.keys
    }
}

#[async_trait]
impl<E: Engine> Log for Opened<E> {
    async fn head(&self) -> Result<Head, StoreError> {
        Ok(self.reader.head().await?)
    }

    async fn snapshot(&self) -> Result<StateSnapshot, StoreError> {
        Ok(self.reader.snapshot().await?)
    }

    async fn changes_after(&self, at: &RevisionToken, limit: usize) -> Result<LogPage, StoreError> {
        let page = self.reader.changes_after(at, limit).await;
        self.writer.refusal().note_read(&page);
        Ok(page?)
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
        self.engine.doorbell()
    }

    fn doorbell_state(&self) -> DoorbellState {
        self.engine.doorbell_state()
    }

    async fn begin_life(&self, seen: Epoch) -> Result<Epoch, StoreError> {
        self.writer.ask(|reply| Job::BeginLife(seen, reply)).await?
    }
}

#[async_trait]
impl<E: Engine> AuditLog for Opened<E> {
    async fn audit(&self, events: Vec<AuditEvent>) -> Result<(), StoreError> {
        self.writer.ask(|reply| Job::Audit(events, reply)).await?
    }
}

#[async_trait]
impl<E: Engine> Store for Opened<E>
where
    Self: Cluster + Observations + Fleet,
{
    fn kind(&self) -> &'static str {
        E::KIND
    }

    fn schema_version(&self) -> u32 {
        self.schema_version
    }

    fn store_id(&self) -> &StoreId {
        &self.store_id
    }

    fn connections(&self) -> Connections {
        self.engine.connections()
    }

    fn died(&self) -> CancellationToken {
        self.writer.died()
    }

    async fn explain(&self, why: &str) -> Option<&'static str> {
        self.engine.explain(why).await
    }

    fn refuses_writes(&self) -> Option<&'static str> {
        self.writer.refusal().told()
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
        self.engine.integrity().await
    }

    async fn expire(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let times = [now - REQUESTS_KEPT, now - AUDIT_KEPT];
        self.writer.ask(|reply| Job::Expire(times, reply)).await?
    }

    async fn close(&self, deadline: Duration) {
        self.writer.close(deadline, self.engine.close()).await;
    }
}
