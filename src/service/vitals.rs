//! How the service is, in numbers and in reasons, for those who watch over it rather than use it.
//!
//! Nothing here names a resource, holds a secret, asks the store or waits: it is asked every few seconds.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::{Service, audit::AuditCounts, fleet::WorkerCounts, retirement::RotationCounts};
use crate::{
    domain::{Action, FeatureLevel, KindName, PlannedChange, Principal},
    replica::{AlarmCounts, Seen},
    store::{Connections, DoorbellState, LIFETIME},
    view::Freshness,
    watch::StreamCounts,
};

/// What changes are counted by: kind, action, and the role of who made them, which is `server` where nobody called.
pub type ChangeKey = (KindName, Action, &'static str);

/// Who makes changes that nobody calls for: a first start, the end of a rotation.
const SERVER: &str = "server";

/// Changes that this replica has made durable.
#[derive(Default)]
pub(super) struct Changes(Mutex<BTreeMap<ChangeKey, u64>>);

impl Changes {
    /// What a write is about to change.
    pub fn of(caller: &Principal, changes: &[PlannedChange]) -> Vec<ChangeKey> {
        let role = if caller.is_service() { SERVER } else { caller.role.as_str() };
        let key = |change: &PlannedChange| match change {
            PlannedChange::Put(put) => (put.kind, put.action, role),
            PlannedChange::Delete { kind, action, .. } => (*kind, *action, role),
        };
        changes.iter().map(key).collect()
    }

    /// It has changed.
    pub fn count(&self, changes: Vec<ChangeKey>) {
        let mut counts = self.0.lock();
        for change in changes {
            *counts.entry(change).or_default() += 1;
        }
    }
}

/// Why the service is not at its best, though it serves. For everybody to read: it tells nothing of what is inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Degradation {
    /// Stable word.
    pub reason: &'static str,
    /// What it means.
    pub description: &'static str,
}

/// How the service is, in numbers.
pub struct Vitals {
    /// When the server started.
    pub started: DateTime<Utc>,
    /// Which database it is.
    pub store_kind: &'static str,
    /// The revision that is served.
    pub revision: u64,
    /// Resources in the view.
    pub resources: usize,
    /// How fresh the view is.
    pub freshness: Freshness,
    /// Whether the store holds what was never written.
    pub damaged: bool,
    /// Changes made durable by this replica.
    pub changes: Vec<(ChangeKey, u64)>,
    /// The streams.
    pub streams: StreamCounts,
    /// The workers whose streams this replica serves.
    pub workers: WorkerCounts,
    /// How this replica hears of the others' commits.
    pub doorbell: DoorbellState,
    /// The connections that reads of the database share.
    pub connections: Connections,
    /// Replicas that live, this one included.
    pub replicas: usize,
    /// What replicas see that an operator has to look at.
    pub alarms: AlarmCounts,
    /// What the store may hold.
    pub feature_level: FeatureLevel,
    /// What this binary supports.
    pub supports: FeatureLevel,
    /// Secrets that can't be opened.
    pub undecryptable: usize,
    /// The rotations of keys.
    pub rotations: RotationCounts,
    /// The audit trail.
    pub audit: AuditCounts,
    /// Things that an operator should look at, and that `signalbox status` names.
    pub warnings: usize,
}

impl Service {
    /// How the service is, in numbers.
    #[must_use]
    pub fn vitals(&self) -> Vitals {
        let parts = &self.parts;
        let confirmed = parts.view.confirmed();
        let state = parts.view.state();
        // Of itself it need not hear.
        let lives = |seen: &&Seen| seen.own || seen.age < LIFETIME;
        let living = parts.replicas.all().iter().filter(lives).count();
        let unopened = parts.revealer.undecryptable(&state);
        // What follows from how the store is reached stands in the status besides its warnings: that it is away, or else polled.
        let conditions = usize::from(confirmed.freshness().stale || self.is_polled());
        Vitals {
            started: self.started,
            store_kind: parts.store.kind(),
            revision: state.revision.0,
            resources: state.resources.len(),
            freshness: confirmed.freshness(),
            damaged: parts.view.damage().is_some(),
            changes: self.changes.0.lock().iter().map(|(key, count)| (*key, *count)).collect(),
            streams: parts.streams.counts(),
            workers: self.worker_counts(),
            doorbell: parts.store.doorbell_state(),
            connections: parts.store.connections(),
            replicas: living,
            alarms: parts.replicas.alarm_counts(),
            feature_level: parts.replicas.level(),
            supports: parts.replicas.supports(),
            undecryptable: unopened.len(),
            rotations: self.rotation_counts(),
            audit: parts.audit.counts(),
            warnings: self.warnings(&unopened).len() + conditions,
        }
    }

    /// Why the service is not at its best, if it is not.
    #[must_use]
    pub fn degradations(&self) -> Vec<Degradation> {
        const AWAY: Degradation = Degradation {
            reason: "STORE_AWAY",
            description: "the store does not answer, or was not heard from lately: reads come from memory, writes are refused",
        };
        const DAMAGED: Degradation = Degradation {
            reason: "STORE_DAMAGED",
            description: "the store holds what was never written: reads come from memory, writes are refused until it is \
                          repaired; `signalbox doctor` says what is wrong",
        };
        const POLLED: Degradation = Degradation {
            reason: "STORE_POLLED",
            description: "the database does not tell of commits: those of other replicas are seen up to a second later",
        };
        const ALARM: Degradation = Degradation {
            reason: "REPLICA_ALARM",
            description: "replicas differ, have vanished, or can't tell of themselves: `signalbox status` names what to look at",
        };
        const REFUSED: Degradation = Degradation {
            reason: "WRITES_REFUSED",
            description: "the database did not take the last write, as when its disk is full: `signalbox status` says why; the \
                          next write that it takes ends this, or five minutes without one that it refuses",
        };
        const CROWDED: Degradation = Degradation {
            reason: "FLEET_FULL",
            description: "there are more workers than are counted: what is told of who runs what is not whole",
        };
        let parts = &self.parts;
        let damaged = parts.view.damage().is_some();
        let away = (parts.view.is_unread() || parts.view.confirmed().freshness().stale) && !damaged;
        // Of a store that is away nothing is heard, and nothing can be told there: what follows is no news.
        let mut alarms = parts.replicas.alarm_counts();
        alarms.unheard *= usize::from(!away);
        let found = [
            (damaged, DAMAGED),
            (away, AWAY),
            (parts.store.refuses_writes().is_some() && !away && !damaged, REFUSED),
            (self.is_polled() && !away, POLLED),
            (alarms != AlarmCounts::default(), ALARM),
            (parts.fleet.is_incomplete(), CROWDED),
        ];
        found.into_iter().filter(|(is, _)| *is).map(|(_, degradation)| degradation).collect()
    }

    fn is_polled(&self) -> bool {
        matches!(self.parts.store.doorbell_state(), DoorbellState::Polling { .. })
    }
}
