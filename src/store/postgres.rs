//! The store on PostgreSQL: shared by replicas, any of which writes. Opened in two steps, as the one on SQLite.
//!
//! There is no leader: the head row's lock orders the writes of all. Each replica groups its own writes, reads from the
//! primary, and is told of the others' commits by a doorbell that may fail. Tables lie in the first schema of the
//! connection's `search_path`.

mod aside;
mod awaited;
mod base;
mod cluster;
mod commit;
mod doorbell;
mod facts;
mod failure;
mod fleet;
mod moment;
mod moving;
mod observations;
mod open;
mod session;
mod whereabouts;

use std::{
    sync::{Arc, OnceLock, atomic::AtomicI32},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::PgPool;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(super) use self::failure::{failure_of, is_away};
use self::{
    base::PostgresBase,
    doorbell::{Bell, Listening},
    moment::PostgresReads,
    session::{BEGIN_WRITE, SILENCE, Server, say},
};
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

/// How long the first attempt to listen is waited for. Without it the store works as well, and polls.
const FIRST_LISTEN: Duration = Duration::from_secs(3);

/// A database that can be reached and has our schema, but is locked: nothing in it can be checked or written without its
/// log key. It can't be printed: it holds a password.
pub struct PostgresDatabase {
    server: Server,
    identity: Identity,
    notifies: bool,
    tells_place: bool,
}

/// The store.
pub type PostgresStore = Opened<PostgresEngine>;

/// What the store needs of PostgreSQL beside the writer's connection.
pub struct PostgresEngine {
    readers: PgPool,
    bell: Arc<Bell>,
    stop: CancellationToken,
    _stopped_with_it: DropGuard,
    tells_place: bool,
    /// When this process told of itself first: what it tells of is reached where it listens since then.
    first_beat: OnceLock<Instant>,
}

impl PostgresDatabase {
    /// Opens the database at a URL such as `postgres://user:password@host:5432/name?sslmode=verify-full`; makes the schema
    /// or brings it up to date if `create` says so. Several replicas may do so at once.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it can't be reached (within seconds), is held by another replica's migration (25 s),
    /// a newer binary wrote it, or it was moved away; [`StoreError::Damaged`] if its schema is not ours. No text repeats the URL.
    pub async fn open(url: &str, create: bool) -> Result<Self, StoreError> {
        Self::open_as(Release::CURRENT, url, create).await
    }

    /// As [`PostgresDatabase::open`], as the binary of a release.
    ///
    /// # Errors
    /// As [`PostgresDatabase::open`].
    pub async fn open_as(release: Release, url: &str, create: bool) -> Result<Self, StoreError> {
        let server = Server::parse(url)?;
        let open::Prepared { identity, notifies, tells_place, fence } =
            open::prepare(&server, create, release).await?;
        match fence {
            None => {
                open::tell_of_schema(&identity, release);
                Ok(Self { server, identity, notifies, tells_place })
            }
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
        let Self { server, identity, notifies, tells_place } = self;
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
        let died = CancellationToken::new();
        // A panic drops it.
        let (listening, guard) = (listening.run(tried, stop.clone()), died.clone().drop_guard());
        tokio::spawn(async move {
            listening.await;
            guard.disarm();
        });
        // Whoever reads from here on is told of what comes after.
        let _ = tokio::time::timeout(FIRST_LISTEN, first).await;
        let tail = Arc::new(Tail::default());
        let base = PostgresBase {
            server,
            readers: readers.clone(),
            connection: None,
            keys: Arc::clone(&keys),
            clock,
            bell: Arc::clone(&bell),
            tail: Arc::clone(&tail),
            left_at: None,
            notifies,
            tells_place,
            session,
        };
        let reader =
            Reader { moments: Arc::new(PostgresReads(readers.clone())), keys, tail, floor: Arc::default() };
        let writer = WriterHandle::start(base, (), died);
        let (first_beat, _stopped_with_it) = (OnceLock::new(), stop.clone().drop_guard());
        let engine = PostgresEngine { readers, bell, tells_place, first_beat, _stopped_with_it, stop };
        Ok(Opened::new(reader, writer, identity, engine))
    }
}

#[async_trait]
impl Engine for PostgresEngine {
    const KIND: &'static str = "postgres";

    fn connections(&self) -> Connections {
        connections(&self.readers)
    }

    fn doorbell(&self) -> Doorbell {
        self.bell.subscribe()
    }

    fn doorbell_state(&self) -> DoorbellState {
        self.bell.state()
    }

    async fn explain(&self, why: &str) -> Option<&'static str> {
        awaited::instead(&self.readers, why).await
    }

    /// PostgreSQL has no check of its own that any user may run: its pages bear checksums, where it was told to.
    async fn integrity(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    async fn close(&self) {
        self.stop.cancel();
        self.readers.close().await;
    }
}
