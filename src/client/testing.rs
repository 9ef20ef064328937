//! A client without a service, for tests of what is built on one.
//!
//! ```
//! # use signalbox::{client::{ClientOptions, testing::Fake}, proto::v1::{ProviderSpec, resource::Spec}};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), signalbox::client::Error> {
//! let fake = Fake::new(&ClientOptions::new("http://unused"))?;
//! fake.put("providers/groq", Spec::Provider(ProviderSpec::default()));
//! assert!(fake.client().provider("groq").is_some());
//! # Ok(()) }
//! ```
//!
//! Owns what the test says of the store's state. Must not know streams.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    entry::Entry,
    error::Error,
    events::{ChangeEvent, ChangeSet, difference},
    handle::Client,
    health::Filled,
    options::ClientOptions,
    publisher::Publisher,
    snapshot::Snapshot,
};
use crate::proto::v1::{Resource, resource::Spec};

/// Fills the cache of a client by hand. Its client is like any other: getters, callbacks, subscriptions, waits.
pub struct Fake {
    client: Client,
    publisher: Publisher,
    served: Mutex<Arc<Snapshot>>,
}

impl Fake {
    /// A client that is ready and holds nothing yet. Of the options count overrides, defaults, staleness and the queue.
    ///
    /// # Errors
    /// [`Error::Options`], and [`Error::NoRuntime`] outside of a tokio runtime, which callbacks run in.
    pub fn new(options: &ClientOptions) -> Result<Self, Error> {
        options.check()?;
        let (client, publisher) = Client::filled_by_hand(options)?;
        let served = Mutex::new(client.snapshot());
        let fake = Self { client, publisher, served };
        fake.set_age(Duration::ZERO);
        Ok(fake)
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Creates or replaces a resource, in a revision of its own, which it gives.
    pub fn put(&self, name: &str, spec: Spec) -> u64 {
        self.put_resource(Resource { name: name.to_owned(), spec: Some(spec), ..Resource::default() })
    }

    /// The same with all that a resource has, but for its revision.
    pub fn put_resource(&self, mut resource: Resource) -> u64 {
        self.change(|next| {
            resource.update_revision = next.revision;
            let name = resource.name.clone();
            next.revoked.remove(name.as_str());
            let entry = Arc::new(Entry::new(resource));
            let before = next.upsert(entry.clone());
            ChangeEvent::between(&name, next.revision, before.as_ref(), Some(&entry)).into_iter().collect()
        })
    }

    /// Deletes a resource, in a revision of its own, which it gives.
    pub fn delete(&self, name: &str) -> u64 {
        self.change(|next| {
            let before = next.remove(name);
            ChangeEvent::between(name, next.revision, before.as_ref(), None).into_iter().collect()
        })
    }

    /// Makes the secrets of a resource refused, until it is put again.
    pub fn revoke(&self, name: &str) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = (**served).clone();
        next.revoked.insert(name.into(), next.revision + 1);
        let events = difference(&served, &next);
        self.publish(&mut served, next, events);
    }

    /// Makes the cache one that was confirmed so long ago.
    pub fn set_age(&self, age: Duration) {
        let moment = self.publisher.now().before(age);
        self.publisher.record(|health| {
            health.source = Filled::Stream;
            (health.last_message, health.confirmed) = (Some(moment), Some(moment));
        });
    }

    fn change(&self, make: impl FnOnce(&mut Snapshot) -> Vec<ChangeEvent>) -> u64 {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = (**served).clone();
        next.revision += 1;
        let revision = next.revision;
        let events = make(&mut next);
        self.publish(&mut served, next, events);
        revision
    }

    fn publish(&self, served: &mut Arc<Snapshot>, mut next: Snapshot, events: Vec<ChangeEvent>) {
        next.sequence += 1;
        *served = Arc::new(next);
        let snapshot = served.clone();
        let changes = (!events.is_empty()).then_some(ChangeSet { events, snapshot });
        self.publisher.publish(served, changes, |_| ());
    }
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Fake of {:?}", self.client)
    }
}

#[cfg(test)]
mod tests {
    use super::{Client, ClientOptions, Duration, Error, Fake, Spec};
    use crate::{
        client::{EventKind, Kind, SecretError, SettingError, Staleness, Update},
        proto::v1::{ApiKeySpec, ProviderSpec, Secret, SettingSpec, setting_spec::Value},
    };

    const HOUR: Duration = Duration::from_secs(3_600);

    fn options() -> ClientOptions {
        ClientOptions::new("http://unused")
    }

    fn key(value: &str) -> Spec {
        let secret = Some(Secret { value: Some(value.to_owned()), ..Secret::default() });
        Spec::ApiKey(ApiKeySpec { secret, ..ApiKeySpec::default() })
    }

    fn setting(value: i64) -> Spec {
        Spec::Setting(SettingSpec { value: Some(Value::IntValue(value)), ..SettingSpec::default() })
    }

    fn secret_of(client: &Client) -> Result<String, SecretError> {
        let key = client.api_key("groq", "prod").ok_or(SecretError::Absent)?;
        key.secret().map(|secret| secret.expose().to_owned())
    }

    #[tokio::test]
    async fn what_is_put_is_read_told_and_waited_for() {
        let fake = Fake::new(&options()).unwrap();
        let client = fake.client();
        client.wait_ready(Duration::ZERO).await.unwrap();
        assert!(client.status().ready);
        let mut changes = client.subscribe();
        let revision = fake.put("providers/groq", Spec::Provider(ProviderSpec::default()));
        fake.put("providers/groq/apiKeys/prod", key("sk-1"));
        client.wait_revision(revision + 1, Duration::ZERO).await.unwrap();
        assert_eq!(secret_of(&client).as_deref(), Ok("sk-1"));
        fake.revoke("providers/groq/apiKeys/prod");
        assert_eq!(secret_of(&client), Err(SecretError::Revoked));
        fake.put("providers/groq/apiKeys/prod", key("sk-2"));
        assert_eq!(secret_of(&client).as_deref(), Ok("sk-2"));
        fake.delete("providers/groq");
        assert!(client.provider("groq").is_none());
        let mut told = Vec::new();
        for _ in 0..5 {
            let Some(Update::Changes(set)) = changes.next().await else { panic!("no changes") };
            told.extend(set.events.iter().map(|event| event.kind));
        }
        let kinds = [EventKind::Created, EventKind::Created, EventKind::Revoked, EventKind::Updated];
        assert_eq!(told, [&kinds[..], &[EventKind::Deleted]].concat());
        client.clear_cache(Duration::ZERO).await.unwrap();
    }

    /// Credentials fail closed beyond an hour, the rest is served on.
    #[tokio::test]
    async fn regression_an_old_cache_gives_out_no_secrets() {
        let fake = Fake::new(&options()).unwrap();
        let client = fake.client();
        fake.put("providers/groq/apiKeys/prod", key("sk-1"));
        fake.put("settings/a", setting(7));
        fake.set_age(HOUR - Duration::from_secs(60));
        let status = client.status();
        assert!(!status.ready && status.loaded && status.stale);
        assert!(secret_of(&client).is_ok());
        fake.set_age(HOUR + Duration::from_secs(1));
        assert_eq!(secret_of(&client), Err(SecretError::Stale));
        assert_eq!(client.secret("providers/groq/apiKeys/prod", "api_key.secret"), Err(SecretError::Stale));
        assert!(client.active_api_keys("groq").is_empty());
        assert_eq!(client.setting_int("a").unwrap(), Some(7));
        // A change that comes through an old replica does not make it younger.
        fake.put("settings/a", setting(8));
        assert_eq!(client.setting_int("a").unwrap(), Some(8));
        assert_eq!(secret_of(&client), Err(SecretError::Stale));
        fake.set_age(Duration::ZERO);
        assert!(secret_of(&client).is_ok() && client.status().ready);
    }

    #[tokio::test]
    async fn kinds_have_limits_of_their_own() {
        let limits = Staleness::default().secrets(None).kind(Kind::Setting, HOUR).kind(Kind::Provider, HOUR);
        let defaulted = options().staleness(limits).default_setting("b", Value::IntValue(1));
        let fake = Fake::new(&defaulted).unwrap();
        let client = fake.client();
        fake.put("providers/groq", Spec::Provider(ProviderSpec::default()));
        fake.put("providers/groq/apiKeys/prod", key("sk-1"));
        fake.put("settings/a", setting(7));
        fake.set_age(2 * HOUR);
        assert!(client.provider("groq").is_none() && client.get("providers/groq").is_none());
        assert_eq!(client.snapshot().with_prefix("providers/").count(), 1, "the key");
        assert_eq!(secret_of(&client).as_deref(), Ok("sk-1"));
        let stale = Err(SettingError::Stale { key: "a".to_owned() });
        assert_eq!(client.setting_int("a"), stale, "and not the default of somewhere");
        assert_eq!(client.setting_int("b").unwrap(), Some(1));
        assert_eq!(client.snapshot().refused_kinds(), [Kind::Provider, Kind::Setting]);
        fake.set_age(Duration::ZERO);
        assert!(client.provider("groq").is_some());
    }

    #[test]
    fn callbacks_need_a_runtime() {
        assert!(matches!(Fake::new(&options()), Err(Error::NoRuntime)));
    }
}
