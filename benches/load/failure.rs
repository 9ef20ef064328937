//! What goes wrong in a run, in words: nobody acts on the kind of an error here, everybody reads it.

use std::{error::Error, fmt};

/// A result of the load generator.
pub type Outcome<T> = Result<T, Failure>;

/// Why a run ended.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A failure that no error stands behind.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            // tonic repeats its cause in its own words.
            let more = error.to_string();
            if !text.ends_with(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        Self(text)
    }
}

/// Says what was being done when it went wrong.
pub trait Context<T> {
    /// The same failure, with what was being done in front.
    fn context(self, doing: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: Into<Failure>> Context<T> for Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Outcome<T> {
        self.map_err(|error| Failure(format!("{doing}: {}", error.into())))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, missing: impl fmt::Display) -> Outcome<T> {
        self.ok_or_else(|| Failure(missing.to_string()))
    }
}
