//! The watch contract: the ring of revisions, and the cursor of each stream.
//!
//! Owns what a stream is sent and in which order; how bytes travel is for `grpc`. It must not know SQL. Everything it
//! sends comes from the view and the log, in revision order.

mod admission;
mod batch;
mod cursor;
mod filter;
mod hub;
mod joined;
mod revoked;
mod session;
mod snapshot;
mod tally;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rand::RngExt;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

pub use batch::timestamp;
pub use cursor::{Cursor, Resume};
pub use filter::{Filter, authorise_secrets, not_granted};
pub use hub::Hub;
pub use session::NameSession;
pub use tally::StreamCounts;

use admission::{Admission, Lease, OpenStreams};
use tally::Tally;

use crate::{
    domain::{ChainHash, Clock, Epoch, Principal, Result, Revision, Selector},
    store::Log,
    view::{Revealer, State, View},
};

/// Streams that read pages of the log at the same time: slow ones must not starve writes of the database.
const LOG_READERS: usize = 4;
/// Heartbeats come at most and at least so far apart.
const PROGRESS_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The heartbeat, if the client names none.
const PROGRESS_DEFAULT: Duration = Duration::from_secs(5);

/// Further ahead than any token lives, and near enough for the timer.
const FAR: Duration = Duration::from_secs(400 * 86_400);

/// How many streams may be open, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// In all.
    pub total: usize,
    /// For one subject.
    pub per_subject: usize,
    /// How long one may leave what it was sent unread.
    pub stall: Duration,
    /// How old a stream grows before it is told to come back, so that clients spread over the servers there are now.
    pub age: Option<Duration>,
    /// By how much that differs from stream to stream.
    pub age_jitter: Duration,
}

/// What all streams share.
pub struct Streams {
    view: Arc<View>,
    hub: Arc<Hub>,
    log: Arc<dyn Log>,
    revealer: Arc<Revealer>,
    snapshots: snapshot::Snapshots,
    log_readers: Semaphore,
    clock: Arc<dyn Clock>,
    limits: StreamLimits,
    open: Arc<Mutex<OpenStreams>>,
    tally: Tally,
}

/// What a caller asks of a stream; parsed, not yet judged.
pub struct WatchRequest {
    /// What to watch.
    pub selectors: Vec<Selector>,
    /// Where to go on from.
    pub resume: Resume,
    /// Whether to open secrets.
    pub include_secrets: bool,
    /// How often to hear from the server.
    pub progress_interval: Option<Duration>,
    /// Cuts the connection that the request came over.
    pub scissors: CancellationToken,
}

impl Streams {
    /// Puts the shared parts together.
    #[must_use]
    pub fn new(
        view: Arc<View>,
        hub: Arc<Hub>,
        log: Arc<dyn Log>,
        revealer: Arc<Revealer>,
        clock: Arc<dyn Clock>,
        limits: StreamLimits,
    ) -> Self {
        let snapshots = snapshot::Snapshots::new(Arc::clone(&revealer));
        let log_readers = Semaphore::new(LOG_READERS);
        let (open, tally) = (Arc::default(), Tally::default());
        Self { view, hub, log, revealer, snapshots, log_readers, clock, limits, open, tally }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// `PermissionDenied` for selectors or secrets beyond the grants, `Exhausted` beyond the limits.
    pub fn open(self: &Arc<Self>, principal: &Principal, request: WatchRequest) -> Result<Cursor> {
        let WatchRequest { selectors, resume, include_secrets, progress_interval, scissors } = request;
        let filter = Filter::authorise(principal, selectors, include_secrets)?;
        let principal = Arc::new(principal.clone());
        let life = (principal.expires_at - self.clock.now()).to_std().unwrap_or_default();
        let (least, most) = PROGRESS_BOUNDS;
        // Far enough for any token, near enough for the timer.
        let expires = Instant::now() + life.min(FAR);
        let lease = Lease::new(Arc::clone(&principal), expires, scissors);
        let admission = Admission::to(&self.open, &self.limits, lease)?;
        let opening = cursor::Opening {
            principal,
            filter,
            resume,
            progress_interval: progress_interval.unwrap_or(PROGRESS_DEFAULT).clamp(least, most),
            expires,
            aged: Instant::now() + self.limits.age.map_or(FAR, |age| age + self.jitter()),
            admission,
        };
        Ok(Cursor::new(Arc::clone(self), opening))
    }

    /// The chain's head at a revision, as far as it is known without asking the store.
    #[must_use]
    pub fn hash_in_memory(&self, state: &State, revision: Revision) -> Option<ChainHash> {
        if state.revision == revision { Some(state.hash) } else { self.hub.hash_at(state.epoch, revision) }
    }

    /// The earliest revision from which on, up to `at`, nothing has changed of what these selectors reach; as far back as
    /// that is known in memory. Nothing is known of another life than the view's.
    #[must_use]
    pub fn unchanged_since(&self, selectors: &[Selector], epoch: Epoch, at: Revision) -> Revision {
        let generation = self.hub.generation();
        let since = self.hub.unchanged_since(selectors, at);
        let same = self.view.state().epoch == epoch && self.hub.generation() == generation;
        if same { since } else { at }
    }

    /// Resolves when this server is about to stop.
    pub async fn draining(&self) {
        let mut signal = self.hub.subscribe();
        // The hub lives as long as this does.
        let _ = signal.wait_for(|signal| signal.draining).await;
    }

    /// How many streams are open.
    #[must_use]
    pub fn watchers(&self) -> u64 {
        self.open.lock().count() as u64
    }

    /// How the streams are, in numbers.
    #[must_use]
    pub fn counts(&self) -> StreamCounts {
        self.tally.counts(self.watchers(), self.hub.bytes())
    }

    /// Sees to it that a stream goes whose client does not read: nobody polls it, so it can't end by itself.
    pub async fn watch_over(self: Arc<Self>) {
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        loop {
            beat.tick().await;
            let revocations = self.view.state().revocations.clone();
            let cut = self.open.lock().cut_stuck(self.limits.stall, |caller| revocations.revokes(caller));
            cut.into_iter().for_each(|why| self.tally.cut(why));
        }
    }

    fn jitter(&self) -> Duration {
        rand::rng().random_range(Duration::ZERO..=self.limits.age_jitter)
    }

    async fn floor(&self) -> Revision {
        // Only informs the client; if the store is away, the oldest revision is not known.
        self.log.head().await.map_or(Revision::ZERO, |head| head.floor)
    }
}
