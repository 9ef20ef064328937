//! What a plan relies on beyond the resources that it writes: parents, and what specs refer to.
//!
//! All is looked at once every operation is planned, so that the order within a batch does not matter. What was found is
//! declared as read, for the store to check once more under its lock: that what is referred to is unchanged, and that
//! nothing which could refer to what is deleted was written in the meantime. Of two writers of which one deletes what
//! the other refers to, the later one is planned again, and refused.

use std::collections::{BTreeMap, BTreeSet};

use super::{Planner, Staged, Written};
use crate::{
    domain::{
        Error, FieldPath, FieldViolation, KindName, PlannedChange, Principal, Read, ResourceName, SecretId,
        Spec, Unmet, Violations,
    },
    kinds::{self, Kind, Reference, Targets},
    watch::not_granted,
};

/// Resources that are named in an error.
const NAMED: usize = 5;
/// What uses something and is beyond the caller's grants.
pub(super) const UNSEEN: &str = "what your grants do not reach";
/// Resources that are each told of in the sentence of an error.
const MISSING: usize = 20;

/// As `routers/main primary: providers/gone does not exist`.
fn told(referring: &ResourceName, Reference { field, name }: &Reference) -> String {
    let field = field.0.split_once('.').map_or(field.0.as_str(), |(_, rest)| rest);
    format!("{referring} {field}: {name} does not exist")
}

fn unmet(field: String, reason: &'static str, missing: &ResourceName) -> Unmet {
    let description = format!("{missing} does not exist; create it first, or in one batch");
    Unmet { field, reason, subject: missing.to_string(), description }
}

impl<'a> Planner<'a> {
    /// Nothing is created beneath a parent that it needs and that is not there.
    pub(super) fn check_parents(&mut self) {
        for (field, child) in std::mem::take(&mut self.children) {
            let Some(parent) = child.parent() else { continue };
            if !self.reached(&parent) && !self.caller.is_granted_within(&parent) {
                // Whether it exists is not given away to who only guesses its name.
                self.refuse(field, not_granted(self.caller, parent.as_str()));
                continue;
            }
            match (self.staged.get(&parent), self.state.get(parent.as_str())) {
                (Some(Staged::Deleted), _) | (None, None) => {
                    let sentence = format!("{child} needs {parent}, which does not exist");
                    self.unmet.push((sentence, unmet(field, "PARENT_MISSING", &parent)));
                }
                (Some(Staged::Kept), _) => {}
                (None, Some(entry)) => {
                    self.reads.push(Read::Unchanged { name: parent, revision: entry.record.update_revision });
                }
            }
        }
    }

    /// No secret beneath a resource goes elsewhere than it was saved for: where the resource moves, they are given again in
    /// the same write, or are deleted.
    pub(super) fn check_moves(&mut self) {
        for (field, name) in std::mem::take(&mut self.moved) {
            let prefix = name.beneath();
            let mut holders = BTreeSet::new();
            for child in self.state.beneath(&prefix) {
                let record = &child.record;
                if record.secrets.iter().any(|(path, id)| self.keeps(&record.name, path, id)) {
                    holders.insert((record.name.clone(), record.kind));
                }
                self.reads
                    .push(Read::Unchanged { name: record.name.clone(), revision: record.update_revision });
            }
            self.reads.push(Read::NoneCreatedAfter { prefix, revision: self.state.revision });
            if !holders.is_empty() {
                self.refuse_moved(&field, &name, &holders);
            }
        }
    }

    /// All whose secrets would be left behind are told at once; which names there are beyond the grants is not given away.
    fn refuse_moved(
        &mut self,
        field: &str,
        name: &ResourceName,
        holders: &BTreeSet<(ResourceName, KindName)>,
    ) {
        let advice =
            "saved for where it points now: give them again in one batch with this change, or delete them";
        let description =
            format!("{name} has secrets of {} beneath it, {advice}", listed(self.caller, holders));
        let seen = holders.iter().filter(|(holder, kind)| self.caller.reaches(holder, *kind));
        let mut subjects: Vec<String> = seen.map(|(holder, _)| holder.to_string()).collect();
        if subjects.len() < holders.len() {
            subjects.push(name.to_string());
        }
        let left = |subject: String| Unmet {
            field: field.to_owned(),
            reason: "SECRET_REQUIRED",
            description: format!(
                "{subject} holds, or has beneath it, a secret that was saved for where {name} points now; give it again in one \
                 batch with this change, or delete it"
            ),
            subject,
        };
        let unmet = subjects.into_iter().map(left).collect();
        self.refuse(field, Error::Missing { description, unmet });
    }

    /// Whether the write leaves a stored secret as it is.
    fn keeps(&self, name: &ResourceName, path: &FieldPath, id: &SecretId) -> bool {
        match self.changes.iter().find(|change| change.name() == name) {
            Some(PlannedChange::Put(put)) => put.secrets.get(path) == Some(id),
            Some(PlannedChange::Delete { .. }) => false,
            None => !self.given_again.contains(name),
        }
    }

    /// Keeps the new content of a resource: others look at it.
    pub(super) fn keep_written(
        &mut self,
        path: &str,
        name: &ResourceName,
        kind: &'static dyn Kind,
        (before, spec): (Option<&Spec>, &Spec),
    ) {
        let changed = before != Some(spec);
        let written = Written { path: path.to_owned(), kind, spec: spec.clone(), changed };
        self.written.insert(name.clone(), written);
    }

    /// Everything that the written resources refer to is there once the write is done. Gives what is wrong with them
    /// beside it; another state may allow that. A content that stays as it is was judged when it was written: what its
    /// model has become since must not stand against a new label.
    pub(super) fn check_references(&mut self) -> Violations {
        let mut misfits = Violations::default();
        let written = std::mem::take(&mut self.written);
        for (name, Written { path, kind, spec, changed }) in &written {
            let mut targets = Targets::new();
            for reference in kind.references(spec) {
                let field = format!("{path}resource.{}", reference.field);
                if !self.reached(&reference.name) {
                    // Whether it exists is not given away, and nobody routes to what is not his.
                    self.refuse(field, not_granted(self.caller, reference.name.as_str()));
                } else if let Some(target) = self.target(&reference.name, &written) {
                    targets.insert(reference.name, target);
                } else {
                    let missing = unmet(field, "REFERENCE_MISSING", &reference.name);
                    self.unmet.push((told(name, &reference), missing));
                }
            }
            if !changed {
                continue;
            }
            self.warnings.extend(kind.warn_of_targets(spec, &targets));
            let placed = |violation: FieldViolation| FieldViolation {
                field: format!("{path}resource.{}", violation.field),
                ..violation
            };
            let found = kind.check_targets(spec, &kinds::contracts(&targets));
            misfits.extend(found.into_iter().map(placed));
        }
        self.written = written;
        self.refuse_unmet();
        misfits
    }

    /// All that is not there is told at once, parents and what is referred to.
    fn refuse_unmet(&mut self) {
        let (told, unmet): (Vec<String>, Vec<Unmet>) = std::mem::take(&mut self.unmet).into_iter().unzip();
        let what = if unmet.len() == 1 { "it" } else { "them" };
        self.refuse_all(told, unmet, &format!("create {what} first, or in one batch"));
    }

    /// Each is told for itself, with its place, and some of them in one sentence with what to do.
    pub(super) fn refuse_all(&mut self, mut told: Vec<String>, unmet: Vec<Unmet>, advice: &str) {
        let Some(first) = unmet.first() else { return };
        if unmet.len() > MISSING {
            told.truncate(MISSING);
            told.push(format!("{} more", unmet.len() - MISSING));
        }
        let description = format!("{}; {advice}", told.join("; "));
        self.refuse(first.field.clone(), Error::Missing { description, unmet });
    }

    /// Whether the caller's grants reach what is referred to.
    pub(super) fn reached(&self, name: &ResourceName) -> bool {
        kinds::resolve(name).is_some_and(|kind| self.caller.reaches(name, kind.name()))
    }

    /// What is referred to, as the write leaves it, if it is there.
    fn target<'w>(
        &mut self,
        name: &ResourceName,
        written: &'w BTreeMap<ResourceName, Written>,
    ) -> Option<&'w Spec>
    where
        'a: 'w,
    {
        let stored = self.state.get(name.as_str());
        match (self.staged.get(name), stored) {
            (Some(Staged::Kept), _) => {
                let new = written.get(name).map(|written| &written.spec);
                new.or(stored.map(|entry| &entry.record.spec))
            }
            (None, Some(entry)) => {
                let revision = entry.record.update_revision;
                self.reads.push(Read::Unchanged { name: name.clone(), revision });
                Some(&entry.record.spec)
            }
            (Some(Staged::Deleted), _) | (None, None) => None,
        }
    }

    /// Nothing is deleted that something which stays refers to. What this write changes itself was looked at by
    /// [`Self::check_references`].
    pub(super) fn check_uses(&mut self) {
        let kinds: BTreeSet<KindName> = self.deleted.values().map(|(_, kind)| *kind).collect();
        let referring = kinds.into_iter().flat_map(kinds::referring_to);
        let prefixes: BTreeSet<&str> = referring.flat_map(kinds::prefixes_of).collect();
        let mut users: BTreeMap<ResourceName, BTreeSet<(ResourceName, KindName)>> = BTreeMap::new();
        for prefix in prefixes {
            self.reads
                .push(Read::NoneChangedAfter { prefix: prefix.to_owned(), revision: self.state.revision });
            for entry in self.state.beneath(prefix) {
                let record = &entry.record;
                let Some(kind) = kinds::kind_named(record.kind) else { continue };
                if self.deleted.contains_key(&record.name) || self.written.contains_key(&record.name) {
                    continue;
                }
                for reference in kind.references(&record.spec) {
                    if self.deleted.contains_key(&reference.name) {
                        let user = (record.name.clone(), record.kind);
                        users.entry(reference.name).or_default().insert(user);
                    }
                }
            }
        }
        for (name, users) in users {
            self.refuse_used(&name, &users);
        }
    }

    fn refuse_used(&mut self, name: &ResourceName, users: &BTreeSet<(ResourceName, KindName)>) {
        let Some((field, _)) = self.deleted.get(name) else { return };
        let description = format!(
            "{name} is in use by {}; change or delete what uses it first, or in one batch",
            listed(self.caller, users)
        );
        let (reason, subject) = ("IN_USE", name.to_string());
        self.refuse(field.clone(), Error::FailedPrecondition { reason, subject, description });
    }
}

/// Some of those who use something, by name, and how many more there are. Of those beyond the caller's grants neither names nor
/// number are given away.
pub(super) fn listed(caller: &Principal, users: &BTreeSet<(ResourceName, KindName)>) -> String {
    let seen: Vec<&ResourceName> =
        users.iter().filter(|(user, kind)| caller.reaches(user, *kind)).map(|(user, _)| user).collect();
    let mut listed: Vec<String> = seen.iter().take(NAMED).map(ToString::to_string).collect();
    if seen.len() > NAMED {
        listed.push(format!("{} more", seen.len() - NAMED));
    }
    if seen.len() < users.len() {
        listed.push(UNSEEN.to_owned());
    }
    listed.join(", ")
}
