//! What was seen of resources, on PostgreSQL: a table that all replicas write, without the head row's lock.

use async_trait::async_trait;

use super::{
    PostgresStore,
    session::{BEGIN_ASIDE, BEGIN_READ, Lease as Session, SILENCE, all, execute},
};
use crate::{
    domain::{Uid, observation::Observation},
    store::{
        StoreError,
        failure::Failure,
        observations::{ObservationRow, Observations, read, rows},
    },
};

const PUT: &str = "INSERT INTO observations (uid, what, value, time) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) \
    ON CONFLICT (uid, what) DO UPDATE SET value = excluded.value, time = excluded.time \
    WHERE excluded.time >= observations.time";
const OF: &str =
    "SELECT uid, what, value, time FROM observations WHERE uid = ANY($1::text[]) ORDER BY uid, what";

#[async_trait]
impl Observations for PostgresStore {
    async fn observe(&self, seen: Vec<Observation>) -> Result<(), StoreError> {
        let rows = rows(seen);
        let column =
            |of: fn(&ObservationRow) -> &String| -> Vec<String> { rows.iter().map(of).cloned().collect() };
        let (uids, matters) = (column(|row| &row.0), column(|row| &row.1));
        let (values, times) = (column(|row| &row.2), column(|row| &row.3));
        let mut session = Session::begin(&self.engine.readers, BEGIN_ASIDE).await?;
        let put = sqlx::query(PUT).bind(uids).bind(matters).bind(values).bind(times);
        execute(session.connection()?, put, SILENCE).await.map_err(Failure::from)?;
        Ok(session.commit().await?)
    }

    async fn observed(&self, uids: Vec<Uid>) -> Result<Vec<Observation>, StoreError> {
        let uids: Vec<String> = uids.into_iter().map(|uid| uid.0).collect();
        let mut session = Session::begin(&self.engine.readers, BEGIN_READ).await?;
        let query = sqlx::query(OF).bind(uids);
        let found: Vec<ObservationRow> =
            all(session.connection()?, query, SILENCE).await.map_err(Failure::from)?;
        session.end().await;
        Ok(read(found))
    }
}
