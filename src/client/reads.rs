//! The getters of the handle: those of the present snapshot, one by one.
//!
//! Owns nothing. Each reads the state as far as it may be read at its age; two in a row may see two revisions.

use std::{sync::Arc, time::Duration};

use super::{
    entry::SecretError,
    flags::FlagContext,
    getters::{ApiKey, Provider},
    handle::Client,
    secret::SecretText,
    settings::{Setting, SettingError},
    views::{
        CachePolicy, Database, FeatureFlag, Model, NotificationChannel, PromptTemplate, Router, Tool,
        VirtualKey,
    },
};
use crate::proto::v1::Resource;

impl Client {
    /// See [`Snapshot::get`](super::Snapshot::get).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Resource>> {
        self.reads().get(name)
    }

    /// See [`Snapshot::secret`](super::Snapshot::secret).
    ///
    /// # Errors
    /// Says why there is none.
    pub fn secret(&self, name: &str, path: &str) -> Result<SecretText, SecretError> {
        self.reads().secret(name, path)
    }

    /// See [`Snapshot::provider`](super::Snapshot::provider).
    #[must_use]
    pub fn provider(&self, id: &str) -> Option<Provider> {
        self.reads().provider(id)
    }

    /// See [`Snapshot::api_key`](super::Snapshot::api_key).
    #[must_use]
    pub fn api_key(&self, provider: &str, id: &str) -> Option<ApiKey> {
        self.reads().api_key(provider, id)
    }

    /// See [`Snapshot::active_api_keys`](super::Snapshot::active_api_keys).
    #[must_use]
    pub fn active_api_keys(&self, provider: &str) -> Vec<ApiKey> {
        self.reads().active_api_keys(provider)
    }

    /// See [`Snapshot::model`](super::Snapshot::model).
    #[must_use]
    pub fn model(&self, provider: &str, id: &str) -> Option<Model> {
        self.reads().model(provider, id)
    }

    /// See [`Snapshot::prompt_template`](super::Snapshot::prompt_template).
    #[must_use]
    pub fn prompt_template(&self, id: &str) -> Option<PromptTemplate> {
        self.reads().prompt_template(id)
    }

    /// See [`Snapshot::router`](super::Snapshot::router).
    #[must_use]
    pub fn router(&self, id: &str) -> Option<Router> {
        self.reads().router(id)
    }

    /// See [`Snapshot::tool`](super::Snapshot::tool).
    #[must_use]
    pub fn tool(&self, id: &str) -> Option<Tool> {
        self.reads().tool(id)
    }

    /// See [`Snapshot::virtual_key`](super::Snapshot::virtual_key).
    #[must_use]
    pub fn virtual_key(&self, id: &str) -> Option<VirtualKey> {
        self.reads().virtual_key(id)
    }

    /// See [`Snapshot::cache_policy`](super::Snapshot::cache_policy).
    #[must_use]
    pub fn cache_policy(&self, id: &str) -> Option<CachePolicy> {
        self.reads().cache_policy(id)
    }

    /// See [`Snapshot::database`](super::Snapshot::database).
    #[must_use]
    pub fn database(&self, id: &str) -> Option<Database> {
        self.reads().database(id)
    }

    /// See [`Snapshot::notification_channel`](super::Snapshot::notification_channel).
    #[must_use]
    pub fn notification_channel(&self, id: &str) -> Option<NotificationChannel> {
        self.reads().notification_channel(id)
    }

    /// See [`Snapshot::feature_flag`](super::Snapshot::feature_flag).
    #[must_use]
    pub fn feature_flag(&self, id: &str) -> Option<FeatureFlag> {
        self.reads().feature_flag(id)
    }

    /// See [`Snapshot::flag`](super::Snapshot::flag).
    #[must_use]
    pub fn flag(&self, id: &str, context: &FlagContext, otherwise: bool) -> bool {
        self.reads().flag(id, context, otherwise)
    }

    /// See [`Snapshot::find_virtual_key`](super::Snapshot::find_virtual_key); asks the machine's clock for the time.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "expiry is by the gateway's own clock; nothing injects one here"
    )]
    pub fn find_virtual_key(&self, presented: &str) -> Option<VirtualKey> {
        self.reads().find_virtual_key(presented, std::time::SystemTime::now())
    }

    /// See [`Snapshot::setting`](super::Snapshot::setting).
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<Setting> {
        self.reads().setting(key)
    }

    /// See [`Snapshot::setting_for`](super::Snapshot::setting_for).
    #[must_use]
    pub fn setting_for(&self, user: &str, key: &str) -> Option<Setting> {
        self.reads().setting_for(user, key)
    }

    /// See [`Snapshot::setting_string`](super::Snapshot::setting_string).
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn setting_string(&self, key: &str) -> Result<Option<String>, SettingError> {
        self.reads().setting_string(key)
    }

    /// See [`Snapshot::setting_int`](super::Snapshot::setting_int).
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn setting_int(&self, key: &str) -> Result<Option<i64>, SettingError> {
        self.reads().setting_int(key)
    }

    /// See [`Snapshot::setting_float`](super::Snapshot::setting_float).
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn setting_float(&self, key: &str) -> Result<Option<f64>, SettingError> {
        self.reads().setting_float(key)
    }

    /// See [`Snapshot::setting_bool`](super::Snapshot::setting_bool).
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn setting_bool(&self, key: &str) -> Result<Option<bool>, SettingError> {
        self.reads().setting_bool(key)
    }

    /// See [`Snapshot::setting_duration`](super::Snapshot::setting_duration).
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn setting_duration(&self, key: &str) -> Result<Option<Duration>, SettingError> {
        self.reads().setting_duration(key)
    }

    /// See [`Snapshot::setting_json`](super::Snapshot::setting_json).
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn setting_json(&self, key: &str) -> Result<Option<String>, SettingError> {
        self.reads().setting_json(key)
    }

    /// See [`Snapshot::setting_secret`](super::Snapshot::setting_secret).
    ///
    /// # Errors
    /// [`SettingError::Secret`], [`SettingError::WrongType`].
    pub fn setting_secret(&self, key: &str) -> Result<Option<SecretText>, SettingError> {
        self.reads().setting_secret(key)
    }
}
