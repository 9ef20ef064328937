//! Reads, whatever the database: each sees one moment, and nothing that it finds there is believed unchecked.
//!
//! It must not know SQL: a [`Moment`] is one read transaction of a database, and answers with rows.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    Defect, Head, LogPage, StateSnapshot, Verification,
    chain::ChainKeys,
    decode::{self, Decoded},
    failure::Failure,
    floor::ConfirmedFloor,
    history::HistoryPart,
    plan::replayed,
    rows::{
        CheckpointRow, HeadState, LogRow, RequestRow, ResourceRow, SecretRow, read_hash, read_revision,
        write_revision, write_time,
    },
    tail::Tail,
    verify::Checker,
};
use crate::domain::{
    Applied, ApplyError, ChainHash, KindName, LoggedChange, Record, ResourceName, Revision, RevisionBatch,
    RevisionToken, SealedSecret,
};

/// Rows that are decoded together, off the runtime's threads.
const DECODED_TOGETHER: usize = 2048;

/// How long a read may go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// It asks for little, and somebody waits.
    Short,
    /// It reads everything.
    Long,
}

/// One read transaction: all that it answers is of one moment.
#[async_trait]
pub trait Moment: Send {
    /// The head row.
    async fn head(&mut self) -> Result<HeadState, Failure>;
    /// One answered request.
    async fn request(&mut self, principal: &str, id: &str) -> Result<Option<RequestRow>, Failure>;
    /// Every row of the state by name; `None` for one that can't be read.
    async fn resources(&mut self, each: &mut (dyn FnMut(Option<ResourceRow>) + Send)) -> Result<(), Failure>;
    /// Every row of the log in order; for one that can't be read, its revision if that can.
    async fn log(
        &mut self,
        each: &mut (dyn FnMut(Result<LogRow, Option<i64>>) + Send),
    ) -> Result<(), Failure>;
    /// Every sealed value that the state refers to.
    async fn secrets_in_use(&mut self) -> Result<Vec<SecretRow>, Failure>;
    /// The sealed values with these ids, as far as they are there.
    async fn secrets(&mut self, ids: Vec<String>) -> Result<Vec<SecretRow>, Failure>;
    /// The last log row of a revision.
    async fn log_end(&mut self, revision: i64) -> Result<Option<LogRow>, Failure>;
    /// Whole revisions after one, as many as begin within a number of rows.
    async fn log_after(&mut self, revision: i64, limit: i64) -> Result<Vec<LogRow>, Failure>;
    /// Log rows of a kind after a revision and up to another, whole revisions, as many as begin within a number of rows.
    async fn log_of_kind(
        &mut self,
        kind: &str,
        (after, through): (i64, i64),
        limit: i64,
    ) -> Result<Vec<LogRow>, Failure>;
    /// The newest log row of a name at or below a revision.
    async fn log_row_at(&mut self, name: &str, revision: i64) -> Result<Option<LogRow>, Failure>;
    /// Log rows of some names, newest first; of one revision by name.
    async fn history(&mut self, part: &HistoryPart<'_>) -> Result<Vec<LogRow>, Failure>;
    /// The log rows that those of [`Moment::history`] followed, each of the same name, as far as they are there.
    async fn before_history(&mut self, part: &HistoryPart<'_>) -> Result<Vec<LogRow>, Failure>;
    /// The newest log row of every name that was live at a revision.
    async fn log_rows_at(&mut self, revision: i64) -> Result<Vec<LogRow>, Failure>;
    /// The first revision above a floor that is not older than a time.
    async fn first_since(&mut self, floor: i64, time: String) -> Result<Option<i64>, Failure>;
    /// All checkpoints by floor.
    async fn checkpoints(&mut self) -> Result<Vec<CheckpointRow>, Failure>;
    /// The newest checkpoint and the one before it, as far as they are there.
    async fn newest_checkpoints(&mut self) -> Result<Vec<CheckpointRow>, Failure>;
    /// The state's digest that the checkpoint of a floor tells.
    async fn checkpoint_digest(&mut self, floor: i64) -> Result<Option<Vec<u8>>, Failure>;
    /// Lets go of the moment in order; one that is only dropped costs its connection.
    async fn end(self: Box<Self>);
}

/// Where moments come from: the reading connections of a database.
#[async_trait]
pub trait Moments: Send + Sync + 'static {
    /// Begins a read transaction.
    async fn begin(&self, pace: Pace) -> Result<Box<dyn Moment>, Failure>;
}

/// Reads of a store: where rows come from, and the keys that tell whether what was read is what was written.
#[derive(Clone)]
pub struct Reader {
    /// The database.
    pub moments: Arc<dyn Moments>,
    /// The keys.
    pub keys: Arc<ChainKeys>,
    /// What this process committed last: it need not be asked for.
    pub tail: Arc<Tail>,
    /// The floor that was found to be right.
    pub floor: Arc<ConfirmedFloor>,
}

/// Where a position stands in the log that was found.
enum Standing {
    /// In it, with this hash.
    Within(ChainHash),
    /// Not in it: the answer in its stead.
    Without(LogPage),
}

/// Ends a moment and hands on what was found in it.
pub(super) async fn leave<T>(moment: Box<dyn Moment>, found: Result<T, Failure>) -> Result<T, Failure> {
    // One that the database failed in is dropped with its connection.
    if !matches!(found, Err(Failure::Unavailable(_))) {
        moment.end().await;
    }
    found
}

impl Reader {
    /// Where the log stands.
    pub async fn head(&self) -> Result<Head, Failure> {
        let mut moment = self.moments.begin(Pace::Short).await?;
        let found = moment.head().await.map(|head| head.head);
        leave(moment, found).await
    }

    /// See [`super::Store::replay`].
    pub async fn replay(
        &self,
        principal: &str,
        id: &str,
        mac: &[u8; 32],
    ) -> Result<Option<Applied>, ApplyError> {
        let mut moment = self.moments.begin(Pace::Short).await?;
        let found = async {
            let (head, row) = (moment.head().await?, moment.request(principal, id).await?);
            let logged = match &row {
                Some(row) => moment.log_end(row.revision).await?.map(|end| end.hash),
                None => None,
            };
            Ok((head, row, logged))
        };
        let found = found.await;
        let (head, row, logged) = leave(moment, found).await?;
        row.map(|row| replayed(&head, &row, mac, logged.as_deref())).transpose()
    }

    /// The whole state. Rows that can't be read are left out and named in `defect`, so that they never stop a start.
    pub async fn snapshot(&self) -> Result<StateSnapshot, Failure> {
        let mut moment = self.moments.begin(Pace::Long).await?;
        let found = self.read_snapshot(&mut *moment).await;
        leave(moment, found).await
    }

    async fn read_snapshot(&self, moment: &mut dyn Moment) -> Result<StateSnapshot, Failure> {
        let head = moment.head().await?;
        let newest = hash_at(moment, &head, head.head.revision).await?;
        let mut state = self.read_state(moment).await?;
        let sealed = moment.secrets_in_use().await?;
        if state.digest != head.digest {
            state
                .defects
                .push("the state is not what the log says: it was edited behind the log's back".into());
        }
        if newest != Some(head.head.hash) {
            state.defects.push("the log does not end where the head row says".into());
        }
        if !self.digest_is_chained(moment, &head).await? {
            state.defects.push("the head row's digest is not the one that the log was written with".into());
        }
        match self.floor.check(&self.keys, moment, &head).await {
            Err(Failure::Damaged(what)) => state.defects.push(what),
            checked => checked?,
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
    async fn digest_is_chained(&self, moment: &mut dyn Moment, head: &HeadState) -> Result<bool, Failure> {
        let revision = write_revision(head.head.revision);
        if let Some(row) = moment.log_end(revision).await? {
            let whole = decode::check_alone(&self.keys, &row).is_ok();
            return Ok(whole && row.digest == head.digest.to_bytes());
        }
        // Compacted to its very end, or empty.
        let checkpoint = moment.checkpoint_digest(revision).await?;
        Ok(checkpoint.is_none_or(|digest| digest == head.digest.to_bytes()))
    }

    /// Reads all current rows; decodes them beside, on other threads, while the next ones are fetched.
    async fn read_state(&self, moment: &mut dyn Moment) -> Result<Decoded, Failure> {
        let (mut parts, mut rows, mut unreadable) = (vec![], Vec::with_capacity(DECODED_TOGETHER), vec![]);
        let mut take = |row| {
            match row {
                Some(row) => rows.push(row),
                None => unreadable.push("a row of the state can't be read".to_owned()),
            }
            if rows.len() == DECODED_TOGETHER {
                parts.push(self.decode(std::mem::take(&mut rows)));
            }
        };
        moment.resources(&mut take).await?;
        parts.push(self.decode(rows));
        let mut state = Decoded { defects: unreadable, ..Decoded::default() };
        for part in parts {
            state.extend(part.await.map_err(|error| Failure::Internal(error.to_string()))?);
        }
        Ok(state)
    }

    fn decode(&self, rows: Vec<ResourceRow>) -> tokio::task::JoinHandle<Decoded> {
        let keys = Arc::clone(&self.keys);
        tokio::task::spawn_blocking(move || Decoded::of(&keys, &rows))
    }

    /// See [`super::Log::remembered_after`].
    pub fn remembered_after(&self, at: &RevisionToken, limit: usize) -> Result<Vec<RevisionBatch>, Failure> {
        Ok(self.tail.after(at, limit)?)
    }

    /// See [`super::Log::changes_after`]. Checked link by link.
    pub async fn changes_after(&self, at: &RevisionToken, limit: usize) -> Result<LogPage, Failure> {
        let mut moment = self.moments.begin(Pace::Short).await?;
        let found = self.read_changes(&mut *moment, at, limit).await;
        leave(moment, found).await
    }

    async fn read_changes(
        &self,
        moment: &mut dyn Moment,
        at: &RevisionToken,
        limit: usize,
    ) -> Result<LogPage, Failure> {
        let head = moment.head().await?;
        self.floor.check(&self.keys, moment, &head).await?;
        let limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
        let in_reach =
            head.head.epoch == at.epoch && (head.head.floor..head.head.revision).contains(&at.revision);
        let rows = match in_reach {
            true => moment.log_after(write_revision(at.revision), limit).await?,
            false => vec![],
        };
        // The next row tells what it was linked to. Only where that is not the position, more has to be asked for.
        let linked = rows.first().filter(|row| row.previous_hash.starts_with(&at.hash));
        let from = match linked {
            Some(row) => read_hash(&row.previous_hash)?,
            None => match self.standing(moment, &head, at).await? {
                Standing::Within(hash) => hash,
                Standing::Without(page) => return Ok(page),
            },
        };
        if at.revision == head.head.revision {
            return Ok(LogPage::Batches(vec![]));
        }
        decode::check_links(&self.keys, &head, at.revision, from, &rows)?;
        let sealed = sealed_of(moment, &rows).await?;
        Ok(LogPage::Batches(decode::batches(&rows, &sealed)?))
    }

    /// Whether the log that was found is the one that a position was taken in.
    async fn standing(
        &self,
        moment: &mut dyn Moment,
        head: &HeadState,
        at: &RevisionToken,
    ) -> Result<Standing, Failure> {
        if head.head.epoch != at.epoch {
            return Ok(Standing::Without(LogPage::OtherLife { epoch: head.head.epoch }));
        }
        if at.revision < head.head.floor {
            return Ok(Standing::Without(LogPage::Compacted { floor: head.head.floor }));
        }
        let common = at.revision.min(head.head.revision);
        let missing = || Failure::Damaged(format!("its log has no revision {common}"));
        let found = match common == head.head.revision {
            true => head.head.hash,
            false => hash_at(moment, head, common).await?.ok_or_else(missing)?,
        };
        if common == at.revision && found.half() == at.hash {
            return Ok(Standing::Within(found));
        }
        // A log that was edited is damaged; only one that was written with our key shows that commits were lost.
        match moment.log_end(write_revision(common)).await? {
            Some(row) => {
                decode::check_alone(&self.keys, &row)?;
                if row.hash != found.0 {
                    return Err(Failure::Damaged("its log does not end where the head row says".into()));
                }
            }
            None if common == head.head.floor => {}
            None => return Err(missing()),
        }
        Ok(Standing::Without(LogPage::Diverged { revision: head.head.revision }))
    }

    /// See [`super::Log::changes_of`]. Each row is checked by itself.
    pub async fn changes_of(
        &self,
        kind: KindName,
        after: Revision,
        through: Revision,
        limit: usize,
    ) -> Result<Vec<(Revision, LoggedChange)>, Failure> {
        let mut moment = self.moments.begin(Pace::Short).await?;
        let range = (write_revision(after), write_revision(through));
        let limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
        let found = moment.log_of_kind(kind.0, range, limit).await;
        let rows = leave(moment, found).await?;
        let change = |row: &LogRow| {
            decode::check_alone(&self.keys, row)?;
            Ok((read_revision(row.revision)?, row.change()?))
        };
        rows.iter().map(change).collect()
    }

    /// See [`super::Log::hash_at`].
    pub async fn hash_at(&self, revision: Revision) -> Result<Option<ChainHash>, Failure> {
        let mut moment = self.moments.begin(Pace::Short).await?;
        let found = async {
            let head = moment.head().await?;
            hash_at(&mut *moment, &head, revision).await
        };
        let found = found.await;
        leave(moment, found).await
    }

    /// See [`super::Store::record_at`].
    pub async fn record_at(
        &self,
        name: &ResourceName,
        revision: Revision,
    ) -> Result<Option<LoggedChange>, Failure> {
        let mut moment = self.moments.begin(Pace::Short).await?;
        let found = self.read_record_at(&mut *moment, name, revision).await;
        leave(moment, found).await
    }

    async fn read_record_at(
        &self,
        moment: &mut dyn Moment,
        name: &ResourceName,
        revision: Revision,
    ) -> Result<Option<LoggedChange>, Failure> {
        let row = moment.log_row_at(name.as_str(), write_revision(revision)).await?;
        let Some(row) = row.filter(|row| !row.is_revocation()) else { return Ok(None) };
        decode::check_alone(&self.keys, &row)?;
        let sealed = sealed_of(moment, std::slice::from_ref(&row)).await?;
        Ok(Some(decode::change(&row, &sealed)?))
    }

    /// See [`super::Store::records_at`].
    pub async fn records_at(&self, revision: Revision) -> Result<Vec<Record>, Failure> {
        let mut moment = self.moments.begin(Pace::Long).await?;
        let found = read_records_at(&mut *moment, revision).await;
        let rows = leave(moment, found).await?;
        let keys = Arc::clone(&self.keys);
        let decoded = tokio::task::spawn_blocking(move || {
            let resources = rows.iter().filter(|row| !row.is_revocation());
            resources.map(|row| decode::check_alone(&keys, row).and_then(|()| decode::record(row))).collect()
        });
        decoded.await.map_err(|error| Failure::Internal(error.to_string()))?
    }

    /// The newest revision such that it and all before it are older than `time`. Where the clock once jumped, this is
    /// the cautious answer: nothing that is younger is ever at or below it.
    pub async fn revision_before(&self, time: DateTime<Utc>) -> Result<Revision, Failure> {
        let mut moment = self.moments.begin(Pace::Long).await?;
        let found = async {
            let head = moment.head().await?.head;
            match moment.first_since(write_revision(head.floor), write_time(time)).await? {
                Some(first) => Ok(read_revision(first - 1)?),
                None => Ok(head.revision),
            }
        };
        let found = found.await;
        leave(moment, found).await
    }

    /// See [`super::Store::verify`]. Fed row by row, so that memory stays small. An answer with defects is still an
    /// answer; an error is a database that can't be read.
    pub async fn verify(&self, anchor: Option<(Revision, [u8; 16])>) -> Result<Verification, Failure> {
        let mut moment = self.moments.begin(Pace::Long).await?;
        let found = check(&self.keys, &mut *moment, anchor).await;
        leave(moment, found).await
    }
}

/// Checks the log, and the state against it, in one transaction.
pub async fn check(
    keys: &ChainKeys,
    moment: &mut dyn Moment,
    anchor: Option<(Revision, [u8; 16])>,
) -> Result<Verification, Failure> {
    let head = match moment.head().await {
        Ok(head) => head,
        Err(Failure::Damaged(description)) => {
            let defect = Defect { reason: "head_edited", revision: None, name: None, description };
            return Ok(Verification { defects: vec![defect], ..Verification::default() });
        }
        Err(failure) => return Err(failure),
    };
    let mut checker = Checker::new(keys, head, anchor);
    let checkpoints = moment.checkpoints().await?;
    checkpoints.iter().for_each(|row| checker.checkpoint(row));
    checker.end_of_checkpoints(checkpoints.last().map(|row| row.floor));
    let mut log_row = |row| match row {
        Ok(row) => checker.log_row(&row),
        Err(revision) => checker.unreadable_log_row(revision),
    };
    moment.log(&mut log_row).await?;
    checker.end_of_log();
    let mut state_row = |row: Option<ResourceRow>| match row {
        Some(row) => checker.state_row(&row),
        None => checker.unreadable_state_row(),
    };
    moment.resources(&mut state_row).await?;
    Ok(checker.finish())
}

/// The log rows that made the state at a revision.
async fn read_records_at(moment: &mut dyn Moment, revision: Revision) -> Result<Vec<LogRow>, Failure> {
    let Head { floor, revision: newest, .. } = moment.head().await?.head;
    if revision < floor || revision > newest {
        return Err(Failure::Internal(format!(
            "revision {revision} was asked of a log from {floor} to {newest}"
        )));
    }
    moment.log_rows_at(write_revision(revision)).await
}

/// The chain's hash at a revision that the log still holds or begins at.
async fn hash_at(
    moment: &mut dyn Moment,
    head: &HeadState,
    revision: Revision,
) -> Result<Option<ChainHash>, Failure> {
    if revision == head.head.floor {
        return Ok(Some(head.floor_hash));
    }
    if revision < head.head.floor || revision > head.head.revision {
        return Ok(None);
    }
    let row = moment.log_end(write_revision(revision)).await?;
    Ok(row.map(|row| read_hash(&row.hash)).transpose()?)
}

/// The sealed values that rows refer to and the store still has, by id.
async fn sealed_of(
    moment: &mut dyn Moment,
    rows: &[LogRow],
) -> Result<HashMap<String, SealedSecret>, Failure> {
    let ids = decode::secret_ids(rows)?;
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let found = moment.secrets(ids.into_iter().collect()).await?;
    Ok(found.into_iter().map(|row| (row.id.clone(), row.into())).collect())
}
