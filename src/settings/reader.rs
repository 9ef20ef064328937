//! Looks options up: flag before environment before file before default.
//!
//! It collects what is wrong instead of stopping at it, so that an operator sees everything at once.

use std::{collections::BTreeMap, ffi::OsStr};

use super::{
    environment::Environment,
    file::Values,
    options::{Opt, Problem},
    secret::SecretText,
    values::Wrong,
};

/// Flags as they were given, by their name without dashes.
pub type Flags = BTreeMap<&'static str, String>;

/// The process's environment, or a test's.
pub type Env<'a> = &'a Environment;

/// Reads options from all sources.
pub struct Reader<'a> {
    flags: &'a Flags,
    env: Env<'a>,
    file: Values,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// A reader that has no file yet.
    #[must_use]
    pub fn new(flags: &'a Flags, env: Env<'a>) -> Self {
        Self { flags, env, file: Values::new(), problems: Vec::new() }
    }

    /// Gives it the file's values.
    pub fn set_file(&mut self, file: Values) {
        self.file = file;
    }

    /// Notes something that is wrong.
    pub fn complain(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Everything that was wrong so far.
    #[must_use]
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Whether a variable is set to anything.
    #[must_use]
    pub fn is_in_env(&self, name: &str) -> bool {
        self.env.get(name).is_some_and(|value| !value.is_empty())
    }

    /// The value of an option that always has one. `None` only after a complaint.
    pub fn get<T>(&mut self, option: &'static Opt, parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<T> {
        let found = self.optional(option, parse)?;
        if found.is_none() {
            self.complain(Problem::with(option, "is required"));
        }
        found
    }

    /// The value of an option that may have none. `None` only after a complaint.
    pub fn optional<T>(
        &mut self,
        option: &'static Opt,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Option<T>> {
        let Some(text) = self.text(option)? else { return Some(None) };
        match parse(text.trim()) {
            Ok(value) => Some(Some(value)),
            Err(wrong) => {
                self.complain(Problem::with(option, wrong));
                None
            }
        }
    }

    /// A secret from the environment. Set but empty is wrong: it mostly means that a reference came to nothing.
    pub fn secret(&mut self, option: &'static Opt) -> Option<Option<SecretText>> {
        match self.variable(option)? {
            Some(text) if text.trim().is_empty() => {
                self.complain(Problem::with(option, "is set but empty; give it a value or unset it"));
                None
            }
            found => Some(found.map(SecretText::new)),
        }
    }

    fn text(&mut self, option: &'static Opt) -> Option<Option<String>> {
        if let Some(text) = option.flag.and_then(|flag| self.flags.get(flag)) {
            return Some(Some(text.clone()));
        }
        if let Some(text) = self.variable(option)?.filter(|text| !text.is_empty()) {
            return Some(Some(text));
        }
        let from_file = option.key.and_then(|key| self.file.get(key)).cloned();
        let default = (!option.default.is_empty()).then(|| option.default.to_owned());
        Some(from_file.or(default))
    }

    fn variable(&mut self, option: &'static Opt) -> Option<Option<String>> {
        match self.env.get(option.env).map(OsStr::to_str) {
            None => Some(None),
            Some(Some(text)) => Some(Some(text.to_owned())),
            Some(None) => {
                self.complain(Problem::with(option, "is not valid UTF-8"));
                None
            }
        }
    }
}
