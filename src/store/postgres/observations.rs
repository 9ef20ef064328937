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
        observations::{ObservationRow, Observations, READ_BYTES, read, rows},
    },
};

/// Now, as times are written.
macro_rules! now {
    () => {
        "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') COLLATE \"C\""
    };
}

/// No time that is still to come by the database's clock is written, and one that is there goes: it was written by a clock that
/// was wrong, and nothing that is really seen would be newer.
const PUT: &str = concat!(
    "INSERT INTO observations (uid, what, value, time) SELECT uid, what, value, least(time COLLATE \"C\", ",
    now!(),
    ") FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS seen (uid, what, value, time) \
    ON CONFLICT (uid, what) DO UPDATE SET value = excluded.value, time = excluded.time \
    WHERE excluded.time >= observations.time OR observations.time COLLATE \"C\" > ",
    now!()
);
const OF: &str = "SELECT uid, what, value, time FROM observations WHERE uid = ANY($1::text[]) \
    AND octet_length(what) + octet_length(value) + octet_length(time) <= $2 ORDER BY uid, what";

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
        let query = sqlx::query(OF).bind(uids).bind(READ_BYTES);
        let found: Vec<ObservationRow> =
            all(session.connection()?, query, SILENCE).await.map_err(Failure::from)?;
        session.end().await;
        Ok(read(found))
    }
}
