//! Where configuration lies: one narrow trait, one implementation for each database.
//!
//! It must not know plaintext (what it holds is masked or sealed) nor transport. To add a database: implement
//! `opened::Engine` and `writer::Base` in a room of its own and run the conformance suite on it.

pub mod chain;
pub mod cluster;
mod decode;
mod failure;
pub mod fleet;
mod floor;
mod history;
mod level;
mod life;
mod measured;
pub mod moving;
pub mod observations;
pub mod opened;
pub mod plan;
pub mod postgres;
mod reads;
mod refusal;
pub mod rows;
mod schema;
mod sql;
pub mod sqlite;
mod tail;
mod transaction;
pub mod verify;
mod writer;

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use crate::domain::{
    Applied, ApplyError, ChainHash, Epoch, KindName, LoggedChange, Record, ResourceName, Revision,
    RevisionBatch, RevisionToken, Revocation, SealedSecret, StoreId, WriteSet, audit::AuditEvent,
};

pub use history::{HistoryCursor, HistoryPage, HistoryQuery, HistoryRow, Names, apart};

pub use cluster::{
    Cluster, Displaced, FLEET, FOUND_DAMAGE, HOUSEKEEPING, Heartbeat, LIFETIME, Lease, Living, MOST_REPLICAS,
    ROTATIONS, Replica, Vanished, Work, earlier,
};
pub use fleet::{Fleet, Keep, MOST_MEMBERS, Member, News};
pub use life::BegunLife;
pub use measured::Measured;
pub use observations::Observations;

/// How long a request's answer is kept.
const REQUESTS_KEPT: TimeDelta = TimeDelta::days(1);
/// How long an audit event is kept.
const AUDIT_KEPT: TimeDelta = TimeDelta::days(90);

/// Why the store did not answer a read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It can't be reached, is full or is busy; trying again may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// There is none; trying again does not help.
    #[error("{0}")]
    Absent(String),
    /// What it holds is not what was written, or is not ours.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// It breaks its own rules: a defect of this program.
    #[error("the store failed: {0}")]
    Internal(String),
}

/// Where the log stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The store's present life.
    pub epoch: Epoch,
    /// The newest revision.
    pub revision: Revision,
    /// Head of the hash chain there.
    pub hash: ChainHash,
    /// The oldest revision that the log can go on from.
    pub floor: Revision,
}

/// The whole current state, read in one transaction and checked against its digest.
#[derive(Debug)]
pub struct StateSnapshot {
    /// Where it was read.
    pub head: Head,
    /// Every resource, by name in bytewise order.
    pub records: Vec<Record>,
    /// Every sealed value that a resource refers to.
    pub sealed: Vec<SealedSecret>,
    /// Every revocation.
    pub revocations: Vec<Revocation>,
    /// Set when the state is not what the log says: served all the same, and an alarm.
    pub defect: Option<String>,
}

/// A part of the log.
#[derive(Debug)]
pub enum LogPage {
    /// The revisions that follow, whole, in order, without a gap; empty at the head.
    Batches(Vec<RevisionBatch>),
    /// The log no longer reaches back so far.
    Compacted {
        /// The oldest revision that it can go on from.
        floor: Revision,
    },
    /// The store has begun another life since: what was read of the old one has to be read anew.
    OtherLife {
        /// The life that it is in now.
        epoch: Epoch,
    },
    /// The same life, but not the same log: what was read once is not in it, because a restore or a failover lost commits.
    /// See [`Log::begin_life`].
    Diverged {
        /// Where the log that was found ends.
        revision: Revision,
    },
}

/// How a process learns of the commits of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoorbellState {
    /// There are no others: it rings from memory.
    Local,
    /// The database tells, and was lately seen to.
    Notify,
    /// The database does not tell: commits of others are found by polling.
    Polling {
        /// Why, in words for an operator.
        reason: &'static str,
    },
}

impl DoorbellState {
    /// Every word of a state.
    pub const WORDS: [&'static str; 3] = ["local", "notify", "polling"];

    /// The state in one word, without a reason.
    #[must_use]
    pub fn word(&self) -> &'static str {
        let [local, notify, polling] = Self::WORDS;
        match self {
            DoorbellState::Local => local,
            DoorbellState::Notify => notify,
            DoorbellState::Polling { .. } => polling,
        }
    }
}

/// Connections to the database that reads share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Open ones.
    pub open: u32,
    /// Those of them that nobody uses.
    pub idle: u32,
}

impl std::fmt::Display for DoorbellState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DoorbellState::Polling { reason } => write!(formatter, "{}: {reason}", self.word()),
            DoorbellState::Local | DoorbellState::Notify => formatter.write_str(self.word()),
        }
    }
}

/// The connections of a pool.
fn connections<D: sqlx::Database>(pool: &sqlx::Pool<D>) -> Connections {
    Connections { open: pool.size(), idle: u32::try_from(pool.num_idle()).unwrap_or(u32::MAX) }
}

/// What [`Store::verify`] found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Log rows that were checked.
    pub checked_rows: u64,
    /// The newest revision.
    pub revision: Revision,
    /// The first defects, at most 100.
    pub defects: Vec<Defect>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defect {
    /// Stable word: `log_row_edited`, `log_row_missing`, `log_row_misplaced`, `state_edited`, `state_missing`,
    /// `head_edited`, `checkpoint_edited`, `rolled_back`; beside the log `other_life`, `feature_level`.
    pub reason: &'static str,
    /// The log row's revision, where there is one.
    pub revision: Option<Revision>,
    /// The resource's name, where there is one.
    pub name: Option<String>,
    /// The finding in words.
    pub description: String,
}

/// Something that tells of every commit, for as long as it is polled. Losing a ring costs latency, never an event.
pub type Doorbell = tokio::sync::watch::Receiver<u64>;

/// What the view follows: the log of a store, or one day of a relay.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Where the log stands, by the store's own word.
    async fn head(&self) -> Result<Head, StoreError>;
    /// The whole current state.
    async fn snapshot(&self) -> Result<StateSnapshot, StoreError>;
    /// The revisions after a position, oldest first: at least one if there is one, at most about `limit` changes. Every
    /// link of the chain is checked, from the position's own hash on, so that nothing is ever left out unnoticed.
    async fn changes_after(&self, at: &RevisionToken, limit: usize) -> Result<LogPage, StoreError>;
    /// The revisions after a position that this process itself has committed, as far as it remembers them and nobody else's come
    /// before: what the log holds there, without asking the database. It says nothing of what else it holds by now.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if what was written can't be read.
    fn remembered_after(&self, at: &RevisionToken, limit: usize) -> Result<Vec<RevisionBatch>, StoreError>;
    /// What happened to resources of one kind after a revision and up to another, oldest first and without sealed values: at
    /// least one revision if there is one, at most about `limit` changes.
    async fn changes_of(
        &self,
        kind: KindName,
        after: Revision,
        through: Revision,
        limit: usize,
    ) -> Result<Vec<(Revision, LoggedChange)>, StoreError>;
    /// The hash chain's head at a revision that the log still holds, to check a token.
    async fn hash_at(&self, revision: Revision) -> Result<Option<ChainHash>, StoreError>;
    /// Rings after every group of commits.
    fn doorbell(&self) -> Doorbell;
    /// Whether the doorbell can be relied on. Never waits.
    fn doorbell_state(&self) -> DoorbellState;
    /// Begins a new life of the store, because commits of the life `seen` were found to be lost. Only one of those who
    /// find it out does so: whoever comes after a change is told the life that is there.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the database does not take it now; the life then is the old one, or the new one.
    async fn begin_life(&self, seen: Epoch) -> Result<Epoch, StoreError>;
}

/// Where audit events are kept.
#[async_trait]
pub trait AuditLog: Send + Sync + 'static {
    /// Writes audit events; all or none.
    async fn audit(&self, events: Vec<AuditEvent>) -> Result<(), StoreError>;
}

/// A store that is open and unlocked.
#[async_trait]
pub trait Store: Log + Cluster + AuditLog + Observations + Fleet {
    /// Which database this is: `sqlite`, `postgres`.
    fn kind(&self) -> &'static str;
    /// Version of the schema.
    fn schema_version(&self) -> u32;
    /// Its identity.
    fn store_id(&self) -> &StoreId;
    /// The connections that reads share. Never waits.
    fn connections(&self) -> Connections;
    /// Why the last write was not taken, if it was not and that may hold still: a full disk, a database that can only be read, or one
    /// that was away and was not heard from since. Never waits.
    fn refuses_writes(&self) -> Option<&'static str>;
    /// The better word for why the database did not take something, if there is one: what is really waited for. Asked of the
    /// database where `why` leaves that open, for a second at most.
    async fn explain(&self, why: &str) -> Option<&'static str>;
    /// Cancelled when a task of it has panicked: it does only a part of its work from then on.
    fn died(&self) -> CancellationToken;
    /// Makes a write durable, or does nothing. Runs to its end even if the caller goes away.
    async fn apply(&self, write: WriteSet) -> Result<Applied, ApplyError>;
    /// What became of a request of the last day, if anything. `mac` must be the one of the request.
    async fn replay(&self, principal: &str, id: &str, mac: &[u8; 32]) -> Result<Option<Applied>, ApplyError>;
    /// The newest change of one resource at or below a revision: the resource as it then was.
    async fn record_at(
        &self,
        name: &ResourceName,
        revision: Revision,
    ) -> Result<Option<LoggedChange>, StoreError>;
    /// Every resource as it was at a revision that is not below the floor.
    async fn records_at(&self, revision: Revision) -> Result<Vec<Record>, StoreError>;
    /// What happened to some names, newest first.
    async fn history(&self, query: HistoryQuery) -> Result<HistoryPage, StoreError>;
    /// Forgets the log up to and including `floor`, but for the newest row of each live name.
    /// Returns the floor that now holds and the number of rows removed.
    async fn compact(&self, floor: Revision) -> Result<(Revision, u64), StoreError> {
        self.compact_under(None, floor).await
    }
    /// As [`Store::compact`], unless another replica has taken the lease over.
    async fn compact_under(
        &self,
        lease: Option<Lease>,
        floor: Revision,
    ) -> Result<(Revision, u64), StoreError>;
    /// The newest revision that was committed before `time`.
    async fn revision_before(&self, time: DateTime<Utc>) -> Result<Revision, StoreError>;
    /// Checks the log, and the state against it. `anchor` is a token's revision and hash from outside.
    async fn verify(&self, anchor: Option<(Revision, [u8; 16])>) -> Result<Verification, StoreError>;
    /// What the database's own full check finds; empty if nothing, or if it has none. May take seconds.
    async fn integrity(&self) -> Result<Vec<String>, StoreError>;
    /// Forgets idempotency keys and audit events that are older than they need to be, and what was seen of resources that
    /// are gone.
    async fn expire(&self, now: DateTime<Utc>) -> Result<(), StoreError>;
    /// Ends the writer after what it has taken on, within `deadline`, and closes the database.
    async fn close(&self, deadline: Duration);
}
