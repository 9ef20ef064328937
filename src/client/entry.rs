//! One cached resource, with its secrets taken out.
//!
//! Owns the split between what may be printed (the resource, masked) and what may not (its secrets), so that a secret
//! can be refused after its revocation whatever way is used to read it. Must not know maps, streams or revisions.

use std::{collections::BTreeMap, fmt, sync::Arc};

use prost::Message as _;

use super::{secret::SecretText, secret_fields::Fields as _};
use crate::proto::v1::{HeaderValue, Resource, Secret, header_value, secret::State};

/// Why a secret can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// No value is stored, or there is no such field.
    #[error("no value is set")]
    Absent,
    /// There is a value, but this client does not ask for secrets or its token may not read them.
    #[error("the value is not shown to this client")]
    Masked,
    /// The resource was imported without its value.
    #[error("the value was left out at import and has to be set")]
    Missing,
    /// None of the server's keys opens the value.
    #[error("the server can't decrypt the value")]
    Undecryptable,
    /// The value was revoked, and the change that replaces it has not arrived yet.
    #[error("the value was revoked")]
    Revoked,
    /// The cache was not confirmed for so long that it may have been revoked since: see
    /// [`Staleness`](super::Staleness).
    #[error("the cache is older than what the staleness policy allows for secrets")]
    Stale,
}

/// A resource whose secrets are kept apart from it. Immutable, shared by all snapshots that hold it.
#[derive(PartialEq)]
pub(super) struct Entry {
    pub(super) resource: Arc<Resource>,
    secrets: Box<[SealedField]>,
    /// What it takes, about.
    pub(super) bytes: usize,
}

/// What an entry counts beside its content.
const ENTRY_BYTES: usize = 1 << 10;

#[derive(PartialEq)]
struct SealedField {
    path: String,
    state: State,
    value: Option<SecretText>,
}

impl Entry {
    pub(super) fn new(mut resource: Resource) -> Self {
        let bytes = resource.encoded_len() + ENTRY_BYTES;
        let secrets = take_secrets(&mut resource);
        Self { resource: Arc::new(resource), secrets: secrets.into_boxed_slice(), bytes }
    }

    /// The resource as it came, with every plaintext in its place.
    pub(super) fn with_secrets(&self) -> Resource {
        let mut resource = (*self.resource).clone();
        resource.spec.visit(&mut String::new(), &mut |path, secret| {
            let field = self.secrets.iter().find(|field| field.path == path);
            let value = field.and_then(|field| field.value.as_ref());
            secret.value = value.map(|value| value.expose().to_owned());
        });
        resource
    }

    fn secret(&self, path: &str) -> Result<SecretText, SecretError> {
        let field = self.secrets.iter().find(|field| field.path == path);
        let field = field.ok_or(SecretError::Absent)?;
        match (&field.value, field.state) {
            (_, State::Undecryptable) => Err(SecretError::Undecryptable),
            (_, State::Missing) => Err(SecretError::Missing),
            (Some(value), _) => Ok(value.clone()),
            (None, State::Present) => Err(SecretError::Masked),
            (None, State::Absent | State::Unspecified) => Err(SecretError::Absent),
        }
    }
}

/// An entry as a getter hands it out: with the knowledge whether its secrets were revoked in that snapshot.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) entry: Arc<Entry>,
    pub(super) revoked: bool,
    /// Whether the snapshot is too old for its secrets.
    pub(super) stale: bool,
}

impl Held {
    pub(super) fn secret(&self, path: &str) -> Result<SecretText, SecretError> {
        if self.revoked {
            return Err(SecretError::Revoked);
        }
        if self.stale {
            return self.entry.secret(path).and(Err(SecretError::Stale));
        }
        self.entry.secret(path)
    }
}

impl Held {
    /// The value of a header of this resource, sealed or not.
    pub(super) fn header(
        &self,
        arm: &str,
        headers: &BTreeMap<String, HeaderValue>,
        name: &str,
    ) -> Result<Option<SecretText>, SecretError> {
        match headers.get(name).and_then(|header| header.value.as_ref()) {
            None => Ok(None),
            Some(header_value::Value::Plain(text)) => Ok(Some(SecretText::new(text.as_str()))),
            Some(header_value::Value::Secret(_)) => {
                self.secret(&format!("{arm}.headers.{name}.secret")).map(Some)
            }
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource = &self.entry.resource;
        write!(formatter, "{} at {}", resource.name, resource.update_revision)
    }
}

/// Takes every plaintext out of a resource and leaves its state behind.
fn take_secrets(resource: &mut Resource) -> Vec<SealedField> {
    let mut taken = Vec::new();
    resource.spec.visit(&mut String::new(), &mut |path, secret| taken.push(take(path.to_owned(), secret)));
    taken
}

/// Path of an API key's secret.
pub(super) const API_KEY_SECRET: &str = "api_key.secret";
/// Path of an API key's secret before the present one.
pub(super) const API_KEY_PREVIOUS_SECRET: &str = "api_key.previous_secret";
/// Path of a database's password.
pub(super) const DATABASE_PASSWORD: &str = "database.password";
/// Path of a virtual key's hash.
pub(super) const VIRTUAL_KEY_HASH: &str = "virtual_key.key_hash";
/// Path of a notification channel's URL.
pub(super) const CHANNEL_URL: &str = "notification_channel.url";
/// Path of what a notification channel signs with.
pub(super) const CHANNEL_SIGNING_SECRET: &str = "notification_channel.signing_secret";
/// Path of a setting's secret.
pub(super) const SETTING_SECRET: &str = "setting.secret_value";

fn take(path: String, secret: &mut Secret) -> SealedField {
    let value = secret.value.take().map(SecretText::new);
    if value.is_some() && secret.state() == State::Unspecified {
        secret.set_state(State::Present);
    }
    SealedField { path, state: secret.state(), value }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Entry, HeaderValue, Held, Resource, Secret, SecretError, State};
    use crate::proto::v1::{
        ApiKeySpec, DatabaseOption, DatabaseSpec, NotificationChannelSpec, ProviderSpec, SettingSpec,
        VirtualKeySpec, database_option, header_value, resource::Spec, setting_spec,
    };

    const CANARY: &str = "sk-canary";

    fn channel(change: impl FnOnce(&mut NotificationChannelSpec)) -> Spec {
        let mut spec = NotificationChannelSpec::default();
        change(&mut spec);
        Spec::NotificationChannel(spec)
    }

    fn secret() -> Secret {
        Secret { value: Some(CANARY.to_owned()), ..Secret::default() }
    }

    fn held(spec: Spec) -> Held {
        let resource = Resource { spec: Some(spec), ..Resource::default() };
        Held { entry: Arc::new(Entry::new(resource)), revoked: false, stale: false }
    }

    fn key_in(state: State, value: Option<&str>) -> Held {
        let mut secret = Secret { value: value.map(str::to_owned), ..Secret::default() };
        secret.set_state(state);
        held(Spec::ApiKey(ApiKeySpec { secret: Some(secret), ..ApiKeySpec::default() }))
    }

    #[test]
    fn no_plaintext_stays_in_the_resource_of_any_kind() {
        let header = HeaderValue { value: Some(header_value::Value::Secret(secret())) };
        let option = DatabaseOption { value: Some(database_option::Value::Secret(secret())) };
        let cases = [
            ("notification_channel.url", channel(|spec| spec.url = Some(secret()))),
            ("notification_channel.signing_secret", channel(|spec| spec.signing_secret = Some(secret()))),
            (
                "notification_channel.headers.x-key.secret",
                channel(|spec| drop(spec.headers.insert("x-key".to_owned(), header.clone()))),
            ),
            (
                "virtual_key.key_hash",
                Spec::VirtualKey(VirtualKeySpec { key_hash: Some(secret()), ..VirtualKeySpec::default() }),
            ),
            (
                "database.password",
                Spec::Database(DatabaseSpec { password: Some(secret()), ..DatabaseSpec::default() }),
            ),
            (
                "database.options.token.secret",
                Spec::Database(DatabaseSpec {
                    options: [("token".to_owned(), option)].into(),
                    ..DatabaseSpec::default()
                }),
            ),
            (
                "provider.headers.x-key.secret",
                Spec::Provider(ProviderSpec {
                    headers: [("x-key".to_owned(), header)].into(),
                    ..ProviderSpec::default()
                }),
            ),
            ("api_key.secret", Spec::ApiKey(ApiKeySpec { secret: Some(secret()), ..ApiKeySpec::default() })),
            (
                "setting.secret_value",
                Spec::Setting(SettingSpec {
                    value: Some(setting_spec::Value::SecretValue(secret())),
                    ..SettingSpec::default()
                }),
            ),
        ];
        for (path, spec) in cases {
            let held = held(spec);
            assert_eq!(held.secret(path).unwrap().expose(), CANARY);
            assert!(!format!("{held:?} {:?}", held.entry.resource).contains(CANARY), "{path}");
        }
    }

    #[test]
    fn tells_why_there_is_no_value() {
        let cases = [
            (State::Absent, SecretError::Absent),
            (State::Present, SecretError::Masked),
            (State::Missing, SecretError::Missing),
            (State::Undecryptable, SecretError::Undecryptable),
        ];
        for (state, error) in cases {
            assert_eq!(key_in(state, None).secret("api_key.secret"), Err(error));
        }
        assert_eq!(key_in(State::Present, None).secret("api_key.other"), Err(SecretError::Absent));
    }

    #[test]
    fn a_revoked_or_stale_secret_is_refused() {
        let mut held = key_in(State::Present, Some(CANARY));
        assert!(held.secret("api_key.secret").is_ok());
        held.stale = true;
        assert_eq!(held.secret("api_key.secret"), Err(SecretError::Stale));
        assert_eq!(held.secret("api_key.other"), Err(SecretError::Absent));
        held.revoked = true;
        assert_eq!(held.secret("api_key.secret"), Err(SecretError::Revoked));
    }
}
