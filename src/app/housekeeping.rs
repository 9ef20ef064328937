//! What the server does for its store beside serving it: one check of the log, and forgetting what is old.
//!
//! Of several replicas one does the forgetting, under a lease; the check of the log each does for itself, once.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    domain::{Clock, ReplicaId},
    lifecycle::Lifecycle,
    service::Warnings,
    store::{HOUSEKEEPING, Lease, Store, StoreError, earlier},
};

/// How often old idempotency keys, audit lines and log rows are looked for.
const EVERY: Duration = Duration::from_secs(3600);
/// How soon it is tried again after it failed, or while a clock is wrong.
const AGAIN: Duration = Duration::from_secs(60);
/// How long the one that forgets is left alone with it. If it dies, another one takes over after that.
const LEASE: Duration = Duration::from_secs(600);

/// Clocks that are further apart are told of: what is written bears the time of the replica that wrote it.
const APART: TimeDelta = TimeDelta::minutes(1);

/// What was found of the clocks of this replica and of the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Clocks {
    Agree,
    Differ,
}

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
            let pause = if done == Ok(Clocks::Agree) { EVERY } else { AGAIN };
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
    fn tell(&self, done: Result<Clocks, StoreError>) {
        let failed = done.err().map(|error| {
            tracing::warn!(%error, "housekeeping failed; it is tried again in a minute");
            let why = match error {
                StoreError::Unavailable(why) | StoreError::Absent(why) | StoreError::Damaged(why) => why,
                StoreError::Internal(_) => "the log of this server says why".into(),
            };
            format!("housekeeping fails, so that what is old is not forgotten: {why}; it is tried again each minute")
        });
        self.warnings.hold("housekeeping", failed);
    }

    /// Does what is to be done, unless another replica does it.
    async fn turn(&self) -> Result<Clocks, StoreError> {
        let (own, database) = (self.clock.now(), self.store.clock().await?);
        let apart = database.and_then(|database| apart(own, database));
        let clocks = if apart.is_none() { Clocks::Agree } else { Clocks::Differ };
        self.warnings.hold("clock", apart);
        let Some(lease) = self.store.acquire(HOUSEKEEPING, &self.replica, LEASE).await? else {
            tracing::debug!("another replica keeps the house");
            return Ok(clocks);
        };
        let done = self.tidy(&lease, earlier(own, database)).await;
        self.store.release(&lease).await?;
        done.map(|()| clocks)
    }

    async fn tidy(&self, lease: &Lease, now: DateTime<Utc>) -> Result<(), StoreError> {
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

/// What is to be said of clocks that are too far apart.
fn apart(own: DateTime<Utc>, database: DateTime<Utc>) -> Option<String> {
    let by = own - database;
    let length = humantime::format_duration(Duration::from_secs(by.num_seconds().unsigned_abs()));
    let which = if by > TimeDelta::zero() { "ahead of" } else { "behind" };
    (by.abs() > APART).then(|| {
        format!(
            "this replica's clock is {length} {which} the database's: set whichever is wrong; times of what is written, the end \
             of tokens and certificates are judged by it. What is old is forgotten by the earlier of the two"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_apart_are_told_of_with_how_far() {
        let database = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let told = |seconds: i64| apart(database + TimeDelta::seconds(seconds), database);
        assert_eq!([told(0), told(60), told(-60)], [None, None, None]);
        assert!(told(97_200).unwrap().contains("clock is 1day 3h ahead of the database's"));
        assert!(told(-61).unwrap().contains("clock is 1m 1s behind the database's"));
    }

    /// Found by an attack: a replica whose clock was ahead forgot within a second of its start what all had written just now.
    #[test]
    fn regression_a_clock_that_is_ahead_forgets_nothing() {
        let database = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let ahead = database + TimeDelta::days(400);
        assert_eq!(earlier(ahead, Some(database)), database);
        assert_eq!(earlier(database, Some(ahead)), database);
        assert_eq!(earlier(ahead, None), ahead);
    }
}
