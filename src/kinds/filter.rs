//! List filters: a subset of AIP-160 over names, labels, kinds and the fields of specs.
//!
//! `enabled = true AND (type = GROQ OR type = OPENAI) AND NOT labels.team : *`
//!
//! - `AND`, `OR`, `NOT` or `-`, parentheses. As in AIP-160 `OR` binds tighter than `AND`.
//! - `=`, `!=`, `<`, `<=`, `>`, `>=`, and `:` (has): a part of a text whatever its case, an element of a list, a
//!   key of a map; `: *` is true if the field is set.
//! - On the left `name`, `kind`, `labels`, `labels.<key>`, or a field of a spec, with its arm (`provider.type`) or
//!   without (`type`). On the right a word or a quoted text. Enumeration values go without their prefix too.
//! - A resource that has no such field is matched by no comparison, `!=` included. Where the resource could have the
//!   field and it is not set, `!=` holds and nothing else; texts, numbers and enumerations that are not set compare as
//!   their zero value.
//! - Secrets can't be filtered by, since a filter would tell what they are.
//!
//! A filter is checked against the descriptors when it is read; evaluating it can't fail. Nesting is bounded, and so is
//! the length of the text.

mod operand;
mod parse;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;

use prost_reflect::DynamicMessage;

use self::operand::Operand;
use super::{
    paths::{Found, Step, find},
    reflect,
};
use crate::domain::{
    KindName, ResourceName,
    record::{Labels, Spec},
    spec::kind_of,
};

/// A filter that was read and found to make sense.
#[derive(Clone, Debug)]
pub struct Filter(Expression);

/// Why a text is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: {message}")]
pub struct FilterError {
    /// The character that it went wrong at, from 1.
    pub position: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

#[derive(Clone, Debug)]
enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Compare(Subject, Comparison),
}

/// What stands on the left of a comparison, together with what is on its right.
#[derive(Clone, Debug)]
enum Subject {
    Name(Operand),
    Kind(Operand),
    Labels(Operand),
    Label(String, Operand),
    /// One for every kind that has such a field.
    Fields(Vec<SpecField>),
}

#[derive(Clone, Debug)]
struct SpecField {
    kind: KindName,
    /// From the resource, arm included.
    steps: Vec<Step>,
    operand: Operand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Has,
}

/// A resource as a filter sees it; its spec becomes a dynamic message only if a field is asked for.
struct Candidate<'a> {
    name: &'a ResourceName,
    labels: &'a Labels,
    spec: &'a Spec,
    message: OnceCell<DynamicMessage>,
}

impl Filter {
    /// Reads a filter. White space alone matches everything.
    ///
    /// # Errors
    /// Where the text goes wrong, and what would be right there.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Self::parse_of(text, None)
    }

    /// Reads a filter of what is all of one kind, of whose fields an error tells.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_of(text: &str, kind: Option<KindName>) -> Result<Self, FilterError> {
        parse::parse(text, kind).map(Filter)
    }

    /// Whether a resource matches.
    #[must_use]
    pub fn matches(&self, name: &ResourceName, labels: &Labels, spec: &Spec) -> bool {
        self.0.holds(&Candidate { name, labels, spec, message: OnceCell::new() })
    }
}

impl Expression {
    fn holds(&self, candidate: &Candidate<'_>) -> bool {
        match self {
            Expression::All(parts) => parts.iter().all(|part| part.holds(candidate)),
            Expression::Any(parts) => parts.iter().any(|part| part.holds(candidate)),
            Expression::Not(part) => !part.holds(candidate),
            Expression::Compare(subject, comparison) => subject.holds(*comparison, candidate),
        }
    }
}

impl Subject {
    fn holds(&self, comparison: Comparison, candidate: &Candidate<'_>) -> bool {
        match self {
            Subject::Name(operand) => operand.holds_for_text(comparison, Some(candidate.name.as_str())),
            Subject::Kind(operand) => operand.holds_for_text(comparison, Some(kind_of(candidate.spec).0)),
            Subject::Label(key, operand) => {
                operand.holds_for_text(comparison, candidate.labels.get(key).map(String::as_str))
            }
            Subject::Labels(operand) => operand.holds_for_keys(candidate.labels.keys().map(String::as_str)),
            Subject::Fields(fields) => {
                let kind = kind_of(candidate.spec);
                fields.iter().any(|field| field.kind == kind && field.holds(comparison, candidate))
            }
        }
    }
}

impl SpecField {
    fn holds(&self, comparison: Comparison, candidate: &Candidate<'_>) -> bool {
        let message = candidate.message.get_or_init(|| reflect::to_dynamic(candidate.spec));
        match find(message, &self.steps) {
            Found::Set(value) => self.operand.holds(comparison, Some(value)),
            // Not set: nothing has it, but it compares as its zero value.
            Found::Default(_) if self.operand.is_presence() => false,
            Found::Default(value) => self.operand.holds(comparison, Some(&value)),
            Found::Nothing => self.operand.holds(comparison, None),
        }
    }
}
