//! Typed views of cached resources.
//!
//! Owns what a worker asks for by id rather than by name. Must not know streams; everything here reads one snapshot.

use std::{sync::LazyLock, time::Duration};

use super::{
    entry::{API_KEY_PREVIOUS_SECRET, API_KEY_SECRET, Held, SecretError},
    secret::SecretText,
    settings::SettingError,
    snapshot::Snapshot,
};
use crate::proto::v1::{ApiKeySpec, ProviderSpec, Resource, resource::Spec};

// An index holds only entries of its kind; these stand for the case that can't be, so that no getter has to fail.
static NO_PROVIDER: LazyLock<ProviderSpec> = LazyLock::new(ProviderSpec::default);
static NO_API_KEY: LazyLock<ApiKeySpec> = LazyLock::new(ApiKeySpec::default);

/// A provider, as it was in one snapshot.
#[derive(Clone, Debug)]
pub struct Provider(Held);

impl Provider {
    /// Its id, the last segment of its name.
    #[must_use]
    pub fn id(&self) -> &str {
        last_segment(self.resource())
    }

    /// The whole resource, masked.
    #[must_use]
    pub fn resource(&self) -> &Resource {
        &self.0.entry.resource
    }

    /// Its configuration; secret headers are masked.
    #[must_use]
    pub fn spec(&self) -> &ProviderSpec {
        match &self.resource().spec {
            Some(Spec::Provider(spec)) => spec,
            _ => &NO_PROVIDER,
        }
    }

    /// Whether it may be used.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.spec().enabled.unwrap_or(true)
    }

    /// The value of an extra header, sealed or not; `None` when there is no such header.
    ///
    /// # Errors
    /// Says why a sealed value can't be had.
    pub fn header(&self, name: &str) -> Result<Option<SecretText>, SecretError> {
        self.0.header("provider", &self.spec().headers, name)
    }
}

/// A key of a provider, as it was in one snapshot.
#[derive(Clone, Debug)]
pub struct ApiKey(Held);

impl ApiKey {
    /// Its id, the last segment of its name.
    #[must_use]
    pub fn id(&self) -> &str {
        last_segment(self.resource())
    }

    /// The whole resource, masked.
    #[must_use]
    pub fn resource(&self) -> &Resource {
        &self.0.entry.resource
    }

    /// Whether it may be used: it is active and was not revoked.
    #[must_use]
    pub fn active(&self) -> bool {
        self.spec().active.unwrap_or(true) && !self.0.revoked
    }

    /// Share of the calls when several keys are active, 1 to 1,000.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.spec().weight.unwrap_or(1)
    }

    /// The key itself.
    ///
    /// # Errors
    /// Says why it can't be had.
    pub fn secret(&self) -> Result<SecretText, SecretError> {
        self.0.secret(API_KEY_SECRET)
    }

    /// The key before this one, while a rotation is under way: to be tried where the provider refuses the present one,
    /// because it does not know it yet.
    ///
    /// # Errors
    /// As [`Self::secret`]; [`SecretError::Absent`] when no rotation is under way.
    pub fn previous_secret(&self) -> Result<SecretText, SecretError> {
        self.0.secret(API_KEY_PREVIOUS_SECRET)
    }

    fn spec(&self) -> &ApiKeySpec {
        match &self.resource().spec {
            Some(Spec::ApiKey(spec)) => spec,
            _ => &NO_API_KEY,
        }
    }
}

impl Snapshot {
    /// A provider by its id.
    #[must_use]
    pub fn provider(&self, id: &str) -> Option<Provider> {
        self.held_provider(id).map(Provider)
    }

    /// A key by its provider's id and its own.
    #[must_use]
    pub fn api_key(&self, provider: &str, id: &str) -> Option<ApiKey> {
        self.held_api_key(provider, id).map(ApiKey)
    }

    /// The keys of a provider that may be used and can be read, by id in bytewise order.
    #[must_use]
    pub fn active_api_keys(&self, provider: &str) -> Vec<ApiKey> {
        let keys = self.held_api_keys(provider).map(ApiKey);
        keys.filter(|key| key.active() && key.secret().is_ok()).collect()
    }

    /// The effective global setting as text; `None` when it is set nowhere.
    ///
    /// # Errors
    /// [`SettingError::WrongType`], as in all typed getters; for a user's take [`Snapshot::setting_for`].
    pub fn setting_string(&self, key: &str) -> Result<Option<String>, SettingError> {
        self.setting(key).map(|setting| setting.as_str().map(str::to_owned)).transpose()
    }

    /// The effective global setting as a whole number; `None` when it is set nowhere.
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn setting_int(&self, key: &str) -> Result<Option<i64>, SettingError> {
        self.setting(key).map(|setting| setting.as_int()).transpose()
    }

    /// The effective global setting as a finite number; `None` when it is set nowhere.
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn setting_float(&self, key: &str) -> Result<Option<f64>, SettingError> {
        self.setting(key).map(|setting| setting.as_float()).transpose()
    }

    /// The effective global setting as a truth value; `None` when it is set nowhere.
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn setting_bool(&self, key: &str) -> Result<Option<bool>, SettingError> {
        self.setting(key).map(|setting| setting.as_bool()).transpose()
    }

    /// The effective global setting as a length of time; `None` when it is set nowhere.
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn setting_duration(&self, key: &str) -> Result<Option<Duration>, SettingError> {
        self.setting(key).map(|setting| setting.as_duration()).transpose()
    }

    /// The effective global setting as the text of a JSON document; `None` when it is set nowhere.
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn setting_json(&self, key: &str) -> Result<Option<String>, SettingError> {
        self.setting(key).map(|setting| setting.as_json().map(str::to_owned)).transpose()
    }

    /// The effective global setting as a secret; `None` when it is set nowhere.
    ///
    /// # Errors
    /// [`SettingError::Secret`] when it can't be had, [`SettingError::WrongType`] when it is no secret.
    pub fn setting_secret(&self, key: &str) -> Result<Option<SecretText>, SettingError> {
        self.setting(key).map(|setting| setting.as_secret()).transpose()
    }
}

fn last_segment(resource: &Resource) -> &str {
    resource.name.rsplit('/').next().unwrap_or_default()
}
