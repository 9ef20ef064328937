//! A value that does not print.
//!
//! Owns the wrapper around plaintext in a worker's memory. Must not know where the plaintext comes from or goes to.

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

/// A secret in plaintext: a provider's key, a sealed setting, a token.
///
/// `Debug` shows that there is one and nothing else, there is no `Display` and no `Serialize`, and the bytes are
/// overwritten when the last clone is dropped (buffers of the transport are beyond reach). Clones share the bytes.
#[derive(Clone)]
pub struct SecretText(Arc<Zeroizing<String>>);

impl SecretText {
    /// Takes a plaintext into custody.
    #[must_use]
    pub fn new(plaintext: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(plaintext.into())))
    }

    /// The plaintext. Named so that each place that takes it out can be found.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretText(..)")
    }
}

impl PartialEq for SecretText {
    /// Compares two values that this process holds anyway; not for checking what a stranger sent.
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for SecretText {}

#[cfg(test)]
mod tests {
    use super::SecretText;

    #[test]
    fn debug_shows_nothing_of_the_value() {
        let secret = SecretText::new("sk-canary");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "SecretText(..) Some(SecretText(..))");
        assert_eq!(secret.expose(), "sk-canary");
    }
}
