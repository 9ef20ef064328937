//! Moving a whole store to another database, so that at no moment two of them can be served.
//!
//! 1. Under the source's lock everything is copied into one transaction of the target, in pages, and read back: row by row
//!    it must be the same, and the log must verify. Whatever fails until here has changed nothing.
//! 2. The source's last transaction fences it (`moving`). The database itself refuses writes from then on.
//! 3. The target commits: the store is there, in a new life.
//! 4. The source notes that it is done (`moved`).
//!
//! A crash between 2 and 4 leaves a source that nobody may serve. The same command again looks at the target under its
//! lock, where an earlier commit is done or gone: if the store is there, only 4 is missing; if not, it is copied anew.
//! Two databases can't commit together; this order never has two that live, at the price of perhaps none.
//!
//! It must not know settings, keys beyond that of the log, or plaintext. What a database does differently stands with it.

mod abandon;
pub mod carrier;
mod copy;
pub mod fence;
pub mod tables;

use std::time::Duration;

use self::{
    carrier::{Carrier, Held, count, fingerprint},
    copy::{Copied, copy},
    fence::{Passage, State},
    tables::{AUDIT, Arrival, LOG, RESOURCES, SECRETS, Sort, TABLES, Value},
};
use super::{StoreError, chain::ChainKeys, failure::Failure, level};
use crate::domain::{Epoch, FeatureLevel, SealedSecret, keys::LogKey};

pub use abandon::{Abandoned, abandon};

/// How long a commit is waited for without a word.
const SILENT: Duration = Duration::from_secs(5);

/// Why a store was not moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// One of the two is not in a state for it. Nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// The source can't be read or written.
    #[error("source: {0}")]
    Source(StoreError),
    /// The target can't be read or written.
    #[error("target: {0}")]
    Target(StoreError),
    /// The source's last transaction may have been committed.
    #[error(
        "source: {0}; it may be fenced now, and the store is not in the target: run the same command again, or give the \
         move up with --abandon"
    )]
    Fencing(StoreError),
    /// The store is in the target.
    #[error(
        "source: {0}; the store is in the target already, and the same command again tells the source so"
    )]
    Telling(StoreError),
    /// The target's commit may or may not have taken place.
    #[error(
        "target: {0}; whether the store is there is not known. Nobody can serve the source until that is: run the same \
         command again when the target answers"
    )]
    Unknown(StoreError),
}

/// What becomes of a secret of the service on the way.
pub enum Service {
    /// All of them go along as they are.
    Kept,
    /// One goes along as this, in the place of what the source has under its name.
    Given(&'static str, SealedSecret),
    /// One stays behind, because the target keeps it elsewhere.
    LeftOut(&'static str),
}

/// What a move is told.
pub struct Order<'a> {
    /// Where the source is, for people.
    pub from: String,
    /// Where the target is, for people.
    pub to: String,
    /// The key of the log.
    pub log_key: &'a LogKey,
    /// What this binary knows.
    pub level: FeatureLevel,
    /// When it is.
    pub time: String,
    /// Secrets of the service.
    pub service: Service,
}

/// How much a store holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Contents {
    /// Resources.
    pub resources: u64,
    /// The newest revision.
    pub revision: u64,
    /// Rows of the log.
    pub log_rows: u64,
    /// Sealed secrets.
    pub secrets: u64,
    /// Audit events.
    pub audit_events: u64,
}

/// A store that is in its new place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Done {
    /// What was moved; that it was is one audit event more.
    pub contents: Contents,
    /// Its life there.
    pub epoch: Epoch,
    /// Whether it had been there before: only the source had not been told.
    pub before: bool,
}

/// What somebody is told meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Rows of a table were copied.
    Copied {
        /// What they are called.
        what: &'static str,
        /// How many.
        rows: u64,
    },
    /// A commit takes long.
    Waiting {
        /// Whose: `source` or `target`.
        end: &'static str,
    },
}

/// Who is told.
pub type Tell<'t> = &'t mut dyn FnMut(Progress);

/// Looks at both without writing: what would be moved, if it can be.
///
/// # Errors
/// As [`transfer`].
pub async fn look(from: &Held, to: Option<&Held>, order: &Order<'_>) -> Result<Contents, MoveError> {
    let mut source = from.place.begin().await.map_err(of_source)?;
    let fence = fence_of(&mut *source).await?;
    check_source(&mut *source, order, fence.is_none()).await?;
    if let Some(to) = to {
        let mut target = to.place.begin().await.map_err(of_target)?;
        if !has_arrived(&mut *target, fence.as_ref()).await? {
            check_target(&mut *target, to, fence.as_ref(), order).await?;
        }
    } else if let Some(fence) = fence {
        return Err(MoveError::Refused(other_target(&fence, order)));
    }
    contents(&mut *source).await.map_err(of_source)
}

/// Moves a store. `ready` is asked for what has to be there before the store may be served in its new place.
///
/// # Errors
/// Says which of the two is in the way. Unless it is [`MoveError::Unknown`], the source can be served as before if it could
/// be before.
pub async fn transfer(
    from: &Held,
    to: &Held,
    order: &Order<'_>,
    ready: impl FnOnce() -> Result<(), String>,
    tell: Tell<'_>,
) -> Result<Done, MoveError> {
    let mut source = from.place.begin().await.map_err(of_source)?;
    let fence = fence_of(&mut *source).await?;
    let mut target = to.place.begin().await.map_err(of_target)?;
    if let Some(fence) = &fence
        && has_arrived(&mut *target, Some(fence)).await?
    {
        fence::finish(&mut *source, &fence.id).await.map_err(of_source)?;
        let done = done(&mut *source, &mut *target, true).await?;
        source.commit().await.map_err(of_source)?;
        return Ok(done);
    }
    check_target(&mut *target, to, fence.as_ref(), order).await?;
    check_source(&mut *source, order, fence.is_none()).await?;
    let passage = fence.clone().unwrap_or_else(|| passage(to, order));
    let copied = copy(&mut *source, &mut *target, order, &passage, tell).await?;
    check_copy(&mut *target, order, &copied).await?;
    let done = done(&mut *source, &mut *target, false).await?;
    ready().map_err(MoveError::Refused)?;
    if fence.is_none() {
        fence::put(&mut *source, &passage).await.map_err(of_source)?;
    }
    let fenced = patiently(source.commit(), "source", tell).await;
    fenced.map_err(|failure| MoveError::Fencing(failure.into()))?;
    if let Err(failure) = patiently(target.commit(), "target", tell).await {
        settle(from, to, &passage, failure).await?;
    }
    finish(from, &passage).await?;
    Ok(done)
}

/// Waits for a commit, which has its own bounds, and says so if it takes long.
async fn patiently<T>(commit: impl Future<Output = T>, end: &'static str, tell: Tell<'_>) -> T {
    let mut commit = std::pin::pin!(commit);
    match tokio::time::timeout(SILENT, &mut commit).await {
        Ok(done) => done,
        Err(_) => {
            tell(Progress::Waiting { end });
            commit.await
        }
    }
}

/// Finds out what became of a commit of the target that failed. If the store is not there, the source is given back.
async fn settle(from: &Held, to: &Held, passage: &Passage, failure: Failure) -> Result<(), MoveError> {
    let unknown = |_| MoveError::Unknown(failure.clone().into());
    // Under its lock, which whoever is still committing holds: what is not there then never will be.
    let mut target = to.place.begin().await.map_err(unknown)?;
    let arrived = fence::passages(&mut *target).await.map_err(unknown)?;
    if arrived.iter().any(|other| other.id == passage.id) {
        return Ok(());
    }
    let mut source = from.place.begin().await.map_err(of_source)?;
    fence::lift(&mut *source, &passage.id).await.map_err(of_source)?;
    source.commit().await.map_err(of_source)?;
    Err(of_target(failure))
}

/// Tells the source that the store is in its new place.
async fn finish(from: &Held, passage: &Passage) -> Result<(), MoveError> {
    let told = async {
        let mut source = from.place.begin().await?;
        fence::finish(&mut *source, &passage.id).await?;
        source.commit().await
    };
    told.await.map_err(|failure| MoveError::Telling(failure.into()))
}

/// The move that has begun now.
fn passage(to: &Held, order: &Order<'_>) -> Passage {
    Passage {
        id: uuid::Uuid::new_v4().to_string(),
        state: State::Moving,
        place: order.to.clone(),
        other_id: to.identity.store_id.0.clone(),
        time: order.time.clone(),
    }
}

async fn fence_of(source: &mut dyn Carrier) -> Result<Option<Passage>, MoveError> {
    let passages = fence::passages(source).await.map_err(of_source)?;
    Ok(passages.into_iter().find(|passage| passage.state != State::Arrived))
}

/// Whether the store of a fenced source is in the target.
async fn has_arrived(target: &mut dyn Carrier, fence: Option<&Passage>) -> Result<bool, MoveError> {
    let Some(fence) = fence else { return Ok(false) };
    let passages = fence::passages(target).await.map_err(of_target)?;
    Ok(passages.iter().any(|passage| passage.id == fence.id))
}

/// Nobody may serve the source, and unless it was found to be whole before it was fenced, it has to be.
async fn check_source(
    source: &mut dyn Carrier,
    order: &Order<'_>,
    thoroughly: bool,
) -> Result<(), MoveError> {
    if let Some(guest) = source.guests().await.map_err(of_source)?.first() {
        return Err(MoveError::Refused(format!(
            "the source is being served: the replica at {} was heard of {} s ago. Stop every server on it; one that died \
             without a word counts for 10 s",
            guest.address, guest.seconds
        )));
    }
    let keys = ChainKeys::derive(order.log_key).map_err(MoveError::Source)?;
    let level = level_of(source, &keys).await.map_err(of_source)?;
    if level > order.level {
        return Err(MoveError::Refused(format!(
            "the source is at feature level {level}, and this signalbox supports only {}; take a newer one",
            order.level
        )));
    }
    if !thoroughly {
        return Ok(());
    }
    let found = source.check(&keys).await.map_err(of_source)?;
    match found.defects.first() {
        None => Ok(()),
        Some(defect) => Err(MoveError::Refused(format!(
            "the source is not as it was written, and is not moved: {}; `signalbox doctor --offline` tells all",
            defect.description
        ))),
    }
}

async fn level_of(carrier: &mut dyn Carrier, keys: &ChainKeys) -> Result<FeatureLevel, Failure> {
    let rows = carrier.rows(level::LEVEL.into(), &[Sort::Integer, Sort::Bytes], &[]).await?;
    let row = rows.into_iter().next().and_then(|row| match <[Value; 2]>::try_from(row) {
        Ok([Value::Integer(level), Value::Bytes(mac)]) => Some((level, mac)),
        _ => None,
    });
    level::believed(row, keys)
}

/// The target has to be empty and, if the move had begun before, the same as then.
async fn check_target(
    target: &mut dyn Carrier,
    to: &Held,
    fence: Option<&Passage>,
    order: &Order<'_>,
) -> Result<(), MoveError> {
    if let Some(fence) = fence
        && (fence.state == State::Moved || to.identity.store_id.0 != fence.other_id)
    {
        return Err(MoveError::Refused(other_target(fence, order)));
    }
    match to.identity.fresh && is_empty(target).await.map_err(of_target)? {
        true => Ok(()),
        false => Err(MoveError::Refused(format!(
            "there is a store at {} already; give an empty database, or a file that is not there",
            order.to
        ))),
    }
}

async fn is_empty(target: &mut dyn Carrier) -> Result<bool, Failure> {
    let mut rows = revision(target).await? + fence::passages(target).await?.len() as u64;
    for table in TABLES.into_iter().filter(|table| table.arrival != Arrival::Replaced) {
        rows += count(target, table, "").await?;
    }
    Ok(rows == 0)
}

fn other_target(fence: &Passage, order: &Order<'_>) -> String {
    let Passage { place, time, .. } = fence;
    match fence.state {
        State::Moving => format!(
            "a move of the source to {place} has begun at {time}, and {} is not the database that it began with: run the \
             command with that one, or give the move up with --abandon first",
            order.to
        ),
        State::Arrived | State::Moved => {
            format!(
                "the source was moved to {place} at {time}, and is not at {}: move it from there",
                order.to
            )
        }
    }
}

/// What was written has to be there, row by row, and the log has to verify with the target's own rows.
async fn check_copy(target: &mut dyn Carrier, order: &Order<'_>, copied: &[Copied]) -> Result<(), MoveError> {
    for Copied { table, expected } in copied {
        if fingerprint(target, table).await.map_err(of_target)? != *expected {
            let text = format!("its {} are not those that were written", table.shown);
            return Err(MoveError::Target(StoreError::Damaged(text)));
        }
    }
    let keys = ChainKeys::derive(order.log_key).map_err(MoveError::Target)?;
    let found = target.check(&keys).await.map_err(of_target)?;
    match found.defects.into_iter().next() {
        None => Ok(()),
        Some(defect) => Err(MoveError::Target(StoreError::Damaged(defect.description))),
    }
}

/// What came of it, in the words of a look before.
async fn done(source: &mut dyn Carrier, target: &mut dyn Carrier, before: bool) -> Result<Done, MoveError> {
    let epoch = epoch(target).await.map_err(of_target)?;
    Ok(Done { contents: contents(source).await.map_err(of_source)?, epoch, before })
}

async fn epoch(carrier: &mut dyn Carrier) -> Result<Epoch, Failure> {
    let epoch = carrier.rows("SELECT epoch FROM head".into(), &[Sort::Text], &[]).await?;
    let epoch = epoch.into_iter().flatten().next().map(Value::into_text).unwrap_or_default();
    Epoch::parse(&epoch).ok_or_else(|| Failure::Damaged("the head row is broken".into()))
}

async fn contents(carrier: &mut dyn Carrier) -> Result<Contents, Failure> {
    Ok(Contents {
        resources: count(carrier, &RESOURCES, " WHERE kind <> 'revocation'").await?,
        revision: revision(carrier).await?,
        log_rows: count(carrier, &LOG, "").await?,
        secrets: count(carrier, &SECRETS, "").await?,
        audit_events: count(carrier, &AUDIT, "").await?,
    })
}

async fn revision(carrier: &mut dyn Carrier) -> Result<u64, Failure> {
    let found = carrier.rows("SELECT revision FROM head".into(), &[Sort::Integer], &[]).await?;
    match found.first().and_then(|row| row.first()) {
        Some(Value::Integer(revision)) => Ok(revision.unsigned_abs()),
        _ => Err(Failure::Damaged("its head row is missing".into())),
    }
}

fn of_source(failure: Failure) -> MoveError {
    MoveError::Source(failure.into())
}

fn of_target(failure: Failure) -> MoveError {
    MoveError::Target(failure.into())
}
