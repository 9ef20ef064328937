//! Rotations that are under way: who still lacks the new value, and when the one before goes.
//!
//! One replica does it, under a lease. Which one does not matter, because all that it goes by stands in the store: the key, and
//! what workers report. It must not know how a rotation is written.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Service, plan::Previous};
use crate::{
    domain::{Error, KindName, Matter, Observation, Pattern, Report, Result, Uid},
    kinds::api_key::rotation,
    proto::v1::ApiKeyRotation,
    store::{Lease, ROTATIONS},
    view::{Entry, State},
};

/// How often rotations are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How long the one that looks after them is left alone with it. If it dies, another one takes over after that.
const LEASE: Duration = Duration::from_secs(10);
/// A rotation lasts so long at least: workers that are just coming back are seen by then.
const LEAST: TimeDelta = TimeDelta::seconds(10);

/// How the rotations that are under way stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RotationCounts {
    /// Keys that are being rotated.
    pub under_way: usize,
    /// Seconds since the oldest of these began.
    pub oldest_seconds: i64,
    /// Workers that are waited for, counted for each key that this replica looks after.
    pub waiting: usize,
    /// Values that this replica has replaced.
    pub replaced: u64,
    /// Rotations that this replica has ended because every worker had the new value.
    pub applied: u64,
    /// Rotations that this replica has ended because their time was over.
    pub timed_out: u64,
    /// Rotations that an administrator has ended through this replica, the value before being let go of.
    pub retired: u64,
    /// The same, the value before being revoked.
    pub revoked: u64,
}

/// What is remembered of rotations.
#[derive(Default)]
pub(super) struct Rotations {
    counts: Mutex<RotationCounts>,
    /// What was told last of a key, so that only what is new is told.
    told: Mutex<HashMap<Uid, Standing>>,
}

/// A key that is being rotated.
struct Rotating {
    entry: Entry,
    rotation: ApiKeyRotation,
}

/// How many workers lack the new value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
struct Standing {
    /// The revision that a worker has to run.
    revision: u64,
    /// Workers that may have the value before, and have not said that they run the new one.
    waiting: usize,
    /// Workers that may have either.
    workers: usize,
    /// Whether there are more than are counted.
    incomplete: bool,
}

/// Why a rotation ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Over {
    Applied,
    TimedOut,
}

impl Service {
    /// How the rotations that are under way stand.
    pub(super) fn rotation_counts(&self) -> RotationCounts {
        *self.rotations.counts.lock()
    }

    /// Looks after rotations until `stop`.
    pub async fn look_after_rotations(self: Arc<Self>, stop: CancellationToken) {
        let mut lease = None;
        // Where nothing is rotated, only a change is worth a look.
        let mut quiet = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(EVERY) => {}
            }
            let state = self.parts.view.state();
            if quiet == Some(state.token()) {
                continue;
            }
            let rotating = rotating(&state);
            self.rotations.note(&rotating, self.parts.clock.now());
            quiet = rotating.is_empty().then(|| state.token());
            if rotating.is_empty() {
                continue;
            }
            if let Err(error) = self.turn(&state, &rotating, &mut lease).await {
                tracing::warn!(%error, "rotations of keys can't be looked after now");
            }
        }
        if let Some(lease) = lease {
            // Where it can't be given back, it ends by itself.
            let _ = self.parts.store.release(&lease).await;
        }
    }

    /// Looks at each once, unless another replica does.
    async fn turn(&self, state: &State, rotating: &[Rotating], lease: &mut Option<Lease>) -> Result<()> {
        let (store, own) = (&self.parts.store, self.parts.replicas.id());
        *lease = store.acquire(ROTATIONS, own, LEASE).await.map_err(super::store_error)?;
        if lease.is_none() {
            return Ok(());
        }
        let known = self.knows_workers().await;
        let incomplete = self.parts.fleet.is_incomplete();
        let now = self.parts.clock.now();
        for key in rotating {
            let standing = known.then(|| Standing { incomplete, ..self.standing(state, key) });
            if let Some(standing) = standing {
                self.tell(key, standing, now);
            }
            if let Some(over) = over(&key.rotation, standing, now) {
                self.end_rotation(state, key, standing, over).await?;
            }
        }
        Ok(())
    }

    /// Lets go of the value before.
    async fn end_rotation(
        &self,
        state: &State,
        key: &Rotating,
        standing: Option<Standing>,
        over: Over,
    ) -> Result<()> {
        let name = &key.entry.record.name;
        let reason = match (over, standing) {
            (Over::Applied, _) => "every worker runs the new value".to_owned(),
            (Over::TimedOut, Some(Standing { waiting, workers, .. })) if waiting > 0 => {
                tracing::warn!(%name, waiting, workers, "a rotation ends because its time is over");
                format!(
                    "its time is over; {waiting} of {workers} workers have not said that they run the new value"
                )
            }
            (Over::TimedOut, Some(Standing { incomplete: false, .. })) => "its time is over".to_owned(),
            (Over::TimedOut, _) => {
                tracing::warn!(%name, "a rotation ends because its time is over, and not all workers are known");
                "its time is over; it is not known of all workers whether they run the new value".to_owned()
            }
        };
        let etag = key.entry.record.etag(state.epoch);
        match self.retire(name, etag.as_str(), reason).await {
            Ok(()) => {
                tracing::info!(%name, ?over, "the value before the present one is retired");
                self.rotations.ended(over);
                Ok(())
            }
            // Somebody was faster, or has changed it meanwhile: it is looked at again.
            Err(error) => match error.cause() {
                Error::EtagMismatch { .. } | Error::NotFound { .. } | Error::FailedPrecondition { .. } => {
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }

    /// Whether it is known what workers run, also those of a replica that vanished: it may be cut off from the database alone.
    async fn knows_workers(&self) -> bool {
        match self.parts.fleet.refresh(EVERY * 2).await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "it is not known now what workers run");
                false
            }
        }
    }

    /// How many workers lack the new value: those whose streams may show the key with its secret and that have not said that
    /// they run the revision which last changed it. Who never says is counted.
    fn standing(&self, state: &State, key: &Rotating) -> Standing {
        let record = &key.entry.record;
        let name = [Pattern::Name(record.name.clone())];
        let (mut waiting, mut workers) = (0, 0);
        for worker in self.parts.fleet.workers() {
            if !worker.session.secrets || !worker.view.overlaps(&name) {
                continue;
            }
            workers += 1;
            let here = worker.session.epoch == state.epoch;
            let runs = |report: &Arc<Report>| here && report.applied >= record.update_revision;
            waiting += usize::from(!worker.report.as_ref().is_some_and(runs));
        }
        Standing { revision: record.update_revision.0, waiting, workers, incomplete: false }
    }

    /// Tells readers of the key how it stands, where that is news.
    fn tell(&self, key: &Rotating, standing: Standing, time: DateTime<Utc>) {
        let uid = key.entry.record.uid.clone();
        if self.rotations.told.lock().get(&uid) == Some(&standing) {
            return;
        }
        let Ok(value_json) = serde_json::to_string(&standing) else { return };
        let seen = Observation { uid: uid.clone(), what: Matter::ROTATION, value_json, time };
        // Too much is told just now: then the next turn tells it.
        if self.parts.observer.take(vec![seen]).is_ok() {
            self.rotations.told.lock().insert(uid, standing);
        }
    }
}

/// The keys that are being rotated.
fn rotating(state: &State) -> Vec<Rotating> {
    let keys = state.beneath("providers/").filter(|entry| entry.kind() == KindName("api_key"));
    let rotating = keys.filter_map(|entry| {
        let rotation = *rotation::of(&entry.record.spec)?;
        Some(Rotating { entry: entry.clone(), rotation })
    });
    rotating.collect()
}

/// Whether a rotation is over. Where it is not known what workers run, only time ends it.
fn over(rotation: &ApiKeyRotation, standing: Option<Standing>, now: DateTime<Utc>) -> Option<Over> {
    let applied = standing.is_some_and(|standing| standing.waiting == 0 && !standing.incomplete);
    if applied && rotation::lasted(rotation, now) >= LEAST {
        return Some(Over::Applied);
    }
    rotation::is_over(rotation, now).then_some(Over::TimedOut)
}

impl Rotations {
    fn note(&self, rotating: &[Rotating], now: DateTime<Utc>) {
        let age = |key: &Rotating| rotation::lasted(&key.rotation, now).num_seconds();
        let mut counts = self.counts.lock();
        counts.under_way = rotating.len();
        counts.oldest_seconds = rotating.iter().map(age).max().unwrap_or_default().max(0);
        let is_rotating = |uid: &Uid| rotating.iter().any(|key| key.entry.record.uid == *uid);
        let mut told = self.told.lock();
        told.retain(|uid, _| is_rotating(uid));
        counts.waiting = told.values().map(|standing| standing.waiting).sum();
    }

    /// Somebody has replaced a value, or has ended the rotation that was under way.
    pub fn asked(&self, replaced: bool, previous: &Previous) {
        let mut counts = self.counts.lock();
        match previous {
            _ if replaced => counts.replaced += 1,
            Previous::Retired => counts.retired += 1,
            Previous::Revoked => counts.revoked += 1,
            Previous::Kept(_) => {}
        }
    }

    fn ended(&self, over: Over) {
        let mut counts = self.counts.lock();
        match over {
            Over::Applied => counts.applied += 1,
            Over::TimedOut => counts.timed_out += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_ends_when_all_have_it_and_at_its_time() {
        let timestamp = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let rotation = ApiKeyRotation {
            start_time: timestamp(1000),
            expire_time: timestamp(1060),
            ..Default::default()
        };
        let stands = |second, waiting: Option<usize>, incomplete| {
            let standing = waiting.map(|waiting| Standing { revision: 7, waiting, workers: 5, incomplete });
            over(&rotation, standing, DateTime::from_timestamp(second, 0).unwrap())
        };
        let over = |second, waiting| stands(second, waiting, false);
        assert_eq!(over(1009, Some(0)), None, "some may just be coming back");
        assert_eq!(over(1010, Some(0)), Some(Over::Applied));
        assert_eq!(over(1010, Some(1)), None);
        assert_eq!(over(1010, None), None, "it is not known");
        assert_eq!(stands(1010, Some(0), true), None, "some are not counted");
        assert_eq!(stands(1060, Some(0), true), Some(Over::TimedOut));
        assert_eq!(over(1060, Some(1)), Some(Over::TimedOut));
        assert_eq!(over(1060, None), Some(Over::TimedOut));
        assert_eq!(over(900, Some(0)), None, "the clock went back");
    }
}
