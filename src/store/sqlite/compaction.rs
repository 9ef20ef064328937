//! Forgetting the log up to a floor, in steps, so that writes go on between them.
//!
//! The floor is raised first, in one transaction with its checkpoint: from then on the rows below are not part of the log,
//! whether they are gone yet or not. A compaction that was cut short is completed by the next one.

use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::mpsc;

use super::{
    commit::read_head,
    failure::Failure,
    reads::hash_at,
    writer::{Job, Writer},
};
use crate::{
    domain::Revision,
    store::{
        StoreError,
        chain::ChainKeys,
        rows::{CheckpointRow, HeadState, write_revision, write_time},
        sql,
    },
};

/// Log rows that one step looks at.
const STEP_ROWS: i64 = 2000;

/// Where a step ends.
const STEP_END: &str = "SELECT max(revision) FROM ( \
    SELECT revision FROM log WHERE revision > $1 AND revision <= $2 ORDER BY revision, ordinal LIMIT $3)";
/// Everything but the newest row at the floor of every name that was live there. Older rows of a name go in the same
/// step or before, so that what is left of an interrupted compaction tells the same state.
const FORGET_ROWS: &str = "DELETE FROM log WHERE revision > $1 AND revision <= $2 AND (change_type = 'deleted' \
    OR EXISTS (SELECT 1 FROM log AS newer WHERE newer.name = log.name AND newer.revision > log.revision \
    AND newer.revision <= $3))";
/// Sealed values that nothing refers to any more.
const FORGET_SECRETS: &str = "DELETE FROM secrets WHERE id NOT IN ( \
    SELECT used.value FROM log, json_each(log.secrets) AS used WHERE log.secrets <> '{}' \
    UNION SELECT used.value FROM resources, json_each(resources.secrets) AS used WHERE resources.secrets <> '{}')";

impl Writer {
    /// See [`crate::store::Store::compact`].
    pub async fn compact(
        &mut self,
        floor: Revision,
        jobs: &mut mpsc::Receiver<Job>,
    ) -> Result<(Revision, u64), StoreError> {
        if self.compacting {
            return Err(StoreError::Unavailable("it is being compacted already".into()));
        }
        self.compacting = true;
        let done = self.compact_in_steps(floor, jobs).await;
        self.compacting = false;
        match done {
            Ok(done) => Ok(done),
            Err(failure) => Err(self.failed(failure).await.into()),
        }
    }

    async fn compact_in_steps(
        &mut self,
        floor: Revision,
        jobs: &mut mpsc::Receiver<Job>,
    ) -> Result<(Revision, u64), Failure> {
        let (keys, time) = (self.keys.clone(), write_time(self.clock.now()));
        let head = raise_floor(self.connection().await?.0, &keys, floor, time).await?;
        self.left_at = Some(head);
        // It may hold what is being forgotten, and a reader must learn of the floor.
        self.tail.clear();
        let floor = head.head.floor;
        let (mut from, mut forgotten) = (0, 0);
        while let Some((end, rows)) = forget_rows(self.connection().await?.0, from, floor).await? {
            (from, forgotten) = (end, forgotten + rows);
            if let Ok(job) = jobs.try_recv() {
                Box::pin(self.work(job, jobs)).await;
            }
        }
        if forgotten > 0 {
            sqlx::query(FORGET_SECRETS).execute(self.connection().await?.0).await?;
        }
        Ok((floor, forgotten))
    }
}

/// Raises the floor, never lowers it, and writes the checkpoint that confirms it.
async fn raise_floor(
    connection: &mut SqliteConnection,
    keys: &ChainKeys,
    floor: Revision,
    time: String,
) -> Result<HeadState, Failure> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut head = read_head(&mut transaction).await?;
    if floor > head.head.revision {
        let text = format!("the log can't be compacted to {floor}: it ends at {}", head.head.revision);
        return Err(Failure::Refused(text));
    }
    if floor <= head.head.floor {
        return Ok(head);
    }
    let missing = || Failure::Damaged(format!("its log has no revision {floor}"));
    head.floor_hash = hash_at(&mut transaction, &head, floor).await?.ok_or_else(missing)?;
    head.head.floor = floor;
    let digest =
        sqlx::query_scalar(sql::DIGEST_AT).bind(write_revision(floor)).fetch_one(&mut *transaction).await?;
    let previous: Option<Vec<u8>> =
        sqlx::query_scalar(sql::LAST_MAC).fetch_optional(&mut *transaction).await?;
    let hash = head.floor_hash.0.to_vec();
    let mut row = CheckpointRow { floor: write_revision(floor), hash, digest, time, mac: vec![] };
    row.mac = keys.checkpoint(&previous.unwrap_or_default(), &row).to_vec();
    let CheckpointRow { floor, hash, digest, time, mac } = &row;
    let insert = sqlx::query(sql::PUT_CHECKPOINT).bind(floor).bind(hash).bind(digest).bind(time).bind(mac);
    insert.execute(&mut *transaction).await?;
    sqlx::query(sql::RAISE_FLOOR).bind(floor).bind(hash).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(head)
}

/// One step after the revision `from`: where it ended and how many rows went; `None` when nothing is left to look at.
async fn forget_rows(
    connection: &mut SqliteConnection,
    from: i64,
    floor: Revision,
) -> Result<Option<(i64, u64)>, Failure> {
    let floor = write_revision(floor);
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let query = sqlx::query_scalar(STEP_END).bind(from).bind(floor).bind(STEP_ROWS);
    let Some(end) = query.fetch_one(&mut *transaction).await? else { return Ok(None) };
    let done = sqlx::query(FORGET_ROWS).bind(from).bind(end).bind(floor).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Some((end, done.rows_affected())))
}
