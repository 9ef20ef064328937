//! The settings that are stored, as the environment of this process overrides them: `SIGNALBOX_SETTING_<KEY>`.
//!
//! They are no options of the server: it only tells of them, where somebody asks which value of a setting counts. What
//! type a value has follows from what it hides, which this room does not know.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{environment::Environment, secret::SecretText};
use crate::{
    domain::ResourceName,
    setting_key::{ENVIRONMENT_PREFIX, normalise},
};

/// What the environment says of stored settings, by key in its one spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    found: BTreeMap<String, Override>,
    warnings: Vec<String>,
}

/// A variable that overrides a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The variable's name.
    pub variable: String,
    /// Its text, which may be a secret.
    pub text: SecretText,
}

impl Overrides {
    /// Reads them. A variable that can't be one is left out with a warning that names it: whoever set it for a worker
    /// must not keep a server from starting. An empty one counts as not set.
    #[must_use]
    pub fn read(environment: &Environment) -> Self {
        let mut read = Self::default();
        for (name, value) in environment.iter().filter(|(_, value)| !value.is_empty()) {
            let shown = name.to_string_lossy();
            let Some(key) = shown.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            let key = normalise(key).into_owned();
            match (ResourceName::parse(&format!("settings/{key}")), name.to_str().zip(value.to_str())) {
                (_, None) => read.warn(&shown, "is not valid UTF-8, and is left out"),
                (Ok(named), Some((variable, text))) if named.id() == key => read.add(key, variable, text),
                _ => read.warn(
                    &shown,
                    "names no setting, and is left out; give a key such as SIGNALBOX_SETTING_MAX_RETRIES",
                ),
            }
        }
        read
    }

    /// As in a worker: of several spellings of one key the last in the order of bytes counts.
    fn add(&mut self, key: String, variable: &str, text: &str) {
        let new = Override { variable: variable.to_owned(), text: SecretText::new(text.to_owned()) };
        if let Some(other) = self.found.insert(key, new) {
            let what =
                format!("counts, and {} is left out: both name one setting; unset one", other.variable);
            self.warn(variable, &what);
        }
    }

    fn warn(&mut self, variable: &str, what: &str) {
        self.warnings.push(format!("{}: {what}", variable.escape_debug()));
    }

    /// What overrides the setting with this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Override> {
        self.found.get(key)
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Override)> {
        self.found.iter().map(|(key, found)| (key.as_str(), found))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// What is wrong with variables, by name.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Keys and texts as bytes, the same for the same overrides and for no others: to be hashed with a key, and kept
    /// nowhere.
    #[must_use]
    pub fn canonical(&self) -> Zeroizing<Vec<u8>> {
        let parts = || self.found.iter().flat_map(|(key, found)| [key.as_str(), found.text.expose()]);
        // Grown at once, so that no part of it is left behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(parts().map(|part| part.len() + 8).sum()));
        for part in parts() {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Overrides {
        Overrides::read(&Environment::of(variables.iter().copied()))
    }

    #[test]
    fn variables_name_settings_in_any_spelling() {
        let read = read(&[
            ("SIGNALBOX_SETTING_MAX_RETRIES", "7"),
            ("SIGNALBOX_SETTING_openAIKey", "sk-canary"),
            ("SIGNALBOX_SETTING_EMPTY", ""),
            ("SIGNALBOX_LISTEN", "x"),
        ]);
        let keys: Vec<&str> = read.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["max_retries", "open_ai_key"]);
        assert_eq!(read.get("max_retries").unwrap().text.expose(), "7");
        assert!(read.warnings().is_empty());
        assert!(!format!("{read:?}").contains("canary"));
    }

    #[test]
    fn what_is_no_setting_is_named_and_left_out() {
        let bytes = std::ffi::OsString::from_vec(vec![0xff]);
        let environment = Environment::of([
            ("SIGNALBOX_SETTING_", "x".into()),
            ("SIGNALBOX_SETTING___", "x".into()),
            ("SIGNALBOX_SETTING_A B", "x".into()),
            ("SIGNALBOX_SETTING_A/B", "x".into()),
            ("SIGNALBOX_SETTING_BYTES", bytes),
            ("SIGNALBOX_SETTING_TWICE", "old".into()),
            ("SIGNALBOX_SETTING_twice", "new".into()),
        ]);
        let read = Overrides::read(&environment);
        let warned: Vec<&str> = read.warnings().iter().map(|text| text.split(':').next().unwrap()).collect();
        let expected = ["", "A B", "A/B", "BYTES", "__", "twice"];
        assert_eq!(warned, expected.map(|rest| format!("SIGNALBOX_SETTING_{rest}")));
        assert!(read.warnings()[5].contains("SIGNALBOX_SETTING_TWICE is left out"));
        assert_eq!(read.get("twice").unwrap().text.expose(), "new");
        assert_eq!(read.iter().count(), 1);
    }

    #[test]
    fn the_bytes_tell_overrides_apart() {
        let bytes = |variables: &[(&str, &str)]| read(variables).canonical().to_vec();
        let one = bytes(&[("SIGNALBOX_SETTING_A", "b")]);
        assert_eq!(one, bytes(&[("SIGNALBOX_SETTING_a", "b"), ("HOME", "/")]));
        for other in [
            &[][..],
            &[("SIGNALBOX_SETTING_A", "c")],
            &[("SIGNALBOX_SETTING_AB", "")],
            &[("SIGNALBOX_SETTING_B", "b")],
        ] {
            assert_ne!(one, bytes(other));
        }
    }
}
