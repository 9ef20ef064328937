//! The newest groups as they were just committed, so that the view does not ask the database for what this process
//! has only now written.
//!
//! What was committed here, after the position that is asked for and linked to it, is the log: nobody else can have put
//! anything in between. Where others did, it begins anew behind them. It is bounded, and may be empty at any time: then
//! the log is read.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    decode,
    plan::Effects,
    rows::{LogRow, RowDefect, read_secrets, write_revision},
};
use crate::domain::{Epoch, Revision, RevisionBatch, RevisionToken, SealedSecret};

/// Log rows that are held at most; beyond, the oldest groups go.
const ROWS: usize = 4096;
/// Bytes of their contents at most.
const BYTES: usize = 8 * 1024 * 1024;

/// The newest groups, whole and without a gap.
#[derive(Default)]
pub struct Tail(Mutex<Held>);

#[derive(Default)]
struct Held {
    groups: VecDeque<Arc<CommittedGroup>>,
    rows: usize,
    bytes: usize,
    /// The groups are those after this revision.
    after: i64,
}

/// What one transaction wrote.
struct CommittedGroup {
    /// Its log rows, in order.
    rows: Vec<LogRow>,
    /// Every sealed value that they name, by id.
    sealed: HashMap<String, SealedSecret>,
    bytes: usize,
    newest: i64,
    epoch: Epoch,
}

impl Tail {
    /// Takes what was committed after `before`.
    pub fn push(&self, before: Revision, effects: Effects) {
        if effects.log.is_empty() {
            return;
        }
        let newest = write_revision(effects.head.head.revision);
        let sealed = effects.secrets.into_iter().map(|secret| (secret.id.0.clone(), secret)).collect();
        let bytes = effects.log.iter().map(weight).sum();
        let group =
            CommittedGroup { rows: effects.log, sealed, bytes, newest, epoch: effects.head.head.epoch };
        let mut held = self.0.lock();
        if !group.is_complete() {
            *held = Held { after: newest, ..Held::default() };
            return;
        }
        let before = write_revision(before);
        let (end, epoch) =
            held.groups.back().map_or((held.after, group.epoch), |last| (last.newest, last.epoch));
        if (end, epoch) != (before, group.epoch) {
            *held = Held { after: before, ..Held::default() };
        }
        held.rows += group.rows.len();
        held.bytes += group.bytes;
        held.groups.push_back(Arc::new(group));
        held.trim();
    }

    /// Forgets everything, because the log was changed otherwise.
    pub fn clear(&self) {
        let mut held = self.0.lock();
        let after = held.groups.back().map_or(held.after, |group| group.newest);
        *held = Held { after, ..Held::default() };
    }

    /// The revisions after a position, with at least `limit` rows if there are as many. Empty where the log has to be read.
    pub fn after(&self, at: &RevisionToken, limit: usize) -> Result<Vec<RevisionBatch>, RowDefect> {
        let after = write_revision(at.revision);
        let mut found = vec![];
        for group in self.groups_after(after, limit) {
            let rows = &group.rows[group.rows.partition_point(|row| row.revision <= after)..];
            let follows = |row: &LogRow| group.epoch == at.epoch && row.previous_hash.starts_with(&at.hash);
            if found.is_empty() && !rows.first().is_some_and(follows) {
                return Ok(found);
            }
            found.extend(decode::batches(rows, &group.sealed)?);
        }
        Ok(found)
    }

    /// The groups that hold the revisions after `after`. The first may begin before.
    fn groups_after(&self, after: i64, limit: usize) -> Vec<Arc<CommittedGroup>> {
        let held = self.0.lock();
        if after < held.after {
            return Vec::new();
        }
        let mut taken = 0;
        let start = held.groups.partition_point(|group| group.newest <= after);
        let groups = held.groups.range(start..).take_while(|group| {
            let wanted = taken < limit;
            taken += group.rows.len();
            wanted
        });
        groups.cloned().collect()
    }
}

impl Held {
    fn trim(&mut self) {
        while self.rows > ROWS || self.bytes > BYTES {
            let Some(oldest) = self.groups.pop_front() else { return };
            self.rows -= oldest.rows.len();
            self.bytes -= oldest.bytes;
            self.after = oldest.newest;
        }
    }
}

impl CommittedGroup {
    /// Whether every secret that the rows name was written with them; one that was kept lies in the database only.
    fn is_complete(&self) -> bool {
        self.rows.iter().filter(|row| row.secrets != "{}").all(|row| {
            read_secrets(&row.name, &row.secrets)
                .is_ok_and(|secrets| secrets.values().all(|id| self.sealed.contains_key(&id.0)))
        })
    }
}

fn weight(row: &LogRow) -> usize {
    512 + row.spec.as_ref().map_or(0, String::len) + row.labels.len() + row.secrets.len()
}
