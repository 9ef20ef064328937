//! Secret values in memory: wiped on drop, compared in constant time, and impossible to print by accident.
//!
//! Wiping reaches what these types own. Copies that HTTP/2 or the allocator made on the way are beyond reach.

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Secret text: a provider's key, a password, a token.
///
/// ```
/// let secret = signalbox::crypto::SecretText::new("sk-1".to_owned());
/// assert!(secret == signalbox::crypto::SecretText::from("sk-1"));
/// println!("{}", secret.expose().len());
/// ```
///
/// It has no `Debug`, no `Display` and no `Serialize`, so that none of these compiles:
///
/// ```compile_fail
/// println!("{:?}", signalbox::crypto::SecretText::new("sk-1".to_owned()));
/// ```
///
/// ```compile_fail
/// println!("{}", signalbox::crypto::SecretText::new("sk-1".to_owned()));
/// ```
///
/// ```compile_fail
/// let _ = serde_json::to_string(&signalbox::crypto::SecretText::new("sk-1".to_owned()));
/// ```
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct SecretText(String);

/// Secret bytes: a key, a decoded token.
///
/// ```
/// assert_eq!(signalbox::crypto::SecretBytes::new(vec![1]).expose(), [1]);
/// ```
///
/// ```compile_fail
/// println!("{:?}", signalbox::crypto::SecretBytes::new(vec![1]));
/// ```
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes(Vec<u8>);

impl SecretText {
    /// Takes the text over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Takes bytes over that should be UTF-8; `None`, and the bytes wiped, if they are not.
    #[must_use]
    pub fn from_utf8(bytes: Vec<u8>) -> Option<Self> {
        match String::from_utf8(bytes) {
            Ok(text) => Some(Self(text)),
            Err(error) => {
                error.into_bytes().zeroize();
                None
            }
        }
    }

    /// The text. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text without white space around it.
    #[must_use]
    pub fn trimmed(&self) -> Self {
        Self(self.0.trim().to_owned())
    }
}

impl SecretBytes {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes. Whoever calls this answers for where they go.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl PartialEq for SecretText {
    /// Takes the same time wherever the texts differ; only a difference of length shows.
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for SecretText {}

impl PartialEq for SecretBytes {
    /// Takes the same time wherever the bytes differ; only a difference of length shows.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretBytes {}
