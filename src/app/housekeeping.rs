//! What the server does for its store beside serving it: one check of the log, and forgetting what is old.
//!
//! Of several replicas one does the forgetting, under a lease; the check of the log each does for itself, once.

use std::{sync::Arc, time::Duration};

use crate::{
    domain::{Clock, ReplicaId},
    lifecycle::Lifecycle,
    service::Warnings,
    store::{HOUSEKEEPING, Lease, Store, StoreError},
};

/// How often old idempotency keys, audit lines and log rows are looked for.
const EVERY: Duration = Duration::from_secs(3600);
/// How soon it is tried again after it failed.
const AGAIN: Duration = Duration::from_secs(60);
/// How long the one that forgets is left alone with it. If it dies, another one takes over after that.
const LEASE: Duration = Duration::from_secs(600);

/// Keeps the house of one store.
pub(super) struct Housekeeping {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    /// How long the log is kept; `None` for ever.
    pub retention: Option<Duration>,
    pub warnings: Warnings,
    pub replica: ReplicaId,
}

impl Housekeeping {
    /// Checks the log once, and then forgets from time to time, until the server stops.
    pub async fn run(self, lifecycle: Lifecycle) {
        self.check_log().await;
        let soft = lifecycle.soft();
        loop {
            let done = self.turn().await;
            let pause = if done.is_ok() { EVERY } else { AGAIN };
            self.tell(done);
            tokio::select! {
                () = soft.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn check_log(&self) {
        match self.store.verify(None).await {
            Ok(found) => {
                for defect in &found.defects {
                    tracing::error!(reason = defect.reason, name = defect.name, "{}", defect.description);
                }
                if let Some(first) = found.defects.first() {
                    let (count, what) = (found.defects.len(), &first.description);
                    self.warnings.add(format!(
                        "the log has {count} defects, run `signalbox doctor`; the first: {what}"
                    ));
                }
            }
            Err(error) => tracing::error!(%error, "the log can't be checked"),
        }
    }

    /// Warns for as long as it fails: what is old is not forgotten meanwhile.
    fn tell(&self, done: Result<(), StoreError>) {
        let failed = done.err().map(|error| {
            tracing::warn!(%error, "housekeeping failed; it is tried again in a minute");
            let why = match error {
                StoreError::Unavailable(why) | StoreError::Damaged(why) => why,
                StoreError::Internal(_) => "the log of this server says why".into(),
            };
            format!("housekeeping fails, so that what is old is not forgotten: {why}; it is tried again each minute")
        });
        self.warnings.hold("housekeeping", failed);
    }

    /// Does what is to be done, unless another replica does it.
    async fn turn(&self) -> Result<(), StoreError> {
        let Some(lease) = self.store.acquire(HOUSEKEEPING, &self.replica, LEASE).await? else {
            tracing::debug!("another replica keeps the house");
            return Ok(());
        };
        let done = self.tidy(&lease).await;
        self.store.release(&lease).await?;
        done
    }

    async fn tidy(&self, lease: &Lease) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.store.expire(now).await?;
        let Some(retention) = self.retention.and_then(|time| chrono::Duration::from_std(time).ok()) else {
            return Ok(());
        };
        let floor = self.store.revision_before(now - retention).await?;
        if floor > self.store.head().await?.floor {
            let (floor, removed) = self.store.compact_under(Some(lease.clone()), floor).await?;
            tracing::info!(%floor, removed, "the log was compacted");
        }
        Ok(())
    }
}
