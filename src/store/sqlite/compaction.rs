//! What forgetting the log up to a floor says to SQLite: one transaction for each step.

use sqlx::{Connection as _, SqliteConnection};

use super::commit::read_head;
use crate::{
    domain::Revision,
    store::{
        chain::ChainKeys,
        failure::Failure,
        rows::{CheckpointRow, HeadState, write_revision},
        sql,
    },
};

/// Sealed values that nothing refers to any more.
pub(super) const FORGET_SECRETS: &str = "DELETE FROM secrets WHERE id NOT IN ( \
    SELECT used.value FROM log, json_each(log.secrets) AS used WHERE log.secrets <> '{}' \
    UNION SELECT used.value FROM resources, json_each(resources.secrets) AS used WHERE resources.secrets <> '{}')";

/// Raises the floor, never lowers it, and writes the checkpoint that confirms it.
pub(super) async fn raise_floor(
    connection: &mut SqliteConnection,
    keys: &ChainKeys,
    floor: Revision,
    time: String,
) -> Result<HeadState, Failure> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut head = read_head(&mut transaction).await?;
    if !head.may_rise_to(floor)? {
        return Ok(head);
    }
    let at = write_revision(floor);
    let hash = sqlx::query_scalar(sql::HASH_AT).bind(at).fetch_optional(&mut *transaction).await?;
    let digest = sqlx::query_scalar(sql::DIGEST_AT).bind(at).fetch_optional(&mut *transaction).await?;
    let previous: Option<Vec<u8>> =
        sqlx::query_scalar(sql::LAST_MAC).fetch_optional(&mut *transaction).await?;
    let row = CheckpointRow::at(floor, hash.zip(digest), time, |row| {
        keys.checkpoint(previous.as_deref().unwrap_or_default(), row)
    })?;
    head.rise_to(&row)?;
    let CheckpointRow { floor, hash, digest, time, mac } = &row;
    let insert = sqlx::query(sql::PUT_CHECKPOINT).bind(floor).bind(hash).bind(digest).bind(time).bind(mac);
    insert.execute(&mut *transaction).await?;
    sqlx::query(sql::RAISE_FLOOR).bind(floor).bind(hash).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(head)
}

/// One step after the revision `from`: where it ended and how many rows went; `None` when nothing is left to look at.
pub(super) async fn forget_rows(
    connection: &mut SqliteConnection,
    from: i64,
    floor: Revision,
) -> Result<Option<(i64, u64)>, Failure> {
    let floor = write_revision(floor);
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let query = sqlx::query_scalar(sql::STEP_END).bind(from).bind(floor).bind(sql::STEP_ROWS);
    let Some(end) = query.fetch_one(&mut *transaction).await? else { return Ok(None) };
    let done =
        sqlx::query(sql::FORGET_ROWS).bind(from).bind(end).bind(floor).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Some((end, done.rows_affected())))
}
