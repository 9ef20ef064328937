//! A secret that was given as a setting.

use std::fmt;

use crate::crypto;

/// A secret among settings: these are compared and shown, so it says only that it is set.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(crypto::SecretText);

impl SecretText {
    /// Takes a secret over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(crypto::SecretText::new(text))
    }

    /// The secret itself, for the one place that uses it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The secret as those take it who use it.
    #[must_use]
    pub fn secret(&self) -> &crypto::SecretText {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(set)")
    }
}
