//! Secrets on their way from one store to another: sealed with a key that the caller gives, for their place in the export.
//!
//! No key of the store has a part in it, so that whoever holds the export's key opens it anywhere; a value that was moved to
//! another name or field of the file does not open.

use super::{
    SecretText,
    derive::{Key, Purpose, derive},
    fernet_box, key_sources, padding,
};

/// A caller's key for an export, in Fernet's format. Wiped on drop; it can't be printed.
#[derive(Clone)]
pub struct ExportKey(Key);

impl ExportKey {
    /// Reads 32 bytes in URL-safe base64.
    ///
    /// # Errors
    /// What is wrong with it, without a part of it; the text reads on from the field's path.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        key_sources::read_key(text.trim()).map(Self)
    }

    /// Seals a value for its place in the export.
    #[must_use]
    pub fn seal(&self, name: &str, field: &str, value: &SecretText) -> String {
        fernet_box::seal(&self.key_of(name, field), &padding::pad(value.expose().as_bytes()))
    }

    /// The value that was sealed for this place with this key; `None` otherwise.
    #[must_use]
    pub fn open(&self, name: &str, field: &str, sealed: &str) -> Option<SecretText> {
        let padded = fernet_box::open(&self.key_of(name, field), sealed)?;
        SecretText::from_utf8(padding::unpad(&padded)?.to_vec())
    }

    fn key_of(&self, name: &str, field: &str) -> Key {
        derive(&self.0, Purpose::Export, &[name, field])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::generate_key;

    #[test]
    fn a_value_opens_at_its_place_with_its_key_only() {
        let key = |text: &SecretText| ExportKey::parse(text.expose()).unwrap_or_else(|why| panic!("{why}"));
        let text = generate_key().unwrap();
        let (own, other) = (key(&text), key(&generate_key().unwrap()));
        let sealed = own.seal("settings/a", "setting.secret_value", &"sk-1".into());
        let opens = |key: &ExportKey, name, field, sealed: &str| {
            key.open(name, field, sealed).is_some_and(|value| value == "sk-1".into())
        };
        assert!(opens(&own, "settings/a", "setting.secret_value", &sealed));
        assert!(opens(&key(&text), "settings/a", "setting.secret_value", &sealed), "the key alone opens it");
        assert!(!opens(&other, "settings/a", "setting.secret_value", &sealed));
        assert!(!opens(&own, "settings/b", "setting.secret_value", &sealed));
        assert!(!opens(&own, "settings/a", "setting.x", &sealed));
        assert!(!opens(&own, "settings/a", "setting.secret_value", "gAAAA"));
        assert!(!sealed.contains("sk-1") && sealed.len() > 256, "its length is hidden");
    }

    #[test]
    fn weak_and_broken_keys_are_refused() {
        for text in ["", "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] {
            assert!(ExportKey::parse(text).is_err(), "{text:?}");
        }
    }
}
