//! The store on PostgreSQL: shared by replicas, any of which writes. Opened in two steps, as the one on SQLite.
//!
//! There is no leader: the head row's lock orders the writes of all. Each replica groups its own writes, reads from the
//! primary, and is told of the others' commits by a doorbell that may fail. Tables lie in the first schema of the
//! connection's `search_path`.

mod aside;
mod base;
mod cluster;
mod commit;
mod doorbell;
mod failure;
mod fleet;
mod moment;
mod moving;
mod observations;
mod open;
mod session;

use std::{
    sync::{Arc, atomic::AtomicI32},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Span;

pub(super) use self::failure::failure_of;
use self::{
    base::PostgresBase,
    doorbell::{Bell, Listening},
    moment::PostgresReads,
    session::{BEGIN_WRITE, SILENCE, Server, say},
};
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

/// How long the first attempt to listen is waited for. Without it the store works as well, and polls.
const FIRST_LISTEN: Duration = Duration::from_secs(3);

/// A database that can be reached and has our schema, but is locked: nothing in it can be checked or written without its
/// log key. It can't be printed: it holds a password.
pub struct PostgresDatabase {
    server: Server,
    identity: Identity,
    notifies: bool,
}

/// The store. Cheap to share behind an `Arc`; [`Store::close`] ends it in order.
pub struct PostgresStore {
    reader: Reader,
    readers: PgPool,
    writer: WriterHandle,
    bell: Arc<Bell>,
    stop: CancellationToken,
    _stopped_with_it: DropGuard,
    store_id: StoreId,
    schema_version: u32,
}

impl PostgresDatabase {
    /// Opens the database at a URL such as `postgres://user:password@host:5432/name?sslmode=verify-full`; makes the schema
    /// or brings it up to date if `create` says so. Several replicas may do so at once.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it can't be reached (within seconds), is held by another replica's migration (25 s),
    /// a newer binary wrote it, or it was moved away; [`StoreError::Damaged`] if its schema is not ours. No text repeats the URL.
    pub async fn open(url: &str, create: bool) -> Result<Self, StoreError> {
        let server = Server::parse(url)?;
        let open::Prepared { identity, notifies, fence } = open::prepare(&server, create).await?;
        match fence {
            None => Ok(Self { server, identity, notifies }),
            Some(fence) => Err(fence.refusal()),
        }
    }

    /// Why the database at a URL can't be reached, or takes nobody for now, if it is that: it may be waited for. Names host and
    /// port, never the password.
    pub async fn out_of_reach(url: &str) -> Option<String> {
        Server::parse(url).ok()?.out_of_reach().await
    }

    /// What the store says of itself.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Gives a fresh store its first keys, all in one transaction. `false`, and nothing written, if another replica was
    /// first: [`PostgresDatabase::identity`] then tells its keys.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the database does not take it now.
    pub async fn initialise(&mut self, first: FirstKeys) -> Result<bool, StoreError> {
        let failed = Failure::from;
        let mut connection = self.server.connect().await.map_err(failed)?;
        // The head row's lock lets one after the other.
        say(&mut connection, BEGIN_WRITE, SILENCE).await.map_err(failed)?;
        let written = aside::write_first_keys(&mut connection, &first).await?;
        self.identity = open::read_identity(&mut connection).await?;
        say(&mut connection, "COMMIT", SILENCE).await.map_err(failed)?;
        Ok(written)
    }

    /// Unlocks the store and starts its writer and its doorbell on the runtime that this is called on. `clock` dates
    /// checkpoints.
    ///
    /// # Errors
    /// Only a defect: the key's length is fixed.
    pub async fn into_store(self, key: &LogKey, clock: Arc<dyn Clock>) -> Result<PostgresStore, StoreError> {
        let Self { server, identity, notifies } = self;
        let keys = Arc::new(ChainKeys::derive(key)?);
        let (bell, session) = (Arc::new(Bell::default()), Arc::new(AtomicI32::new(0)));
        let readers = server.readers();
        let listening = Listening {
            bell: Arc::clone(&bell),
            server: server.clone(),
            readers: readers.clone(),
            writer: Arc::clone(&session),
            notifies,
        };
        let stop = CancellationToken::new();
        let (tried, first) = oneshot::channel();
        tokio::spawn(listening.run(tried, stop.clone()));
        // Whoever reads from here on is told of what comes after.
        let _ = tokio::time::timeout(FIRST_LISTEN, first).await;
        let tail = Arc::new(Tail::default());
        let base = PostgresBase {
            server,
            connection: None,
            keys: Arc::clone(&keys),
            clock,
            bell: Arc::clone(&bell),
            tail: Arc::clone(&tail),
            left_at: None,
            notifies,
            session,
        };
        Ok(PostgresStore {
            reader: Reader { moments: Arc::new(PostgresReads(readers.clone())), keys, tail },
            readers,
            writer: WriterHandle::start(base, ()),
            bell,
            _stopped_with_it: stop.clone().drop_guard(),
            stop,
            store_id: identity.store_id,
            schema_version: identity.schema_version,
        })
    }
}

#[async_trait]
impl Log for PostgresStore {
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
        self.bell.subscribe()
    }

    fn doorbell_state(&self) -> DoorbellState {
        self.bell.state()
    }

    async fn begin_life(&self, seen: Epoch) -> Result<Epoch, StoreError> {
        self.writer.ask(|reply| Job::BeginLife(seen, reply)).await?
    }
}

#[async_trait]
impl AuditLog for PostgresStore {
    async fn audit(&self, events: Vec<AuditEvent>) -> Result<(), StoreError> {
        self.writer.ask(|reply| Job::Audit(events, reply)).await?
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn kind(&self) -> &'static str {
        "postgres"
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

    /// PostgreSQL has no check of its own that any user may run: its pages bear checksums, where it was told to.
    async fn integrity(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    async fn expire(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let times = [now - REQUESTS_KEPT, now - AUDIT_KEPT];
        self.writer.ask(|reply| Job::Expire(times, reply)).await?
    }

    async fn close(&self, deadline: Duration) {
        let rest = async {
            self.stop.cancel();
            self.readers.close().await;
        };
        self.writer.close(deadline, rest).await;
    }
}
