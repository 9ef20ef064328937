//! What became of what was imported, and why something could not be.
//!
//! Names and reasons only: neither a report nor a problem has a place for a value.

use std::fmt;

use crate::proto::v1::Resource;

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
}

/// What a converter made.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    /// The resources, by name; none twice. They carry the labels of [`super::edited`].
    pub resources: Vec<Resource>,
    /// What became of each item, in the order of the source.
    pub items: Vec<Item>,
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
        }
    }
}

impl Imported {
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
