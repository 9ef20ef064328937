//! What became of what was imported, and why something could not be.
//!
//! Names and reasons only: neither a report nor a problem has a place for a value.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{gather::is_within, parts::DEFAULT_ROUTER};
use crate::proto::v1::Resource;

const KEPT: &str =
    "exists, and was made here, was edited since it was imported, or holds a secret; --replace overwrites it";
const PROVIDER_KEPT: &str = "exists, and was made here, was edited since it was imported, holds a secret, or has keys that were saved for \
                             another `base_url` than the file says; --replace overwrites it, and to have both, store one by hand \
                             under another name";
const KEY_KEPT: &str = "NOT imported: a key of this name exists, and keeps its value; if this is another one, store it under \
                        another name, or overwrite that one with --replace";

/// Why a key stays that has no value to keep.
pub const STILL_MISSING: &str = "NOT imported: a key of this name exists, which was made here or edited since it was imported, and its \
                                 value is MISSING still; give it by hand";

const ELSEWHERE: &str = "NOT imported: its provider stays as it is, and points elsewhere than the file says, so that the key would go \
                         there; compare their `base_url`, then store the key by hand, or overwrite both with --replace";

const IN_USE: &str = "NOT changed: what uses it here would no longer fit, which a warning tells; change that, then import again";

const DELETED: &str =
    "was deleted here, and stays so; `signalbox rollback` brings it back, and --replace all of them";

const NOT_ACTIVE: &str = "NOT turned: the provider that the file says is active stays as it is, and points elsewhere than the file \
                          says; compare their `base_url`, then `signalbox switch` to it, or overwrite both with --replace";

const FIELD_KEPT: &str = "the type has a default there, which stays, or the provider can't be it; `signalbox default` shows and \
                          changes it";

/// Why the store has left a resource alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is there already.
    Exists,
    /// It holds a secret, and what it would live beneath points elsewhere than the source says; or it would make such a
    /// provider active.
    Elsewhere,
    /// Somebody has deleted it, and nobody asked for it by name.
    Deleted,
    /// What uses it would no longer fit.
    InUse,
}

/// What became of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was taken over as it was.
    Imported,
    /// It was taken over with a change, which the note tells.
    Changed,
    /// It was not valid, and a default stands in its place.
    Defaulted,
    /// It was not carried over.
    LeftOut,
    /// It is not valid, and nothing came of it.
    Refused,
    /// What the store has of it stays as it is.
    Kept,
    /// The store has it so already.
    Unchanged,
}

/// One item of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it stands: a variable, a path in the file, a row.
    pub from: String,
    /// The resource that it went into; empty if none.
    pub to: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, or what to know of it; may be empty.
    pub note: String,
    /// The one field of the resource that it is, where that is filled in apart from the rest; else empty.
    pub field: String,
}

impl Item {
    /// An item that is no single field.
    #[must_use]
    pub fn new(
        from: impl Into<String>,
        to: impl Into<String>,
        outcome: Outcome,
        note: impl Into<String>,
    ) -> Self {
        Self { from: from.into(), to: to.into(), outcome, note: note.into(), field: String::new() }
    }
}

/// What a converter made.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    /// The resources, by name; none twice. They carry the labels of [`super::edited`].
    pub resources: Vec<Resource>,
    /// What became of each item, in the order of the source.
    pub items: Vec<Item>,
    /// Those of the resources that are to be made only where there are none, however an import treats what exists, and why
    /// one that exists stays.
    pub only_new: BTreeMap<String, &'static str>,
    /// The fields of some of these that are filled in where one exists without them, by name.
    pub fills: BTreeMap<String, Vec<String>>,
    /// The providers that a file of models has models of, asked for or not, as their names begin.
    pub providers: BTreeSet<String>,
    /// The ids of the providers that the source has no names for, and what they were made of: the same, or without a number.
    pub made_up: BTreeMap<String, String>,
    /// Why some of what exists was kept, by name, where somebody looked.
    pub because: BTreeMap<String, &'static str>,
    /// What is not valid. Nothing was made of it, nor of what goes with it.
    pub problems: Vec<Problem>,
}

/// Something that keeps a source from being imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: file with line or path, or the name of a variable.
    pub place: String,
    /// What is wrong, and what would be right. Never the value.
    pub what: String,
}

/// Everything that keeps a source from being imported; at least one problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Outcome {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Imported => "imported",
            Outcome::Changed => "changed",
            Outcome::Defaulted => "default used",
            Outcome::LeftOut => "not carried over",
            Outcome::Refused => "not valid",
            Outcome::Kept => "kept",
            Outcome::Unchanged => "unchanged",
        }
    }
}

impl Imported {
    /// Everything, or nothing: the rule for all formats.
    ///
    /// # Errors
    /// Everything that is not valid.
    pub fn whole(self) -> Result<Self, Problems> {
        if self.problems.is_empty() { Ok(self) } else { Err(Problems(self.problems)) }
    }

    /// What is valid; the rest is told as an item for each problem, and once.
    #[must_use]
    pub fn without_invalid(mut self) -> Self {
        let mut refused: Vec<Problem> = Vec::new();
        for problem in std::mem::take(&mut self.problems) {
            if !refused.contains(&problem) {
                refused.push(problem);
            }
        }
        let told = |item: &Item| refused.iter().any(|problem| is_within(&problem.place, &item.from));
        self.items.retain(|item| item.outcome != Outcome::Refused || !told(item));
        let refused = refused.into_iter();
        let item = |Problem { place, what }| Item::new(place, "", Outcome::Refused, what);
        self.items.extend(refused.map(item));
        self
    }

    /// Says which fields of a resource that exists the import changes: once for each, where the resource is told first.
    pub fn changes(&mut self, fields: &BTreeMap<String, Vec<String>>) {
        let mut told = BTreeSet::new();
        let taken = |item: &&mut Item| {
            matches!(item.outcome, Outcome::Imported | Outcome::Changed | Outcome::Defaulted)
        };
        for item in self.items.iter_mut().filter(taken) {
            let Some(fields) = fields.get(&item.to).filter(|_| told.insert(item.to.clone())) else {
                continue;
            };
            let end = if item.note.is_empty() { "" } else { "; " };
            item.note = format!("{}{end}changes {}", item.note, fields.join(", "));
        }
    }

    /// Says of the items of the resources that the store left alone that nothing came of them.
    pub fn keep(&mut self, kept: &BTreeMap<String, Kept>) {
        for index in 0..self.items.len() {
            let item = &self.items[index];
            if let Some(why) =
                kept.get(&item.to).filter(|_| !matches!(item.outcome, Outcome::LeftOut | Outcome::Refused))
            {
                let note = self.why_kept(&item.to, *why).into_owned();
                let item = &mut self.items[index];
                (item.outcome, item.note) = (Outcome::Kept, note);
            }
        }
    }

    /// Says of the items of resources that were there which of their fields were filled in, by name: all else of them stays.
    pub fn filled(&mut self, fields: &BTreeMap<String, BTreeSet<String>>) {
        for item in self.items.iter_mut().filter(|item| item.outcome != Outcome::Refused) {
            let Some(changed) = fields.get(&item.to) else { continue };
            if changed.contains(&item.field) {
                continue;
            }
            let why = self.only_new.get(&item.to).copied().unwrap_or(KEPT);
            let why = if item.field.is_empty() { why } else { FIELD_KEPT };
            (item.outcome, item.note) = (Outcome::Kept, why.to_owned());
        }
    }

    /// Says of the items of the resources that the store had so already that nothing has changed. Notes stay: they tell of the
    /// file.
    pub fn unchanged(&mut self, names: &BTreeSet<String>) {
        let as_it_was = |item: &&mut Item| matches!(item.outcome, Outcome::Imported | Outcome::Changed);
        for item in self.items.iter_mut().filter(as_it_was).filter(|item| names.contains(&item.to)) {
            item.outcome = Outcome::Unchanged;
        }
    }

    /// Why a resource was left alone, in words.
    #[must_use]
    pub fn why_kept(&self, name: &str, why: Kept) -> Cow<'static, str> {
        let told: &'static str = match self.only_new.get(name) {
            _ if why == Kept::Elsewhere && name == DEFAULT_ROUTER => NOT_ACTIVE,
            _ if why == Kept::Elsewhere => ELSEWHERE,
            _ if why == Kept::Deleted => DELETED,
            _ if why == Kept::InUse => IN_USE,
            Some(why) => why,
            None => match self.because.get(name) {
                Some(why) => return format!("{why}; --replace overwrites it").into(),
                None if name.contains("/apiKeys/") => KEY_KEPT,
                None if name.starts_with("providers/") => PROVIDER_KEPT,
                None => KEPT,
            },
        };
        told.into()
    }

    /// How many items had this outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.items.iter().filter(|item| item.outcome == outcome).count()
    }
}

impl Problems {
    /// A single one.
    #[must_use]
    pub fn one(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self(vec![Problem { place: place.into(), what: what.into() }])
    }
}

impl fmt::Display for Item {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.from)?;
        if !self.to.is_empty() {
            write!(formatter, " -> {}", self.to)?;
        }
        write!(formatter, ": {}", self.outcome.word())?;
        if !self.note.is_empty() {
            write!(formatter, ": {}", self.note)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.what)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(formatter, "{end}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_what_was_kept_is_not_told_as_imported() {
        let item = |to: &str, outcome| Item::new("f", to, outcome, "n");
        let mut imported = Imported {
            items: vec![
                item("providers/a/apiKeys/b", Outcome::Imported),
                item("providers/a", Outcome::Changed),
                item("routers/default", Outcome::Imported),
                item("models/a/b", Outcome::Imported),
                item("", Outcome::LeftOut),
                item("providers/a/apiKeys/c", Outcome::Imported),
            ],
            only_new: BTreeMap::from([("routers/default".to_owned(), "stays")]),
            ..Imported::default()
        };
        let kept = [
            ("providers/a/apiKeys/b", Kept::Exists),
            ("providers/a/apiKeys/c", Kept::Elsewhere),
            ("providers/a", Kept::Exists),
            ("routers/default", Kept::Exists),
        ];
        imported.keep(&kept.map(|(name, why)| (name.to_owned(), why)).into());
        let told: Vec<String> = imported.items.iter().map(ToString::to_string).collect();
        assert!(told[0].starts_with("f -> providers/a/apiKeys/b: kept: NOT imported"), "{}", told[0]);
        assert!(told[1].starts_with("f -> providers/a: kept: exists"), "{}", told[1]);
        assert_eq!(
            told[2..5],
            ["f -> routers/default: kept: stays", "f -> models/a/b: imported: n", "f: not carried over: n"]
        );
        assert!(told[5].contains("NOT imported: its provider stays as it is"), "{}", told[5]);
        assert_eq!(imported.count(Outcome::Kept), 4);
    }

    #[test]
    fn regression_what_was_so_already_is_not_told_as_imported() {
        let item = |to: &str, outcome| Item::new("f", to, outcome, "");
        let mut imported = Imported {
            items: vec![
                item("providers/a", Outcome::Imported),
                item("providers/b", Outcome::Imported),
                item("providers/a", Outcome::LeftOut),
            ],
            ..Imported::default()
        };
        imported.unchanged(&["providers/a".to_owned()].into());
        let found: Vec<Outcome> = imported.items.iter().map(|item| item.outcome).collect();
        assert_eq!(found, [Outcome::Unchanged, Outcome::Imported, Outcome::LeftOut]);
    }
}
