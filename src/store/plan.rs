//! What a group of writes does to the store: decided in memory, on facts that were read under the head row's lock.
//!
//! Pure, and the same for every database: it is given rows and gives rows. So the rules of a write stand here once, and a
//! group costs a few statements however many writes it carries. It must not know SQL.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    chain::{ChainKeys, StateDigest},
    rows::{
        HeadState, LogRow, REVOCATION, RequestRow, ResourceRow, RowDefect, read_hash, read_revision,
        read_time, write_revision, write_time,
    },
};
use crate::domain::{
    Applied, ApplyError, ChangeType, PlannedChange, Read, ResourceName, Revision, RevisionToken,
    SealedSecret, WriteSet, write::PlannedPut,
};

/// Everything that a group has to know of the store before it is planned.
#[derive(Debug)]
pub struct Facts {
    /// The head row.
    pub head: HeadState,
    /// The current row of every name in [`Wanted::names`] that there is.
    pub resources: HashMap<String, ResourceRow>,
    /// The row of every request in [`Wanted::requests`] that there is, by principal and id.
    pub requests: HashMap<(String, String), RequestRow>,
    /// The chain's hash at the revision of every such row, as far as the log has it.
    pub log_hashes: HashMap<i64, Vec<u8>>,
    /// The newest creation beneath every prefix in [`Wanted::prefixes`]; 0 for none.
    pub newest_beneath: HashMap<String, i64>,
    /// The newest change beneath every prefix in [`Wanted::changed_prefixes`], of what is still there; 0 for none.
    pub newest_change_beneath: HashMap<String, i64>,
}

/// What a group has to know.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// Names of resources.
    pub names: BTreeSet<&'a str>,
    /// Principals and ids of requests.
    pub requests: BTreeSet<(&'a str, &'a str)>,
    /// Prefixes of names, to know what was created beneath them.
    pub prefixes: BTreeSet<&'a str>,
    /// Prefixes of names, to know what was changed beneath them.
    pub changed_prefixes: BTreeSet<&'a str>,
}

/// A group in the making: the facts, moved on by every write that was planned.
pub struct Group<'k> {
    keys: &'k ChainKeys,
    facts: Facts,
    touched: BTreeSet<String>,
    log: Vec<LogRow>,
    secrets: Vec<SealedSecret>,
    answered: Vec<RequestRow>,
}

/// The rows that a planned group writes.
#[derive(Debug)]
pub struct Effects {
    /// Where the head row moves.
    pub head: HeadState,
    /// Current rows, to be inserted or replaced.
    pub put: Vec<ResourceRow>,
    /// Names whose current row goes.
    pub delete: Vec<String>,
    /// Log rows, in order.
    pub log: Vec<LogRow>,
    /// Sealed values.
    pub secrets: Vec<SealedSecret>,
    /// Answered requests.
    pub requests: Vec<RequestRow>,
}

impl Effects {
    /// About the bytes that it writes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let rows = self.log.iter().map(|row| 1024 + 2 * row.spec.as_ref().map_or(0, String::len));
        let sealed = self.secrets.iter().map(|secret| secret.token.len());
        rows.chain(sealed).sum()
    }
}

/// A log row before it has its place.
struct Draft {
    change_type: ChangeType,
    action: String,
    before: Option<ResourceRow>,
    /// The row as it is written, or as it was deleted.
    row: ResourceRow,
}

impl Draft {
    /// What the state has afterwards.
    fn after(&self) -> Option<&ResourceRow> {
        (self.change_type != ChangeType::Deleted).then_some(&self.row)
    }
}

impl<'a> Wanted<'a> {
    /// Collects what a write has to know.
    pub fn add(&mut self, write: &'a WriteSet) {
        self.requests.insert((&write.request.principal, &write.request.id));
        self.names.extend(write.changes.iter().map(|change| change_name(change).as_str()));
        for read in &write.reads {
            match read {
                Read::Unchanged { name, .. } | Read::Absent { name } => self.names.insert(name.as_str()),
                Read::NoneCreatedAfter { prefix, .. } => self.prefixes.insert(prefix),
                Read::NoneChangedAfter { prefix, .. } => self.changed_prefixes.insert(prefix),
                // The head is known anyway.
                Read::Held { .. } | Read::NothingAfter { .. } => false,
            };
        }
    }
}

impl<'k> Group<'k> {
    /// A group that begins on these facts.
    #[must_use]
    pub fn new(keys: &'k ChainKeys, facts: Facts) -> Self {
        Self { keys, facts, touched: BTreeSet::new(), log: vec![], secrets: vec![], answered: vec![] }
    }

    /// Plans one write on top of those before it. A write that is refused leaves no trace.
    ///
    /// # Errors
    /// As [`super::Store::apply`] describes; what it answers holds only once the group is committed.
    pub fn plan(&mut self, write: &WriteSet) -> Result<Applied, ApplyError> {
        if let Some(answered) = self.replay(write)? {
            return Ok(answered);
        }
        let at = self.facts.head.head.revision;
        if !write.reads.iter().all(|read| self.holds(read)) {
            return Err(ApplyError::Stale { at });
        }
        let drafts = self.drafts(write, at.next())?;
        if drafts.is_empty() {
            return self.remember(write);
        }
        self.commit(write, drafts)
    }

    /// A write that found everything as it wants it makes no revision, but is answered the same when it comes again.
    fn remember(&mut self, write: &WriteSet) -> Result<Applied, ApplyError> {
        let (head, time) = (self.facts.head, write_time(write.time));
        let read_back = read_time(&time).map_err(|error| defect(error.0))?;
        self.answer(request_row(write, &head, time));
        let token = RevisionToken::new(head.head.epoch, head.head.revision, &head.head.hash);
        Ok(Applied::Committed { token, time: read_back })
    }

    fn answer(&mut self, request: RequestRow) {
        let key = (request.principal.clone(), request.request_id.clone());
        self.answered.push(request.clone());
        self.facts.requests.insert(key, request);
    }

    /// The rows to write; `None` if no write of the group came through.
    #[must_use]
    pub fn finish(self) -> Option<Effects> {
        if self.answered.is_empty() {
            return None;
        }
        let Facts { head, mut resources, .. } = self.facts;
        let (mut put, mut delete) = (vec![], vec![]);
        for name in self.touched {
            match resources.remove(&name) {
                Some(row) => put.push(row),
                None => delete.push(name),
            }
        }
        Some(Effects { head, put, delete, log: self.log, secrets: self.secrets, requests: self.answered })
    }

    fn replay(&self, write: &WriteSet) -> Result<Option<Applied>, ApplyError> {
        let key = (write.request.principal.clone(), write.request.id.clone());
        let Some(row) = self.facts.requests.get(&key) else { return Ok(None) };
        let logged = self.facts.log_hashes.get(&row.revision).map(Vec::as_slice);
        replayed(&self.facts.head, row, &write.request.mac, logged).map(Some)
    }

    fn holds(&self, read: &Read) -> bool {
        match read {
            Read::Unchanged { name, revision } => {
                let row = self.facts.resources.get(name.as_str());
                row.is_some_and(|row| row.update_revision == write_revision(*revision))
            }
            Read::Absent { name } => !self.facts.resources.contains_key(name.as_str()),
            Read::NoneCreatedAfter { prefix, revision } => {
                self.none_after(&self.facts.newest_beneath, prefix, *revision, |row| row.create_revision)
            }
            Read::NoneChangedAfter { prefix, revision } => {
                self.none_after(&self.facts.newest_change_beneath, prefix, *revision, |row| {
                    row.update_revision
                })
            }
            Read::Held { revision } => self.facts.head.head.floor <= *revision,
            Read::NothingAfter { revision } => self.facts.head.head.revision <= *revision,
        }
    }

    /// Whether nothing beneath a prefix is newer than a revision, neither in the store nor in this group.
    fn none_after(
        &self,
        newest: &HashMap<String, i64>,
        prefix: &str,
        revision: Revision,
        revision_of: fn(&ResourceRow) -> i64,
    ) -> bool {
        let known = newest.get(prefix).copied().unwrap_or_default();
        let limit = write_revision(revision);
        let newer_here = |name: &String| {
            let row = self.facts.resources.get(name).filter(|_| name.starts_with(prefix));
            row.is_some_and(|row| revision_of(row) > limit)
        };
        known <= limit && !self.touched.iter().any(newer_here)
    }

    /// Every change of a write as rows that have no place in the chain yet.
    fn drafts(&self, write: &WriteSet, revision: Revision) -> Result<Vec<Draft>, ApplyError> {
        let mut seen = HashSet::new();
        let mut drafts = Vec::with_capacity(write.changes.len() + 1);
        for change in &write.changes {
            if !seen.insert(change_name(change)) {
                return Err(defect(format!("a write changes {} twice", change_name(change))));
            }
            let before = self.facts.resources.get(change_name(change).as_str()).cloned();
            drafts.push(match change {
                PlannedChange::Put(put) => self.draft_put(write, put, before, revision)?,
                PlannedChange::Delete { name, action, .. } => {
                    let gone = || defect(format!("a write deletes {name}, which is not there"));
                    let row = before.clone().ok_or_else(gone)?;
                    Draft { change_type: ChangeType::Deleted, action: action.0.to_owned(), before, row }
                }
            });
        }
        drafts.extend(self.draft_revocation(write, revision)?);
        Ok(drafts)
    }

    fn draft_put(
        &self,
        write: &WriteSet,
        put: &PlannedPut,
        before: Option<ResourceRow>,
        revision: Revision,
    ) -> Result<Draft, ApplyError> {
        let PlannedPut { name, kind, uid, labels, version, spec_json, secrets, action } = put;
        let version =
            i64::try_from(*version).map_err(|_| defect(format!("{name} has too high a version")))?;
        // One that comes back under its old identity goes on counting, so that no etag of it means two contents.
        let follows = match &before {
            Some(row) => row.version.checked_add(1) == Some(version),
            None => version >= 1,
        };
        if !follows {
            let stands = before.as_ref().map_or(0, |row| row.version);
            return Err(defect(format!(
                "a write puts version {version} of {name}, which stands at {stands}"
            )));
        }
        if before.as_ref().is_some_and(|row| row.uid != uid.0 || row.kind != kind.0) {
            return Err(defect(format!("a write gives {name} another identity or kind")));
        }
        let revision = write_revision(revision);
        let time = write_time(write.time);
        let secrets: BTreeMap<&str, &str> =
            secrets.iter().map(|(path, id)| (path.0.as_str(), id.0.as_str())).collect();
        let mut row = ResourceRow {
            name: name.as_str().to_owned(),
            kind: kind.0.to_owned(),
            uid: uid.0.clone(),
            labels: to_json(labels)?,
            version,
            create_revision: before.as_ref().map_or(revision, |row| row.create_revision),
            create_time: before.as_ref().map_or_else(|| time.clone(), |row| row.create_time.clone()),
            update_revision: revision,
            update_time: time,
            updated_by: write.actor.clone(),
            spec: spec_json.to_string(),
            secrets: to_json(&secrets)?,
            digest: vec![],
        };
        row.digest = self.keys.digest(&row.columns()).to_bytes().to_vec();
        let change_type = if before.is_some() { ChangeType::Updated } else { ChangeType::Created };
        Ok(Draft { change_type, action: action.0.to_owned(), before, row })
    }

    fn draft_revocation(&self, write: &WriteSet, revision: Revision) -> Result<Option<Draft>, ApplyError> {
        let Some(revocation) = &write.revocation else { return Ok(None) };
        let uid = uuid::Uuid::new_v4().to_string();
        let (revision, time) = (write_revision(revision), write_time(write.time));
        let mut row = ResourceRow {
            name: format!("revocations/{uid}"),
            kind: REVOCATION.to_owned(),
            uid,
            labels: "{}".to_owned(),
            version: 1,
            create_revision: revision,
            create_time: time.clone(),
            update_revision: revision,
            update_time: time,
            updated_by: write.actor.clone(),
            spec: to_json(revocation)?,
            secrets: "{}".to_owned(),
            digest: vec![],
        };
        row.digest = self.keys.digest(&row.columns()).to_bytes().to_vec();
        let action = "revoked".to_owned();
        Ok(Some(Draft { change_type: ChangeType::Created, action, before: None, row }))
    }

    /// Gives drafts their place in the chain and moves the facts on.
    fn commit(&mut self, write: &WriteSet, drafts: Vec<Draft>) -> Result<Applied, ApplyError> {
        let mut head = self.facts.head;
        head.head.revision = head.head.revision.next();
        let time = write_time(write.time);
        // Whatever can fail comes before the first trace that the write leaves.
        let read_back = read_time(&time).map_err(|error| defect(error.0))?;
        for row in drafts.iter().filter_map(|draft| draft.before.as_ref()) {
            if StateDigest::from_bytes(&row.digest).is_none() {
                return Err(defect(format!("{} has a broken digest", row.name)));
            }
        }
        for (ordinal, draft) in (0..).zip(drafts) {
            let weight = |row: Option<&ResourceRow>| {
                row.and_then(|row| StateDigest::from_bytes(&row.digest)).unwrap_or_default()
            };
            head.digest = head.digest.minus(weight(draft.before.as_ref())).plus(weight(draft.after()));
            let row = self.log_row(write, &time, &mut head, ordinal, &draft);
            self.touched.insert(row.name.clone());
            match draft.change_type {
                ChangeType::Deleted => self.facts.resources.remove(&row.name),
                _ => self.facts.resources.insert(row.name.clone(), draft.row),
            };
            self.log.push(row);
        }
        self.facts.head = head;
        self.secrets.extend(write.sealed.iter().cloned());
        self.answer(request_row(write, &head, time));
        let token = RevisionToken::new(head.head.epoch, head.head.revision, &head.head.hash);
        Ok(Applied::Committed { token, time: read_back })
    }

    fn log_row(
        &self,
        write: &WriteSet,
        time: &str,
        head: &mut HeadState,
        ordinal: i64,
        draft: &Draft,
    ) -> LogRow {
        let (shown, after) = (&draft.row, draft.after());
        let mut row = LogRow {
            revision: write_revision(head.head.revision),
            ordinal,
            change_type: draft.change_type.as_str().to_owned(),
            action: draft.action.clone(),
            name: shown.name.clone(),
            kind: shown.kind.clone(),
            uid: shown.uid.clone(),
            labels: after.map_or_else(|| "{}".to_owned(), |row| row.labels.clone()),
            version: shown.version,
            create_revision: shown.create_revision,
            create_time: shown.create_time.clone(),
            spec: after.map(|row| row.spec.clone()),
            secrets: after.map_or_else(|| "{}".to_owned(), |row| row.secrets.clone()),
            previous_labels: draft.before.as_ref().map(|row| row.labels.clone()),
            previous_revision: draft.before.as_ref().map(|row| row.update_revision),
            actor: write.actor.clone(),
            time: time.to_owned(),
            reason: write.reason.clone(),
            request_id: write.request.id.clone(),
            digest: head.digest.to_bytes().to_vec(),
            previous_hash: head.head.hash.0.to_vec(),
            hash: vec![],
            traceparent: write.trace.as_ref().map(ToString::to_string),
        };
        head.head.hash = self.keys.link(&row);
        row.hash = head.head.hash.0.to_vec();
        row
    }
}

/// What became of a request, from its row; `logged` is the chain's hash at its revision, if the log has it.
///
/// # Errors
/// [`ApplyError::RequestMismatch`] if the body was another; [`ApplyError::Damaged`] if the row tells of a revision that never
/// was: it acknowledges nothing then.
pub fn replayed(
    head: &HeadState,
    row: &RequestRow,
    mac: &[u8; 32],
    logged: Option<&[u8]>,
) -> Result<Applied, ApplyError> {
    if row.mac != mac {
        return Err(ApplyError::RequestMismatch);
    }
    read_answered(head, row, logged).map_err(|RowDefect(what)| {
        let (principal, request_id) = (row.principal.escape_debug(), row.request_id.escape_debug());
        tracing::error!(%principal, %request_id, what, "the row of an answered request was edited");
        ApplyError::Damaged { what: "the row of this request was changed by another program".into() }
    })
}

fn read_answered(head: &HeadState, row: &RequestRow, logged: Option<&[u8]>) -> Result<Applied, RowDefect> {
    let (revision, hash) = (read_revision(row.revision)?, read_hash(&row.hash)?);
    if revision > head.head.revision {
        return Err(RowDefect("its revision is above the head".into()));
    }
    // Below the floor single rows are left, and tell no hash of a revision.
    let known = match revision {
        at if at > head.head.floor => logged,
        at if at == head.head.floor => Some(&head.floor_hash.0[..]),
        _ => None,
    };
    if known.is_some_and(|known| known != hash.0) {
        return Err(RowDefect("its hash is not the log's".into()));
    }
    let token = RevisionToken::new(head.head.epoch, revision, &hash);
    Ok(Applied::Replayed { token, time: read_time(&row.time)?, outcome: row.outcome.clone() })
}

fn request_row(write: &WriteSet, head: &HeadState, time: String) -> RequestRow {
    RequestRow {
        principal: write.request.principal.clone(),
        request_id: write.request.id.clone(),
        mac: write.request.mac.to_vec(),
        revision: write_revision(head.head.revision),
        hash: head.head.hash.0.to_vec(),
        time,
        outcome: write.request.outcome.clone(),
    }
}

fn change_name(change: &PlannedChange) -> &ResourceName {
    match change {
        PlannedChange::Put(put) => &put.name,
        PlannedChange::Delete { name, .. } => name,
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<String, ApplyError> {
    serde_json::to_string(value).map_err(|error| defect(error.to_string()))
}

fn defect(detail: String) -> ApplyError {
    ApplyError::Internal { detail }
}
