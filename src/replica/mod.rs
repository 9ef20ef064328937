//! Replicas that know each other: heartbeats, digests compared, features raised together.
//!
//! Nothing here decides what is read or written: a cluster whose heartbeats fail serves on. It must not know SQL.

mod ahead;
mod alarms;
mod digests;
mod silence;

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{FeatureLevel, ReplicaId},
    store::{FOUND_DAMAGE, Heartbeat, LIFETIME, Living, Replica, Store, StoreError},
    view::View,
};
use ahead::Ahead;
use alarms::Alarm;
pub use alarms::AlarmCounts;
use digests::Digests;
use silence::Silence;

/// How often a replica tells of itself.
const BEAT: Duration = Duration::from_secs(2);

/// Who lives has told of itself again this long after the database was away, or its clock jumped: before that it is not known what
/// all support.
const ALL_HEARD: Duration = LIFETIME.saturating_mul(2);

/// How long is told of what has passed and left nothing to look at: nobody says when it has been looked at.
const TOLD: Duration = Duration::from_secs(3600);

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
    /// What the first heartbeat found, for those that follow.
    first: Mutex<Memory>,
    outdated: CancellationToken,
}

struct Known {
    /// Where this replica is reached.
    address: String,
    replicas: Vec<Replica>,
    heard: Instant,
    level: FeatureLevel,
    alarms: Vec<Alarm>,
    /// Until when others that live may not have told of themselves again.
    gathers_until: Option<Instant>,
}

/// What is remembered from heartbeat to heartbeat.
#[derive(Default)]
struct Memory {
    digests: Digests,
    silence: Silence,
    ahead: Ahead,
    /// Since when every heartbeat was taken, and told of nobody who supports less than this replica.
    alike_since: Option<Instant>,
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
        let known = Known {
            address,
            replicas: vec![],
            heard: Instant::now(),
            level,
            alarms: vec![],
            gathers_until: None,
        };
        Self {
            identity,
            known: Mutex::new(known),
            first: Mutex::default(),
            outdated: CancellationToken::new(),
        }
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

    /// Whether this replica raises the store's level by itself.
    #[must_use]
    pub fn raises_level(&self) -> bool {
        self.identity.raises_level
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

    /// Whether nothing was heard of the database until a moment ago: others that live may not have told of themselves since.
    #[must_use]
    pub fn gather(&self) -> bool {
        self.known.lock().gathers_until.is_some_and(|until| Instant::now() < until)
    }

    /// What an operator has to look at.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        alarms::texts(self.known.lock().alarms.iter())
    }

    /// How many of them there are.
    #[must_use]
    pub fn alarm_counts(&self) -> AlarmCounts {
        alarms::count(&self.known.lock().alarms)
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
        let mut memory = Memory::default();
        self.exchange(store, view, &heartbeat, &mut memory).await?;
        *self.first.lock() = memory;
        Ok(())
    }

    /// Tells of this replica from time to time, until it is dropped.
    pub async fn run(
        self: Arc<Self>,
        store: Arc<dyn Store>,
        view: Arc<View>,
        watchers: impl Fn() -> u64 + Send + 'static,
    ) {
        let (mut memory, mut unheard) = (std::mem::take(&mut *self.first.lock()), false);
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            let heartbeat = self.heartbeat(&*store, &view, watchers());
            memory.digests.note((heartbeat.epoch, heartbeat.revision), heartbeat.digest);
            let exchanged = self.exchange(&*store, &view, &heartbeat, &mut memory).await;
            if exchanged.is_ok() && self.others_disagree() {
                view.doubt();
            }
            if exchanged.is_ok() && std::mem::take(&mut unheard) {
                tracing::info!("this replica's heartbeats are taken again");
            }
            if let Err(error) = exchanged {
                (unheard, memory.alike_since) = (true, None);
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

    /// Whether another replica holds another state at the same revision, or found the store damaged.
    fn others_disagree(&self) -> bool {
        let known = self.known.lock();
        let found_damage = |replica: &Replica| {
            replica.heartbeat.id != self.identity.id && replica.heartbeat.doorbell == FOUND_DAMAGE
        };
        known.replicas.iter().any(found_damage)
            || known.alarms.iter().any(|alarm| matches!(alarm, Alarm::Differs(_)))
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
            doorbell: match view.followed_damage() {
                Some(_) => FOUND_DAMAGE.to_owned(),
                None => store.doorbell_state().to_string(),
            },
            watchers,
            environment: self.identity.environment.to_vec(),
            verification: self.identity.verification.to_vec(),
        }
    }

    async fn exchange(
        &self,
        store: &dyn Store,
        view: &View,
        heartbeat: &Heartbeat,
        memory: &mut Memory,
    ) -> Result<(), StoreError> {
        let Living { replicas, vanished, ahead } = store.beat(heartbeat).await?;
        let now = Instant::now();
        // First of all: what it took away nobody tells again.
        memory.silence.note(&replicas, &vanished, now);
        memory.ahead.note(ahead, now);
        let own = self.identity.feature_level;
        let has_older = replicas.iter().any(|replica| replica.heartbeat.feature_level < own);
        let was_away = self.known.lock().heard.elapsed() > LIFETIME;
        if was_away {
            self.known.lock().gathers_until = Some(now + ALL_HEARD);
        }
        if was_away || has_older {
            memory.alike_since = None;
        }
        let alike = memory.alike_since.get_or_insert(now).elapsed();
        let (level, forged) = match self.settle_level(store, alike).await {
            Ok(level) => (level, None),
            // Nobody stops for a number that anybody may have written, and nothing is written by it.
            Err(StoreError::Damaged(what)) => (self.level(), Some(what)),
            Err(error) => return Err(error),
        };
        view.distrust(forged);
        let differ = memory.digests.alarms(&self.identity.id, &replicas).map(Alarm::Differs);
        let vanished = memory.silence.alarms(now).map(Alarm::Vanished);
        let ahead = memory.ahead.alarm().map(Alarm::Ahead);
        let alarms = differ.chain(vanished).chain(alarms::between(&replicas)).chain(ahead).collect();
        {
            let mut known = self.known.lock();
            (known.replicas, known.heard, known.level) = (replicas, now, level);
        }
        self.alarm(alarms);
        Ok(())
    }

    /// The store's level, raised if every replica supports a higher one and it is this one's to raise. After the database was away,
    /// or its clock jumped, the first to tell of itself finds itself alone, so that all are waited for.
    async fn settle_level(&self, store: &dyn Store, alike: Duration) -> Result<FeatureLevel, StoreError> {
        let (level, own) = (store.feature_level().await?, self.identity.feature_level);
        if level >= own || !self.identity.raises_level || alike < ALL_HEARD {
            return Ok(level);
        }
        let raised = store.raise_feature_level(own).await?;
        if raised > level {
            tracing::info!(from = %level, to = %raised, "every replica supports it: the feature level is raised");
        }
        Ok(raised)
    }

    /// Keeps the alarms that there are now. One is logged when it begins, not with every heartbeat.
    fn alarm(&self, alarms: Vec<Alarm>) {
        let before: HashSet<Alarm> = self.known.lock().alarms.iter().cloned().collect();
        for text in alarms::texts(alarms.iter().filter(|alarm| !before.contains(*alarm))) {
            tracing::error!("{text}");
        }
        self.known.lock().alarms = alarms;
    }
}
