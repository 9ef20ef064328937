//! What stays as it is while something that it refers to changes: a template keeps a model that takes what it asks for.
//!
//! Otherwise what was accepted once would be refused when it is exported and imported. As with deletes, the change is refused
//! and names what stands against it; of two writers of whom one narrows what the other begins to use, the later one is
//! planned again.

use std::collections::{BTreeMap, BTreeSet};

use super::{Operation, OperationKind, Planner, references::listed};
use crate::{
    domain::{Error, FieldViolation, KindName, Read, ResourceName, Spec},
    kinds::{self, Kind, Reference, Targets},
    view::Entry,
};

/// Who uses a resource that is changed, and what would be wrong with the first of them that the caller reaches.
#[derive(Default)]
struct Users {
    names: BTreeSet<(ResourceName, KindName)>,
    example: Option<FieldViolation>,
}

impl Planner<'_> {
    /// Nothing is changed so that something which stays no longer fits it. What this write changes itself was looked at by
    /// [`Self::check_references`]. Gives what an import is to leave as it is instead, with what is told of each.
    pub(super) fn check_narrowed(&mut self, operations: &[Operation]) -> BTreeMap<ResourceName, String> {
        let changed: BTreeSet<KindName> = self.changed_before().map(|(_, kind)| kind.name()).collect();
        let mut users: BTreeMap<ResourceName, Users> = BTreeMap::new();
        let state = self.state;
        let judging = kinds::registry().iter().copied();
        for kind in judging.filter(|kind| kind.judges().iter().any(|judged| changed.contains(judged))) {
            for prefix in kinds::prefixes_of(kind) {
                self.reads
                    .push(Read::NoneChangedAfter { prefix: prefix.to_owned(), revision: state.revision });
                for entry in state.beneath(prefix).filter(|entry| entry.kind() == kind.name()) {
                    self.judge(kind, entry, &mut users);
                }
            }
        }
        let yielding = if users.is_empty() { BTreeSet::new() } else { yielding(operations) };
        let (in_use, refused): (BTreeMap<_, _>, BTreeMap<_, _>) =
            users.into_iter().partition(|(name, _)| yielding.contains(name));
        for (name, users) in refused {
            self.refuse_narrowed(&name, &users);
        }
        let told = |(name, users): (ResourceName, Users)| {
            let what = self.narrowed(&name, &users);
            (name, format!("{what}; it stays as it was: change or delete what uses it, then import again"))
        };
        in_use.into_iter().map(told).collect()
    }

    /// A planner of the same write that leaves these as they are. Each use was judged by itself, so that leaving one lets no
    /// other stand against the write.
    pub(super) fn without(self, in_use: BTreeMap<ResourceName, String>) -> Self {
        let Self { parts, state, caller, in_use: mut known, .. } = self;
        known.extend(in_use);
        Self { in_use: known, ..Self::new(parts, state, caller, Vec::new()) }
    }

    /// What is there already and gets another content.
    fn changed_before(&self) -> impl Iterator<Item = (&ResourceName, &'static dyn Kind)> {
        let written = self.written.iter().filter(|(_, written)| written.changed);
        let there = written.filter(|(name, _)| self.state.get(name.as_str()).is_some());
        there.map(|(name, written)| (name, written.kind))
    }

    /// Looks at one that stays, beside what it refers to as it is and as it will be.
    fn judge(&self, kind: &dyn Kind, entry: &Entry, users: &mut BTreeMap<ResourceName, Users>) {
        let record = &entry.record;
        let stays = self.written.get(&record.name).is_none_or(|written| !written.changed);
        if !stays || self.deleted.contains_key(&record.name) {
            return;
        }
        let references = kind.references(&record.spec);
        for reference in &references {
            let Some(written) = self.written.get(&reference.name).filter(|written| written.changed) else {
                continue;
            };
            let before = self.targets(&references);
            let known = kind.check_targets(&record.spec, &before).violations;
            let mut after = before;
            after.insert(reference.name.clone(), &written.spec);
            let found = kind.check_targets(&record.spec, &after).violations;
            let Some(example) = found.into_iter().find(|violation| !known.contains(violation)) else {
                continue;
            };
            let users = users.entry(reference.name.clone()).or_default();
            users.names.insert((record.name.clone(), record.kind));
            // What is wrong may tell of anything that it refers to.
            let told = references.iter().all(|reference| self.reached(&reference.name));
            if told && self.caller.reaches(&record.name, record.kind) {
                users.example.get_or_insert(example);
            }
        }
    }

    /// What is referred to, as it is.
    fn targets(&self, references: &[Reference]) -> Targets<'_> {
        let spec = |name: &ResourceName| -> Option<&Spec> {
            self.state.get(name.as_str()).map(|entry| &entry.record.spec)
        };
        references
            .iter()
            .filter_map(|reference| Some((reference.name.clone(), spec(&reference.name)?)))
            .collect()
    }

    fn refuse_narrowed(&mut self, name: &ResourceName, users: &Users) {
        let Some(written) = self.written.get(name) else { return };
        let field = format!("{}resource.{}", written.path, written.kind.name());
        let description =
            format!("{}; change or delete what uses it first, or in one batch", self.narrowed(name, users));
        let (reason, subject) = ("IN_USE", name.to_string());
        self.refuse(field, Error::FailedPrecondition { reason, subject, description });
    }

    /// Who would no longer fit, and why, as far as the caller may know.
    fn narrowed(&self, name: &ResourceName, users: &Users) -> String {
        let example = users.example.as_ref();
        let example =
            example.map_or_else(String::new, |found| format!(" ({}: {})", found.field, found.description));
        let listed = listed(self.caller, &users.names);
        format!("{name} would no longer take what is asked of it by {listed}{example}")
    }
}

/// What an import leaves as it is where what uses it would no longer fit.
fn yielding(operations: &[Operation]) -> BTreeSet<ResourceName> {
    let name = |operation: &Operation| match &operation.action {
        OperationKind::Import { resource, yields: true, .. } => {
            kinds::parse_name(&resource.name).ok().map(|(name, _)| name)
        }
        _ => None,
    };
    operations.iter().filter_map(name).collect()
}
