//! Reads: each in one read transaction on a connection that can't write, so that it sees one moment.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use sqlx::{FromRow as _, SqliteConnection, SqlitePool};

use super::{
    commit::{read_head, to_json},
    failure::Failure,
    tail::Tail,
};
use crate::{
    domain::{
        ChainHash, LoggedChange, Record, ResourceName, Revision, RevisionBatch, Revocation, SealedSecret,
    },
    store::{
        Head, LogPage, StateSnapshot,
        chain::{ChainKeys, StateDigest},
        rows::{
            HeadState, LogRow, RequestRow, ResourceRow, RowDefect, SecretRow, read_hash, read_revision,
            read_secrets, read_time, write_revision, write_time,
        },
        sql,
    },
};

const SECRETS_NAMED: &str =
    "SELECT id, data_key, token FROM secrets WHERE id IN (SELECT value FROM json_each($1))";
const SECRETS_IN_USE: &str = "SELECT id, data_key, token FROM secrets WHERE id IN ( \
    SELECT used.value FROM resources, json_each(resources.secrets) AS used WHERE resources.secrets <> '{}')";
/// Rows that are decoded together, off the runtime's threads.
const DECODED_TOGETHER: usize = 2048;

/// Reads of a store: the pool, and the keys that tell whether what was read is what was written.
#[derive(Clone)]
pub(super) struct Reader {
    pub pool: SqlitePool,
    pub keys: Arc<ChainKeys>,
    pub tail: Arc<Tail>,
}

/// A part of the state, decoded.
#[derive(Default)]
struct Decoded {
    records: Vec<Record>,
    revocations: Vec<Revocation>,
    digest: StateDigest,
    defects: Vec<String>,
}

impl Reader {
    /// Lines of the database's own full check, without the one that says that all is well.
    pub async fn integrity(&self) -> Result<Vec<String>, Failure> {
        let lines: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check(20)").fetch_all(&self.pool).await?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    pub async fn head(&self) -> Result<Head, Failure> {
        let mut connection = self.pool.acquire().await?;
        Ok(read_head(&mut connection).await?.head)
    }

    pub async fn request(
        &self,
        principal: &str,
        id: &str,
    ) -> Result<Option<(HeadState, RequestRow)>, Failure> {
        let mut transaction = self.pool.begin().await?;
        let head = read_head(&mut transaction).await?;
        let query = sqlx::query_as(sql::REQUEST).bind(principal).bind(id);
        let row: Option<RequestRow> = query.fetch_optional(&mut *transaction).await?;
        Ok(row.map(|row| (head, row)))
    }

    /// The whole state. Rows that can't be read are left out and named in `defect`, so that they never stop a start.
    pub async fn snapshot(&self) -> Result<StateSnapshot, Failure> {
        let mut transaction = self.pool.begin().await?;
        let head = read_head(&mut transaction).await?;
        let newest = hash_at(&mut transaction, &head, head.head.revision).await?;
        let mut state = self.read_state(&mut transaction).await?;
        let sealed: Vec<SecretRow> = sqlx::query_as(SECRETS_IN_USE).fetch_all(&mut *transaction).await?;
        if state.digest != head.digest {
            state
                .defects
                .push("the state is not what the log says: it was edited behind the log's back".into());
        }
        if newest != Some(head.head.hash) {
            state.defects.push("the log does not end where the head row says".into());
        }
        if !self.digest_is_chained(&mut transaction, &head).await? {
            state.defects.push("the head row's digest is not the one that the log was written with".into());
        }
        Ok(StateSnapshot {
            head: head.head,
            records: state.records,
            sealed: sealed.into_iter().map(SealedSecret::from).collect(),
            revocations: state.revocations,
            defect: (!state.defects.is_empty()).then(|| state.defects.join("; ")),
        })
    }

    /// Whether the digest that the state is checked against is itself the log's: the head row needs no key to be edited.
    async fn digest_is_chained(
        &self,
        connection: &mut SqliteConnection,
        head: &HeadState,
    ) -> Result<bool, Failure> {
        let revision = write_revision(head.head.revision);
        let newest: Option<LogRow> =
            sqlx::query_as(sql::LOG_END).bind(revision).fetch_optional(&mut *connection).await?;
        if let Some(row) = newest {
            return Ok(self.check_alone(&row).is_ok() && row.digest == head.digest.to_bytes());
        }
        // Compacted to its very end, or empty.
        let checkpoint: Option<Vec<u8>> =
            sqlx::query_scalar(sql::CHECKPOINT_DIGEST).bind(revision).fetch_optional(connection).await?;
        Ok(checkpoint.is_none_or(|digest| digest == head.digest.to_bytes()))
    }

    /// Reads all current rows; decodes them beside, on other threads, while the next ones are fetched.
    async fn read_state(&self, connection: &mut SqliteConnection) -> Result<Decoded, Failure> {
        let (mut parts, mut rows, mut unreadable) = (vec![], Vec::with_capacity(DECODED_TOGETHER), vec![]);
        let mut stream = sqlx::query(sql::RESOURCES).fetch(connection);
        while let Some(row) = stream.try_next().await? {
            match ResourceRow::from_row(&row) {
                Ok(row) => rows.push(row),
                Err(_) => unreadable.push("a row of the state can't be read".to_owned()),
            }
            if rows.len() == DECODED_TOGETHER {
                parts.push(self.decode(std::mem::take(&mut rows)));
            }
        }
        parts.push(self.decode(rows));
        let mut state = Decoded { defects: unreadable, ..Decoded::default() };
        for part in parts {
            let part = part.await.map_err(|error| Failure::Internal(error.to_string()))?;
            state.records.extend(part.records);
            state.revocations.extend(part.revocations);
            state.defects.extend(part.defects);
            state.digest = state.digest.plus(part.digest);
        }
        Ok(state)
    }

    fn decode(&self, rows: Vec<ResourceRow>) -> tokio::task::JoinHandle<Decoded> {
        let keys = Arc::clone(&self.keys);
        tokio::task::spawn_blocking(move || {
            let mut part = Decoded::default();
            for row in rows {
                part.digest = part.digest.plus(keys.digest(&row.columns()));
                let read = if row.is_revocation() {
                    row.revocation().map(|revocation| part.revocations.push(revocation))
                } else {
                    row.columns().record().map(|record| part.records.push(record))
                };
                part.defects.extend(read.err().map(|defect| defect.0));
            }
            part
        })
    }

    /// Whole revisions after one, checked link by link.
    /// What was just committed comes from memory: the check of the chain is for what lay in the database.
    pub async fn changes_after(&self, after: Revision, limit: usize) -> Result<LogPage, Failure> {
        let groups = self.tail.after(after, limit);
        if groups.is_empty() {
            return self.log_after(after, limit).await;
        }
        let mut found = vec![];
        for group in groups {
            let start = group.rows.partition_point(|row| row.revision <= write_revision(after));
            found.extend(batches(&group.rows[start..], &group.sealed)?);
        }
        Ok(LogPage::Batches(found))
    }

    async fn log_after(&self, after: Revision, limit: usize) -> Result<LogPage, Failure> {
        let mut transaction = self.pool.begin().await?;
        let head = read_head(&mut transaction).await?;
        if after < head.head.floor {
            return Ok(LogPage::Compacted { floor: head.head.floor });
        }
        if after == head.head.revision {
            return Ok(LogPage::Batches(vec![]));
        }
        let missing =
            || Failure::Damaged(format!("its log ends at revision {}, before {after}", head.head.revision));
        let from = hash_at(&mut transaction, &head, after).await?.ok_or_else(missing)?;
        let limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
        let rows: Vec<LogRow> = sqlx::query_as(sql::LOG_AFTER)
            .bind(write_revision(after))
            .bind(limit)
            .fetch_all(&mut *transaction)
            .await?;
        self.check_links(&head, after, from, &rows)?;
        let sealed = sealed_of(&mut transaction, &rows).await?;
        Ok(LogPage::Batches(batches(&rows, &sealed)?))
    }

    /// Whether rows go on from a revision and its hash without a gap, and end at the head if they reach it.
    fn check_links(
        &self,
        head: &HeadState,
        after: Revision,
        from: ChainHash,
        rows: &[LogRow],
    ) -> Result<(), Failure> {
        let (mut revision, mut ordinal, mut hash) = (write_revision(after), -1_i64, from);
        for row in rows {
            // Saturating, because a row may hold any number.
            let goes_on =
                row.revision == revision && row.ordinal == ordinal.saturating_add(1) && ordinal >= 0;
            let begins = row.revision == revision.saturating_add(1) && row.ordinal == 0;
            if !goes_on && !begins {
                return Err(Failure::Damaged(format!("its log has a gap after revision {revision}")));
            }
            let link = self.keys.link(row);
            if row.previous_hash != hash.0 || row.hash != link.0 {
                return Err(Failure::Damaged(format!("its log was edited at revision {}", row.revision)));
            }
            (revision, ordinal, hash) = (row.revision, row.ordinal, link);
        }
        let at_head = revision == write_revision(head.head.revision);
        if rows.is_empty() || (at_head && hash != head.head.hash) {
            return Err(Failure::Damaged("its log does not end where the head row says".into()));
        }
        Ok(())
    }

    pub async fn hash_at(&self, revision: Revision) -> Result<Option<ChainHash>, Failure> {
        let mut transaction = self.pool.begin().await?;
        let head = read_head(&mut transaction).await?;
        hash_at(&mut transaction, &head, revision).await
    }

    pub async fn record_at(
        &self,
        name: &ResourceName,
        revision: Revision,
    ) -> Result<Option<LoggedChange>, Failure> {
        let mut transaction = self.pool.begin().await?;
        let query = sqlx::query_as(sql::LOG_ROW_AT).bind(name.as_str()).bind(write_revision(revision));
        let row: Option<LogRow> = query.fetch_optional(&mut *transaction).await?;
        let Some(row) = row.filter(|row| !row.is_revocation()) else { return Ok(None) };
        self.check_alone(&row)?;
        let sealed = sealed_of(&mut transaction, std::slice::from_ref(&row)).await?;
        Ok(Some(change(&row, &sealed)?))
    }

    pub async fn records_at(&self, revision: Revision) -> Result<Vec<Record>, Failure> {
        let mut transaction = self.pool.begin().await?;
        let Head { floor, revision: newest, .. } = read_head(&mut transaction).await?.head;
        if revision < floor || revision > newest {
            return Err(Failure::Internal(format!(
                "revision {revision} was asked of a log from {floor} to {newest}"
            )));
        }
        let rows: Vec<LogRow> = sqlx::query_as(sql::LOG_ROWS_AT)
            .bind(write_revision(revision))
            .fetch_all(&mut *transaction)
            .await?;
        drop(transaction);
        let reader = self.clone();
        let decoded = tokio::task::spawn_blocking(move || {
            let resources = rows.iter().filter(|row| !row.is_revocation());
            resources.map(|row| reader.check_alone(row).and_then(|()| record(row))).collect()
        });
        decoded.await.map_err(|error| Failure::Internal(error.to_string()))?
    }

    /// Whether a row is as it was written, wherever it stands.
    fn check_alone(&self, row: &LogRow) -> Result<(), Failure> {
        if row.hash == self.keys.link(row).0 {
            return Ok(());
        }
        Err(Failure::Damaged(format!("its log was edited at revision {}", row.revision)))
    }

    /// The newest revision such that it and all before it are older than `time`. Where the clock once jumped, this is
    /// the cautious answer: nothing that is younger is ever at or below it.
    pub async fn revision_before(&self, time: DateTime<Utc>) -> Result<Revision, Failure> {
        let mut transaction = self.pool.begin().await?;
        let head = read_head(&mut transaction).await?.head;
        let query =
            sqlx::query_scalar(sql::FIRST_SINCE).bind(write_revision(head.floor)).bind(write_time(time));
        let first: Option<i64> = query.fetch_optional(&mut *transaction).await?;
        match first {
            Some(first) => Ok(read_revision(first - 1)?),
            None => Ok(head.revision),
        }
    }
}

/// The chain's hash at a revision that the log still holds or begins at.
pub(super) async fn hash_at(
    connection: &mut SqliteConnection,
    head: &HeadState,
    revision: Revision,
) -> Result<Option<ChainHash>, Failure> {
    if revision == head.head.floor {
        return Ok(Some(head.floor_hash));
    }
    if revision < head.head.floor || revision > head.head.revision {
        return Ok(None);
    }
    let query = sqlx::query_scalar(sql::HASH_AT).bind(write_revision(revision));
    let hash: Option<Vec<u8>> = query.fetch_optional(connection).await?;
    Ok(hash.map(|hash| read_hash(&hash)).transpose()?)
}

/// The sealed values that rows refer to and the store still has, by id.
async fn sealed_of(
    connection: &mut SqliteConnection,
    rows: &[LogRow],
) -> Result<HashMap<String, SealedSecret>, Failure> {
    let mut ids = BTreeSet::new();
    for row in rows.iter().filter(|row| row.secrets != "{}") {
        ids.extend(read_secrets(&row.name, &row.secrets)?.into_values().map(|id| id.0));
    }
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let found: Vec<SecretRow> =
        sqlx::query_as(SECRETS_NAMED).bind(to_json(&ids)?).fetch_all(connection).await?;
    Ok(found.into_iter().map(|row| (row.id.clone(), row.into())).collect())
}

fn change(row: &LogRow, sealed: &HashMap<String, SealedSecret>) -> Result<LoggedChange, RowDefect> {
    let mut change = row.change()?;
    if let Some(record) = &change.record {
        let ids: BTreeSet<_> = record.secrets.values().collect();
        change.sealed = ids.into_iter().filter_map(|id| sealed.get(&id.0).cloned()).collect();
    }
    Ok(change)
}

fn record(row: &LogRow) -> Result<Record, Failure> {
    let columns = row.columns().ok_or_else(|| RowDefect(format!("{} has no content", row.name)))?;
    Ok(columns.record()?)
}

/// Rows of one revision are together; a batch is made of each.
fn batches(rows: &[LogRow], sealed: &HashMap<String, SealedSecret>) -> Result<Vec<RevisionBatch>, RowDefect> {
    let mut batches = vec![];
    for rows in rows.chunk_by(|left, right| left.revision == right.revision) {
        let Some(last) = rows.last() else { continue };
        let mut batch = RevisionBatch {
            revision: read_revision(last.revision)?,
            hash: read_hash(&last.hash)?,
            time: read_time(&last.time)?,
            changes: vec![],
            revocations: vec![],
        };
        for row in rows {
            if row.is_revocation() {
                batch.revocations.push(row.revocation()?);
            } else {
                batch.changes.push(change(row, sealed)?);
            }
        }
        batches.push(batch);
    }
    Ok(batches)
}
