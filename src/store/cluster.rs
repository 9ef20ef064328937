//! What replicas share beside the log: who lives, who does what only one may do, and which features all of them have.
//!
//! Ages and the ends of leases are judged by the database's clock, so that replicas need not agree on the time.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{BegunLife, StoreError, failure::Failure};
use crate::domain::{Epoch, FeatureLevel, ReplicaId, Revision, SealedSecret};

/// A replica that is not heard of for so long is taken for dead.
pub const LIFETIME: Duration = Duration::from_secs(10);

/// Replicas that are read at most: far more than anybody runs. The table is open to whoever may write to the database, and what
/// all of them say has to fit into an answer.
pub const MOST_REPLICAS: usize = 128;

/// Begins what a replica tells in place of how it hears of commits once it found the store damaged: it follows no more, and the
/// others have reason to look.
pub const FOUND_DAMAGE: &str = "stopped: the store is damaged";

/// What a replica tells of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// Which one it is.
    pub id: ReplicaId,
    /// Where clients reach it.
    pub address: String,
    /// Version of its binary.
    pub version: String,
    /// What its binary supports.
    pub feature_level: FeatureLevel,
    /// The store's life that it serves.
    pub epoch: Epoch,
    /// The revision that it serves.
    pub revision: Revision,
    /// Digest of its state there.
    pub digest: [u8; 16],
    /// Ids of the keys that it can load, first the one that others need to read what it seals.
    pub key_ids: Vec<String>,
    /// How it hears of commits, in a word; or [`FOUND_DAMAGE`].
    pub doorbell: String,
    /// Streams that it serves.
    pub watchers: u64,
    /// Keyed hash of what its environment says of settings; empty from a binary that does not tell.
    pub environment: Vec<u8>,
    /// Keyed hash of what it verifies tokens with; empty from a binary that does not tell.
    pub verification: Vec<u8>,
}

/// A replica that has told of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replica {
    /// What it told.
    pub heartbeat: Heartbeat,
    /// How long ago.
    pub age: Duration,
}

/// A replica that fell silent without a goodbye, and has not told of itself again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vanished {
    /// Which one it was.
    pub id: ReplicaId,
    /// Where clients reached it.
    pub address: String,
    /// How long ago it last told of itself.
    pub age: Duration,
}

/// What the table of heartbeats tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Living {
    /// All that live: the newest [`MOST_REPLICAS`], by id.
    pub replicas: Vec<Replica>,
    /// Those that vanished and were heard of in the last hour, whoever took them out of those that live. The newest
    /// [`MOST_REPLICAS`].
    pub vanished: Vec<Vanished>,
    /// Rows that this heartbeat found, or took away, of a time more than a second ahead: none of us wrote them, or the clock was set
    /// back since. [`MOST_REPLICAS`] at most.
    pub ahead: usize,
}

/// A database that is elsewhere than it was last served: a copy, or one that goes on from another past.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Displaced {
    /// The store's life.
    pub epoch: Epoch,
    /// Where it was served, in the database's words.
    pub from: String,
    /// Where it is.
    pub to: String,
    /// Whether a replica has told of itself there and not said goodbye: it may live, and follow the log there.
    pub served: bool,
}

/// Something that only one replica may do at a time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Work(pub &'static str);

/// Forgetting what is older than the retention.
pub const HOUSEKEEPING: Work = Work("housekeeping");
/// Letting go of what rotations of keys keep.
pub const ROTATIONS: Work = Work("rotations");
/// Forgetting workers that are gone.
pub const FLEET: Work = Work("fleet");

/// The right to do a work, until it ends or another replica takes it over after it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The work.
    pub work: Work,
    /// Grows with every holder, so that a holder that was late can be told from the present one.
    pub fence: u64,
}

/// What replicas share.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// Tells of this replica, forgets those that have long been silent, and gives all that live, this one included.
    /// A level that is not to be believed keeps nobody out: [`Cluster::feature_level`] tells of it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database does not take it now, and when the store holds what this replica's
    /// binary does not know.
    async fn beat(&self, heartbeat: &Heartbeat) -> Result<Living, StoreError>;
    /// Takes this replica out of those that live, and ends the sessions of its workers.
    async fn leave(&self, id: &ReplicaId) -> Result<(), StoreError>;
    /// Takes or renews the lease of a work for `ttl`; `None` while another replica holds it.
    async fn acquire(
        &self,
        work: Work,
        holder: &ReplicaId,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError>;
    /// Gives a lease back, if it is still held.
    async fn release(&self, lease: &Lease) -> Result<(), StoreError>;
    /// Whether the database is elsewhere than it was last served, as far as it can tell. Each heartbeat, and each new life, notes
    /// where it is.
    async fn displaced(&self) -> Result<Option<Displaced>, StoreError>;
    /// What time it is by the database's clock, which all replicas share; `None` where it has none of its own.
    async fn clock(&self) -> Result<Option<DateTime<Utc>>, StoreError>;
    /// The last life that began because commits were lost, while it is still to be told of at `now`.
    async fn begun_life(&self, now: DateTime<Utc>) -> Result<Option<BegunLife>, StoreError>;
    /// What the store may hold.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if what the database says was not written by whoever knows the store's key.
    async fn feature_level(&self) -> Result<FeatureLevel, StoreError>;
    /// The sealed secret of the service under a name; the first one that was offered is everybody's.
    ///
    /// Without an offer only what is there is given.
    async fn share_secret(
        &self,
        name: &'static str,
        offer: Option<SealedSecret>,
    ) -> Result<Option<SealedSecret>, StoreError>;
    /// Raises the level as far as `to`, if every replica that lives supports it. Gives the level that now holds.
    ///
    /// # Errors
    /// As [`Cluster::feature_level`].
    async fn raise_feature_level(&self, to: FeatureLevel) -> Result<FeatureLevel, StoreError>;
}

/// By which time it is judged what is old enough to be forgotten: the earlier of a replica's own clock and the one of the
/// database. Forgetting can't be taken back, and one clock that is ahead would do it to what all have just written.
#[must_use]
pub fn earlier(own: DateTime<Utc>, database: Option<DateTime<Utc>>) -> DateTime<Utc> {
    database.map_or(own, |database| own.min(database))
}

/// Whether a binary may tell of itself at the level that was found, believed or not.
pub(super) fn let_in(found: Result<FeatureLevel, Failure>, own: FeatureLevel) -> Result<(), StoreError> {
    match found {
        Ok(level) if level > own => Err(too_old(level, own)),
        Ok(_) | Err(Failure::Damaged(_)) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

/// What a binary is told that the store has outgrown.
fn too_old(level: FeatureLevel, own: FeatureLevel) -> StoreError {
    StoreError::Unavailable(format!(
        "the store is at feature level {level}, and this signalbox supports only {own}; start a newer one"
    ))
}
