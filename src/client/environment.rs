//! The environment that options and settings are looked up in.
//!
//! Owns which variables concern a client. Must not know what they mean.

use std::collections::BTreeMap;

use super::{secret::SecretText, variables};
use crate::setting_key;

/// The variables that concern this client, read once: a getter must not take the process's environment lock.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Environment(BTreeMap<String, SecretText>);

impl Environment {
    /// The variables of this process. Those that are not Unicode are left out.
    pub fn of_process() -> Self {
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::from_vars(std::env::vars_os().filter_map(unicode))
    }

    /// These variables, as far as they begin with `SIGNALBOX_` or are those of a provider. An empty one counts as not set.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        let is_ours = |name: &str| name.starts_with("SIGNALBOX_") || variables::is_looked_at(name);
        let ours = vars.into_iter().filter(|(name, value)| is_ours(name) && !value.is_empty());
        Self(ours.map(|(name, value)| (name, SecretText::new(value))).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(SecretText::expose)
    }

    /// A variable without the white space around it; one that has nothing else is not set.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).map(str::trim).filter(|text| !text.is_empty())
    }

    pub(super) fn settings(&self) -> BTreeMap<String, SecretText> {
        let named = self
            .0
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(setting_key::ENVIRONMENT_PREFIX)?, value)));
        named.map(|(key, value)| (setting_key::normalise(key).into_owned(), value.clone())).collect()
    }
}
