//! What stays as it is while something that it refers to changes: a template keeps a model that takes what it asks for.
//!
//! Otherwise what was accepted once would be refused when it is exported and imported. As with deletes, the change is refused
//! and names what stands against it; of two writers of whom one narrows what the other begins to use, the later one is
//! planned again.
//!
//! Only contracts are looked at (`kinds/contract.rs`): a write that leaves them as they are judges nobody, and relies on nobody.

use std::collections::{BTreeMap, BTreeSet};

use super::{Operation, OperationKind, Planner, references::listed};
use crate::{
    domain::{Error, FieldViolation, KindName, Read, Record, ResourceName, Unmet},
    kinds::{self, Contract, Contracts, Kind, Reference},
};

/// What to do about a use that stands against a change.
const ADVICE: &str = "change or delete what uses it first, or in one batch";

/// Who uses a resource that is changed, and what would be wrong with the first of them that the caller reaches.
#[derive(Default)]
struct Users {
    names: BTreeSet<(ResourceName, KindName)>,
    example: Option<FieldViolation>,
}

/// One that stays as it is, and refers to something whose contract becomes another one.
struct Stays<'s> {
    kind: &'static dyn Kind,
    record: &'s Record,
    /// The contracts of all that it refers to.
    held_to: BTreeMap<ResourceName, HeldTo<'s>>,
}

/// A contract as it is, and as the write leaves it, if that is another one.
struct HeldTo<'s> {
    before: Contract<'s>,
    after: Option<Contract<'s>>,
}

/// Why one that stays would no longer fit: whose changes do it, and what is wrong then.
struct Misfit(Vec<(ResourceName, FieldViolation)>);

/// What came of looking at all that stay.
struct Found {
    reads: Vec<Read>,
    /// Sentences, and each with its place.
    refused: Vec<(String, Unmet)>,
    in_use: BTreeMap<ResourceName, String>,
}

impl Planner<'_> {
    /// Nothing is changed so that something which stays no longer fits it. What this write changes itself was looked at by
    /// [`Self::check_references`]. Gives what an import is to leave as it is instead, with what is told of each.
    pub(super) fn check_narrowed(&mut self, operations: &[Operation]) -> BTreeMap<ResourceName, String> {
        let Found { reads, refused, in_use } = self.look_at_staying(operations);
        self.reads.extend(reads);
        self.refuse_narrowed(refused);
        in_use
    }

    /// All of them are told at once; one alone as what is deleted and in use is.
    fn refuse_narrowed(&mut self, refused: Vec<(String, Unmet)>) {
        let (told, refused): (Vec<String>, Vec<Unmet>) = refused.into_iter().unzip();
        match <[Unmet; 1]>::try_from(refused) {
            Ok([Unmet { field, reason, subject, description }]) => {
                self.refuse(field, Error::FailedPrecondition { reason, subject, description });
            }
            Err(several) => self.refuse_all(told, several, ADVICE),
        }
    }

    fn look_at_staying(&self, operations: &[Operation]) -> Found {
        let changed = self.changed_contracts();
        let judging = self.judging(changed.keys().copied());
        let staying = self.staying(&judging, &changed);
        let reads = self.relied_on(&judging, &staying);
        let mut misfits: Vec<Option<Misfit>> =
            staying.iter().map(|one| one.misfit(&BTreeSet::new())).collect();
        let in_use = match misfits.iter().any(Option::is_some) {
            true => self.leave(&staying, &mut misfits, &yielding(operations)),
            false => BTreeMap::new(),
        };
        let users = self.users(&staying, &misfits);
        let refused = users.iter().filter_map(|(name, users)| self.refused_for(name, users)).collect();
        Found { reads, refused, in_use }
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
            let found = misfits.iter().flatten().flat_map(Misfit::by).filter(yields);
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
                if one.held_to.keys().any(|name| new.contains(name)) {
                    *misfit = one.misfit(&left);
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

    /// What others are held to from now on, of all that is there already and gets another contract.
    fn changed_contracts(&self) -> BTreeMap<&ResourceName, Contract<'_>> {
        let mut changed = BTreeMap::new();
        for (name, written) in self.written.iter().filter(|(_, written)| written.changed) {
            let before = self.state.get(name.as_str());
            let before = before.and_then(|entry| written.kind.contract(&entry.record.spec));
            let after = written.kind.contract(&written.spec);
            if let (Some(before), Some(after)) = (before, after)
                && before != after
            {
                changed.insert(name, after);
            }
        }
        changed
    }

    /// The kinds that hold their resources to what is changed.
    pub(super) fn judging<'n>(
        &self,
        changed: impl Iterator<Item = &'n ResourceName>,
    ) -> Vec<&'static dyn Kind> {
        let written = changed.filter_map(|name| self.written.get(name));
        let changed: BTreeSet<KindName> = written.map(|written| written.kind.name()).collect();
        let judging = kinds::registry().iter().copied();
        judging.filter(|kind| kind.judges().iter().any(|judged| changed.contains(judged))).collect()
    }

    /// Who stays as it is and refers to what gets another contract.
    fn staying<'s>(
        &'s self,
        judging: &[&'static dyn Kind],
        changed: &BTreeMap<&ResourceName, Contract<'s>>,
    ) -> Vec<Stays<'s>> {
        let of_theirs = self.staying_beside(judging, |name| changed.contains_key(name));
        let held_to = |references: Vec<Reference>| {
            references.into_iter().filter_map(|reference| {
                let before = self.contract(&reference.name)?;
                let after = changed.get(&reference.name).copied();
                Some((reference.name, HeldTo { before, after }))
            })
        };
        of_theirs
            .map(|(kind, record, references)| Stays { kind, record, held_to: held_to(references).collect() })
            .collect()
    }

    /// Who stays as it is and refers to something that is `changed`, with all that it refers to.
    pub(super) fn staying_beside<'s>(
        &'s self,
        judging: &[&'static dyn Kind],
        changed: impl Fn(&ResourceName) -> bool,
    ) -> impl Iterator<Item = (&'static dyn Kind, &'s Record, Vec<Reference>)> {
        let beneath =
            judging.iter().flat_map(|kind| kinds::prefixes_of(*kind).map(move |prefix| (*kind, prefix)));
        let there = beneath.flat_map(|(kind, prefix)| {
            let there = self.state.beneath(prefix).filter(move |entry| entry.kind() == kind.name());
            there.map(move |entry| (kind, &*entry.record))
        });
        there.filter(|(_, record)| self.stays(record)).filter_map(move |(kind, record)| {
            let references = kind.references(&record.spec);
            let refers = references.iter().any(|reference| changed(&reference.name));
            refers.then_some((kind, record, references))
        })
    }

    /// Of those who judge none is to come or to change until the write is made. They are judged beside all that they are held to,
    /// also what this write leaves alone: another writer may change that meanwhile.
    fn relied_on(&self, judging: &[&'static dyn Kind], staying: &[Stays<'_>]) -> Vec<Read> {
        let revision = self.state.revision;
        let prefixes = judging.iter().flat_map(|kind| kinds::prefixes_of(*kind));
        let judged = prefixes.map(|prefix| Read::NoneChangedAfter { prefix: prefix.to_owned(), revision });
        let beside: BTreeSet<&ResourceName> = staying.iter().flat_map(|one| one.held_to.keys()).collect();
        let left_alone = beside.into_iter().filter(|name| !self.staged.contains_key(*name));
        let unchanged = left_alone.filter_map(|name| {
            let revision = self.state.get(name.as_str())?.record.update_revision;
            Some(Read::Unchanged { name: name.clone(), revision })
        });
        judged.chain(unchanged).collect()
    }

    fn stays(&self, record: &Record) -> bool {
        let written = self.written.get(&record.name).is_some_and(|written| written.changed);
        !written && !self.deleted.contains_key(&record.name)
    }

    /// What others are held to of a resource as it is.
    fn contract(&self, name: &ResourceName) -> Option<Contract<'_>> {
        let entry = self.state.get(name.as_str())?;
        kinds::kind_named(entry.kind())?.contract(&entry.record.spec)
    }

    /// Who is against the change of what.
    fn users(&self, staying: &[Stays<'_>], misfits: &[Option<Misfit>]) -> BTreeMap<ResourceName, Users> {
        let mut users: BTreeMap<ResourceName, Users> = BTreeMap::new();
        for (Stays { record, held_to, .. }, misfit) in staying.iter().zip(misfits) {
            let Some(Misfit(by)) = misfit else { continue };
            // What is wrong may tell of anything that it is held to.
            let told = held_to.keys().all(|name| self.reached(name));
            for (name, example) in by {
                let users = users.entry(name.clone()).or_default();
                users.names.insert((record.name.clone(), record.kind));
                if told && self.caller.reaches(&record.name, record.kind) {
                    users.example.get_or_insert_with(|| example.clone());
                }
            }
        }
        users
    }

    /// Why a change is refused, and where it stands.
    fn refused_for(&self, name: &ResourceName, users: &Users) -> Option<(String, Unmet)> {
        let written = self.written.get(name)?;
        let field = format!("{}resource.{}", written.path, written.kind.name());
        let told = self.narrowed(name, users);
        let description = format!("{told}; {ADVICE}");
        Some((told, Unmet { field, reason: "IN_USE", subject: name.to_string(), description }))
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

impl Stays<'_> {
    /// What would be wrong with it and is not yet, if only the changes came that `counts` says.
    fn broken_by(&self, counts: &dyn Fn(&ResourceName) -> bool) -> Option<FieldViolation> {
        let found = self.judged(counts);
        if found.is_empty() {
            return None;
        }
        let known = self.judged(&|_| false);
        // The words may tell of what is changed: what was wrong before in the same way is nothing new.
        let new = |found: &FieldViolation| {
            !known.iter().any(|before| (&before.field, &before.reason) == (&found.field, &found.reason))
        };
        found.into_iter().find(new)
    }

    fn judged(&self, counts: &dyn Fn(&ResourceName) -> bool) -> Vec<FieldViolation> {
        let mut contracts = Contracts::new();
        for (name, held) in &self.held_to {
            let after = held.after.filter(|_| counts(name));
            contracts.insert(name.as_str(), after.unwrap_or(held.before));
        }
        self.kind.check_targets(&self.record.spec, &contracts)
    }

    /// Looks at it as it is and as it will be, with `left` as they were. All that is changed counts together: two changes may fit
    /// one another, or each only what the other one takes away.
    fn misfit(&self, left: &BTreeSet<ResourceName>) -> Option<Misfit> {
        let counts = |name: &ResourceName| !left.contains(name);
        let example = self.broken_by(&counts)?;
        let changed = self.held_to.iter().filter(|(name, held)| held.after.is_some() && counts(name));
        let changed: Vec<&ResourceName> = changed.map(|(name, _)| name).collect();
        let fits_without =
            |name: &ResourceName| self.broken_by(&|other| counts(other) && other != name).is_none();
        let broken_by_it_alone = |name: &ResourceName| self.broken_by(&|other| other == name);
        // Without whom it would fit; if it would fit without none alone, who breaks it alone; else all of them together.
        let mut by: Vec<(ResourceName, FieldViolation)> = changed
            .iter()
            .filter(|name| fits_without(name))
            .map(|name| ((*name).clone(), example.clone()))
            .collect();
        if by.is_empty() {
            by.extend(changed.iter().filter_map(|name| Some(((*name).clone(), broken_by_it_alone(name)?))));
        }
        if by.is_empty() {
            by.extend(changed.into_iter().map(|name| (name.clone(), example.clone())));
        }
        Some(Misfit(by))
    }
}

impl Misfit {
    /// Whose changes do it.
    fn by(&self) -> impl Iterator<Item = &ResourceName> {
        self.0.iter().map(|(name, _)| name)
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
