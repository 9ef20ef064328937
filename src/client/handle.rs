//! The handle that a worker holds.
//!
//! Owns the life of the watcher's task, and the waits. Reads go to the published snapshot.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, timeout},
};

use super::{
    entry::SecretError,
    error::Error,
    events::ChangeEvent,
    flags::FlagContext,
    getters::{ApiKey, Provider},
    health::{Health, Status},
    options::ClientOptions,
    publisher::{Readers, channel},
    replica::Replica,
    secret::SecretText,
    selector::Selector,
    settings::{Setting, SettingError},
    snapshot::Snapshot,
    subscription::{Callback, Subscription},
    transport::{Dialer, Transport},
    views::{CachePolicy, Database, FeatureFlag, NotificationChannel, VirtualKey},
    watcher::Watcher,
};
use crate::proto::v1::Resource;

/// A worker's view of the configuration, kept up to date by one task. Cheap to clone; the task ends with the last clone.
///
/// Every getter reads the present snapshot from memory: no lock, no I/O. Two getters in a row may see two revisions; to
/// read several things of one revision, take [`snapshot`](Self::snapshot) and read from that.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    readers: Readers,
    staleness: Duration,
    runtime: Handle,
    watcher: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Client {
    /// Starts to watch, and returns at once. From then on the client reconnects by itself, for ever.
    ///
    /// # Errors
    /// [`Error::Options`] for options that can't work, [`Error::NoRuntime`] outside of a tokio runtime.
    pub fn connect(options: ClientOptions) -> Result<Self, Error> {
        options.validate()?;
        let settings = options.clone();
        Self::over(Dialer::new(options), &settings)
    }

    pub(super) fn over(transport: impl Transport, options: &ClientOptions) -> Result<Self, Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let replica = Replica::new(Arc::new(options.overrides()));
        let (publisher, readers) = channel(replica.served().clone(), options.event_queue);
        let watcher = Watcher::new(
            transport,
            options.watch_request(),
            options.progress_interval,
            replica,
            publisher,
            Box::new(rand::random::<f64>),
        );
        Ok(Self(Arc::new(Inner {
            readers,
            staleness: options.staleness,
            watcher: runtime.spawn(watcher.run()).abort_handle(),
            runtime,
        })))
    }

    /// Waits until the first snapshot is complete.
    ///
    /// # Errors
    /// [`Error::NotReady`] with what stands in the way: when the time is over, or before that when only a person can
    /// mend it ([`Error::is_fatal`]). The client goes on trying in either case.
    pub async fn wait_ready(&self, limit: Duration) -> Result<(), Error> {
        let hopeless = |health: &Health| health.last_error.as_ref().is_some_and(|error| error.is_fatal());
        let mut health = self.0.readers.health.clone();
        let _ = timeout(limit, health.wait_for(|health| health.ready || hopeless(health))).await;
        let health = health.borrow();
        if health.ready {
            return Ok(());
        }
        Err(Error::NotReady { last_error: health.last_error.clone() })
    }

    /// Waits until the cache has come to a revision, for example that of one's own write.
    ///
    /// # Errors
    /// [`Error::RevisionNotReached`] when the time is over.
    pub async fn wait_revision(&self, revision: u64, limit: Duration) -> Result<(), Error> {
        let reached = |health: &Health| health.ready && health.revision >= revision;
        let mut health = self.0.readers.health.clone();
        let _ = timeout(limit, health.wait_for(reached)).await;
        let health = health.borrow();
        if reached(&health) {
            return Ok(());
        }
        Err(Error::RevisionNotReached { wanted: revision, reached: health.revision })
    }

    /// How the client is now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.readers.health.borrow().status(Instant::now(), self.0.staleness)
    }

    /// Calls back, in a task of its own and in order, for each change of a resource that the selector picks as it was
    /// or as it is. A callback must not block; one that falls behind the queue gets the differences to the present
    /// instead of each change, one that panics is logged and called again for the next.
    pub fn on_change(
        &self,
        selector: Selector,
        callback: impl Fn(&ChangeEvent) + Send + 'static,
    ) -> Callback {
        Callback::start(&self.0.runtime, self.subscribe(), selector, callback)
    }

    /// Every change from now on, in order, through a bounded queue.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription::new(&self.0.readers)
    }

    /// The present state, all of one revision.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.readers.served.load_full()
    }

    /// See [`Snapshot::get`].
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Resource>> {
        self.0.readers.served.load().get(name)
    }

    /// See [`Snapshot::secret`].
    ///
    /// # Errors
    /// Says why there is none.
    pub fn secret(&self, name: &str, path: &str) -> Result<SecretText, SecretError> {
        self.0.readers.served.load().secret(name, path)
    }

    /// See [`Snapshot::provider`].
    #[must_use]
    pub fn provider(&self, id: &str) -> Option<Provider> {
        self.0.readers.served.load().provider(id)
    }

    /// See [`Snapshot::api_key`].
    #[must_use]
    pub fn api_key(&self, provider: &str, id: &str) -> Option<ApiKey> {
        self.0.readers.served.load().api_key(provider, id)
    }

    /// See [`Snapshot::active_api_keys`].
    #[must_use]
    pub fn active_api_keys(&self, provider: &str) -> Vec<ApiKey> {
        self.0.readers.served.load().active_api_keys(provider)
    }

    /// See [`Snapshot::cache_policy`].
    #[must_use]
    pub fn cache_policy(&self, id: &str) -> Option<CachePolicy> {
        self.0.readers.served.load().cache_policy(id)
    }

    /// See [`Snapshot::database`].
    #[must_use]
    pub fn database(&self, id: &str) -> Option<Database> {
        self.0.readers.served.load().database(id)
    }

    /// See [`Snapshot::notification_channel`].
    #[must_use]
    pub fn notification_channel(&self, id: &str) -> Option<NotificationChannel> {
        self.0.readers.served.load().notification_channel(id)
    }

    /// See [`Snapshot::feature_flag`].
    #[must_use]
    pub fn feature_flag(&self, id: &str) -> Option<FeatureFlag> {
        self.0.readers.served.load().feature_flag(id)
    }

    /// See [`Snapshot::flag`].
    #[must_use]
    pub fn flag(&self, id: &str, context: &FlagContext, otherwise: bool) -> bool {
        self.0.readers.served.load().flag(id, context, otherwise)
    }

    /// See [`Snapshot::find_virtual_key`]; asks the machine's clock for the time.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "expiry is by the gateway's own clock; nothing injects one here"
    )]
    pub fn find_virtual_key(&self, presented: &str) -> Option<VirtualKey> {
        self.0.readers.served.load().find_virtual_key(presented, std::time::SystemTime::now())
    }

    /// See [`Snapshot::setting`].
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<Setting> {
        self.0.readers.served.load().setting(key)
    }

    /// See [`Snapshot::setting_for`].
    #[must_use]
    pub fn setting_for(&self, user: &str, key: &str) -> Option<Setting> {
        self.0.readers.served.load().setting_for(user, key)
    }

    /// See [`Snapshot::setting_string`].
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn setting_string(&self, key: &str) -> Result<Option<String>, SettingError> {
        self.0.readers.served.load().setting_string(key)
    }

    /// See [`Snapshot::setting_int`].
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn setting_int(&self, key: &str) -> Result<Option<i64>, SettingError> {
        self.0.readers.served.load().setting_int(key)
    }

    /// See [`Snapshot::setting_float`].
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn setting_float(&self, key: &str) -> Result<Option<f64>, SettingError> {
        self.0.readers.served.load().setting_float(key)
    }

    /// See [`Snapshot::setting_bool`].
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn setting_bool(&self, key: &str) -> Result<Option<bool>, SettingError> {
        self.0.readers.served.load().setting_bool(key)
    }

    /// See [`Snapshot::setting_duration`].
    ///
    /// # Errors
    /// [`SettingError::WrongType`].
    pub fn setting_duration(&self, key: &str) -> Result<Option<Duration>, SettingError> {
        self.0.readers.served.load().setting_duration(key)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Client({:?})", self.snapshot())
    }
}
