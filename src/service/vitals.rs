//! How the service is, in numbers and in reasons, for those who watch over it rather than use it.
//!
//! Nothing here names a resource, holds a secret, asks the store or waits: it is asked every few seconds.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::{Service, audit::AuditCounts, fleet::WorkerCounts, retirement::RotationCounts};
use crate::{
    domain::{Action, FeatureLevel, KindName, PlannedChange, Principal, Role},
    outbound::CallCounts,
    replica::AlarmCounts,
    store::{Connections, DoorbellState, LIFETIME},
    view::Freshness,
    watch::StreamCounts,
};

/// What changes are counted by.
pub type ChangeKey = (KindName, Action, Role);

/// Changes that this replica has made durable.
#[derive(Default)]
pub(super) struct Changes(Mutex<BTreeMap<ChangeKey, u64>>);

impl Changes {
    /// What a write is about to change.
    pub fn of(caller: &Principal, changes: &[PlannedChange]) -> Vec<ChangeKey> {
        let key = |change: &PlannedChange| match change {
            PlannedChange::Put(put) => (put.kind, put.action, caller.role),
            PlannedChange::Delete { kind, action, .. } => (*kind, *action, caller.role),
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
    /// Calls to others.
    pub calls: CallCounts,
    /// The rotations of keys.
    pub rotations: RotationCounts,
    /// The audit trail.
    pub audit: AuditCounts,
    /// Things that an operator should look at, and that `GetStatus` names.
    pub warnings: usize,
}

impl Service {
    /// How the service is, in numbers.
    #[must_use]
    pub fn vitals(&self) -> Vitals {
        let parts = &self.parts;
        let confirmed = parts.view.confirmed();
        let state = parts.view.state();
        let living = parts.replicas.all().iter().filter(|seen| seen.age < LIFETIME).count();
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
            undecryptable: parts.revealer.undecryptable(&state).len(),
            calls: parts.outbound.counts(),
            rotations: self.rotation_counts(),
            audit: parts.audit.counts(),
            warnings: parts.warnings.all().len(),
        }
    }

    /// Why the service is not at its best, if it is not.
    #[must_use]
    pub fn degradations(&self) -> Vec<Degradation> {
        const AWAY: Degradation = Degradation {
            reason: "STORE_AWAY",
            description: "the store was not heard from lately: reads come from memory, writes are refused",
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
            description: "replicas differ, or can't tell of themselves: `signalbox status` names what to look at",
        };
        let parts = &self.parts;
        let polled = matches!(parts.store.doorbell_state(), DoorbellState::Polling { .. });
        let damaged = parts.view.damage().is_some();
        let found = [
            (damaged, DAMAGED),
            (parts.view.confirmed().freshness().stale && !damaged, AWAY),
            (polled, POLLED),
            (parts.replicas.alarm_counts() != AlarmCounts::default(), ALARM),
        ];
        found.into_iter().filter(|(is, _)| *is).map(|(_, degradation)| degradation).collect()
    }
}
