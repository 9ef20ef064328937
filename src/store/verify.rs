//! Whether a store still holds what was written to it: fed row by row, it names what was edited, removed or put in.
//!
//! Pure, and the same for every database. It believes nothing that it is given; only the keys decide.

use std::collections::HashMap;

use super::{
    Defect, Verification,
    chain::{ChainKeys, StateDigest},
    rows::{CheckpointRow, HeadState, LogRow, ResourceRow, write_revision},
};
use crate::domain::Revision;

/// Defects that are reported; more would say nothing new.
const REPORTED: usize = 100;

/// Feed it the checkpoints, then the log in order, then the state, then [`Checker::finish`].
pub struct Checker<'k> {
    keys: &'k ChainKeys,
    head: HeadState,
    anchor: Option<(Revision, [u8; 16])>,
    /// Half of the chain's hash at the anchor, once the walk has come by.
    at_anchor: Option<[u8; 16]>,
    /// The last row of the walk above the floor: revision, ordinal, stored hash.
    last: (i64, i64, Vec<u8>),
    /// The last checkpoint's MAC, and what it says of the state.
    checkpoint: (Vec<u8>, StateDigest),
    /// Whether the walk is above the floor.
    above: bool,
    /// What the log says of every name: its newest row's digest, `None` if that row deletes.
    newest: HashMap<String, Option<StateDigest>>,
    /// Sum of `newest`: the state by the log's word.
    told: StateDigest,
    /// Sum of the state's rows.
    state: StateDigest,
    /// Rows of the state that are not what the log says. Where the log itself was edited, that may be its fault alone:
    /// they are reported if the state as a whole is not what the head row's digest says.
    suspects: Vec<(&'static str, Option<i64>, Option<String>, String)>,
    found: Verification,
}

impl<'k> Checker<'k> {
    /// Begins. `anchor` is a revision and a hash from outside, which the store must have.
    #[must_use]
    pub fn new(keys: &'k ChainKeys, head: HeadState, anchor: Option<(Revision, [u8; 16])>) -> Self {
        let floor = write_revision(head.head.floor);
        // The row at the floor may be gone; the log goes on from its hash as if it had been the last of its revision.
        let last = (floor, i64::MAX - 1, head.floor_hash.0.to_vec());
        let found = Verification { revision: head.head.revision, ..Verification::default() };
        let at_anchor = anchor.filter(|(at, _)| *at == head.head.floor).map(|_| head.floor_hash.half());
        Self {
            keys,
            head,
            anchor,
            at_anchor,
            last,
            checkpoint: (vec![], StateDigest::default()),
            above: false,
            newest: HashMap::new(),
            told: StateDigest::default(),
            suspects: vec![],
            state: StateDigest::default(),
            found,
        }
    }

    /// The next checkpoint, in the order of floors.
    pub fn checkpoint(&mut self, row: &CheckpointRow) {
        let (previous, _) = &self.checkpoint;
        if row.mac != self.keys.checkpoint(previous, row) {
            let text = format!("the checkpoint at {} was edited, or one before it is missing", row.floor);
            self.report("checkpoint_edited", Some(row.floor), None, text);
        }
        self.checkpoint = (row.mac.clone(), StateDigest::from_bytes(&row.digest).unwrap_or_default());
        if row.floor == write_revision(self.head.head.floor) && row.hash != self.head.floor_hash.0 {
            let text = "the head row's floor is not the one of its checkpoint".to_owned();
            self.report("head_edited", Some(row.floor), None, text);
        }
    }

    /// After the last checkpoint: its floor, if there is any.
    pub fn end_of_checkpoints(&mut self, floor: Option<i64>) {
        let head = write_revision(self.head.head.floor);
        if floor.unwrap_or(0) != head {
            let text = format!("the log's floor is {head}, which no checkpoint confirms");
            self.report("checkpoint_edited", Some(head), None, text);
        }
    }

    /// The next row of the log, in order.
    pub fn log_row(&mut self, row: &LogRow) {
        self.found.checked_rows += 1;
        let whole = row.hash == self.keys.link(row).0;
        if !whole {
            let text = format!("row {} of revision {} is not what was written", row.ordinal, row.revision);
            self.report("log_row_edited", Some(row.revision), Some(&row.name), text);
        }
        if row.revision > write_revision(self.head.head.floor) {
            self.pass_floor();
            self.follow(row, whole);
        }
        let now = row.columns().map(|columns| self.keys.digest(&columns));
        let before = self.newest.insert(row.name.clone(), now).flatten();
        self.told = self.told.minus(before.unwrap_or_default()).plus(now.unwrap_or_default());
    }

    /// A row of the log that can't even be read.
    pub fn unreadable_log_row(&mut self, revision: Option<i64>) {
        self.found.checked_rows += 1;
        self.report("log_row_edited", revision, None, "a row of the log can't be read".into());
    }

    /// After the last row of the log.
    pub fn end_of_log(&mut self) {
        self.pass_floor();
        let (revision, _, hash) = std::mem::take(&mut self.last);
        let head = write_revision(self.head.head.revision);
        if revision < head {
            let text = format!("the log ends at revision {revision}, the head row says {head}");
            self.report("log_row_missing", Some(revision.saturating_add(1)), None, text);
        } else if revision > head || hash != self.head.head.hash.0 {
            self.report("head_edited", Some(head), None, "the head row is not the log's end".into());
        } else if self.told != self.head.digest && self.found.defects.is_empty() {
            let text = "the head row's digest is not the one of the log".to_owned();
            self.report("head_edited", Some(head), None, text);
        }
        self.check_anchor();
    }

    /// A row of the state, in any order.
    pub fn state_row(&mut self, row: &ResourceRow) {
        let now = self.keys.digest(&row.columns());
        self.state = self.state.plus(now);
        let text = match self.newest.remove(&row.name) {
            Some(Some(written)) if written != now => "is not what the log last wrote",
            Some(Some(_)) if row.digest != now.to_bytes() => {
                // The sum does not tell, because it is made of what the rows hold.
                let text = format!("{} has a digest that is not its own", row.name);
                return self.report("state_edited", Some(row.update_revision), Some(&row.name), text);
            }
            Some(Some(_)) => return,
            Some(None) => "is there, although the log deleted it",
            None => "is there, although the log never wrote it",
        };
        let text = format!("{} {text}", row.name);
        self.suspects.push(("state_edited", Some(row.update_revision), Some(row.name.clone()), text));
    }

    /// A row of the state that can't even be read.
    pub fn unreadable_state_row(&mut self) {
        self.suspects.push(("state_edited", None, None, "a row of the state can't be read".into()));
    }

    /// What was found.
    #[must_use]
    pub fn finish(mut self) -> Verification {
        let live = self.newest.drain().filter(|(_, digest)| digest.is_some());
        let mut missing: Vec<_> = live.map(|(name, _)| name).collect();
        missing.sort_unstable();
        for name in missing {
            let text = format!("{name} is missing from the state");
            self.suspects.push(("state_missing", None, Some(name), text));
        }
        if self.state != self.head.digest {
            for (reason, revision, name, text) in std::mem::take(&mut self.suspects) {
                self.report(reason, revision, name.as_deref(), text);
            }
        }
        self.found
    }

    /// Once, between the rows that compaction kept and those above the floor: are all kept ones there?
    fn pass_floor(&mut self) {
        if std::mem::replace(&mut self.above, true) {
            return;
        }
        if self.told != self.checkpoint.1 && self.found.defects.is_empty() {
            let floor = write_revision(self.head.head.floor);
            let text = format!("the rows kept at or below the floor {floor} are not those of its checkpoint");
            self.report("log_row_missing", Some(floor), None, text);
        }
    }

    /// Whether a row above the floor goes on where the one before it ended.
    fn follow(&mut self, row: &LogRow, whole: bool) {
        let (revision, ordinal, hash) = &self.last;
        // Saturating, because a row may hold any number.
        let next = revision.saturating_add(1);
        let begins = row.revision == next && row.ordinal == 0;
        let goes_on = row.revision == *revision && row.ordinal == ordinal.saturating_add(1);
        if !begins && !goes_on {
            let text =
                format!("something is missing before row {} of revision {}", row.ordinal, row.revision);
            let first = if row.ordinal > 0 { row.revision } else { next };
            self.report("log_row_missing", Some(first), None, text);
        } else if whole && row.previous_hash != *hash {
            let text =
                format!("row {} of revision {} does not follow the one before it", row.ordinal, row.revision);
            self.report("log_row_misplaced", Some(row.revision), Some(&row.name), text);
        }
        if self.anchor.is_some_and(|(at, _)| write_revision(at) == row.revision) {
            self.at_anchor = row.hash.first_chunk::<16>().copied();
        }
        self.last = (row.revision, row.ordinal, row.hash.clone());
    }

    fn check_anchor(&mut self) {
        let Some((revision, hash)) = self.anchor else { return };
        let text = if revision > self.head.head.revision {
            format!("it had been at revision {revision}, and is now at {}", self.head.head.revision)
        } else if revision >= self.head.head.floor && self.at_anchor != Some(hash) {
            format!("revision {revision} is not the one that it once had")
        } else {
            return;
        };
        self.report("rolled_back", Some(write_revision(revision)), None, text);
    }

    fn report(&mut self, reason: &'static str, revision: Option<i64>, name: Option<&str>, text: String) {
        if self.found.defects.len() < REPORTED {
            let revision = revision.and_then(|revision| u64::try_from(revision).ok()).map(Revision);
            let name = name.map(str::to_owned);
            self.found.defects.push(Defect { reason, revision, name, description: text });
        }
    }
}
