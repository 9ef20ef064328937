//! What else is written to PostgreSQL: the audit, what expires, what compaction forgets, the first keys.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{
    commit::{LOST, Locked},
    session::{LONG_SILENCE, SILENCE, asked, execute, first},
};
use crate::{
    domain::{Revision, audit::AuditEvent, keys::FirstKeys},
    store::{
        chain::ChainKeys,
        failure::Failure,
        observations::FORGET_OBSERVATIONS,
        rows::{CheckpointRow, HeadState, write_revision, write_time},
        sql,
    },
};

const PUT_AUDIT: &str = "INSERT INTO audit (time, actor, event, detail) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])";
const PUT_DATA_KEYS: &str = "INSERT INTO data_keys (id, kek, wrapped) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[])";
const PUT_KEY_CHECK: &str = "INSERT INTO key_checks (kek, value) VALUES ($1, $2)";
const IS_FRESH: &str = "SELECT NOT EXISTS (SELECT 1 FROM key_checks) AND NOT EXISTS (SELECT 1 FROM data_keys) \
    AND NOT EXISTS (SELECT 1 FROM head WHERE revision > 0)";
/// Sealed values that nothing refers to any more. The log holds text, which has to be read as JSON for this.
const FORGET_SECRETS: &str = "DELETE FROM secrets WHERE NOT EXISTS ( \
    SELECT 1 FROM (SELECT used.value FROM log, jsonb_each_text(log.secrets::jsonb) AS used WHERE log.secrets <> '{}' \
    UNION SELECT used.value FROM resources, jsonb_each_text(resources.secrets) AS used) AS kept \
    WHERE kept.value = secrets.id)";

/// Writes audit events, all or none.
pub async fn write_audit(connection: &mut PgConnection, events: &[AuditEvent]) -> Result<(), Failure> {
    let times: Vec<_> = events.iter().map(|event| write_time(event.time)).collect();
    let actors: Vec<_> = events.iter().map(|event| event.actor.as_str()).collect();
    let names: Vec<_> = events.iter().map(|event| event.event).collect();
    let details: Vec<_> = events.iter().map(|event| event.detail.as_str()).collect();
    let query = sqlx::query(PUT_AUDIT).bind(times).bind(actors).bind(names).bind(details);
    Ok(execute(connection, query, SILENCE).await.map(drop)?)
}

/// Forgets requests and audit events that are older than these times, and what was seen of resources that are gone.
pub async fn expire(
    connection: &mut PgConnection,
    requests: DateTime<Utc>,
    audit: DateTime<Utc>,
) -> Result<(), Failure> {
    for (text, time) in [(sql::EXPIRE_REQUESTS, requests), (sql::EXPIRE_AUDIT, audit)] {
        execute(connection, sqlx::query(text).bind(write_time(time)), LONG_SILENCE).await?;
    }
    execute(connection, sqlx::query(FORGET_OBSERVATIONS), LONG_SILENCE).await?;
    Ok(())
}

/// Raises the floor, never lowers it, and writes the checkpoint that confirms it.
pub async fn raise_floor(
    connection: &mut PgConnection,
    locked: Locked,
    keys: &ChainKeys,
    left: Option<HeadState>,
    floor: Revision,
    time: String,
) -> Result<HeadState, Failure> {
    let (mut head, lost) = locked.check(connection, keys, left).await?;
    if lost {
        return Err(LOST);
    }
    if !head.may_rise_to(floor)? {
        return Ok(head);
    }
    let at = write_revision(floor);
    let hash: Option<(Vec<u8>,)> = first(connection, sqlx::query(sql::HASH_AT).bind(at)).await?;
    let digest: Option<(Vec<u8>,)> = first(connection, sqlx::query(sql::DIGEST_AT).bind(at)).await?;
    let previous: Option<(Vec<u8>,)> = first(connection, sqlx::query(sql::LAST_MAC)).await?;
    let found = hash.zip(digest).map(|((hash,), (digest,))| (hash, digest));
    let previous = previous.unwrap_or_default().0;
    let row = CheckpointRow::at(floor, found, time, |row| keys.checkpoint(&previous, row))?;
    head.rise_to(&row)?;
    let CheckpointRow { floor, hash, digest, time, mac } = &row;
    let insert = sqlx::query(sql::PUT_CHECKPOINT).bind(floor).bind(hash).bind(digest).bind(time).bind(mac);
    execute(connection, insert, SILENCE).await?;
    execute(connection, sqlx::query(sql::RAISE_FLOOR).bind(floor).bind(hash), SILENCE).await?;
    Ok(head)
}

/// One step after the revision `from`: where it ended and how many rows went; `None` when nothing is left to look at.
pub async fn forget_rows(
    connection: &mut PgConnection,
    from: i64,
    floor: Revision,
) -> Result<Option<(i64, u64)>, Failure> {
    let floor = write_revision(floor);
    let query = sqlx::query(sql::STEP_END).bind(from).bind(floor).bind(sql::STEP_ROWS);
    let end: Option<(Option<i64>,)> = first(connection, query).await?;
    let Some((Some(end),)) = end else { return Ok(None) };
    let query = sqlx::query(sql::FORGET_ROWS).bind(from).bind(end).bind(floor);
    Ok(Some((end, execute(connection, query, LONG_SILENCE).await?)))
}

/// Forgets the sealed values that nothing refers to any more.
pub async fn forget_secrets(connection: &mut PgConnection) -> Result<(), Failure> {
    Ok(execute(connection, sqlx::query(FORGET_SECRETS), LONG_SILENCE).await.map(drop)?)
}

/// Gives a store that has none its first keys. `false`, and nothing written, if it has some or was written to.
pub async fn write_first_keys(connection: &mut PgConnection, first: &FirstKeys) -> Result<bool, Failure> {
    let fresh: Vec<(bool,)> = asked(connection, IS_FRESH, SILENCE).await?;
    if !fresh.first().is_some_and(|(fresh,)| *fresh) {
        return Ok(false);
    }
    let check = sqlx::query(PUT_KEY_CHECK).bind(&first.check.kek).bind(&first.check.value);
    execute(connection, check, SILENCE).await?;
    let ids: Vec<_> = first.keys.iter().map(|key| key.id.as_str()).collect();
    let keks: Vec<_> = first.keys.iter().map(|key| key.kek.as_str()).collect();
    let wrapped: Vec<_> = first.keys.iter().map(|key| key.wrapped.as_str()).collect();
    execute(connection, sqlx::query(PUT_DATA_KEYS).bind(ids).bind(keks).bind(wrapped), SILENCE).await?;
    Ok(true)
}
