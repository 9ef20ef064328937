//! What a call proves itself with, and what must not come back of it.

use std::collections::BTreeMap;

use crate::{crypto::SecretText, wire};

/// The opened secrets of a call.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The API key.
    pub api_key: Option<SecretText>,
    /// The values of sealed headers, by the header's name as it is configured.
    pub headers: BTreeMap<String, SecretText>,
}

impl Credentials {
    /// The API key as text, for those who look for parts of it.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.api_key.as_ref().map(SecretText::expose)
    }

    /// Somebody else's words in one line of bounded length, without parts of what was sent.
    #[must_use]
    pub fn scrubbed(&self, text: &str) -> String {
        self.all()
            .fold(wire::without_keys(text, None), |text, secret| wire::without_keys(&text, Some(secret)))
    }

    /// Whether a text shows a part of what was sent.
    #[must_use]
    pub fn are_shown_by(&self, text: &str) -> bool {
        self.all().any(|secret| wire::shares(text, secret))
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        self.api_key.iter().chain(self.headers.values()).map(SecretText::expose)
    }
}
