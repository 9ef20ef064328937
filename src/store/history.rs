//! The past as the log tells it: rows of some names, newest first, each with what was there before.
//!
//! A page is read in one moment, a few statements each; what it holds is checked against the keys, row by row. Who may see a
//! row, and what it has to do with others, is for the service to know.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};

use super::{
    decode,
    failure::Failure,
    reads::{Moment, Pace, Reader, leave},
    rows::{LogRow, read_revision, read_time, write_revision, write_time},
};
use crate::domain::{LoggedChange, Record, Revision, Uid};

/// Before every time that a row can have, as text.
const FIRST_TIME: &str = "";
/// After every time that a row can have.
const LAST_TIME: &str = "~";

/// Names that a history is asked of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Names {
    /// Every name.
    All,
    /// One name.
    One(String),
    /// Every name beneath a prefix that ends in `/`.
    Beneath(String),
}

/// Where a history goes on: after this row, on the way back. Rows of one revision follow each other by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryCursor {
    /// Its revision.
    pub revision: Revision,
    /// Its name.
    pub name: String,
}

/// What a history is asked for.
#[derive(Clone, Debug)]
pub struct HistoryQuery {
    /// The names; none of them holds another, so that no row comes twice.
    pub names: Vec<Names>,
    /// Where to go on.
    pub after: HistoryCursor,
    /// Only what this subject did; empty is everybody.
    pub actor: String,
    /// Only what is called so; empty is everything.
    pub action: String,
    /// Only what was done at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only what was done before this time.
    pub until: Option<DateTime<Utc>>,
    /// Rows at most.
    pub limit: usize,
}

/// A part of a history.
#[derive(Debug)]
pub struct HistoryPage {
    /// Rows, newest first.
    pub rows: Vec<HistoryRow>,
    /// Whether there are more.
    pub more: bool,
    /// The log is whole above this revision. What was compacted away is not told; what is left of it are the newest rows of
    /// what was there then.
    pub floor: Revision,
}

/// One change.
#[derive(Clone, Debug)]
pub struct HistoryRow {
    /// Its revision.
    pub revision: Revision,
    /// When it was committed.
    pub time: DateTime<Utc>,
    /// Why, in the caller's words.
    pub reason: String,
    /// Id of the request.
    pub request_id: String,
    /// Identity of the resource.
    pub uid: Uid,
    /// Its version after it; of a deletion the one that was deleted.
    pub version: u64,
    /// What was done, without sealed values.
    pub change: LoggedChange,
    /// The resource before it; `None` for a creation, and where that is compacted away.
    pub before: Option<Arc<Record>>,
}

/// A query of one kind of names, as a database is asked.
pub struct HistoryPart<'a> {
    /// The names.
    pub names: &'a Names,
    /// Rows at this revision or older,
    pub revision: i64,
    /// and at the revision itself after this name.
    pub name: &'a str,
    /// An actor, or everybody.
    pub actor: &'a str,
    /// An action, or all.
    pub action: &'a str,
    /// The first time.
    pub since: &'a str,
    /// The first time that is too late.
    pub until: &'a str,
    /// Rows at most.
    pub limit: i64,
}

impl HistoryCursor {
    /// Before the newest row.
    #[must_use]
    pub fn newest() -> Self {
        Self { revision: Revision(u64::MAX), name: String::new() }
    }
}

impl Names {
    /// Whether all of `other` is in here.
    #[must_use]
    pub fn hold(&self, other: &Names) -> bool {
        match (self, other) {
            (Names::All, _) => true,
            (Names::One(own), Names::One(name)) => own == name,
            (Names::Beneath(own), Names::One(name) | Names::Beneath(name)) => name.starts_with(own.as_str()),
            _ => false,
        }
    }
}

impl Reader {
    /// See [`super::Store::history`].
    pub async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, Failure> {
        let mut moment = self.moments.begin(Pace::Short).await?;
        let found = read_history(&mut *moment, query).await;
        let (floor, rows, older) = leave(moment, found).await?;
        let more = rows.len() >= query.limit;
        for row in rows.iter().chain(older.values()) {
            decode::check_alone(&self.keys, row)?;
        }
        let rows = rows.iter().map(|row| history_row(row, &older)).collect::<Result<_, Failure>>()?;
        Ok(HistoryPage { rows, more, floor })
    }
}

type Key = (String, i64);

/// The rows of a page, and by name and revision the rows that they followed.
async fn read_history(
    moment: &mut dyn Moment,
    query: &HistoryQuery,
) -> Result<(Revision, Vec<LogRow>, HashMap<Key, LogRow>), Failure> {
    let floor = moment.head().await?.head.floor;
    let since = query.since.map_or_else(|| FIRST_TIME.to_owned(), write_time);
    let until = query.until.map_or_else(|| LAST_TIME.to_owned(), write_time);
    let (mut rows, mut older) = (Vec::new(), HashMap::new());
    for names in &query.names {
        let part = HistoryPart {
            names,
            revision: write_revision(query.after.revision),
            name: &query.after.name,
            actor: &query.actor,
            action: &query.action,
            since: &since,
            until: &until,
            limit: i64::try_from(query.limit).unwrap_or(i64::MAX),
        };
        rows.extend(moment.history(&part).await?);
        let found = moment.before_history(&part).await?;
        older.extend(found.into_iter().map(|row| ((row.name.clone(), row.revision), row)));
    }
    // The first rows of each are enough for the first of all.
    rows.sort_by(|one, other| other.revision.cmp(&one.revision).then_with(|| one.name.cmp(&other.name)));
    rows.truncate(query.limit);
    Ok((floor, rows, older))
}

fn history_row(row: &LogRow, older: &HashMap<Key, LogRow>) -> Result<HistoryRow, Failure> {
    let key = row.previous_revision.map(|revision| (row.name.clone(), revision));
    let before = key.and_then(|key| older.get(&key)).filter(|row| row.spec.is_some());
    Ok(HistoryRow {
        revision: read_revision(row.revision)?,
        time: read_time(&row.time)?,
        reason: row.reason.clone(),
        request_id: row.request_id.clone(),
        uid: Uid(row.uid.clone()),
        version: u64::try_from(row.version).unwrap_or_default(),
        change: row.change()?,
        before: before.map(decode::record).transpose()?.map(Arc::new),
    })
}

/// Names of which none holds another.
#[must_use]
pub fn apart(mut names: Vec<Names>) -> Vec<Names> {
    names.sort_unstable();
    names.dedup();
    let held = |one: &Names| names.iter().any(|other| other != one && other.hold(one));
    names.iter().filter(|one| !held(one)).cloned().collect()
}
