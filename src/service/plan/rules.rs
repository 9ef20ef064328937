//! Rules between resources that are no references: each kind looks at its changes beside the state as the whole write
//! leaves it. What a rule relied on is declared as read, so that of two writers who break it together the later one is
//! planned again, and refused.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use super::{Planner, Written, references::UNSEEN};
use crate::{
    domain::{Error, KindName, Principal, Read, ResourceName, Spec},
    kinds::{self, Outlook, Remark, Says, Turn},
    view::State,
};

/// The state as the write leaves it, and what was asked of it.
struct Afterwards<'a> {
    state: &'a State,
    written: &'a BTreeMap<ResourceName, Written>,
    deleted: &'a BTreeMap<ResourceName, (String, KindName)>,
    asked: RefCell<BTreeSet<String>>,
    reads: RefCell<Vec<Read>>,
}

impl Planner<'_> {
    /// Asks every kind about its changes. What stands against them is noted, what is worth knowing is a warning.
    pub(super) fn check_rules(&mut self) {
        let afterwards = Afterwards {
            state: self.state,
            written: &self.written,
            deleted: &self.deleted,
            asked: RefCell::default(),
            reads: RefCell::default(),
        };
        let mut found = Vec::new();
        let changed = self.written.iter().filter(|(_, written)| written.changed);
        for (name, Written { path, kind, spec, .. }) in changed {
            let turn = Turn { name, before: self.stored(name), after: Some(spec) };
            let remarks = kind.remarks(&turn, &afterwards);
            found.extend(remarks.into_iter().map(|remark| (name, format!("{path}resource."), remark)));
        }
        for (name, (field, kind)) in &self.deleted {
            let Some(kind) = kinds::kind_named(*kind) else { continue };
            let turn = Turn { name, before: self.stored(name), after: None };
            let remarks = kind.remarks(&turn, &afterwards);
            found.extend(remarks.into_iter().map(|remark| (name, field.clone(), remark)));
        }
        let reads = afterwards.reads.into_inner();
        let told: Vec<_> = found
            .into_iter()
            .filter_map(|(name, place, remark)| told(self.caller, name, &place, remark))
            .collect();
        self.reads.extend(reads);
        for told in told {
            match told {
                Told::Refusal(field, error) => self.refuse(field, error),
                Told::Warning(text) => self.warnings.push(text),
            }
        }
    }

    fn stored(&self, name: &ResourceName) -> Option<&Spec> {
        self.state.get(name.as_str()).map(|entry| &entry.record.spec)
    }
}

/// What the caller is told.
enum Told {
    Refusal(String, Error),
    Warning(String),
}

/// Who does not reach what a remark is about learns only that something stands against the change.
fn told(caller: &Principal, name: &ResourceName, place: &str, remark: Remark) -> Option<Told> {
    let because = kinds::parse_name(&remark.because);
    let reaches = because.is_ok_and(|(other, kind)| caller.reaches(&other, kind.name()));
    match remark.says {
        Says::Warning(text) => reaches.then_some(Told::Warning(text)),
        Says::Refused { field, reason, subject, description } => {
            let error = match reaches {
                true => Error::FailedPrecondition { reason, subject, description },
                false => Error::FailedPrecondition {
                    reason: "IN_USE",
                    subject: name.to_string(),
                    description: format!("{name} is in use by {UNSEEN}; change or delete what uses it first"),
                },
            };
            Some(Told::Refusal(format!("{place}{field}"), error))
        }
    }
}

impl Afterwards<'_> {
    /// What is found of a resource that the write leaves alone has to hold until it is made.
    fn declare(&self, name: &str, read: impl FnOnce() -> Option<Read>) {
        if self.asked.borrow_mut().insert(name.to_owned()) {
            self.reads.borrow_mut().extend(read());
        }
    }
}

impl Outlook for Afterwards<'_> {
    fn find(&self, name: &str) -> Option<&Spec> {
        if self.deleted.contains_key(name) {
            return None;
        }
        if let Some(written) = self.written.get(name) {
            return Some(&written.spec);
        }
        let Some(entry) = self.state.get(name) else {
            self.declare(name, || ResourceName::parse(name).ok().map(|name| Read::Absent { name }));
            return None;
        };
        let record = &entry.record;
        let read = || Read::Unchanged { name: record.name.clone(), revision: record.update_revision };
        self.declare(name, || Some(read()));
        Some(&record.spec)
    }

    fn any_beneath(&self, prefix: &str, such: &dyn Fn(&Spec) -> bool) -> bool {
        let written = self.written.iter().filter(|(name, _)| name.as_str().starts_with(prefix));
        if written.into_iter().any(|(_, written)| such(&written.spec)) {
            return true;
        }
        let stays =
            |name: &ResourceName| !self.deleted.contains_key(name) && !self.written.contains_key(name);
        let mut stored = self.state.beneath(prefix).map(|entry| &entry.record);
        let found = stored.find(|record| stays(&record.name) && such(&record.spec));
        // Asked for once more by its name, so that it is held.
        found.is_some_and(|record| self.find(record.name.as_str()).is_some())
    }

    fn all_beneath(&self, prefix: &str, such: &dyn Fn(&Spec) -> bool) -> BTreeSet<ResourceName> {
        let written = self.written.iter().map(|(name, written)| (name, &written.spec));
        let stays =
            |name: &ResourceName| !self.deleted.contains_key(name) && !self.written.contains_key(name);
        let stored = self.state.beneath(prefix).map(|entry| (&entry.record.name, &entry.record.spec));
        written
            .filter(|(name, _)| name.as_str().starts_with(prefix))
            .chain(stored.filter(|(name, _)| stays(name)))
            .filter(|(_, spec)| such(spec))
            .map(|(name, _)| name.clone())
            .collect()
    }
}
