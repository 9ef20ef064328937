//! `extra_headers` of entries: headers of the provider that an entry is of.

use super::{Converter, Outcome, REFERENCE, Tree, Value, parts};
use crate::proto::v1::{ProviderSpec, Secret, secret::State};

const FIELD: &str = "litellm_params.extra_headers";

/// What sets providers apart by their headers.
pub(super) fn apart(headers: &[(String, Tree)]) -> Vec<String> {
    let mut told: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_json())).collect();
    told.sort();
    told
}

impl Converter<'_> {
    /// The headers of an entry, as they stand there.
    pub(super) fn extra_headers<'t>(&mut self, path: &str, params: &'t Tree) -> &'t [(String, Tree)] {
        match params.get("extra_headers") {
            None | Some(Tree::Null) => &[],
            Some(Tree::Map(headers)) => headers,
            Some(other) => {
                let what = format!("is {}; it has to be a map of headers", other.what());
                self.made().problem(format!("{path}.{FIELD}"), what);
                &[]
            }
        }
    }

    /// Gives a provider headers. What carries credentials is sealed, and so is what a reference stands for, since that may be
    /// anything.
    pub(super) fn headers(
        &mut self,
        path: &str,
        provider: &str,
        spec: &mut ProviderSpec,
        headers: &[(String, Tree)],
    ) {
        for (name, value) in headers {
            let from = format!("{path}.{FIELD}.{}", name.escape_debug());
            let reference = value.text().filter(|text| text.trim().starts_with(REFERENCE));
            let (taken, note) = match reference {
                Some(reference) => {
                    let (secret, note) = self.referred(reference);
                    (parts::secret_header(self.made(), &from, spec, name, secret), note)
                }
                None => (parts::header(self.made(), &from, spec, name, value), String::new()),
            };
            if taken {
                let outcome = if note.is_empty() { Outcome::Imported } else { Outcome::Changed };
                self.made().item(from, provider, outcome, note);
            }
        }
    }

    /// The secret that a reference stands for, and what is to be told of it.
    fn referred(&self, reference: &str) -> (Secret, String) {
        match self.value(reference) {
            Value::Text(value) => (Secret { value: Some(value), ..Secret::default() }, String::new()),
            Value::Unset(name) => {
                let missing = Secret { value: None, state: State::Missing.into() };
                (
                    missing,
                    format!("the variable {name} is not set here: the header is MISSING until it is set"),
                )
            }
        }
    }
}
