//! Read transactions on PostgreSQL.

use async_trait::async_trait;
use sqlx::{FromRow, PgPool, Row as _, postgres::PgRow};

use super::session::{
    BEGIN_LONG_READ, BEGIN_READ, HEAD, LONG_SILENCE, Lease, SILENCE, all, ask, each, first,
};
use crate::store::{
    failure::Failure,
    history::{HistoryPart, Names},
    reads::{Moment, Moments, Pace},
    rows::{CheckpointRow, HeadRow, HeadState, LogRow, RequestRow, ResourceRow, SecretRow},
    sql,
};

const RESOURCES: &str = "SELECT name, kind, uid, labels_text AS labels, version, create_revision, create_time, \
    update_revision, update_time, updated_by, spec_text AS spec, secrets_text AS secrets, digest \
    FROM resources ORDER BY name";
const SECRETS_NAMED: &str = "SELECT id, data_key, token FROM secrets WHERE id = ANY($1::text[])";
const SECRETS_IN_USE: &str = "SELECT id, data_key, token FROM secrets WHERE id IN ( \
    SELECT used.value FROM resources, jsonb_each_text(resources.secrets) AS used)";

/// What is said of a database that only follows another.
pub const STANDBY: &str = "the database is a standby";
/// What a replica is told whose store has left.
pub const MOVED: &str = "the store was moved to another database: stop this server, and serve that one";

/// The reading connections.
pub struct PostgresReads(pub PgPool);

/// A transaction that is read from.
pub struct PostgresMoment {
    /// Its connection.
    pub lease: Lease,
    /// The head row, where it was told with the beginning.
    head: Option<Vec<PgRow>>,
}

impl From<Lease> for PostgresMoment {
    fn from(lease: Lease) -> Self {
        Self { lease, head: None }
    }
}

/// The head row, whether the server that answers is one that only follows another, and whether the store is elsewhere.
#[derive(FromRow)]
struct FoundHead {
    #[sqlx(flatten)]
    row: HeadRow,
    standby: bool,
    moved: bool,
}

/// The head row, never a standby's: what that holds may be old. Nor one that the store has left behind: a replica that was
/// asleep meanwhile must not go on telling that it is in touch.
pub fn read_head(rows: &[PgRow]) -> Result<HeadState, Failure> {
    let row = rows.first().ok_or_else(|| Failure::Damaged("its head row is missing".into()))?;
    let FoundHead { row, standby, moved } = FoundHead::from_row(row)?;
    if standby {
        return Err(Failure::Unavailable(STANDBY));
    }
    if moved {
        return Err(Failure::Unavailable(MOVED));
    }
    Ok(row.read()?)
}

#[async_trait]
impl Moments for PostgresReads {
    async fn begin(&self, pace: Pace) -> Result<Box<dyn Moment>, Failure> {
        let text = match pace {
            Pace::Short => BEGIN_READ,
            Pace::Long => BEGIN_LONG_READ,
        };
        let (lease, mut answers) = Lease::ask(&self.0, text).await?;
        Ok(Box::new(PostgresMoment { lease, head: answers.pop() }))
    }
}

#[async_trait]
impl Moment for PostgresMoment {
    async fn head(&mut self) -> Result<HeadState, Failure> {
        match self.head.take() {
            Some(rows) => read_head(&rows),
            None => {
                let answers = ask(self.lease.connection()?, HEAD, SILENCE).await?;
                read_head(answers.first().map_or(&[], Vec::as_slice))
            }
        }
    }

    async fn request(&mut self, principal: &str, id: &str) -> Result<Option<RequestRow>, Failure> {
        let query = sqlx::query(sql::REQUEST).bind(principal).bind(id);
        Ok(first(self.lease.connection()?, query).await?)
    }

    async fn resources(&mut self, take: &mut (dyn FnMut(Option<ResourceRow>) + Send)) -> Result<(), Failure> {
        let query = sqlx::query(RESOURCES);
        let rows =
            each(self.lease.connection()?, query, LONG_SILENCE, |row| take(ResourceRow::from_row(&row).ok()));
        Ok(rows.await?)
    }

    async fn log(
        &mut self,
        take: &mut (dyn FnMut(Result<LogRow, Option<i64>>) + Send),
    ) -> Result<(), Failure> {
        let rows = each(self.lease.connection()?, sqlx::query(sql::LOG), LONG_SILENCE, |row| {
            take(LogRow::from_row(&row).map_err(|_| row.try_get("revision").ok()));
        });
        Ok(rows.await?)
    }

    async fn secrets_in_use(&mut self) -> Result<Vec<SecretRow>, Failure> {
        Ok(all(self.lease.connection()?, sqlx::query(SECRETS_IN_USE), LONG_SILENCE).await?)
    }

    async fn secrets(&mut self, ids: Vec<String>) -> Result<Vec<SecretRow>, Failure> {
        Ok(all(self.lease.connection()?, sqlx::query(SECRETS_NAMED).bind(ids), SILENCE).await?)
    }

    async fn log_end(&mut self, revision: i64) -> Result<Option<LogRow>, Failure> {
        Ok(first(self.lease.connection()?, sqlx::query(sql::LOG_END).bind(revision)).await?)
    }

    async fn log_after(&mut self, revision: i64, limit: i64) -> Result<Vec<LogRow>, Failure> {
        let query = sqlx::query(sql::LOG_AFTER).bind(revision).bind(limit);
        Ok(all(self.lease.connection()?, query, SILENCE).await?)
    }

    async fn log_of_kind(
        &mut self,
        kind: &str,
        (after, through): (i64, i64),
        limit: i64,
    ) -> Result<Vec<LogRow>, Failure> {
        let query = sqlx::query(sql::LOG_OF_KIND).bind(kind).bind(after).bind(through).bind(limit);
        Ok(all(self.lease.connection()?, query, SILENCE).await?)
    }

    async fn log_row_at(&mut self, name: &str, revision: i64) -> Result<Option<LogRow>, Failure> {
        let query = sqlx::query(sql::LOG_ROW_AT).bind(name).bind(revision);
        Ok(first(self.lease.connection()?, query).await?)
    }

    async fn log_rows_at(&mut self, revision: i64) -> Result<Vec<LogRow>, Failure> {
        Ok(all(self.lease.connection()?, sqlx::query(sql::LOG_ROWS_AT).bind(revision), LONG_SILENCE).await?)
    }

    async fn history(&mut self, part: &HistoryPart<'_>) -> Result<Vec<LogRow>, Failure> {
        self.history_rows(part, 0).await
    }

    async fn before_history(&mut self, part: &HistoryPart<'_>) -> Result<Vec<LogRow>, Failure> {
        self.history_rows(part, 1).await
    }

    async fn first_since(&mut self, floor: i64, time: String) -> Result<Option<i64>, Failure> {
        let query = sqlx::query(sql::FIRST_SINCE).bind(floor).bind(time);
        let found: Vec<(i64,)> = all(self.lease.connection()?, query, LONG_SILENCE).await?;
        Ok(found.first().map(|(revision,)| *revision))
    }

    async fn checkpoints(&mut self) -> Result<Vec<CheckpointRow>, Failure> {
        Ok(all(self.lease.connection()?, sqlx::query(sql::CHECKPOINTS), LONG_SILENCE).await?)
    }

    async fn newest_checkpoints(&mut self) -> Result<Vec<CheckpointRow>, Failure> {
        Ok(all(self.lease.connection()?, sqlx::query(sql::NEWEST_CHECKPOINTS), SILENCE).await?)
    }

    async fn checkpoint_digest(&mut self, floor: i64) -> Result<Option<Vec<u8>>, Failure> {
        let query = sqlx::query(sql::CHECKPOINT_DIGEST).bind(floor);
        let found: Option<(Vec<u8>,)> = first(self.lease.connection()?, query).await?;
        Ok(found.map(|(digest,)| digest))
    }

    async fn end(self: Box<Self>) {
        self.lease.end().await;
    }
}

impl PostgresMoment {
    /// The rows of a part, or the rows before them.
    async fn history_rows(&mut self, part: &HistoryPart<'_>, which: usize) -> Result<Vec<LogRow>, Failure> {
        let HistoryPart { names, revision, name, actor, action, since, until, limit } = *part;
        let statement = match names {
            Names::All => sql::HISTORY[which],
            Names::One(_) => sql::HISTORY_OF[which],
            Names::Beneath(_) => sql::HISTORY_BENEATH[which],
        };
        let query = sqlx::query(statement).bind(revision).bind(name).bind(actor).bind(action);
        let query = query.bind(since).bind(until).bind(limit);
        let query = match names {
            Names::All => query,
            Names::One(name) => query.bind(name),
            Names::Beneath(prefix) => query.bind(prefix).bind(sql::beyond(prefix)),
        };
        Ok(all(self.lease.connection()?, query, SILENCE).await?)
    }
}
