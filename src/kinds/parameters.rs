//! Generation, chat and reasoning parameters: their ranges, wherever they stand.
//!
//! Must not know any model; what a model takes of them is `model_fit`'s.

use crate::{
    domain::Violations,
    proto::v1::{ParameterRange, ParameterSupport},
};

/// Tokens of an answer, or of the thoughts before it.
pub(super) const MAX_TOKENS: u32 = 10_000_000;

/// A generation parameter that is a number within a range.
pub(super) struct Parameter {
    /// Its field, in the parameters and in what a model says of them.
    pub name: &'static str,
    /// The lowest value that any model takes.
    pub least: f64,
    /// The highest.
    pub most: f64,
    /// What a model says of it.
    pub support: fn(&ParameterSupport) -> Option<&ParameterRange>,
}

/// All of them, in the order of their fields.
pub(super) static PARAMETERS: [Parameter; 5] = [
    Parameter { name: "temperature", least: 0.0, most: 2.0, support: |support| support.temperature.as_ref() },
    Parameter { name: "top_p", least: 0.0, most: 1.0, support: |support| support.top_p.as_ref() },
    Parameter { name: "top_k", least: 1.0, most: 1000.0, support: |support| support.top_k.as_ref() },
    Parameter {
        name: "frequency_penalty",
        least: -2.0,
        most: 2.0,
        support: |support| support.frequency_penalty.as_ref(),
    },
    Parameter {
        name: "presence_penalty",
        least: -2.0,
        most: 2.0,
        support: |support| support.presence_penalty.as_ref(),
    },
];

impl Parameter {
    /// Whether a value is within the range; a value that is no number is not.
    pub fn holds(&self, value: f64) -> bool {
        (self.least..=self.most).contains(&value)
    }

    /// What is said of a value outside.
    pub fn problem(&self) -> String {
        format!("must be from {} to {}", self.least, self.most)
    }
}

/// Checks a number of tokens.
pub(super) fn check_tokens(path: &str, tokens: Option<u32>, violations: &mut Violations) {
    if tokens.is_some_and(|tokens| !(1..=MAX_TOKENS).contains(&tokens)) {
        violations.add(path, "OUT_OF_RANGE", format!("must be from 1 to {MAX_TOKENS}"));
    }
}
