//! What the writer's transactions say to SQLite: facts in, effects out, a few statements for a whole group.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Connection as _, SqliteConnection};

use super::{failure::Failure, writer::Answer};
use crate::{
    domain::{SealedSecret, WriteSet, audit::AuditEvent, keys::FirstKeys},
    store::{
        chain::ChainKeys,
        plan::{Effects, Facts, Group, Wanted},
        rows::{HeadRow, HeadState, LogRow, RequestRow, ResourceRow, write_revision, write_time},
        sql,
    },
};

const RESOURCES_NAMED: &str = "SELECT * FROM resources WHERE name IN (SELECT value FROM json_each($1))";
const REQUESTS_NAMED: &str = "SELECT requests.* FROM json_each($1) AS wanted CROSS JOIN requests \
    ON requests.principal = wanted.value ->> 0 AND requests.request_id = wanted.value ->> 1";
const DELETE_RESOURCES: &str = "DELETE FROM resources WHERE name IN (SELECT value FROM json_each($1))";

/// Everything between BEGIN and COMMIT. Dropping the transaction on the way rolls it back.
pub(super) async fn commit_group(
    connection: &mut SqliteConnection,
    left_at: Option<HeadState>,
    keys: &ChainKeys,
    writes: &[WriteSet],
) -> Result<(Vec<Answer>, HeadState), Failure> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let facts = read_facts(&mut transaction, writes).await?;
    let before = facts.head;
    if left_at.is_some_and(|left| left != before) {
        return Err(Failure::Damaged("its head row was changed by another program".into()));
    }
    let mut group = Group::new(keys, facts);
    let answers = writes.iter().map(|write| group.plan(write)).collect();
    let Some(effects) = group.finish() else {
        transaction.rollback().await?;
        return Ok((answers, before));
    };
    write_effects(&mut transaction, before, &effects).await?;
    transaction.commit().await?;
    Ok((answers, effects.head))
}

/// The head row.
pub(super) async fn read_head(connection: &mut SqliteConnection) -> Result<HeadState, Failure> {
    let row: HeadRow = sqlx::query_as(sql::HEAD).fetch_one(connection).await?;
    Ok(row.read()?)
}

async fn read_facts(connection: &mut SqliteConnection, writes: &[WriteSet]) -> Result<Facts, Failure> {
    let mut wanted = Wanted::default();
    writes.iter().for_each(|write| wanted.add(write));
    let head = read_head(connection).await?;
    let requests: Vec<RequestRow> =
        sqlx::query_as(REQUESTS_NAMED).bind(to_json(&wanted.requests)?).fetch_all(&mut *connection).await?;
    let resources: Vec<ResourceRow> =
        sqlx::query_as(RESOURCES_NAMED).bind(to_json(&wanted.names)?).fetch_all(&mut *connection).await?;
    let mut newest_beneath = HashMap::new();
    for prefix in wanted.prefixes {
        let query = sqlx::query_scalar(sql::NEWEST_BENEATH).bind(prefix).bind(beyond(prefix));
        newest_beneath.insert(prefix.to_owned(), query.fetch_one(&mut *connection).await?);
    }
    Ok(Facts {
        head,
        resources: resources.into_iter().map(|row| (row.name.clone(), row)).collect(),
        requests: requests
            .into_iter()
            .map(|row| ((row.principal.clone(), row.request_id.clone()), row))
            .collect(),
        newest_beneath,
    })
}

/// The first text after everything that begins with the prefix; prefixes end in `/`.
fn beyond(prefix: &str) -> String {
    let mut end = prefix.strip_suffix('/').unwrap_or(prefix).to_owned();
    // The character after the slash.
    end.push('0');
    end
}

/// A list as SQLite takes it: one parameter, however long it is.
pub(super) fn to_json(list: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(list).map_err(|error| Failure::Internal(error.to_string()))
}

async fn write_effects(
    connection: &mut SqliteConnection,
    before: HeadState,
    effects: &Effects,
) -> Result<(), Failure> {
    let Effects { head, put, delete, log, secrets, requests } = effects;
    write_secrets(connection, secrets).await?;
    write_resources(connection, put).await?;
    if !delete.is_empty() {
        sqlx::query(DELETE_RESOURCES).bind(to_json(delete)?).execute(&mut *connection).await?;
    }
    write_log(connection, log).await?;
    write_requests(connection, requests).await?;
    let moved = sqlx::query(sql::MOVE_HEAD)
        .bind(write_revision(head.head.revision))
        .bind(&head.head.hash.0[..])
        .bind(head.digest.to_bytes().to_vec())
        .bind(write_revision(before.head.revision))
        .execute(connection)
        .await?;
    if moved.rows_affected() == 1 { Ok(()) } else { Err(Failure::Damaged("its head row is missing".into())) }
}

async fn write_resources(connection: &mut SqliteConnection, rows: &[ResourceRow]) -> Result<(), Failure> {
    for (text, rows) in sql::PUT_RESOURCES.statements(rows) {
        let query = rows.iter().fold(sqlx::query(text), |query, row| {
            let ResourceRow {
                name,
                kind,
                uid,
                labels,
                version,
                create_revision,
                create_time,
                update_revision,
                update_time,
                updated_by,
                spec,
                secrets,
                digest,
            } = row;
            let query = query.bind(name).bind(kind).bind(uid).bind(labels).bind(version);
            let query = query.bind(create_revision).bind(create_time).bind(update_revision).bind(update_time);
            query.bind(updated_by).bind(spec).bind(secrets).bind(digest)
        });
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn write_log(connection: &mut SqliteConnection, rows: &[LogRow]) -> Result<(), Failure> {
    for (text, rows) in sql::PUT_LOG.statements(rows) {
        let query = rows.iter().fold(sqlx::query(text), |query, row| {
            let LogRow {
                revision,
                ordinal,
                change_type,
                action,
                name,
                kind,
                uid,
                labels,
                version,
                create_revision,
                create_time,
                spec,
                secrets,
                previous_labels,
                previous_revision,
                actor,
                time,
                reason,
                request_id,
                digest,
                previous_hash,
                hash,
            } = row;
            let query =
                query.bind(revision).bind(ordinal).bind(change_type).bind(action).bind(name).bind(kind);
            let query = query.bind(uid).bind(labels).bind(version).bind(create_revision).bind(create_time);
            let query = query.bind(spec).bind(secrets).bind(previous_labels).bind(previous_revision);
            let query = query.bind(actor).bind(time).bind(reason).bind(request_id).bind(digest);
            query.bind(previous_hash).bind(hash)
        });
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn write_secrets(connection: &mut SqliteConnection, rows: &[SealedSecret]) -> Result<(), Failure> {
    for (text, rows) in sql::PUT_SECRETS.statements(rows) {
        let query = rows.iter().fold(sqlx::query(text), |query, SealedSecret { id, data_key, token }| {
            query.bind(&id.0).bind(data_key).bind(token)
        });
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn write_requests(connection: &mut SqliteConnection, rows: &[RequestRow]) -> Result<(), Failure> {
    for (text, rows) in sql::PUT_REQUESTS.statements(rows) {
        let query = rows.iter().fold(sqlx::query(text), |query, row| {
            let RequestRow { principal, request_id, mac, revision, hash, time, outcome } = row;
            query
                .bind(principal)
                .bind(request_id)
                .bind(mac)
                .bind(revision)
                .bind(hash)
                .bind(time)
                .bind(outcome)
        });
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Writes audit events, all or none.
pub(super) async fn write_audit(
    connection: &mut SqliteConnection,
    events: &[AuditEvent],
) -> Result<(), Failure> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for (text, rows) in sql::PUT_AUDIT.statements(events) {
        let query =
            rows.iter().fold(sqlx::query(text), |query, AuditEvent { time, actor, event, detail }| {
                query.bind(write_time(*time)).bind(actor).bind(*event).bind(detail)
            });
        query.execute(&mut *transaction).await?;
    }
    Ok(transaction.commit().await?)
}

/// Forgets requests and audit events that are older than these times.
pub(super) async fn expire(
    connection: &mut SqliteConnection,
    requests: DateTime<Utc>,
    audit: DateTime<Utc>,
) -> Result<(), Failure> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query(sql::EXPIRE_REQUESTS).bind(write_time(requests)).execute(&mut *transaction).await?;
    sqlx::query(sql::EXPIRE_AUDIT).bind(write_time(audit)).execute(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}

/// Gives a store that has none its first keys. `false`, and nothing written, if it has some or was written to.
pub(super) async fn write_first_keys(
    connection: &mut SqliteConnection,
    first: &FirstKeys,
) -> Result<bool, Failure> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let fresh: bool = sqlx::query_scalar(
        "SELECT NOT EXISTS (SELECT 1 FROM key_checks) AND NOT EXISTS (SELECT 1 FROM data_keys) \
         AND NOT EXISTS (SELECT 1 FROM head WHERE revision > 0)",
    )
    .fetch_one(&mut *transaction)
    .await?;
    if !fresh {
        transaction.rollback().await?;
        return Ok(false);
    }
    let check = sqlx::query("INSERT INTO key_checks (kek, value) VALUES ($1, $2)");
    check.bind(&first.check.kek).bind(&first.check.value).execute(&mut *transaction).await?;
    for (text, keys) in sql::PUT_DATA_KEYS.statements(&first.keys) {
        let query = keys
            .iter()
            .fold(sqlx::query(text), |query, key| query.bind(&key.id).bind(&key.kek).bind(&key.wrapped));
        query.execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(true)
}
