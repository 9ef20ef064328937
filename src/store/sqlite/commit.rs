//! What the writer's transactions say to SQLite: facts in, effects out, a few statements for a whole group.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{
    Arguments as _, AssertSqlSafe, Connection as _, SqliteConnection, error::BoxDynError,
    sqlite::SqliteArguments,
};

use crate::{
    domain::{Epoch, SealedSecret, WriteSet, audit::AuditEvent, keys::FirstKeys},
    store::{
        chain::ChainKeys,
        failure::Failure,
        life,
        observations::FORGET_OBSERVATIONS,
        plan::{Effects, Facts, Group, Wanted},
        rows::{HeadRow, HeadState, LogRow, RequestRow, ResourceRow, write_revision, write_time},
        sql,
        writer::Answer,
    },
};

const RESOURCES_NAMED: &str = "SELECT * FROM resources WHERE name IN (SELECT value FROM json_each($1))";
const REQUESTS_NAMED: &str = "SELECT requests.* FROM json_each($1) AS wanted CROSS JOIN requests \
    ON requests.principal = wanted.value ->> 0 AND requests.request_id = wanted.value ->> 1";
const DELETE_RESOURCES: &str = "DELETE FROM resources WHERE name IN (SELECT value FROM json_each($1))";

/// A group that is durable.
pub(super) struct Committed {
    /// One answer for each write.
    pub answers: Vec<Answer>,
    /// Where the head was.
    pub before: HeadState,
    /// What was written; `None` if no write of the group came through.
    pub effects: Option<Effects>,
}

/// Everything between BEGIN and COMMIT. Dropping the transaction on the way rolls it back.
pub(super) async fn commit_group(
    connection: &mut SqliteConnection,
    left_at: Option<HeadState>,
    keys: &ChainKeys,
    writes: &[WriteSet],
) -> Result<Committed, Failure> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let facts = read_facts(&mut transaction, writes).await?;
    let before = facts.head;
    check_left(left_at, before)?;
    let mut group = Group::new(keys, facts);
    let answers = writes.iter().map(|write| group.plan(write)).collect();
    let Some(effects) = group.finish() else {
        transaction.rollback().await?;
        return Ok(Committed { answers, before, effects: None });
    };
    write_effects(&mut transaction, before, &effects).await?;
    transaction.commit().await?;
    Ok(Committed { answers, before, effects: Some(effects) })
}

/// The lock file keeps others out, so the head is where it was left.
fn check_left(left_at: Option<HeadState>, found: HeadState) -> Result<(), Failure> {
    if left_at.is_some_and(|left| left != found) {
        return Err(Failure::Damaged("its head row was changed by another program".into()));
    }
    Ok(())
}

/// Gives the store a new epoch if it still has the one that was seen, and tells the audit with it.
pub(super) async fn begin_life(
    connection: &mut SqliteConnection,
    left_at: Option<HeadState>,
    seen: Epoch,
    now: DateTime<Utc>,
) -> Result<HeadState, Failure> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut head = read_head(&mut transaction).await?;
    check_left(left_at, head)?;
    if head.head.epoch == seen {
        head.head.epoch = Epoch(rand::random());
        let epoch = head.head.epoch.to_string();
        sqlx::query(sql::BEGIN_LIFE).bind(epoch).bind(seen.to_string()).execute(&mut *transaction).await?;
        put_audit(&mut transaction, &[life::event(now, seen, head.head)]).await?;
        transaction.commit().await?;
    }
    Ok(head)
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
    let mut log_hashes = HashMap::new();
    for row in &requests {
        let hash: Option<Vec<u8>> =
            sqlx::query_scalar(sql::HASH_AT).bind(row.revision).fetch_optional(&mut *connection).await?;
        log_hashes.extend(hash.map(|hash| (row.revision, hash)));
    }
    let resources: Vec<ResourceRow> =
        sqlx::query_as(RESOURCES_NAMED).bind(to_json(&wanted.names)?).fetch_all(&mut *connection).await?;
    let mut newest_beneath = HashMap::new();
    for prefix in wanted.prefixes {
        let query = sqlx::query_scalar(sql::NEWEST_BENEATH).bind(prefix).bind(sql::beyond(prefix));
        newest_beneath.insert(prefix.to_owned(), query.fetch_one(&mut *connection).await?);
    }
    let mut newest_change_beneath = HashMap::new();
    for prefix in wanted.changed_prefixes {
        let query = sqlx::query_scalar(sql::NEWEST_CHANGE_BENEATH).bind(prefix).bind(sql::beyond(prefix));
        newest_change_beneath.insert(prefix.to_owned(), query.fetch_one(&mut *connection).await?);
    }
    Ok(Facts {
        head,
        resources: resources.into_iter().map(|row| (row.name.clone(), row)).collect(),
        requests: requests
            .into_iter()
            .map(|row| ((row.principal.clone(), row.request_id.clone()), row))
            .collect(),
        log_hashes,
        newest_beneath,
        newest_change_beneath,
    })
}

/// A list as SQLite takes it: one parameter, however long it is.
pub(super) fn to_json(list: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(list).map_err(|error| Failure::Internal(error.to_string()))
}

/// Writes everything there is to write, the head row last.
async fn write_effects(
    connection: &mut SqliteConnection,
    before: HeadState,
    effects: &Effects,
) -> Result<(), Failure> {
    let Effects { head, put, delete, log, secrets, requests } = effects;
    if !delete.is_empty() {
        sqlx::query(DELETE_RESOURCES).bind(to_json(delete)?).execute(&mut *connection).await?;
    }
    let mut script = Script { together: log.len() == 1, ..Script::default() };
    script.rows(connection, &sql::PUT_SECRETS, secrets, bind_secret).await?;
    script.rows(connection, &sql::PUT_RESOURCES, put, bind_resource).await?;
    script.rows(connection, &sql::PUT_LOG, log, bind_log).await?;
    script.rows(connection, &sql::PUT_REQUESTS, requests, bind_request).await?;
    script.text.push_str(sql::MOVE_HEAD);
    script.expected += 1;
    let arguments = &mut script.arguments;
    arguments.add(write_revision(head.head.revision))?;
    arguments.add(head.head.hash.0.to_vec())?;
    arguments.add(head.digest.to_bytes().to_vec())?;
    arguments.add(write_revision(before.head.revision))?;
    script.run(connection).await
}

/// Statements that go to the database one by one, or `together`: each way there and back is a change of threads, which
/// is most of what a single write costs. Only few different texts go together, so that prepared ones are found again.
#[derive(Default)]
struct Script {
    text: String,
    arguments: SqliteArguments,
    expected: u64,
    together: bool,
}

impl Script {
    async fn rows<T>(
        &mut self,
        connection: &mut SqliteConnection,
        bulk: &'static sql::Bulk,
        rows: &[T],
        bind: fn(&mut SqliteArguments, &T) -> Result<(), BoxDynError>,
    ) -> Result<(), Failure> {
        for (text, rows) in bulk.statements(rows) {
            self.text.push_str(text);
            self.text.push(';');
            self.expected += rows.len() as u64;
            for row in rows {
                bind(&mut self.arguments, row)?;
            }
            if !self.together {
                self.run(connection).await?;
            }
        }
        Ok(())
    }

    /// Carries out what was gathered. Every row that was given must have been written.
    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<(), Failure> {
        let text = std::mem::take(&mut self.text);
        // Put together from texts of this program; whatever comes from outside is an argument.
        let query = sqlx::query_with(AssertSqlSafe(text), std::mem::take(&mut self.arguments));
        let written = query.execute(connection).await?.rows_affected();
        match written == std::mem::take(&mut self.expected) {
            true => Ok(()),
            false => Err(Failure::Damaged("its head row is missing, or a row was not taken".into())),
        }
    }
}

fn bind_resource(arguments: &mut SqliteArguments, row: &ResourceRow) -> Result<(), BoxDynError> {
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
    for text in [name, kind, uid, labels] {
        arguments.add(text.clone())?;
    }
    arguments.add(*version)?;
    arguments.add(*create_revision)?;
    arguments.add(create_time.clone())?;
    arguments.add(*update_revision)?;
    for text in [update_time, updated_by, spec, secrets] {
        arguments.add(text.clone())?;
    }
    arguments.add(digest.clone())
}

fn bind_log(arguments: &mut SqliteArguments, row: &LogRow) -> Result<(), BoxDynError> {
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
        traceparent,
    } = row;
    arguments.add(*revision)?;
    arguments.add(*ordinal)?;
    for text in [change_type, action, name, kind, uid, labels] {
        arguments.add(text.clone())?;
    }
    arguments.add(*version)?;
    arguments.add(*create_revision)?;
    arguments.add(create_time.clone())?;
    arguments.add(spec.clone())?;
    arguments.add(secrets.clone())?;
    arguments.add(previous_labels.clone())?;
    arguments.add(*previous_revision)?;
    for text in [actor, time, reason, request_id] {
        arguments.add(text.clone())?;
    }
    for bytes in [digest, previous_hash, hash] {
        arguments.add(bytes.clone())?;
    }
    arguments.add(traceparent.clone())
}

fn bind_secret(arguments: &mut SqliteArguments, row: &SealedSecret) -> Result<(), BoxDynError> {
    let SealedSecret { id, data_key, token } = row;
    arguments.add(id.0.clone())?;
    arguments.add(data_key.clone())?;
    arguments.add(token.clone())
}

fn bind_request(arguments: &mut SqliteArguments, row: &RequestRow) -> Result<(), BoxDynError> {
    let RequestRow { principal, request_id, mac, revision, hash, time, outcome } = row;
    arguments.add(principal.clone())?;
    arguments.add(request_id.clone())?;
    arguments.add(mac.clone())?;
    arguments.add(*revision)?;
    arguments.add(hash.clone())?;
    arguments.add(time.clone())?;
    arguments.add(outcome.clone())
}

/// Writes audit events, all or none.
pub(super) async fn write_audit(
    connection: &mut SqliteConnection,
    events: &[AuditEvent],
) -> Result<(), Failure> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    put_audit(&mut transaction, events).await?;
    Ok(transaction.commit().await?)
}

/// Writes audit events within a transaction.
async fn put_audit(connection: &mut SqliteConnection, events: &[AuditEvent]) -> Result<(), Failure> {
    for (text, rows) in sql::PUT_AUDIT.statements(events) {
        let query =
            rows.iter().fold(sqlx::query(text), |query, AuditEvent { time, actor, event, detail }| {
                query.bind(write_time(*time)).bind(actor).bind(*event).bind(detail)
            });
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Forgets requests and audit events that are older than these times, and what was seen of resources that are gone.
pub(super) async fn expire(
    connection: &mut SqliteConnection,
    requests: DateTime<Utc>,
    audit: DateTime<Utc>,
) -> Result<(), Failure> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query(sql::EXPIRE_REQUESTS).bind(write_time(requests)).execute(&mut *transaction).await?;
    sqlx::query(sql::EXPIRE_AUDIT).bind(write_time(audit)).execute(&mut *transaction).await?;
    sqlx::query(FORGET_OBSERVATIONS).execute(&mut *transaction).await?;
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
