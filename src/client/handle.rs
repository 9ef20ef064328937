//! The handle that a worker holds.
//!
//! Owns the life of the watcher's task, and the waits. Reads go to the published snapshot.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::Guard;
use tokio::{
    runtime::Handle,
    sync::{Mutex, mpsc, watch},
    task::{AbortHandle, spawn_blocking},
    time::{Instant, timeout, timeout_at},
};

use super::{
    cache::{CacheOptions, DiskCache, keeper::Keeper},
    clock::{Clock, Moment},
    environment::Environment,
    error::Error,
    events::ChangeEvent,
    health::{Filled, Health, Status},
    metrics::Metrics,
    options::ClientOptions,
    publisher::{Publisher, Readers, channel},
    replica::Replica,
    selector::Selector,
    settings::Overrides,
    snapshot::Snapshot,
    subscription::{Callback, Subscription},
    transport::{Dialer, Transport},
    variables,
    watcher::{Outlets, Watcher},
};

/// A worker's view of the configuration, kept up to date by one task. Cheap to clone; the task ends with the last clone.
///
/// Every getter reads the present snapshot from memory: no lock, no I/O. Two getters in a row may see two revisions; to
/// read several things of one revision, take [`snapshot`](Self::snapshot) and read from that.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    readers: Readers,
    runtime: Handle,
    /// Counts the demands for a new snapshot.
    demands: watch::Sender<u64>,
    /// None where somebody else fills the cache.
    watcher: Option<AbortHandle>,
    /// Ends when nobody has anything left to tell the server.
    told: Mutex<mpsc::Receiver<Infallible>>,
    /// Whether anybody is told at all.
    reports: bool,
    disk: Option<DiskCache>,
    metrics: Metrics,
    variables: Variables,
}

/// What the variables of the providers say, once somebody wants to know.
struct Variables {
    environment: Environment,
    overrides: Arc<Overrides>,
    read: OnceLock<Arc<Snapshot>>,
}

impl Variables {
    fn of(options: &ClientOptions) -> Self {
        let (environment, overrides) = (options.environment.clone(), Arc::new(options.overrides()));
        Self { environment, overrides, read: OnceLock::new() }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
    }
}

/// How long a start waits for the server when there is something older that would do.
const GRACE: Duration = Duration::from_millis(100);

/// How long a goodbye waits for the name of the session that is being opened.
const SETTLING: Duration = Duration::from_secs(1);

/// How long the goodbye may take: a report may just be under way.
const CLOSING: Duration = Duration::from_secs(3);

impl Client {
    /// Starts to watch, and returns at once. From then on the client reconnects by itself, for ever.
    ///
    /// # Errors
    /// [`Error::Options`] for options that can't work, [`Error::NoRuntime`] outside of a tokio runtime.
    pub fn connect(options: ClientOptions) -> Result<Self, Error> {
        options.check()?;
        if !options.enabled {
            return Self::of_environment(&options);
        }
        let settings = options.clone();
        Self::over(Dialer::new(options), &settings, Clock::MACHINE)
    }

    pub(super) fn over(
        transport: impl Transport,
        options: &ClientOptions,
        clock: Clock,
    ) -> Result<Self, Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let (overrides, validation) = (Arc::new(options.overrides()), options.validation.clone());
        let replica = Replica::new(overrides, validation, options.max_state_bytes);
        let first = replica.served().clone();
        let (publisher, readers) = channel(first, options.event_queue, options.staleness.clone(), clock);
        let (demands, demanded) = watch::channel(0);
        let disk = options.cache.as_ref().map(CacheOptions::open).transpose()?;
        let keep = |disk| Keeper::start(&runtime, disk, options, clock, publisher.trouble());
        let keeper = disk.clone().map(keep);
        let (telling, told) = mpsc::channel(1);
        let outlets =
            Outlets { publisher, metrics: options.metrics.clone(), keeper, demands: demanded, telling };
        let random = Box::new(rand::random::<f64>);
        let request = options.watch_request();
        let reports = request.worker.as_ref().is_some_and(|worker| !worker.silent);
        let watcher = Watcher::new(transport, request, options.progress_interval, replica, outlets, random);
        let watcher = Some(runtime.spawn(watcher.run()).abort_handle());
        Ok(Self(Arc::new(Inner {
            readers,
            runtime,
            demands,
            watcher,
            told: Mutex::new(told),
            reports,
            disk,
            metrics: options.metrics.clone(),
            variables: Variables::of(options),
        })))
    }

    /// A client of the providers' own variables. Nothing confirms them, and nothing has to.
    fn of_environment(options: &ClientOptions) -> Result<Self, Error> {
        let (client, publisher) = Self::filled_by_hand(options)?;
        publisher.publish(&client.of_variables(), None, |health| {
            health.source = Filled::Environment;
            (health.last_message, health.confirmed) = (Some(Moment::NEVER), Some(Moment::NEVER));
        });
        Ok(client)
    }

    /// A client whose cache somebody else fills.
    pub(super) fn filled_by_hand(options: &ClientOptions) -> Result<(Self, Publisher), Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let first = Arc::new(Snapshot::new(Arc::new(options.overrides())));
        let (publisher, readers) =
            channel(first, options.event_queue, options.staleness.clone(), Clock::MACHINE);
        let (demands, _) = watch::channel(0);
        Ok((
            Self(Arc::new(Inner {
                readers,
                runtime,
                demands,
                watcher: None,
                told: Mutex::new(mpsc::channel(1).1),
                reports: false,
                disk: None,
                metrics: options.metrics.clone(),
                variables: Variables::of(options),
            })),
            publisher,
        ))
    }

    /// Waits until there is something to read: the state of the service, or, where that does not answer at once, something
    /// older that would do. [`Status::ready`] says whether it is fresh.
    ///
    /// # Errors
    /// [`Error::NotReady`] with what stands in the way: when the time is over, or before that when only a person can
    /// mend it ([`Error::is_fatal`]). The client goes on trying in either case.
    pub async fn wait_ready(&self, limit: Duration) -> Result<(), Error> {
        let live = |health: &Health| matches!(health.source, Filled::Stream | Filled::Environment);
        let hopeless = |health: &Health| health.last_error.as_ref().is_some_and(|error| error.is_fatal());
        let away = |health: &Health| health.last_error.is_some() && health.is_loaded();
        let mut health = self.0.readers.health.clone();
        let deadline = Instant::now() + limit;
        let decided = health.wait_for(|health| live(health) || hopeless(health) || away(health));
        if timeout(limit.min(GRACE), decided).await.is_err() {
            let decided = health.wait_for(|health| health.is_loaded() || hopeless(health));
            let _ = timeout_at(deadline, decided).await;
        }
        let health = health.borrow();
        if live(&health) || (health.is_loaded() && !hopeless(&health)) {
            return Ok(());
        }
        Err(Error::NotReady { last_error: health.obstacle() })
    }

    /// Ends the watching for all clones, and says goodbye to the server, so that nobody waits for what this process runs. Takes
    /// at most four seconds. What was read last stays readable; a process that ends without it is missed for a minute.
    pub async fn close(&self) {
        if self.0.reports {
            // No goodbye can be said for a session without a name, and the service would wait a minute for this worker.
            let mut health = self.0.readers.health.clone();
            let _ = timeout(SETTLING, health.wait_for(Health::is_settled)).await;
        }
        if let Some(watcher) = &self.0.watcher {
            watcher.abort();
        }
        let _ = timeout(CLOSING, async { self.0.told.lock().await.recv().await }).await;
    }

    /// Forgets where the stream was, removes the cache on disk, and waits until a new snapshot has replaced the old state,
    /// which is served on meanwhile.
    ///
    /// # Errors
    /// [`Error::NotReady`] when the time is over, [`Error::Cache`] when the file can't be removed.
    pub async fn clear_cache(&self, limit: Duration) -> Result<(), Error> {
        if let Some(disk) = self.0.disk.clone() {
            let removed = spawn_blocking(move || disk.remove()).await;
            removed.unwrap_or(Ok(()))?;
        }
        let mut demand = 0;
        self.0.demands.send_modify(|count| {
            *count += 1;
            demand = *count;
        });
        if self.0.watcher.is_none() {
            return Ok(());
        }
        let mut health = self.0.readers.health.clone();
        let _ = timeout(limit, health.wait_for(|health| health.demand >= demand)).await;
        let health = health.borrow();
        if health.demand >= demand {
            return Ok(());
        }
        Err(Error::NotReady { last_error: health.obstacle() })
    }

    /// Waits until the cache has come to a revision, for example that of one's own write.
    ///
    /// # Errors
    /// [`Error::RevisionNotReached`] when the time is over.
    pub async fn wait_revision(&self, revision: u64, limit: Duration) -> Result<(), Error> {
        let reached = |health: &Health| health.is_loaded() && health.revision >= revision;
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
        self.0.readers.status()
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
        Guard::into_inner(self.reads())
    }

    /// What calls of models run on: the present state, or, as long as neither the service nor a cache on disk has given one,
    /// what the environment variables of the providers say (`GROQ_API_KEY` and so on), at revision 0.
    pub fn snapshot_for_calls(&self) -> Arc<Snapshot> {
        if self.0.readers.health.borrow().is_loaded() { self.snapshot() } else { self.of_variables() }
    }

    fn of_variables(&self) -> Arc<Snapshot> {
        let Variables { environment, overrides, read } = &self.0.variables;
        read.get_or_init(|| Arc::new(variables::snapshot(environment, overrides.clone()))).clone()
    }

    /// The present state, for the length of one read.
    pub(super) fn reads(&self) -> Guard<Arc<Snapshot>> {
        self.0.metrics.read();
        self.0.readers.current()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Client({:?})", **self.0.readers.current())
    }
}
