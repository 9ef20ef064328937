//! A store whose calls are counted and timed, in front of any other: stores themselves stay plain SQL. Whatever of it writes, and is
//! not let, is told here what is really waited for.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{
    AuditLog, BegunLife, Cluster, Connections, Displaced, Doorbell, DoorbellState, FLEET, Fleet,
    HOUSEKEEPING, Head, Heartbeat, HistoryPage, HistoryQuery, Keep, Lease, Living, Log, LogPage, Member,
    News, Observations, ROTATIONS, Replica, StateSnapshot, Store, StoreError, Verification, Work,
};
use crate::{
    domain::{
        Applied, ApplyError, ChainHash, Epoch, FeatureLevel, KindName, LoggedChange, Record, ReplicaId,
        ResourceName, Revision, RevisionBatch, RevisionToken, SealedSecret, StoreId, Uid, WriteSet,
        audit::AuditEvent, observation::Observation,
    },
    telemetry::StoreCalls,
};

/// The decorator.
pub struct Measured {
    inner: Arc<dyn Store>,
    calls: StoreCalls,
}

/// An error, in the word that it is counted under.
trait Word {
    fn word(&self) -> &'static str;
}

impl Word for StoreError {
    fn word(&self) -> &'static str {
        match self {
            StoreError::Unavailable(_) => "unavailable",
            StoreError::Absent(_) => "absent",
            StoreError::Damaged(_) => "damaged",
            StoreError::Internal(_) => "internal",
        }
    }
}

impl Word for ApplyError {
    fn word(&self) -> &'static str {
        match self {
            ApplyError::Stale { .. } => "stale",
            ApplyError::RequestMismatch => "mismatch",
            ApplyError::Unavailable { .. } => "unavailable",
            ApplyError::Damaged { .. } => "damaged",
            ApplyError::Unknown { .. } => "unknown",
            ApplyError::Internal { .. } => "internal",
        }
    }
}

impl Measured {
    /// `inner`, whose calls are counted in `calls`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, calls: StoreCalls) -> Self {
        calls.expect("apply", &["stale", "mismatch", "unavailable", "damaged", "unknown", "internal"]);
        for call in ["head", "changes_after", "audit", "beat"] {
            calls.expect(call, &["unavailable", "damaged", "internal"]);
        }
        for work in [HOUSEKEEPING, ROTATIONS, FLEET] {
            calls.lease(work.0, false);
        }
        Self { inner, calls }
    }

    async fn timed<T, E: Word>(
        &self,
        name: &'static str,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let call = self.calls.begin(name);
        answer.await.inspect_err(|error| call.failed(error.word()))
    }

    /// A call that writes: what it waited for in vain may be another one's commit, and what that waits for. Of a write to the log
    /// the writer has found it out.
    async fn written<T>(
        &self,
        name: &'static str,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match self.timed(name, answer).await {
            Err(StoreError::Unavailable(why)) => {
                let better = self.inner.explain(&why).await;
                Err(StoreError::Unavailable(better.map_or(why, str::to_owned)))
            }
            done => done,
        }
    }
}

#[async_trait]
impl Log for Measured {
    async fn head(&self) -> Result<Head, StoreError> {
        let head = self.timed("head", self.inner.head()).await?;
        self.calls.reached(head.epoch, head.revision);
        Ok(head)
    }

    async fn snapshot(&self) -> Result<StateSnapshot, StoreError> {
        let snapshot = self.timed("snapshot", self.inner.snapshot()).await?;
        self.calls.reached(snapshot.head.epoch, snapshot.head.revision);
        Ok(snapshot)
    }

    fn remembered_after(&self, at: &RevisionToken, limit: usize) -> Result<Vec<RevisionBatch>, StoreError> {
        let own = self.inner.remembered_after(at, limit)?;
        if let Some(last) = own.last() {
            self.calls.reached(at.epoch, last.revision);
        }
        Ok(own)
    }

    async fn changes_after(&self, at: &RevisionToken, limit: usize) -> Result<LogPage, StoreError> {
        let page = self.timed("changes_after", self.inner.changes_after(at, limit)).await?;
        if let LogPage::Batches(batches) = &page
            && let Some(last) = batches.last()
        {
            self.calls.reached(at.epoch, last.revision);
        }
        Ok(page)
    }

    async fn changes_of(
        &self,
        kind: KindName,
        after: Revision,
        through: Revision,
        limit: usize,
    ) -> Result<Vec<(Revision, LoggedChange)>, StoreError> {
        self.timed("changes_of", self.inner.changes_of(kind, after, through, limit)).await
    }

    async fn hash_at(&self, revision: Revision) -> Result<Option<ChainHash>, StoreError> {
        self.timed("hash_at", self.inner.hash_at(revision)).await
    }

    fn doorbell(&self) -> Doorbell {
        self.inner.doorbell()
    }

    fn doorbell_state(&self) -> DoorbellState {
        // Asked with every heartbeat, so that no change stays unseen for long.
        let state = self.inner.doorbell_state();
        self.calls.doorbell(state.word());
        state
    }

    async fn begin_life(&self, seen: Epoch) -> Result<Epoch, StoreError> {
        self.written("begin_life", self.inner.begin_life(seen)).await
    }
}

#[async_trait]
impl AuditLog for Measured {
    async fn audit(&self, events: Vec<AuditEvent>) -> Result<(), StoreError> {
        self.written("audit", self.inner.audit(events)).await
    }
}

#[async_trait]
impl Observations for Measured {
    async fn observe(&self, seen: Vec<Observation>) -> Result<(), StoreError> {
        self.written("observe", self.inner.observe(seen)).await
    }

    async fn observed(&self, uids: Vec<Uid>) -> Result<Vec<Observation>, StoreError> {
        self.timed("observed", self.inner.observed(uids)).await
    }
}

#[async_trait]
impl Fleet for Measured {
    async fn tell(&self, news: News) -> Result<(), StoreError> {
        self.written("tell", self.inner.tell(news)).await
    }

    async fn fleet(&self, own: &ReplicaId) -> Result<Vec<Member>, StoreError> {
        self.timed("fleet", self.inner.fleet(own)).await
    }

    async fn tidy_fleet(&self, own: &ReplicaId, keep: Keep) -> Result<(), StoreError> {
        self.written("tidy_fleet", self.inner.tidy_fleet(own, keep)).await
    }
}

#[async_trait]
impl Cluster for Measured {
    async fn beat(&self, heartbeat: &Heartbeat) -> Result<Living, StoreError> {
        let living = self.written("beat", self.inner.beat(heartbeat)).await?;
        for Replica { heartbeat, .. } in &living.replicas {
            self.calls.told(heartbeat.epoch, heartbeat.revision);
        }
        Ok(living)
    }

    async fn clock(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.timed("clock", self.inner.clock()).await
    }

    async fn begun_life(&self, now: DateTime<Utc>) -> Result<Option<BegunLife>, StoreError> {
        self.timed("begun_life", self.inner.begun_life(now)).await
    }

    async fn leave(&self, id: &ReplicaId) -> Result<(), StoreError> {
        self.written("leave", self.inner.leave(id)).await
    }

    async fn acquire(
        &self,
        work: Work,
        holder: &ReplicaId,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        let lease = self.written("acquire", self.inner.acquire(work, holder, ttl)).await?;
        self.calls.lease(work.0, lease.is_some());
        Ok(lease)
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        // Whatever comes of it, this replica is done.
        self.calls.lease(lease.work.0, false);
        self.written("release", self.inner.release(lease)).await
    }

    async fn displaced(&self) -> Result<Option<Displaced>, StoreError> {
        self.timed("displaced", self.inner.displaced()).await
    }

    async fn feature_level(&self) -> Result<FeatureLevel, StoreError> {
        self.timed("feature_level", self.inner.feature_level()).await
    }

    async fn share_secret(
        &self,
        name: &'static str,
        offer: Option<SealedSecret>,
    ) -> Result<Option<SealedSecret>, StoreError> {
        self.written("share_secret", self.inner.share_secret(name, offer)).await
    }

    async fn raise_feature_level(&self, to: FeatureLevel) -> Result<FeatureLevel, StoreError> {
        self.written("raise_feature_level", self.inner.raise_feature_level(to)).await
    }
}

#[async_trait]
impl Store for Measured {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn schema_version(&self) -> u32 {
        self.inner.schema_version()
    }

    fn store_id(&self) -> &StoreId {
        self.inner.store_id()
    }

    fn died(&self) -> CancellationToken {
        self.inner.died()
    }

    async fn explain(&self, why: &str) -> Option<&'static str> {
        self.inner.explain(why).await
    }

    fn refuses_writes(&self) -> Option<&'static str> {
        self.inner.refuses_writes()
    }

    fn connections(&self) -> Connections {
        self.inner.connections()
    }

    async fn apply(&self, write: WriteSet) -> Result<Applied, ApplyError> {
        let applied = self.timed("apply", self.inner.apply(write)).await?;
        let RevisionToken { epoch, revision, .. } = applied.token();
        self.calls.reached(epoch, revision);
        Ok(applied)
    }

    async fn replay(&self, principal: &str, id: &str, mac: &[u8; 32]) -> Result<Option<Applied>, ApplyError> {
        self.timed("replay", self.inner.replay(principal, id, mac)).await
    }

    async fn record_at(
        &self,
        name: &ResourceName,
        revision: Revision,
    ) -> Result<Option<LoggedChange>, StoreError> {
        self.timed("record_at", self.inner.record_at(name, revision)).await
    }

    async fn records_at(&self, revision: Revision) -> Result<Vec<Record>, StoreError> {
        self.timed("records_at", self.inner.records_at(revision)).await
    }

    async fn history(&self, query: HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.timed("history", self.inner.history(query)).await
    }

    async fn compact_under(
        &self,
        lease: Option<Lease>,
        floor: Revision,
    ) -> Result<(Revision, u64), StoreError> {
        self.written("compact", self.inner.compact_under(lease, floor)).await
    }

    async fn revision_before(&self, time: DateTime<Utc>) -> Result<Revision, StoreError> {
        self.timed("revision_before", self.inner.revision_before(time)).await
    }

    async fn verify(&self, anchor: Option<(Revision, [u8; 16])>) -> Result<Verification, StoreError> {
        self.timed("verify", self.inner.verify(anchor)).await
    }

    async fn integrity(&self) -> Result<Vec<String>, StoreError> {
        self.timed("integrity", self.inner.integrity()).await
    }

    async fn expire(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        self.written("expire", self.inner.expire(now)).await
    }

    async fn close(&self, deadline: Duration) {
        self.inner.close(deadline).await;
    }
}
