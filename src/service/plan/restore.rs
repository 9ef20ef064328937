//! Resources that are brought back to what they were at a past revision: contents of the log, as a write like any other.
//!
//! What is brought back was read before; here it is held against the state. Its secrets are opened, so that the kind's rules see
//! what they judge, and come back as the sealed values that they were. Must not know where the past was read.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use super::{Draft, Planner, import::Origin};
use crate::{
    domain::{Error, FieldPath, Read, Record, ResourceName, Result, Revision, SealedSecret, Spec},
    kinds::{self, Kind, SecretView},
    proto::v1::{BatchResult, ChangeType, secret::State},
};

/// Resources to bring back, in one revision.
#[derive(Clone, Debug)]
pub struct Rollback {
    /// The past revision.
    pub revision: Revision,
    /// What becomes of each; no resource twice.
    pub steps: Vec<Step>,
    /// The etag that the resource must have, if any; for a single one.
    pub etag: String,
    /// Whether this is one of possibly many: then each error says which resource it is about.
    pub many: bool,
}

/// What becomes of one resource.
#[derive(Clone, Debug)]
pub enum Step {
    /// It becomes what it was.
    Restore(Box<Past>),
    /// It goes: it was not there.
    Remove(ResourceName),
}

/// A resource as it was.
#[derive(Clone, Debug)]
pub struct Past {
    /// The resource.
    pub record: Record,
    /// Its sealed values, as far as the store still has them.
    pub sealed: Vec<SealedSecret>,
    /// What its parent held then, if it has one that was there.
    pub parent: Option<Spec>,
    /// The newest version of its identity, from which it goes on counting if it is not there any more.
    pub version: u64,
}

/// A resource whose secrets of then were opened.
pub(super) struct Reopened {
    field: String,
    name: ResourceName,
    /// What its parent held then.
    parent: Option<Spec>,
}

impl Step {
    fn name(&self) -> &ResourceName {
        match self {
            Step::Restore(past) => &past.record.name,
            Step::Remove(name) => name,
        }
    }
}

impl Planner<'_> {
    /// Plans a rollback. Of several resources the result holds the differences alone.
    pub(super) fn roll_back(&mut self, path: &str, rollback: &Rollback) -> Result<Option<BatchResult>> {
        let Rollback { revision, steps, etag, many } = rollback;
        self.reads.push(Read::Held { revision: *revision });
        let mut told = BatchResult::default();
        for step in steps {
            let path = if *many { format!("{path}resources[{}].", step.name()) } else { path.to_owned() };
            let result = match step {
                Step::Restore(past) => self.restore(&path, past, (*revision, etag))?,
                Step::Remove(name) => self.delete(&path, name.as_str(), "", true)?,
            };
            let Some(result) = result else { continue };
            let changed = result
                .diffs
                .into_iter()
                .filter(|diff| !many || diff.r#type() != ChangeType::Updated || !diff.fields.is_empty());
            told.diffs.extend(changed);
            told.resource = result.resource.filter(|_| !many);
        }
        Ok(Some(told))
    }

    fn restore(
        &mut self,
        path: &str,
        past: &Past,
        (revision, etag): (Revision, &str),
    ) -> Result<Option<BatchResult>> {
        let field = format!("{path}resource.name");
        let Some((name, kind)) = self.name(&field, past.record.name.as_str())? else { return Ok(None) };
        let entry = self.state.get(name.as_str()).cloned();
        match &entry {
            Some(entry) if !self.check_etag(&entry.record, etag, &format!("{path}resource.etag")) => {
                return Ok(None);
            }
            None if !etag.is_empty() => {
                self.refuse(field, Error::NotFound { name: name.to_string() });
                return Ok(None);
            }
            _ => {}
        }
        let current = entry.as_ref().map(|entry| &*entry.record);
        let Some(spec) = self.opened((path, revision), kind, past, current) else { return Ok(None) };
        let (labels, origin) = (past.record.labels.clone(), Origin::RolledBack);
        let draft = Draft { path: path.to_owned(), name, kind, labels, spec, origin };
        match entry {
            Some(entry) => self.put_over(draft, &entry),
            None => self.put_first(draft, past.record.uid.clone(), past.version.saturating_add(1)),
        }
    }

    /// The content of then with its secrets: those that are still the current ones are kept, the others opened. Under the same
    /// identity they come back as what lies sealed; under another one they are sealed anew, since nothing else opens there.
    fn opened(
        &mut self,
        (path, revision): (&str, Revision),
        kind: &dyn Kind,
        past: &Past,
        current: Option<&Record>,
    ) -> Option<Spec> {
        let Past { record, sealed, .. } = past;
        let mut spec = record.spec.clone();
        // How a rotation stood then is over.
        kind.leave_behind(&mut spec);
        let states = kinds::secrets::states(&spec);
        let same_identity = current.is_none_or(|current| current.uid == record.uid);
        let kept = |field: &FieldPath| {
            same_identity && current.is_some_and(|now| now.secrets.get(field) == record.secrets.get(field))
        };
        let (mut values, mut lost) = (BTreeMap::new(), BTreeSet::new());
        for field in states.keys().filter(|field| record.secrets.contains_key(*field) && !kept(field)) {
            match self.parts.revealer.open(record, sealed, field) {
                Some(value) => drop(values.insert(field.clone(), value)),
                None => drop(lost.insert(field.to_string())),
            }
        }
        if let Some(first) = lost.first() {
            self.refuse(format!("{path}resource.{first}"), secret_lost(&record.name, revision, &lost));
            return None;
        }
        if !values.is_empty() {
            self.warn_of_secrets(&record.name, revision, values.keys());
            let field = format!("{path}resource.name");
            self.reopened.push(Reopened { field, name: record.name.clone(), parent: past.parent.clone() });
        }
        if same_identity {
            let ids =
                values.keys().filter_map(|field| Some((field.clone(), record.secrets.get(field)?.clone())));
            self.restored.insert(record.name.clone(), ids.collect());
        }
        kinds::secrets::fill(&mut spec, |field| match (values.get(field), states.get(field)) {
            (Some(value), _) => SecretView::Value(Zeroizing::new(value.expose().to_owned())),
            (None, Some(State::Present | State::Undecryptable)) => SecretView::Present,
            (None, Some(State::Missing)) => SecretView::Missing,
            (None, _) => SecretView::Absent,
        });
        Some(spec)
    }

    /// No secret of then comes back beneath a parent that points elsewhere than it did then. Looked at once every resource is
    /// planned, since the parent may come back as well.
    pub(super) fn check_reopened(&mut self) {
        for Reopened { field, name, parent: then } in std::mem::take(&mut self.reopened) {
            let Some(parent) = name.parent() else { continue };
            let Some(kind) = kinds::resolve(&parent) else { continue };
            // One that is not there is refused as such.
            let Some(now) = self.left_of(&parent) else { continue };
            let is_moved =
                then.is_none_or(|then| then != now && kind.moves_secrets_beneath(&then, &now).is_some());
            if is_moved {
                let description = format!(
                    "{name} held a secret then that was saved for where {parent} pointed, and {parent} points elsewhere now: \
                     bring both back in one rollback, or give {name} a new value"
                );
                let (reason, subject) = ("SECRET_REQUIRED", name.to_string());
                self.refuse(field, Error::FailedPrecondition { reason, subject, description });
            }
        }
    }

    /// What a resource holds once the write is done, which relies on it.
    fn left_of(&mut self, name: &ResourceName) -> Option<Spec> {
        if let Some(written) = self.written.get(name) {
            return Some(written.spec.clone());
        }
        let entry = self.state.get(name.as_str()).filter(|_| !self.deleted.contains_key(name))?;
        self.reads.push(Read::Unchanged { name: name.clone(), revision: entry.record.update_revision });
        Some(entry.record.spec.clone())
    }

    /// Why a secret was replaced is known to no one here: it may not be good any more, or be in the wrong hands.
    fn warn_of_secrets<'f>(
        &mut self,
        name: &ResourceName,
        revision: Revision,
        fields: impl Iterator<Item = &'f FieldPath>,
    ) {
        let fields = fields.map(ToString::to_string).collect::<Vec<_>>().join(", ");
        self.add_bounded_warning(format!(
            "{name}: {fields} is the value of revision {revision} again; if it was replaced because it leaked or was revoked, \
             give a new one"
        ));
    }
}

fn secret_lost(name: &ResourceName, revision: Revision, lost: &BTreeSet<String>) -> Error {
    let fields = lost.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let description = format!(
        "{name} can't be brought back to revision {revision}: the value that {fields} had then is destroyed, or no key that \
         was given opens it; set the fields that you want back (`signalbox get {name} --revision {revision}` shows them) with \
         a new value"
    );
    Error::FailedPrecondition { reason: "SECRET_LOST", subject: name.to_string(), description }
}
