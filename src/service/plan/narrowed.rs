//! What stays as it is while something that it refers to changes: a template keeps a model that takes what it asks for.
//!
//! Otherwise what was accepted once would be refused when it is exported and imported. As with deletes, the change is refused
//! and names what stands against it; of two writers of whom one narrows what the other begins to use, the later one is
//! planned again.

use std::collections::{BTreeMap, BTreeSet};

use super::{Operation, OperationKind, Planner, Written, references::listed};
use crate::{
    domain::{Error, FieldViolation, KindName, Read, Record, ResourceName, Spec},
    kinds::{self, Kind, Reference, Targets},
};

/// Warnings of what stays, at most: one change may be against very many.
const WARNINGS: usize = 20;

/// Who uses a resource that is changed, and what would be wrong with the first of them that the caller reaches.
#[derive(Default)]
struct Users {
    names: BTreeSet<(ResourceName, KindName)>,
    example: Option<FieldViolation>,
}

/// One that stays, and refers to what is changed.
struct Stays<'s> {
    kind: &'static dyn Kind,
    record: &'s Record,
    references: Vec<Reference>,
}

/// Why one that stays would no longer fit.
struct Misfit {
    /// Whose changes do it.
    by: Vec<ResourceName>,
    example: FieldViolation,
}

impl<'a> Planner<'a> {
    /// Nothing is changed so that something which stays no longer fits it. What this write changes itself was looked at by
    /// [`Self::check_references`]. Gives what an import is to leave as it is instead, with what is told of each.
    pub(super) fn check_narrowed(&mut self, operations: &[Operation]) -> BTreeMap<ResourceName, String> {
        let staying = self.staying();
        self.declare_relied_on(&staying);
        self.warn_of_staying(&staying);
        let mut misfits: Vec<Option<Misfit>> =
            staying.iter().map(|one| self.misfit(one, &BTreeSet::new())).collect();
        let yielding = match misfits.iter().any(Option::is_some) {
            true => yielding(operations),
            false => return BTreeMap::new(),
        };
        let in_use = self.leave(&staying, &mut misfits, &yielding);
        for (name, users) in self.users(&staying, &misfits) {
            self.refuse_narrowed(&name, &users);
        }
        in_use
    }

    /// Has what yields and would be against one that stays left as it is, and tells why. That may be what the change of another one
    /// counted on: whoever refers to it is looked at again.
    fn leave(
        &self,
        staying: &[Stays<'_>],
        misfits: &mut [Option<Misfit>],
        yielding: &BTreeSet<ResourceName>,
    ) -> BTreeMap<ResourceName, String> {
        let (mut left, mut in_use) = (BTreeSet::new(), BTreeMap::new());
        loop {
            let yields = |name: &&ResourceName| yielding.contains(*name) && !left.contains(*name);
            let found = misfits.iter().flatten().flat_map(|misfit| misfit.by.iter()).filter(yields);
            let new: BTreeSet<ResourceName> = found.cloned().collect();
            if new.is_empty() {
                break;
            }
            for (name, users) in
                self.users(staying, misfits).into_iter().filter(|(name, _)| new.contains(name))
            {
                let what = self.narrowed(&name, &users);
                let told = "it stays as it was: change or delete what uses it, then import again";
                in_use.insert(name, format!("{what}; {told}"));
            }
            left.extend(new.iter().cloned());
            for (one, misfit) in staying.iter().zip(misfits.iter_mut()) {
                if one.references.iter().any(|reference| new.contains(&reference.name)) {
                    *misfit = self.misfit(one, &left);
                }
            }
        }
        in_use
    }

    /// A planner of the same write that leaves these as they are.
    pub(super) fn without(self, in_use: BTreeMap<ResourceName, String>) -> Self {
        let Self { parts, state, caller, in_use: mut known, .. } = self;
        known.extend(in_use);
        Self { in_use: known, ..Self::new(parts, state, caller, Vec::new()) }
    }

    /// Tells what there is to know from now on of those that stay, as if they were written again: a builder that has lost the place
    /// of what a template asks for, or a model that is deprecated.
    fn warn_of_staying(&mut self, staying: &[Stays<'_>]) {
        let reached = |one: &&Stays<'_>| {
            self.caller.reaches(&one.record.name, one.record.kind)
                && one.references.iter().all(|reference| self.reached(&reference.name))
        };
        let mut told = Vec::new();
        for Stays { kind, record, references } in staying.iter().filter(reached) {
            let before = self.targets(references);
            let mut after = before.clone();
            let changed = references.iter().map(|reference| &reference.name);
            after.extend(changed.filter_map(|name| Some((name.clone(), &self.changed(name)?.spec))));
            let known = kind.check_targets(&record.spec, &before).warnings;
            let found = kind.check_targets(&record.spec, &after).warnings.into_iter();
            let new = found.filter(|warning| !known.contains(warning));
            told.extend(new.map(|warning| format!("{}: {warning}", record.name)));
        }
        for warning in told.into_iter().take(WARNINGS) {
            self.add_bounded_warning(warning);
        }
    }

    /// Who stays as it is and refers to what is changed.
    fn staying(&mut self) -> Vec<Stays<'a>> {
        let changed: BTreeSet<KindName> = self.changed_before().map(|(_, kind)| kind.name()).collect();
        let state = self.state;
        let mut staying = Vec::new();
        let judging = kinds::registry().iter().copied();
        for kind in judging.filter(|kind| kind.judges().iter().any(|judged| changed.contains(judged))) {
            for prefix in kinds::prefixes_of(kind) {
                self.reads
                    .push(Read::NoneChangedAfter { prefix: prefix.to_owned(), revision: state.revision });
                let there = state.beneath(prefix).filter(|entry| entry.kind() == kind.name());
                let stays = there.filter(|entry| self.stays(&entry.record)).map(|entry| Stays {
                    kind,
                    record: &entry.record,
                    references: kind.references(&entry.record.spec),
                });
                staying.extend(stays.filter(|one| {
                    one.references.iter().any(|reference| self.changed(&reference.name).is_some())
                }));
            }
        }
        staying
    }

    /// They are judged beside all that they refer to, also what this write leaves alone: another writer may change that meanwhile.
    fn declare_relied_on(&mut self, staying: &[Stays<'_>]) {
        let referred = staying.iter().flat_map(|one| &one.references).map(|reference| &reference.name);
        for name in referred.collect::<BTreeSet<_>>() {
            if let (None, Some(entry)) = (self.staged.get(name), self.state.get(name.as_str())) {
                let revision = entry.record.update_revision;
                self.reads.push(Read::Unchanged { name: name.clone(), revision });
            }
        }
    }

    /// What is there already and gets another content.
    fn changed_before(&self) -> impl Iterator<Item = (&ResourceName, &'static dyn Kind)> {
        let written = self.written.iter().filter(|(_, written)| written.changed);
        let there = written.filter(|(name, _)| self.state.get(name.as_str()).is_some());
        there.map(|(name, written)| (name, written.kind))
    }

    fn stays(&self, record: &Record) -> bool {
        let written = self.written.get(&record.name).is_some_and(|written| written.changed);
        !written && !self.deleted.contains_key(&record.name)
    }

    fn changed(&self, name: &ResourceName) -> Option<&Written> {
        self.written.get(name).filter(|written| written.changed)
    }

    /// Looks at one that stays beside what it refers to, as it is and as it will be, with `left` as they were. All that is changed
    /// counts together: two changes may fit one another, or each only what the other one takes away.
    fn misfit(&self, one: &Stays<'_>, left: &BTreeSet<ResourceName>) -> Option<Misfit> {
        let Stays { kind, record, references } = one;
        let before = self.targets(references);
        let known = kind.check_targets(&record.spec, &before).violations;
        let changed: Vec<(&ResourceName, &Spec)> = references
            .iter()
            .filter(|reference| !left.contains(&reference.name))
            .filter_map(|reference| Some((&reference.name, &self.changed(&reference.name)?.spec)))
            .collect();
        let broken = |counts: &dyn Fn(&ResourceName) -> bool| {
            let mut after = before.clone();
            after.extend(
                changed.iter().filter(|(name, _)| counts(name)).map(|(name, spec)| ((*name).clone(), *spec)),
            );
            let found = kind.check_targets(&record.spec, &after).violations;
            // The words may tell of what is changed: what was wrong before in the same way is nothing new.
            let new = |found: &FieldViolation| {
                !known.iter().any(|before| (&before.field, &before.reason) == (&found.field, &found.reason))
            };
            found.into_iter().find(new)
        };
        let example = broken(&|_| true)?;
        let those = |does: &dyn Fn(&ResourceName) -> bool| -> Vec<ResourceName> {
            changed.iter().map(|(name, _)| (*name).clone()).filter(|name| does(name)).collect()
        };
        // Without whom it would fit; if it would fit without none alone, who breaks it alone; else all of them together.
        let by = [
            those(&|name| broken(&|other| other != name).is_none()),
            those(&|name| broken(&|other| other == name).is_some()),
            those(&|_| true),
        ];
        Some(Misfit { by: by.into_iter().find(|by| !by.is_empty()).unwrap_or_default(), example })
    }

    /// Who is against the change of what.
    fn users(&self, staying: &[Stays<'_>], misfits: &[Option<Misfit>]) -> BTreeMap<ResourceName, Users> {
        let mut users: BTreeMap<ResourceName, Users> = BTreeMap::new();
        for (Stays { record, references, .. }, misfit) in staying.iter().zip(misfits) {
            let Some(Misfit { by, example }) = misfit else { continue };
            // What is wrong may tell of anything that it refers to.
            let told = references.iter().all(|reference| self.reached(&reference.name));
            for name in by {
                let users = users.entry(name.clone()).or_default();
                users.names.insert((record.name.clone(), record.kind));
                if told && self.caller.reaches(&record.name, record.kind) {
                    users.example.get_or_insert_with(|| example.clone());
                }
            }
        }
        users
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
