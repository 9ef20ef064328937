//! Effective settings: environment, then the user's, then the global one, then the worker's default.
//!
//! Owns precedence and the conversion to types. Must not know where the environment or the
//! stored values come from.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{
    entry::{Held, SETTING_SECRET, SecretError},
    secret::SecretText,
    selector::Kind,
    snapshot::Snapshot,
};
use crate::{
    duration,
    proto::v1::{resource::Spec, setting_spec::Value},
    setting_key, setting_text,
};

/// What stands above and below the stored settings; the same for the whole life of a client.
#[derive(Default)]
pub(super) struct Overrides {
    /// From the environment, by normal key. Text without a type, and perhaps a secret.
    pub(super) environment: BTreeMap<String, SecretText>,
    /// The worker's own defaults, by normal key.
    pub(super) defaults: BTreeMap<String, Value>,
}

/// Where an effective setting comes from, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// `SIGNALBOX_SETTING_<KEY>` of this process.
    Environment,
    /// `users/{user}/settings/{key}`.
    User,
    /// `settings/{key}`.
    Global,
    /// The default that the worker gave in its options.
    Default,
}

/// Why a setting can't be had as the type that was asked for. Never shows the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// The value is of another type, or its text in the environment can't be read as this one.
    #[error("setting {key} from {origin:?} is not {wanted}")]
    WrongType {
        /// The setting.
        key: String,
        /// The type that was asked for, with its article.
        wanted: &'static str,
        /// Where the value comes from.
        origin: Source,
    },
    /// The value is a secret that can't be had.
    #[error("setting {key}: {error}")]
    Secret {
        /// The setting.
        key: String,
        /// Why.
        error: SecretError,
    },
    /// The cache is older than what the staleness policy allows for settings.
    #[error("setting {key}: the cache is older than what the staleness policy allows for settings")]
    Stale {
        /// The setting.
        key: String,
    },
}

/// One effective setting. Does not print its value.
#[derive(Clone)]
pub struct Setting {
    key: String,
    source: Source,
    value: Effective,
}

#[derive(Clone)]
enum Effective {
    Text(SecretText),
    Stored(Held),
    Default(Value),
    /// There is a stored value, and it is too old to be used.
    Stale,
}

impl Snapshot {
    /// The effective global setting: environment, else stored, else the worker's default. Keys are taken in
    /// snake_case and camelCase.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<Setting> {
        self.effective(None, key)
    }

    /// The effective setting for a user: environment, else the user's, else the global one, else the default.
    #[must_use]
    pub fn setting_for(&self, user: &str, key: &str) -> Option<Setting> {
        self.effective(Some(user), key)
    }

    fn effective(&self, user: Option<&str>, key: &str) -> Option<Setting> {
        let key = setting_key::normalise(key);
        let is_stale = self.refuses(Some(Kind::Setting));
        let stored = |held| if is_stale { Effective::Stale } else { Effective::Stored(held) };
        let environment = || {
            let text = self.overrides.environment.get(key.as_ref())?;
            Some((Source::Environment, Effective::Text(text.clone())))
        };
        let users = || {
            let held = self.held_user_setting(user?, &key)?;
            Some((Source::User, stored(held)))
        };
        let global = || Some((Source::Global, stored(self.held_setting(&key)?)));
        let default = || {
            let value = self.overrides.defaults.get(key.as_ref())?;
            Some((Source::Default, Effective::Default(value.clone())))
        };
        let (source, value) = environment().or_else(users).or_else(global).or_else(default)?;
        Some(Setting { key: key.into_owned(), source, value })
    }
}

impl Setting {
    /// The key, in its normal form.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where the value comes from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// The value as text.
    ///
    /// # Errors
    /// [`SettingError::WrongType`] when it is something else, a secret included.
    pub fn as_str(&self) -> Result<&str, SettingError> {
        self.read("a string", Some, |value| match value {
            Value::StringValue(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The value as a whole number.
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn as_int(&self) -> Result<i64, SettingError> {
        self.read("an integer", setting_text::int, |value| match value {
            Value::IntValue(number) => Some(*number),
            _ => None,
        })
    }

    /// The value as a finite number. A whole number is one, too.
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn as_float(&self) -> Result<f64, SettingError> {
        self.read("a finite number", setting_text::float, |value| match value {
            Value::FloatValue(number) => Some(*number),
            // Beyond 2^53 the nearest double, which is what a caller of a float getter asks for.
            #[allow(clippy::cast_precision_loss)]
            Value::IntValue(number) => Some(*number as f64),
            _ => None,
        })
        .and_then(
            |number| {
                if number.is_finite() { Ok(number) } else { Err(self.wrong("a finite number")) }
            },
        )
    }

    /// The value as a truth value. The environment may say `true`, `yes`, `on`, `1` or their opposites, in any case.
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn as_bool(&self) -> Result<bool, SettingError> {
        self.read("a truth value", setting_text::boolean, |value| match value {
            Value::BoolValue(flag) => Some(*flag),
            _ => None,
        })
    }

    /// The value as a length of time, not negative. The environment writes `1.5s`, `250ms`, `5m`, `2h` or `1d`.
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn as_duration(&self) -> Result<Duration, SettingError> {
        self.read("a length of time", setting_text::duration, |value| match value {
            Value::DurationValue(given) => duration::read(*given),
            _ => None,
        })
    }

    /// The value as the text of a JSON document, to the letter.
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn as_json(&self) -> Result<&str, SettingError> {
        self.read("a JSON document", setting_text::json, |value| match value {
            Value::JsonValue(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The value as a secret.
    ///
    /// # Errors
    /// [`SettingError::Secret`] when it can't be had, [`SettingError::WrongType`] when it is no secret.
    pub fn as_secret(&self) -> Result<SecretText, SettingError> {
        if let (Effective::Stored(held), Some(Value::SecretValue(_))) = (&self.value, self.stored()) {
            return held
                .secret(SETTING_SECRET)
                .map_err(|error| SettingError::Secret { key: self.key.clone(), error });
        }
        match &self.value {
            Effective::Text(text) => Ok(text.clone()),
            Effective::Stored(_) | Effective::Default(_) | Effective::Stale => Err(self.wrong("a secret")),
        }
    }

    fn read<'a, T>(
        &'a self,
        wanted: &'static str,
        from_text: impl FnOnce(&'a str) -> Option<T>,
        from_value: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, SettingError> {
        let read = match &self.value {
            Effective::Text(text) => from_text(text.expose()),
            Effective::Stored(_) | Effective::Default(_) => self.stored().and_then(from_value),
            Effective::Stale => None,
        };
        read.ok_or_else(|| self.wrong(wanted))
    }

    fn stored(&self) -> Option<&Value> {
        match &self.value {
            Effective::Stored(held) => match &held.entry.resource.spec {
                Some(Spec::Setting(spec)) => spec.value.as_ref(),
                _ => None,
            },
            Effective::Default(value) => Some(value),
            Effective::Text(_) | Effective::Stale => None,
        }
    }

    fn wrong(&self, wanted: &'static str) -> SettingError {
        if matches!(self.value, Effective::Stale) {
            return SettingError::Stale { key: self.key.clone() };
        }
        SettingError::WrongType { key: self.key.clone(), wanted, origin: self.source }
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Setting({} from {:?})", self.key, self.source)
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
