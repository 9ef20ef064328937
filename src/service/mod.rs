//! The use cases: what a caller can have done, in the order of one way in and one way out.
//!
//! A write is authorised, planned on the view by the kind's rules, sealed, and handed to the store; what readers and
//! watchers see of it comes back out of the log. It must not know tonic or sqlx. Every use case takes the caller.

mod active;
mod admin;
mod api_keys;
mod audit;
mod content;
mod convergence;
mod difference;
mod discover;
mod export;
mod fields;
mod first_start;
mod fit;
mod fleet;
mod history;
mod import;
mod observe;
mod outcome;
mod plan;
mod probe;
mod provider;
mod read;
mod retirement;
mod rollback;
mod rotation;
mod settings;
mod test_database;
mod test_provider;
mod tokens;
mod vitals;
mod watch;
mod write;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::sync::RwLock;

pub use admin::{Compaction, Status};
pub use audit::{AuditCounts, AuditTrail, AuditWriter};
pub use convergence::Wait;
pub use export::{Export, ExportRequest};
pub use first_start::FirstStart;
pub use fleet::WorkerCounts;
pub use import::{ImportRequest, check_growth};
pub use observe::{ObservationWriter, Observer};
pub use read::{GetRequest, ListRequest};
pub use retirement::RotationCounts;
pub use tokens::parse_token;
pub use vitals::{ChangeKey, Degradation, Vitals};
pub use write::{Operation, OperationKind, WriteRequest};

use self::{retirement::Rotations, vitals::Changes};
use crate::{
    auth::TokenIssuer,
    crypto::Vault,
    domain::{
        Applied, ApplyError, ChainHash, Clock, Error, Principal, Result, Revision, RevisionToken, WriteSet,
    },
    fleet::Fleet,
    outbound::Outbound,
    replica::Replicas,
    settings::Overrides,
    store::{Store, StoreError},
    view::{Confirmed, Revealer, State, View},
    watch::Streams,
};

/// How long a read waits for this replica to see a revision, and a write for its own view.
const PATIENCE: Duration = Duration::from_secs(5);

/// Things that an operator should look at, as they are found: at the start, and by checks in the background.
#[derive(Clone, Default)]
pub struct Warnings(Arc<parking_lot::Mutex<Found>>);

#[derive(Default)]
struct Found {
    /// Those that stay.
    lasting: Vec<String>,
    /// Those that hold until they are over, by what they are about.
    passing: BTreeMap<&'static str, String>,
}

impl Warnings {
    /// Begins with what was found at the start.
    #[must_use]
    pub fn new(found: Vec<String>) -> Self {
        Self(Arc::new(parking_lot::Mutex::new(Found { lasting: found, passing: BTreeMap::new() })))
    }

    /// Adds one.
    pub fn add(&self, warning: String) {
        self.0.lock().lasting.push(warning);
    }

    /// Tells what holds now of a matter; `None` when nothing has to be looked at any more.
    pub fn hold(&self, matter: &'static str, warning: Option<String>) {
        let passing = &mut self.0.lock().passing;
        match warning {
            Some(warning) => passing.insert(matter, warning),
            None => passing.remove(matter),
        };
    }

    /// All of them: those that stay in the order in which they were found, then those that pass.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        let found = self.0.lock();
        found.lasting.iter().chain(found.passing.values()).cloned().collect()
    }
}

/// Everything that the use cases stand on.
pub struct Parts {
    /// Where configuration lies.
    pub store: Arc<dyn Store>,
    /// The current state.
    pub view: Arc<View>,
    /// Opens and masks secrets on the way out.
    pub revealer: Arc<Revealer>,
    /// Seals them on the way in.
    pub vault: Arc<Vault>,
    /// The open streams.
    pub streams: Arc<Streams>,
    /// The replicas that live.
    pub replicas: Arc<Replicas>,
    /// Who runs what.
    pub fleet: Arc<Fleet>,
    /// Makes tokens, where this server may.
    pub issuer: Option<TokenIssuer>,
    /// Who read secrets, who ran the service.
    pub audit: AuditTrail,
    /// What is seen of resources.
    pub observer: Observer,
    /// Calls to others.
    pub outbound: Outbound,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// How long the log is kept; `None` for ever.
    pub retention: Option<Duration>,
    /// Bytes of an answer at most.
    pub max_answer_bytes: usize,
    /// What the environment of this server says of settings.
    pub overrides: Overrides,
    /// Things that an operator should look at.
    pub warnings: Warnings,
}

/// The use cases.
pub struct Service {
    parts: Arc<Parts>,
    started: DateTime<Utc>,
    changes: Changes,
    rotations: Rotations,
    /// Places of those who wait for workers.
    waits: Arc<convergence::Waiting>,
    /// Held by every write of this server while it is applied, and alone by one that has lost too often against the others.
    turns: RwLock<()>,
}

impl Service {
    /// Puts the use cases on their parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let started = parts.clock.now();
        let waits = Arc::default();
        let (changes, rotations) = (Changes::default(), Rotations::default());
        Self { parts: Arc::new(parts), started, changes, rotations, waits, turns: RwLock::default() }
    }

    /// Makes a write durable. Every use case that writes does it by this, so that what it changes is counted, and a damaged store
    /// takes none.
    async fn apply(&self, caller: &Principal, write: WriteSet) -> Result<Applied, ApplyError> {
        let _turn = self.turns.read().await;
        self.apply_alone(caller, write).await
    }

    /// As [`Self::apply`], for who has its turn alone.
    async fn apply_alone(&self, caller: &Principal, write: WriteSet) -> Result<Applied, ApplyError> {
        self.is_whole()?;
        let changes = Changes::of(caller, &write.changes);
        let applied = self.parts.store.apply(write).await;
        if let Err(ApplyError::Damaged { .. }) = &applied {
            self.parts.view.doubt();
        }
        let applied = applied?;
        if let Applied::Committed { .. } = applied {
            self.changes.count(changes);
        }
        Ok(applied)
    }

    /// Refuses what would be planned on what was never written. What exactly is damaged is for the operator.
    fn is_whole(&self) -> Result<(), ApplyError> {
        match self.parts.view.damage() {
            None => Ok(()),
            Some(_) => Err(ApplyError::Damaged { what: "it holds what was never written".into() }),
        }
    }

    /// Waits until this replica has seen what `token` has seen, so that no answer is older than one given before.
    async fn at_least(&self, token: Option<RevisionToken>) -> Result<()> {
        let Some(token) = token else { return Ok(()) };
        if self.parts.view.state().has(&token) {
            return self.same_log(&token).await;
        }
        // Only the store knows whether this replica is behind, also behind the beginning of a life, or the token is lost.
        let head = self.parts.store.head().await.map_err(store_error)?;
        if head.epoch != token.epoch || head.revision < token.revision {
            return Err(other_life());
        }
        self.parts.view.look();
        match self.parts.view.has_seen(&token, PATIENCE).await {
            true => self.same_log(&token).await,
            false => Err(behind(token.revision)),
        }
    }

    /// Whether the log holds at the token's revision what the token saw there. A restore that went unnoticed may have put
    /// another revision in its place.
    async fn same_log(&self, token: &RevisionToken) -> Result<()> {
        let state = self.parts.view.state();
        let hash = match self.parts.streams.hash_in_memory(&state, token.revision) {
            Some(hash) => Some(hash),
            None => match self.parts.store.hash_at(token.revision).await {
                Ok(hash) => hash,
                // Reads go on from memory while the store is away, and say how old they are.
                Err(StoreError::Unavailable(_)) => None,
                Err(error) => return Err(store_error(error)),
            },
        };
        // What was compacted can't be told apart any more.
        if hash.is_none_or(|hash| hash.half() == token.hash) { Ok(()) } else { Err(other_life()) }
    }

    fn same_life(&self, token: &RevisionToken) -> Result<()> {
        match token.epoch == self.parts.view.state().epoch {
            true => Ok(()),
            false => Err(other_life()),
        }
    }

    async fn audit(&self, caller: &Principal, event: &'static str, detail: String) -> Result<()> {
        self.parts.audit.require(caller, event, detail).await
    }

    /// When the store last confirmed the state that is read from now on: to be asked before it.
    fn confirmed(&self) -> Confirmed {
        self.parts.view.confirmed()
    }

    /// The state at a past revision, from memory or from the log. 0 is the current one.
    async fn state_at(&self, revision: u64) -> Result<Arc<State>> {
        let current = self.parts.view.state();
        if revision == 0 {
            return Ok(current);
        }
        let wanted = Revision(revision);
        if let Some(state) = self.parts.view.at(wanted) {
            return Ok(state);
        }
        let hash = self.past_hash(&current, wanted).await?;
        let records = self.parts.store.records_at(wanted).await;
        self.still_held(wanted).await?;
        let records = records.map_err(store_error)?;
        Ok(Arc::new(current.of_records(wanted, hash, records)))
    }

    /// Whether a compaction has passed a revision while it was read: then what was read is not the whole of it.
    async fn still_held(&self, revision: Revision) -> Result<()> {
        let head = self.parts.store.head().await.map_err(store_error)?;
        if revision < head.floor { Err(compacted(revision, head.floor)) } else { Ok(()) }
    }

    /// The chain's head at a past revision, if the log still reaches back to it.
    async fn past_hash(&self, current: &State, wanted: Revision) -> Result<ChainHash> {
        if wanted > current.revision {
            return Err(Error::OutOfRange {
                reason: "AHEAD",
                description: format!("revision {wanted} lies ahead of this replica's {}", current.revision),
                floor: Revision::ZERO,
            });
        }
        let head = self.parts.store.head().await.map_err(store_error)?;
        if wanted < head.floor {
            return Err(compacted(wanted, head.floor));
        }
        let hash = self.parts.store.hash_at(wanted).await.map_err(store_error)?;
        hash.ok_or_else(|| compacted(wanted, head.floor))
    }
}

/// What an answer says of its age.
fn age(confirmed: Confirmed) -> (bool, Option<prost_types::Duration>) {
    let freshness = confirmed.freshness();
    (freshness.stale, prost_types::Duration::try_from(freshness.confirmed_age).ok())
}

fn compacted(revision: Revision, floor: Revision) -> Error {
    Error::OutOfRange {
        reason: "COMPACTED",
        description: format!("revision {revision} has been compacted; the oldest one is {floor}"),
        floor,
    }
}

/// The view has not come so far in time.
fn behind(revision: Revision) -> Error {
    Error::Unavailable {
        reason: "REPLICA_BEHIND",
        description: format!("this replica has not yet seen revision {revision}"),
        retry_after: Duration::from_secs(1),
    }
}

fn other_life() -> Error {
    Error::FailedPrecondition {
        reason: "OTHER_STORE",
        subject: "revision_token".into(),
        description: "the token is of another store, or of another life of this one; read again without it"
            .into(),
    }
}

/// Reads a token of a request, which may be empty.
///
/// # Errors
/// `Invalid`.
fn parse_revision_token(field: &str, text: &str) -> Result<Option<RevisionToken>> {
    if text.is_empty() {
        return Ok(None);
    }
    let token = RevisionToken::parse(text);
    token.map(Some).ok_or_else(|| Error::invalid(field, "INVALID_TOKEN", "is not a token of this service"))
}

/// What a failed read of the store is to a caller.
fn store_error(error: StoreError) -> Error {
    match error {
        StoreError::Unavailable(reason) => Error::Unavailable {
            reason: "STORE_UNAVAILABLE",
            description: format!("the store can't be read now: {reason}"),
            retry_after: Duration::from_secs(1),
        },
        StoreError::Absent(detail) | StoreError::Damaged(detail) | StoreError::Internal(detail) => {
            Error::Internal { detail }
        }
    }
}
