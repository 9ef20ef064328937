//! Replicas that know each other: heartbeats, digests compared, features raised together.
//!
//! Nothing here decides what is read or written: a cluster whose heartbeats fail serves on. It must not know SQL.

mod digests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{FeatureLevel, ReplicaId},
    store::{Heartbeat, Replica, Store, StoreError},
    view::View,
};
use digests::Digests;

/// How often a replica tells of itself.
const BEAT: Duration = Duration::from_secs(2);

/// How long saying goodbye may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What this replica is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub id: ReplicaId,
    /// Where clients reach it; `None` where it listens.
    pub advertise: Option<String>,
    /// What its binary supports.
    pub feature_level: FeatureLevel,
    /// Ids of the keys that it has loaded, first the one that others need to read what it seals.
    pub key_ids: Vec<String>,
    /// Whether it raises the store's level once all replicas support a higher one.
    pub raises_level: bool,
    /// Keyed hash of what its environment says of settings.
    pub environment: [u8; 32],
    /// Keyed hash of what it verifies tokens with.
    pub verification: [u8; 32],
}

/// What this replica knows of all.
pub struct Replicas {
    identity: Identity,
    known: Mutex<Known>,
    outdated: CancellationToken,
}

struct Known {
    /// Where this replica is reached.
    address: String,
    replicas: Vec<Replica>,
    heard: Instant,
    level: FeatureLevel,
    alarms: Vec<Alarm>,
}

/// Something that an operator has to look at.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Alarm {
    /// A replica holds another state at the same revision.
    Differs(String),
    /// A replica has not loaded a key that is in use.
    LacksKey(String),
    /// Replicas have different settings in their environments.
    Environment(String),
    /// Replicas verify tokens with different keys.
    Verification(String),
    /// This replica's heartbeats are not taken.
    Unheard(String),
}

/// How many alarms there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AlarmCounts {
    /// Replicas that hold another state at the same revision.
    pub differ: usize,
    /// Replicas that have not loaded a key that is in use.
    pub lack_key: usize,
    /// Whether replicas have different settings in their environments: 1, or 0.
    pub environment: usize,
    /// Whether replicas verify tokens with different keys: 1, or 0.
    pub verification: usize,
    /// Whether this replica's heartbeats are not taken: 1, or 0.
    pub unheard: usize,
}

/// A replica, as it was last heard of.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it told.
    pub heartbeat: Heartbeat,
    /// How long ago.
    pub age: Duration,
    /// Whether it is this one.
    pub own: bool,
}

impl Replicas {
    /// Begins to know nobody; `level` is the store's.
    #[must_use]
    pub fn new(identity: Identity, level: FeatureLevel) -> Self {
        let address = identity.advertise.clone().unwrap_or_default();
        let known = Known { address, replicas: vec![], heard: Instant::now(), level, alarms: vec![] };
        Self { identity, known: Mutex::new(known), outdated: CancellationToken::new() }
    }

    /// This replica's name.
    #[must_use]
    pub fn id(&self) -> &ReplicaId {
        &self.identity.id
    }

    /// What this replica's binary supports.
    #[must_use]
    pub fn supports(&self) -> FeatureLevel {
        self.identity.feature_level
    }

    /// Told when the store holds what this binary does not know: it has to stop then.
    #[must_use]
    pub fn outdated(&self) -> CancellationToken {
        self.outdated.clone()
    }

    /// Takes note of a level that was just read.
    pub fn heard_level(&self, level: FeatureLevel) {
        let mut known = self.known.lock();
        known.level = known.level.max(level);
    }

    /// What the store may hold, as it was last heard.
    #[must_use]
    pub fn level(&self) -> FeatureLevel {
        self.known.lock().level
    }

    /// Every replica that lived when the store was last heard from, by address.
    #[must_use]
    pub fn all(&self) -> Vec<Seen> {
        let known = self.known.lock();
        let since = known.heard.elapsed();
        let seen = |replica: &Replica| Seen {
            heartbeat: replica.heartbeat.clone(),
            age: replica.age + since,
            own: replica.heartbeat.id == self.identity.id,
        };
        let mut all: Vec<Seen> = known.replicas.iter().map(seen).collect();
        all.sort_by(|one, other| {
            let key = |seen: &Seen| (seen.heartbeat.address.clone(), seen.heartbeat.id.clone());
            key(one).cmp(&key(other))
        });
        all
    }

    /// What an operator has to look at.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        self.known.lock().alarms.iter().map(ToString::to_string).collect()
    }

    /// How many of them there are.
    #[must_use]
    pub fn alarm_counts(&self) -> AlarmCounts {
        let mut counts = AlarmCounts::default();
        for alarm in &self.known.lock().alarms {
            *match alarm {
                Alarm::Differs(_) => &mut counts.differ,
                Alarm::LacksKey(_) => &mut counts.lack_key,
                Alarm::Environment(_) => &mut counts.environment,
                Alarm::Verification(_) => &mut counts.verification,
                Alarm::Unheard(_) => &mut counts.unheard,
            } += 1;
        }
        counts
    }

    /// Tells of this replica for the first time, before it serves anybody. It listens at `address`.
    ///
    /// # Errors
    /// When the store holds what this binary does not know, or does not answer.
    pub async fn join(&self, store: &dyn Store, view: &View, address: String) -> Result<(), StoreError> {
        if self.identity.advertise.is_none() {
            self.known.lock().address = address;
        }
        let heartbeat = self.heartbeat(store, view, 0);
        self.exchange(store, &heartbeat, &mut Digests::default()).await
    }

    /// Tells of this replica until `stop`.
    pub async fn run(
        self: Arc<Self>,
        store: Arc<dyn Store>,
        view: Arc<View>,
        watchers: impl Fn() -> u64 + Send + 'static,
        stop: CancellationToken,
    ) {
        let mut digests = Digests::default();
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = beat.tick() => {}
            }
            let heartbeat = self.heartbeat(&*store, &view, watchers());
            digests.note((heartbeat.epoch, heartbeat.revision), heartbeat.digest);
            if let Err(error) = self.exchange(&*store, &heartbeat, &mut digests).await {
                self.alarm(vec![Alarm::Unheard(format!("this replica's heartbeats are not taken: {error}"))]);
                if store.feature_level().await.is_ok_and(|level| level > self.identity.feature_level) {
                    // It slept while the others went on: what it knows of the store is no longer all there is.
                    tracing::error!(%error, "this binary is too old for the store by now; it stops");
                    self.outdated.cancel();
                    break;
                }
            }
        }
    }

    /// Tells the others that this replica is gone, so that they need not wait for its silence.
    pub async fn leave(&self, store: &dyn Store) {
        match tokio::time::timeout(FAREWELL, store.leave(&self.identity.id)).await {
            Ok(Ok(())) => {}
            _ => tracing::debug!("the other replicas were not told of the end"),
        }
    }

    fn heartbeat(&self, store: &dyn Store, view: &View, watchers: u64) -> Heartbeat {
        let state = view.state();
        Heartbeat {
            id: self.identity.id.clone(),
            address: self.known.lock().address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            feature_level: self.identity.feature_level,
            epoch: state.epoch,
            revision: state.revision,
            digest: state.digest.to_bytes(),
            key_ids: self.identity.key_ids.clone(),
            doorbell: store.doorbell_state().to_string(),
            watchers,
            environment: self.identity.environment.to_vec(),
            verification: self.identity.verification.to_vec(),
        }
    }

    async fn exchange(
        &self,
        store: &dyn Store,
        heartbeat: &Heartbeat,
        digests: &mut Digests,
    ) -> Result<(), StoreError> {
        let replicas = store.beat(heartbeat).await?;
        let mut level = store.feature_level().await?;
        if level < self.identity.feature_level && self.identity.raises_level {
            let raised = store.raise_feature_level(self.identity.feature_level).await?;
            if raised > level {
                tracing::info!(from = %level, to = %raised, "every replica supports it: the feature level is raised");
            }
            level = raised;
        }
        let differ = digests.alarms(&self.identity.id, &replicas).map(Alarm::Differs);
        let lacking = lacking_keys(&replicas).map(Alarm::LacksKey);
        let environments = differing_environments(&replicas).map(Alarm::Environment);
        let verifications = differing_verifications(&replicas).map(Alarm::Verification);
        let alarms = differ.chain(lacking).chain(environments).chain(verifications).collect();
        {
            let mut known = self.known.lock();
            (known.replicas, known.heard, known.level) = (replicas, Instant::now(), level);
        }
        self.alarm(alarms);
        Ok(())
    }

    /// Keeps the alarms that there are now. One is logged when it begins, not with every heartbeat.
    fn alarm(&self, alarms: Vec<Alarm>) {
        let before = self.known.lock().alarms.clone();
        for alarm in alarms.iter().filter(|alarm| !before.contains(alarm)) {
            tracing::error!("{alarm}");
        }
        self.known.lock().alarms = alarms;
    }
}

impl std::fmt::Display for Alarm {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Differs(text)
            | Self::LacksKey(text)
            | Self::Environment(text)
            | Self::Verification(text)
            | Self::Unheard(text) => out.write_str(text),
        }
    }
}

/// Replicas that can't load the key that another one seals with: what that one writes stays closed to them.
fn lacking_keys(replicas: &[Replica]) -> impl Iterator<Item = String> {
    let sealing = |replica: &Replica| replica.heartbeat.key_ids.first().cloned();
    let in_use: std::collections::BTreeSet<String> = replicas.iter().filter_map(sealing).collect();
    let lacks = move |replica: &Replica| {
        let heartbeat = &replica.heartbeat;
        let missing = in_use.iter().find(|key| !heartbeat.key_ids.contains(key))?;
        // From a table that others write: it must not begin a line of the log.
        let (id, address) = (heartbeat.id.0.escape_debug(), heartbeat.address.escape_debug());
        let missing = missing.escape_debug();
        Some(format!(
            "replica {id} at {address} has not loaded the key {missing}, which another one seals with"
        ))
    };
    replicas.iter().filter_map(lacks).collect::<Vec<_>>().into_iter()
}

/// Replicas whose environments say different things of settings: which value counts then depends on which one is asked.
fn differing_environments(replicas: &[Replica]) -> Option<String> {
    let groups = differing(replicas, |heartbeat| &heartbeat.environment)?;
    Some(format!(
        "replicas have different SIGNALBOX_SETTING_ variables, so that ResolveSettings depends on which one is asked: \
         {groups}; start them with the same"
    ))
}

/// Replicas that verify tokens with different keys: a token that one of them made or takes another one refuses.
fn differing_verifications(replicas: &[Replica]) -> Option<String> {
    let groups = differing(replicas, |heartbeat| &heartbeat.verification)?;
    Some(format!(
        "replicas verify tokens with different keys, so that a token is refused by some of them: {groups}; give all the \
         same SIGNALBOX_JWT_ settings"
    ))
}

/// The addresses of replicas, in groups that tell the same hash, if there are several.
fn differing(replicas: &[Replica], hash: impl Fn(&Heartbeat) -> &Vec<u8>) -> Option<String> {
    let mut groups: BTreeMap<&[u8], Vec<String>> = BTreeMap::new();
    for heartbeat in replicas.iter().map(|replica| &replica.heartbeat) {
        // An older binary tells nothing.
        if !hash(heartbeat).is_empty() {
            let address = heartbeat.address.escape_debug().to_string();
            groups.entry(hash(heartbeat)).or_default().push(address);
        }
    }
    let mut groups: Vec<String> = groups.into_values().map(|addresses| addresses.join(", ")).collect();
    groups.sort();
    (groups.len() > 1).then(|| groups.join(" differ from "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Epoch, Revision};

    fn replica(id: &str, keys: &[&str]) -> Replica {
        let heartbeat = Heartbeat {
            id: ReplicaId(id.into()),
            address: format!("{id}:1"),
            version: "1".into(),
            feature_level: FeatureLevel::FIRST,
            epoch: Epoch(7),
            revision: Revision(1),
            digest: [0; 16],
            key_ids: keys.iter().map(|key| (*key).to_owned()).collect(),
            doorbell: "notify".into(),
            watchers: 0,
            environment: vec![],
            verification: vec![],
        };
        Replica { heartbeat, age: Duration::ZERO }
    }

    #[test]
    fn replicas_with_other_environments_are_named() {
        let with = |id: &str, environment: &[u8]| {
            let mut replica = replica(id, &[]);
            replica.heartbeat.environment = environment.to_vec();
            replica
        };
        assert_eq!(differing_environments(&[with("a", b"1"), with("b", b"1"), with("old", b"")]), None);
        let alarm = differing_environments(&[with("b", b"2"), with("a", b"1"), with("c", b"1")]).unwrap();
        assert!(alarm.contains("a:1, c:1 differ from b:1"), "{alarm}");
    }

    #[test]
    fn replicas_that_verify_with_other_keys_are_named() {
        let with = |id: &str, verification: &[u8]| {
            let mut replica = replica(id, &[]);
            replica.heartbeat.verification = verification.to_vec();
            replica
        };
        assert_eq!(differing_verifications(&[with("a", b"1"), with("b", b"1"), with("old", b"")]), None);
        let alarm = differing_verifications(&[with("a", b"1"), with("b", b"2")]).unwrap();
        assert!(alarm.contains("a:1 differ from b:1") && alarm.contains("SIGNALBOX_JWT_"), "{alarm}");
    }

    #[test]
    fn a_replica_without_a_key_that_is_in_use_is_named() {
        assert_eq!(lacking_keys(&[replica("a", &["k1"]), replica("b", &["k1"])]).count(), 0);
        // In the middle of a rotation both have both keys, in another order.
        assert_eq!(lacking_keys(&[replica("a", &["k2", "k1"]), replica("b", &["k1", "k2"])]).count(), 0);
        let alarms: Vec<_> = lacking_keys(&[replica("a", &["k2", "k1"]), replica("b", &["k1"])]).collect();
        assert_eq!(alarms.len(), 1);
        assert!(alarms[0].contains("replica b") && alarms[0].contains("k2"), "{alarms:?}");
    }

    #[test]
    fn regression_what_a_row_says_begins_no_line_of_the_log() {
        let forged = "k\n2026-11-27T00:00:00Z ERROR forged";
        let replicas = [replica("a\nb", &[forged]), replica("c\nd", &["k1"])];
        let alarms: Vec<_> = lacking_keys(&replicas).collect();
        assert_eq!(alarms.len(), 2);
        assert!(alarms.iter().all(|alarm| !alarm.contains(char::is_control)), "{alarms:?}");
    }
}
