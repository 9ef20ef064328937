//! Read transactions on connections to SQLite that can't write.

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use sqlx::{FromRow as _, Row as _, Sqlite, SqlitePool, Transaction};

use super::commit::{read_head, to_json};
use crate::store::{
    failure::Failure,
    history::{HistoryPart, Names},
    reads::{Moment, Moments, Pace},
    rows::{CheckpointRow, HeadState, LogRow, RequestRow, ResourceRow, SecretRow},
    sql,
};

const SECRETS_NAMED: &str =
    "SELECT id, data_key, token FROM secrets WHERE id IN (SELECT value FROM json_each($1))";
const SECRETS_IN_USE: &str = "SELECT id, data_key, token FROM secrets WHERE id IN ( \
    SELECT used.value FROM resources, json_each(resources.secrets) AS used WHERE resources.secrets <> '{}')";

/// The reading connections.
pub(super) struct SqliteReads(pub SqlitePool);

/// A transaction that is read from.
pub(super) struct SqliteMoment(pub Transaction<'static, Sqlite>);

#[async_trait]
impl Moments for SqliteReads {
    // A file does not keep anybody waiting: the pace does not matter.
    async fn begin(&self, _: Pace) -> Result<Box<dyn Moment>, Failure> {
        Ok(Box::new(SqliteMoment(self.0.begin().await?)))
    }
}

#[async_trait]
impl Moment for SqliteMoment {
    async fn head(&mut self) -> Result<HeadState, Failure> {
        read_head(&mut self.0).await
    }

    async fn request(&mut self, principal: &str, id: &str) -> Result<Option<RequestRow>, Failure> {
        let query = sqlx::query_as(sql::REQUEST).bind(principal).bind(id);
        Ok(query.fetch_optional(&mut *self.0).await?)
    }

    async fn resources(&mut self, each: &mut (dyn FnMut(Option<ResourceRow>) + Send)) -> Result<(), Failure> {
        let mut rows = sqlx::query(sql::RESOURCES).fetch(&mut *self.0);
        while let Some(row) = rows.try_next().await? {
            each(ResourceRow::from_row(&row).ok());
        }
        Ok(())
    }

    async fn log(
        &mut self,
        each: &mut (dyn FnMut(Result<LogRow, Option<i64>>) + Send),
    ) -> Result<(), Failure> {
        let mut rows = sqlx::query(sql::LOG).fetch(&mut *self.0);
        while let Some(row) = rows.try_next().await? {
            each(LogRow::from_row(&row).map_err(|_| row.try_get("revision").ok()));
        }
        Ok(())
    }

    async fn secrets_in_use(&mut self) -> Result<Vec<SecretRow>, Failure> {
        Ok(sqlx::query_as(SECRETS_IN_USE).fetch_all(&mut *self.0).await?)
    }

    async fn secrets(&mut self, ids: Vec<String>) -> Result<Vec<SecretRow>, Failure> {
        Ok(sqlx::query_as(SECRETS_NAMED).bind(to_json(&ids)?).fetch_all(&mut *self.0).await?)
    }

    async fn log_end(&mut self, revision: i64) -> Result<Option<LogRow>, Failure> {
        Ok(sqlx::query_as(sql::LOG_END).bind(revision).fetch_optional(&mut *self.0).await?)
    }

    async fn log_after(&mut self, revision: i64, limit: i64) -> Result<Vec<LogRow>, Failure> {
        Ok(sqlx::query_as(sql::LOG_AFTER).bind(revision).bind(limit).fetch_all(&mut *self.0).await?)
    }

    async fn log_of_kind(
        &mut self,
        kind: &str,
        (after, through): (i64, i64),
        limit: i64,
    ) -> Result<Vec<LogRow>, Failure> {
        let query = sqlx::query_as(sql::LOG_OF_KIND).bind(kind).bind(after).bind(through).bind(limit);
        Ok(query.fetch_all(&mut *self.0).await?)
    }

    async fn log_row_at(&mut self, name: &str, revision: i64) -> Result<Option<LogRow>, Failure> {
        let query = sqlx::query_as(sql::LOG_ROW_AT).bind(name).bind(revision);
        Ok(query.fetch_optional(&mut *self.0).await?)
    }

    async fn log_rows_at(&mut self, revision: i64) -> Result<Vec<LogRow>, Failure> {
        Ok(sqlx::query_as(sql::LOG_ROWS_AT).bind(revision).fetch_all(&mut *self.0).await?)
    }

    async fn history(&mut self, part: &HistoryPart<'_>) -> Result<Vec<LogRow>, Failure> {
        self.history_rows(part, 0).await
    }

    async fn before_history(&mut self, part: &HistoryPart<'_>) -> Result<Vec<LogRow>, Failure> {
        self.history_rows(part, 1).await
    }

    async fn first_since(&mut self, floor: i64, time: String) -> Result<Option<i64>, Failure> {
        let query = sqlx::query_scalar(sql::FIRST_SINCE).bind(floor).bind(time);
        Ok(query.fetch_optional(&mut *self.0).await?)
    }

    async fn checkpoints(&mut self) -> Result<Vec<CheckpointRow>, Failure> {
        Ok(sqlx::query_as(sql::CHECKPOINTS).fetch_all(&mut *self.0).await?)
    }

    async fn newest_checkpoints(&mut self) -> Result<Vec<CheckpointRow>, Failure> {
        Ok(sqlx::query_as(sql::NEWEST_CHECKPOINTS).fetch_all(&mut *self.0).await?)
    }

    async fn checkpoint_digest(&mut self, floor: i64) -> Result<Option<Vec<u8>>, Failure> {
        Ok(sqlx::query_scalar(sql::CHECKPOINT_DIGEST).bind(floor).fetch_optional(&mut *self.0).await?)
    }

    async fn end(self: Box<Self>) {
        // It wrote nothing; if this fails, dropping it does the same.
        let _ = self.0.rollback().await;
    }
}

impl SqliteMoment {
    /// The rows of a part, or the rows before them.
    async fn history_rows(&mut self, part: &HistoryPart<'_>, which: usize) -> Result<Vec<LogRow>, Failure> {
        let HistoryPart { names, revision, name, actor, action, since, until, limit } = *part;
        let statement = match names {
            Names::All => sql::HISTORY[which],
            Names::One(_) => sql::HISTORY_OF[which],
            Names::Beneath(_) => sql::HISTORY_BENEATH[which],
        };
        let query = sqlx::query_as(statement).bind(revision).bind(name).bind(actor).bind(action);
        let query = query.bind(since).bind(until).bind(limit);
        let query = match names {
            Names::All => query,
            Names::One(name) => query.bind(name),
            Names::Beneath(prefix) => query.bind(prefix).bind(sql::beyond(prefix)),
        };
        Ok(query.fetch_all(&mut *self.0).await?)
    }
}
