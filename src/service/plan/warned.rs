//! What there is to know from now on of what stays as it is: a template whose provider's builder has lost the place of what the
//! template asks for, or whose model is deprecated. It was told only who wrote the template again.
//!
//! Nothing is refused for it, and nothing is declared as read: it is a hint.

use std::collections::BTreeMap;

use super::Planner;
use crate::{
    domain::ResourceName,
    kinds::{Reference, Targets},
    proto::v1::resource::Spec,
};

/// Warnings of what stays, at most: one change may be against very many.
const WARNINGS: usize = 20;
/// Of those that stay, who is looked at, at most: each costs as much as writing it.
const LOOKED_AT: usize = 200;

impl Planner<'_> {
    /// Tells what is new of those that stay, as far as the caller reaches them and all that they refer to.
    pub(super) fn warn_of_staying(&mut self) {
        for warning in self.new_warnings() {
            self.add_bounded_warning(warning);
        }
    }

    fn new_warnings(&self) -> Vec<String> {
        let turned: BTreeMap<&ResourceName, &Spec> = self
            .written
            .iter()
            .filter(|(name, written)| {
                let before = self.state.get(name.as_str());
                before.is_some_and(|entry| written.kind.turns_warnings(&entry.record.spec, &written.spec))
            })
            .map(|(name, written)| (name, &written.spec))
            .collect();
        let judging = self.judging(turned.keys().copied());
        let staying = self.staying_beside(&judging, |name| turned.contains_key(name));
        let reached = staying.filter(|(_, record, references)| {
            self.caller.reaches(&record.name, record.kind)
                && references.iter().all(|reference| self.reached(&reference.name))
        });
        let new = reached.take(LOOKED_AT).flat_map(|(kind, record, references)| {
            let before = self.targets_before(references);
            let mut after = before.clone();
            after.extend(before.keys().filter_map(|name| Some((name.clone(), *turned.get(name)?))));
            let known = kind.warn_of_targets(&record.spec, &before);
            let found = kind.warn_of_targets(&record.spec, &after).into_iter();
            let new = found.filter(move |warning| !known.contains(warning));
            new.map(move |warning| format!("{}: {warning}", record.name))
        });
        new.take(WARNINGS).collect()
    }

    /// What is referred to, as it is.
    fn targets_before(&self, references: Vec<Reference>) -> Targets<'_> {
        let target = |reference: Reference| {
            let entry = self.state.get(reference.name.as_str())?;
            Some((reference.name, &entry.record.spec))
        };
        references.into_iter().filter_map(target).collect()
    }
}
