//! What rows mean, however they were read: links of the chain checked, batches put together, the state decoded.
//!
//! Pure, and the same for every database. It believes nothing that it is given; only the keys decide.

use std::collections::{BTreeSet, HashMap};

use super::{
    chain::{ChainKeys, StateDigest},
    failure::Failure,
    rows::{
        HeadState, LogRow, ResourceRow, RowDefect, read_hash, read_revision, read_secrets, read_time,
        write_revision,
    },
};
use crate::domain::{
    ChainHash, LoggedChange, Record, Revision, RevisionBatch, Revocation, SealedSecret, TraceContext,
};

/// A part of the state, decoded.
#[derive(Default)]
pub struct Decoded {
    /// Resources, in the order of the rows.
    pub records: Vec<Record>,
    /// Revocations.
    pub revocations: Vec<Revocation>,
    /// Digest of all rows, those that can't be read too.
    pub digest: StateDigest,
    /// What could not be read.
    pub defects: Vec<String>,
}

impl Decoded {
    /// Decodes rows of the state. What can't be read is left out and named.
    #[must_use]
    pub fn of(keys: &ChainKeys, rows: &[ResourceRow]) -> Self {
        let mut part = Self::default();
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
    }

    /// Takes the next part in.
    pub fn extend(&mut self, part: Self) {
        self.records.extend(part.records);
        self.revocations.extend(part.revocations);
        self.defects.extend(part.defects);
        self.digest = self.digest.plus(part.digest);
    }
}

/// Whether rows go on from a revision and its hash without a gap, and end at the head if they reach it.
///
/// # Errors
/// [`Failure::Damaged`] if not.
pub fn check_links(
    keys: &ChainKeys,
    head: &HeadState,
    after: Revision,
    from: ChainHash,
    rows: &[LogRow],
) -> Result<(), Failure> {
    let (mut revision, mut ordinal, mut hash) = (write_revision(after), -1_i64, from);
    for row in rows {
        // Saturating, because a row may hold any number.
        let goes_on = row.revision == revision && row.ordinal == ordinal.saturating_add(1) && ordinal >= 0;
        let begins = row.revision == revision.saturating_add(1) && row.ordinal == 0;
        if !goes_on && !begins {
            return Err(Failure::Damaged(format!("its log has a gap after revision {revision}")));
        }
        let link = keys.link(row);
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

/// Whether a row is as it was written, wherever it stands.
///
/// # Errors
/// [`Failure::Damaged`] if not.
pub fn check_alone(keys: &ChainKeys, row: &LogRow) -> Result<(), Failure> {
    if row.hash == keys.link(row).0 {
        return Ok(());
    }
    Err(Failure::Damaged(format!("its log was edited at revision {}", row.revision)))
}

/// The ids of the sealed values that rows refer to.
///
/// # Errors
/// When a map of secrets can't be read.
pub fn secret_ids(rows: &[LogRow]) -> Result<BTreeSet<String>, RowDefect> {
    let mut ids = BTreeSet::new();
    for row in rows.iter().filter(|row| row.secrets != "{}") {
        ids.extend(read_secrets(&row.name, &row.secrets)?.into_values().map(|id| id.0));
    }
    Ok(ids)
}

/// A row as the change that it is, with its sealed values.
///
/// # Errors
/// When it can't be read.
pub fn change(row: &LogRow, sealed: &HashMap<String, SealedSecret>) -> Result<LoggedChange, RowDefect> {
    let mut change = row.change()?;
    if let Some(record) = &change.record {
        let ids: BTreeSet<_> = record.secrets.values().collect();
        change.sealed = ids.into_iter().filter_map(|id| sealed.get(&id.0).cloned()).collect();
    }
    Ok(change)
}

/// The resource that a row wrote.
///
/// # Errors
/// When it can't be read.
pub fn record(row: &LogRow) -> Result<Record, Failure> {
    let columns = row.columns().ok_or_else(|| RowDefect(format!("{} has no content", row.name)))?;
    Ok(columns.record()?)
}

/// Rows of one revision are together; a batch is made of each.
///
/// # Errors
/// When a row can't be read.
pub fn batches(
    rows: &[LogRow],
    sealed: &HashMap<String, SealedSecret>,
) -> Result<Vec<RevisionBatch>, RowDefect> {
    let mut batches = vec![];
    for rows in rows.chunk_by(|left, right| left.revision == right.revision) {
        let Some(last) = rows.last() else { continue };
        let mut batch = RevisionBatch {
            revision: read_revision(last.revision)?,
            hash: read_hash(&last.hash)?,
            time: read_time(&last.time)?,
            changes: vec![],
            revocations: vec![],
            // A hint to whoever traces: what is none is left out.
            trace: last.traceparent.as_deref().and_then(TraceContext::from_text),
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
