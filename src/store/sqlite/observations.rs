//! What was seen of resources, on SQLite. Written aside of the writer: it is rare, and has nothing to do with the log.

use async_trait::async_trait;

use super::{SqliteStore, commit::to_json};
use crate::{
    domain::{Uid, observation::Observation},
    store::{
        StoreError,
        failure::Failure,
        observations::{ObservationRow, Observations, READ_BYTES, read, rows},
    },
};

/// A time that is still to come goes: it was written by a clock that was wrong.
const PUT: &str = "INSERT INTO observations (uid, what, value, time) \
    SELECT seen.value ->> 0, seen.value ->> 1, seen.value ->> 2, seen.value ->> 3 FROM json_each($1) AS seen WHERE true \
    ON CONFLICT (uid, what) DO UPDATE SET value = excluded.value, time = excluded.time \
    WHERE excluded.time >= observations.time OR observations.time > strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";
const OF: &str = "SELECT uid, what, value, time FROM observations WHERE uid IN (SELECT value FROM json_each($1)) \
    AND octet_length(what) + octet_length(value) + octet_length(time) <= $2 ORDER BY uid, what";

#[async_trait]
impl Observations for SqliteStore {
    async fn observe(&self, seen: Vec<Observation>) -> Result<(), StoreError> {
        let seen = to_json(&rows(seen))?;
        sqlx::query(PUT).bind(seen).execute(&self.engine.aside).await.map_err(Failure::from)?;
        Ok(())
    }

    async fn observed(&self, uids: Vec<Uid>) -> Result<Vec<Observation>, StoreError> {
        let uids = to_json(&uids.into_iter().map(|uid| uid.0).collect::<Vec<_>>())?;
        let found: Vec<ObservationRow> = sqlx::query_as(OF)
            .bind(uids)
            .bind(READ_BYTES)
            .fetch_all(&self.engine.readers)
            .await
            .map_err(Failure::from)?;
        Ok(read(found))
    }
}
