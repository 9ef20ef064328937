//! Running the service itself: status, compaction, verification. Every operation is audited.

use std::time::Duration;

use tokio::time::timeout;

use super::{PATIENCE, Service, behind, parse_revision_token, store_error};
use crate::{
    domain::{
        Epoch, Error, FeatureLevel, Pattern, Principal, Result, Revision, RevisionToken, Role, StoreId,
    },
    replica::Seen,
    store::{DoorbellState, Verification, earlier},
    view::{Freshness, State, Undecryptable},
};

/// How long a status waits for the store's own word.
const HEAD_PATIENCE: Duration = Duration::from_millis(500);

/// How the service is.
pub struct Status {
    /// Identity of the store.
    pub store_id: StoreId,
    /// Its present life.
    pub epoch: Epoch,
    /// Which database it is.
    pub store_kind: &'static str,
    /// Version of its schema.
    pub schema_version: u32,
    /// Token of the revision that is served.
    pub token: RevisionToken,
    /// The oldest revision that can be resumed from; not known while the store is away.
    pub floor: Option<Revision>,
    /// Resources in the view.
    pub resources: usize,
    /// Their digest.
    pub digest: Option<[u8; 16]>,
    /// Open streams.
    pub watchers: u64,
    /// How fresh the view is.
    pub freshness: Freshness,
    /// Ids of the loaded keys, the current one first.
    pub key_ids: Vec<String>,
    /// Resources with a secret that can't be opened; only for admins. The warnings say why.
    pub undecryptable: Vec<String>,
    /// The replicas that live, this one included.
    pub replicas: Vec<Seen>,
    /// How this replica hears of the others' commits.
    pub doorbell: DoorbellState,
    /// What the store may hold.
    pub feature_level: FeatureLevel,
    /// When the server started.
    pub started: chrono::DateTime<chrono::Utc>,
    /// Things that an operator should look at; only for admins.
    pub warnings: Vec<String>,
}

/// What a compaction did.
pub struct Compaction {
    /// The floor that now holds.
    pub floor: Revision,
    /// Log rows that were removed.
    pub removed_rows: u64,
}

/// Secrets of which the status says why they can't be opened: where it is one lost key it may be all, and the status
/// has to fit into one message.
const REASONS: usize = 100;

/// Replicas that a warning names. Of others only the number is told.
const NAMED: usize = 4;

/// Said after an outage, for as long as it may be so.
const GATHERING: &str = "this replica heard nothing of the database until a moment ago, because that was away or this replica was held \
    up: replicas that live may not have told of themselves again yet, and are missing here until they do, within seconds";

impl Service {
    /// Tells how the service is. Never fails: what the store can't say is left out.
    pub async fn status(&self, caller: &Principal) -> Status {
        let parts = &self.parts;
        let confirmed = parts.view.confirmed();
        let state = parts.view.state();
        let admin = caller.role == Role::Admin;
        let everything = caller.grants.contains(&Pattern::All);
        let unopened = if admin { parts.revealer.undecryptable(&state) } else { Vec::new() };
        let warnings = if admin { self.warnings(&unopened) } else { Vec::new() };
        let mut undecryptable: Vec<String> = unopened.iter().map(|secret| secret.name.to_string()).collect();
        undecryptable.dedup();
        Status {
            store_id: parts.store.store_id().clone(),
            epoch: state.epoch,
            store_kind: parts.store.kind(),
            schema_version: parts.store.schema_version(),
            token: state.token(),
            // Who asks how the store is must not wait until it is well.
            floor: timeout(HEAD_PATIENCE, parts.store.head())
                .await
                .ok()
                .and_then(Result::ok)
                .map(|head| head.floor),
            // Of everything: who sees a part of it could test guesses at the rest.
            resources: if everything { state.resources.len() } else { 0 },
            digest: everything.then(|| state.digest.to_bytes()),
            watchers: parts.streams.watchers(),
            freshness: confirmed.freshness(),
            key_ids: if admin { parts.vault.key_ids().to_vec() } else { Vec::new() },
            undecryptable,
            replicas: if admin { parts.replicas.all() } else { Vec::new() },
            doorbell: parts.store.doorbell_state(),
            feature_level: parts.replicas.level(),
            started: self.started,
            warnings,
        }
    }

    /// What an operator should look at, given the secrets that can't be opened.
    pub(super) fn warnings(&self, unopened: &[Undecryptable]) -> Vec<String> {
        let parts = &self.parts;
        let damage = parts.view.damage().map(|what| {
            format!(
                "the store is damaged: {what}; what could be read goes on being served, and writes are refused: run \
                 `signalbox doctor`, then repair the store or restore a backup"
            )
        });
        let mut warnings = parts.warnings.all();
        warnings.extend(damage);
        warnings.extend(parts.store.refuses_writes().map(|why| {
            format!("the store did not take the last write: {why}; reads and streams go on, the next write that it takes ends this, or five minutes \
                 without one that it refuses")
        }));
        warnings.extend(parts.replicas.alarms());
        warnings.extend(parts.replicas.gather().then(|| GATHERING.to_owned()));
        warnings.extend(self.waiting_raise());
        warnings.extend(self.upgrade_under_way());
        let uncounted = parts.fleet.uncounted();
        warnings.extend((uncounted > 0).then(|| {
            format!(
                "{uncounted} workers of this replica are served and not counted, because the fleet is full: what is told of who \
                 runs what is not whole, and rotations of keys end only at their time"
            )
        }));
        warnings.extend(self.unreadable_overrides());
        warnings.extend(unopened.iter().take(REASONS).map(ToString::to_string));
        warnings
    }

    /// A level that nobody raises, though every replica that lives supports a higher one.
    fn waiting_raise(&self) -> Option<String> {
        let replicas = &self.parts.replicas;
        let (level, all) = (replicas.level(), replicas.all());
        let supported = all.iter().map(|seen| seen.heartbeat.feature_level).min()?;
        let until = match replicas.raises_level() {
            true => "it is raised, by itself within half a minute",
            false => "`signalbox raise-feature-level`",
        };
        (level < supported).then(|| {
            format!(
                "every replica supports feature level {supported}, and the store is at {level}: what needs more is refused until \
                 {until}, from which on older binaries don't start"
            )
        })
    }

    /// Older replicas beside newer ones, for which the level waits.
    fn upgrade_under_way(&self) -> Option<String> {
        let replicas = &self.parts.replicas;
        let (level, all) = (replicas.level(), replicas.all());
        let newest =
            all.iter().map(|seen| seen.heartbeat.feature_level).max().filter(|newest| *newest > level)?;
        let mut older: Vec<String> = all
            .iter()
            .filter(|seen| seen.heartbeat.feature_level < newest)
            .map(|seen| {
                format!("{} (level {})", seen.heartbeat.address.escape_debug(), seen.heartbeat.feature_level)
            })
            .collect();
        let others = older.len().saturating_sub(NAMED);
        older.truncate(NAMED);
        let more = if others == 0 { String::new() } else { format!(" and {others} more") };
        (!older.is_empty()).then(|| {
            format!(
                "an upgrade is under way: feature level {newest} waits for {}{more}; what needs more than level {level} is refused \
                 until they are replaced",
                older.join(", ")
            )
        })
    }

    /// Forgets the log up to a revision; 0 is what the retention says.
    ///
    /// # Errors
    /// `OutOfRange` ahead of the store, `Unavailable`.
    pub async fn compact(&self, caller: &Principal, revision: u64) -> Result<Compaction> {
        let store = &self.parts.store;
        let floor = match revision {
            0 => {
                let Some(retention) = self.parts.retention else {
                    let description = "is required, because the settings keep the log for ever";
                    return Err(Error::invalid("revision", "REQUIRED", description));
                };
                let retention = chrono::Duration::from_std(retention).map_err(Error::internal)?;
                let now = earlier(self.parts.clock.now(), store.clock().await.map_err(store_error)?);
                store.revision_before(now - retention).await.map_err(store_error)?
            }
            revision => Revision(revision),
        };
        let head = store.head().await.map_err(store_error)?;
        if floor > head.revision {
            return Err(Error::OutOfRange {
                reason: "AHEAD",
                description: format!("revision {floor} lies ahead of the store's {}", head.revision),
                floor: head.floor,
            });
        }
        // A view that is compacted past has to be built anew, which would reset every stream.
        if !self.parts.view.reached(floor, PATIENCE).await {
            return Err(behind(floor));
        }
        self.audit(caller, "log_compacted", format!("to revision {floor}")).await?;
        let (floor, removed_rows) = store.compact(floor).await.map_err(store_error)?;
        Ok(Compaction { floor, removed_rows })
    }

    /// Lets the store hold what this binary knows.
    ///
    /// # Errors
    /// `FailedPrecondition` while a replica lives that does not know it, `Unavailable`.
    pub async fn raise_feature_level(&self, caller: &Principal) -> Result<FeatureLevel> {
        let (store, replicas) = (&self.parts.store, &self.parts.replicas);
        self.is_whole()?;
        let wanted = replicas.supports();
        self.audit(caller, "feature_level_raised", format!("to {wanted}")).await?;
        let level = store.raise_feature_level(wanted).await.map_err(store_error)?;
        replicas.heard_level(level);
        if level >= wanted {
            return Ok(level);
        }
        let older = replicas.all().into_iter().filter(|seen| seen.heartbeat.feature_level < wanted);
        let older: Vec<String> = older.map(|seen| seen.heartbeat.address).collect();
        Err(Error::FailedPrecondition {
            reason: "REPLICAS_TOO_OLD",
            subject: "feature_level".into(),
            description: format!(
                "the level is {level}: replicas that live don't support {wanted} ({}); replace them first",
                older.join(", ")
            ),
        })
    }

    /// Checks the log, and the state against it. Where replicas differ it also tells the digest of what the store holds at the
    /// verification's revision, if the caller may know it and nothing was written meanwhile.
    ///
    /// # Errors
    /// `Invalid` for an anchor that is no token, `Unavailable`.
    pub async fn verify(&self, caller: &Principal, anchor: &str) -> Result<(Verification, Option<[u8; 16]>)> {
        let anchor = parse_revision_token("anchor_token", anchor)?;
        self.audit(caller, "log_verified", String::new()).await?;
        if let Some(token) = &anchor {
            self.same_life(token)?;
        }
        let store = &self.parts.store;
        let anchor = anchor.map(|token| (token.revision, token.hash));
        let found = store.verify(anchor).await.map_err(store_error)?;
        let differ = self.parts.replicas.alarm_counts().differ > 0;
        if !differ || !caller.grants.contains(&Pattern::All) {
            return Ok((found, None));
        }
        // Of a store that can't be read whole the defects tell.
        let held = store.snapshot().await.ok().map(State::from_snapshot);
        let held = held.filter(|state| state.revision == found.revision);
        Ok((found, held.map(|state| state.digest.to_bytes())))
    }
}
