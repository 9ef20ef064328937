//! Gathers what a converter makes, and checks it by the rules of its kind before anybody is given it.
//!
//! Must not know any format.

use std::collections::BTreeMap;

use super::{Imported, Item, Outcome, Problem, Problems, edited};
use crate::{
    domain::{FieldViolation, record::Spec},
    kinds::{self, CheckContext},
    proto::v1::Resource,
};

/// What was made so far.
pub struct Gathered {
    format: &'static str,
    resources: BTreeMap<String, Made>,
    items: Vec<Item>,
    problems: Vec<Problem>,
    only_new: BTreeMap<String, &'static str>,
    /// The last number that was found free behind a name.
    numbered: BTreeMap<String, u32>,
}

/// A resource, and where it comes from.
struct Made {
    from: String,
    spec: Spec,
}

impl Gathered {
    /// Nothing yet, of this format.
    #[must_use]
    pub fn new(format: &'static str) -> Self {
        Self {
            format,
            resources: BTreeMap::new(),
            items: Vec::new(),
            problems: Vec::new(),
            only_new: BTreeMap::new(),
            numbered: BTreeMap::new(),
        }
    }

    /// A resource, without an item of the report.
    pub fn put(&mut self, from: &str, name: impl Into<String>, spec: Spec) {
        let (name, from) = (name.into(), from.to_owned());
        match self.resources.get(&name) {
            Some(other) => {
                let what = format!("would be {name}, which {} is already; rename one of them", other.from);
                self.problem(from, what);
            }
            None => {
                self.resources.insert(name, Made { from, spec });
            }
        }
    }

    /// The spec that was put under a name.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Spec> {
        self.resources.get_mut(name).map(|made| &mut made.spec)
    }

    /// Lets a resource be made only where there is none in the store; `why` one that is there stays.
    pub fn only_new(&mut self, name: impl Into<String>, why: &'static str) {
        self.only_new.insert(name.into(), why);
    }

    /// Whether there is a resource of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.resources.contains_key(name)
    }

    /// An id that nothing of a collection has so far: the wanted one, or with a number behind it. Many may want the same: the
    /// numbers that were taken before are not tried again.
    pub fn free_id(&mut self, collection: &str, wanted: &str) -> String {
        let name = format!("{collection}/{wanted}");
        let mut number = self.numbered.get(&name).copied().unwrap_or(1);
        let id = loop {
            let id = if number == 1 { wanted.to_owned() } else { format!("{wanted}-{number}") };
            if !self.has(&format!("{collection}/{id}")) {
                break id;
            }
            number += 1;
        };
        self.numbered.insert(name, number);
        id
    }

    /// What became of an item that went into the resource `to`.
    pub fn item(
        &mut self,
        from: impl Into<String>,
        to: impl Into<String>,
        outcome: Outcome,
        note: impl Into<String>,
    ) {
        self.items.push(Item { from: from.into(), to: to.into(), outcome, note: note.into() });
    }

    /// An item that was taken over as it was.
    pub fn imported(&mut self, from: impl Into<String>, to: impl Into<String>) {
        self.item(from, to, Outcome::Imported, "");
    }

    /// An item that was not carried over, and why.
    pub fn left_out(&mut self, from: impl Into<String>, why: impl Into<String>) {
        self.item(from, "", Outcome::LeftOut, why);
    }

    /// Something that fails the import.
    pub fn problem(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.problems.push(Problem { place: place.into(), what: what.into() });
    }

    /// Whether something fails the import already.
    #[must_use]
    pub fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Several of them.
    pub fn problems(&mut self, problems: Problems) {
        self.problems.extend(problems.0);
    }

    /// Everything, checked and labelled.
    ///
    /// # Errors
    /// Every problem that was noted, and everything that the kinds refuse.
    pub fn finish(mut self) -> Result<Imported, Problems> {
        let mut resources = Vec::with_capacity(self.resources.len());
        for (name, Made { from, spec }) in std::mem::take(&mut self.resources) {
            for violation in violations(&name, &spec) {
                let what = format!("{} {}", violation.field, violation.description);
                self.problem(from.clone(), format!("{name} can't be made of it: {what}"));
            }
            let mut resource = Resource { name, spec: Some(spec), ..Resource::default() };
            edited::stamp(&mut resource, self.format);
            resources.push(resource);
        }
        if !self.problems.is_empty() {
            return Err(Problems(self.problems));
        }
        Ok(Imported { resources, items: self.items, only_new: self.only_new })
    }
}

/// What the kind of a new resource has against it. References are the server's to look up.
#[must_use]
pub fn violations(name: &str, spec: &Spec) -> Vec<FieldViolation> {
    let (name, kind) = match kinds::parse_name(name) {
        Ok(found) => found,
        Err(problem) => return vec![FieldViolation::new("name", "INVALID_NAME", problem)],
    };
    let mut spec = spec.clone();
    if let Some(violation) = kinds::check_arm(kind, &name, &spec) {
        return vec![violation];
    }
    kind.fill_defaults(&mut spec, &name);
    let secrets = kinds::secrets::split(&mut spec);
    kinds::check(
        kind,
        &CheckContext { name: &name, spec: &spec, before: None, secrets: &secrets, imported: true },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::SettingSpec;

    /// Each was looked for from the first on: a dump of many rows of one name took minutes.
    #[test]
    fn regression_many_of_one_name_are_numbered_without_trying_all() {
        let mut made = Gathered::new("test");
        let spec = || Spec::Setting(SettingSpec::default());
        made.put("row 1", "settings/x-3", spec());
        let ids: Vec<String> = (0..20_000)
            .map(|_| {
                let id = made.free_id("settings", "x");
                made.put("row", format!("settings/{id}"), spec());
                id
            })
            .collect();
        assert_eq!(ids[..4], ["x", "x-2", "x-4", "x-5"]);
        assert_eq!(ids.last().map(String::as_str), Some("x-20001"));
        assert!(!made.has_problems());
    }
}
