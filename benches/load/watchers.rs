//! Streams that are watched: raw ones, not the worker's client, so that what is measured is the server.
//!
//! Every stream checks that revisions come in order, and keeps count and hash of them, so that a run in which a stream
//! missed or reordered anything fails, however fast it was.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use signalbox::proto::v1::WatchConfigRequest;
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::timeout,
};

use super::{
    failure::{Failure, Outcome},
    link::{Glance, Link},
    servers::Target,
    state::{Payload, everything},
};

/// Far more than anything here takes: only what will never come runs into it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Connections that are made at the same time, except in a storm.
const CONNECTING: usize = 64;
/// Connections that shared streams are spread over.
const SHARED: usize = 4;

/// How streams are spread over connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wiring {
    /// Each on a connection of its own, as workers on different machines are.
    Own,
    /// All on a few.
    Shared,
}

impl fmt::Display for Wiring {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Own => "own connections",
            Self::Shared => "shared connections",
        })
    }
}

/// How streams are opened.
#[derive(Clone, Copy)]
pub struct Opening {
    /// How many.
    pub count: usize,
    /// Over which connections.
    pub wiring: Wiring,
    /// How often each wants to hear from the server.
    pub heartbeat: Duration,
}

impl Opening {
    /// Streams that are left in peace: the reference has no heartbeat, so it is rare here.
    pub fn quiet(count: usize, wiring: Wiring) -> Self {
        Self { count, wiring, heartbeat: Duration::from_secs(60) }
    }
}

/// Open streams, until they are dropped.
pub struct Watchers {
    tasks: JoinSet<()>,
    seen: Vec<Arc<Mutex<Seen>>>,
    /// Where they meet with the writer.
    pub board: Arc<Board>,
}

/// What one stream has seen.
#[derive(Clone, Default)]
struct Seen {
    view_id: String,
    last: u64,
    trace: Trace,
    fault: Option<String>,
}

/// Count and hash of a sequence of revisions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Trace {
    count: u64,
    hash: u64,
}

impl Trace {
    fn push(&mut self, revision: u64) {
        self.count += 1;
        self.hash = (self.hash.rotate_left(5) ^ revision).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Watchers {
    /// Opens streams, and returns when all of them are synced. The first `timed` arrivals will have their time kept.
    pub async fn open(target: &Target, opening: Opening, timed: usize) -> Outcome<Self> {
        let seen = (0..opening.count).map(|_| Arc::default()).collect();
        let mut watchers = Self { tasks: JoinSet::new(), seen, board: Arc::new(Board::new(timed)) };
        watchers.connect(target, opening, "", CONNECTING).await?;
        watchers.synced(opening.count).await?;
        Ok(watchers)
    }

    /// Cuts all connections.
    pub async fn cut(&mut self) {
        self.tasks.shutdown().await;
    }

    /// All streams at once come back on new connections, from a token. Does not wait for them.
    pub async fn storm(&mut self, target: &Target, opening: Opening, token: &str) -> Outcome<()> {
        self.connect(target, opening, token, opening.count).await
    }

    async fn connect(
        &mut self,
        target: &Target,
        opening: Opening,
        token: &str,
        at_once: usize,
    ) -> Outcome<()> {
        let mut shared = Vec::new();
        if opening.wiring == Wiring::Shared {
            for _ in 0..SHARED {
                shared.push(target.worker().await?);
            }
        }
        let gate = Arc::new(Semaphore::new(at_once));
        let address: Arc<str> = target.address.as_str().into();
        for (number, seen) in self.seen.iter().enumerate() {
            let request = WatchConfigRequest {
                selectors: vec![everything()],
                resume_token: token.to_owned(),
                view_id: seen.lock().view_id.clone(),
                include_secrets: target.state.payload == Payload::Secrets,
                progress_interval: prost_types::Duration::try_from(opening.heartbeat).ok(),
                ..WatchConfigRequest::default()
            };
            let link = shared.get(number % SHARED).cloned();
            let (address, state, gate) = (Arc::clone(&address), Arc::clone(&target.state), Arc::clone(&gate));
            let (seen, board) = (Arc::clone(seen), Arc::clone(&self.board));
            self.tasks.spawn(async move {
                let follow = async {
                    let place = gate.acquire().await?;
                    let link = match link {
                        Some(link) => link,
                        None => Link::open(&address, &state.worker_token).await?,
                    };
                    let mut stream = link.watch(request).await?;
                    drop(place);
                    while let Some(message) = stream.message().await? {
                        seen.lock().look_at(message, &board);
                    }
                    Err(Failure::new("the server ended the stream"))
                };
                let ended: Outcome<()> = follow.await;
                if let Err(failure) = ended {
                    seen.lock().fail(failure.to_string(), &board);
                }
            });
        }
        Ok(())
    }

    /// Waits until so many revisions have arrived in all streams together.
    ///
    /// # Errors
    /// Naming the first stream that is broken or behind.
    pub async fn arrived(&self, count: usize) -> Outcome<()> {
        self.waited(self.board.arrived.reach(count, &self.board.broken).await)
    }

    /// Waits until so many streams have been synced, those of earlier connections included.
    ///
    /// # Errors
    /// As [`Self::arrived`].
    pub async fn synced(&self, count: usize) -> Outcome<()> {
        self.waited(self.board.synced.reach(count, &self.board.broken).await)
    }

    fn waited(&self, waited: Outcome<()>) -> Outcome<()> {
        waited.map_err(|failure| {
            let all = self.seen.len();
            let seen: Vec<_> = self.seen.iter().map(|seen| seen.lock().clone()).collect();
            if let Some(number) = seen.iter().position(|seen| seen.fault.is_some()) {
                let fault = seen[number].fault.as_deref().unwrap_or_default();
                return Failure::new(format!("stream {number}: {fault}"));
            }
            let most = seen.iter().map(|seen| seen.trace.count).max().unwrap_or_default();
            let behind = seen.iter().filter(|seen| seen.trace.count < most).count();
            Failure::new(format!(
                "{failure}; {behind} of {all} streams are behind the others' {most} revisions"
            ))
        })
    }

    /// Checks that every stream has seen exactly these revisions, in order.
    ///
    /// # Errors
    /// When one has not.
    pub fn check(&self, mut written: Vec<u64>) -> Outcome<()> {
        written.sort_unstable();
        let mut expected = Trace::default();
        written.into_iter().for_each(|revision| expected.push(revision));
        for (number, seen) in self.seen.iter().enumerate() {
            let seen = seen.lock();
            if let Some(fault) = &seen.fault {
                return Err(Failure::new(format!("stream {number}: {fault}")));
            }
            if seen.trace != expected {
                let (got, of) = (seen.trace.count, expected.count);
                return Err(Failure::new(format!(
                    "stream {number} saw {got} revisions, not the {of} that were written"
                )));
            }
        }
        Ok(())
    }
}

impl Seen {
    fn look_at(&mut self, message: Glance, board: &Board) {
        let Glance { synced, changes, reset } = message;
        if let Some(changes) = changes.filter(|changes| changes.last) {
            if changes.revision <= self.last {
                self.fail(format!("revision {} came after {}", changes.revision, self.last), board);
            }
            self.last = changes.revision;
            self.trace.push(changes.revision);
            board.arrive();
        }
        if let Some(synced) = synced {
            self.view_id = synced.view_id;
            board.synced.add();
        }
        if reset.is_some() {
            self.fail("the server reset the stream".to_owned(), board);
        }
    }

    /// The first fault is the one to know: others may follow from it.
    fn fail(&mut self, fault: String, board: &Board) {
        self.fault.get_or_insert(fault);
        board.fail();
    }
}

/// Where streams and writer meet: how many arrivals there were, and when.
pub struct Board {
    began: Instant,
    claimed: AtomicUsize,
    /// Nanoseconds since `began`.
    times: Box<[AtomicU64]>,
    arrived: Gauge,
    synced: Gauge,
    broken: AtomicBool,
}

impl Board {
    fn new(timed: usize) -> Self {
        Self {
            began: Instant::now(),
            claimed: AtomicUsize::new(0),
            times: (0..timed).map(|_| AtomicU64::new(0)).collect(),
            arrived: Gauge::default(),
            synced: Gauge::default(),
            broken: AtomicBool::new(false),
        }
    }

    fn arrive(&self) {
        if !self.times.is_empty()
            && let Some(time) = self.times.get(self.claimed.fetch_add(1, Ordering::Relaxed))
        {
            time.store(nanos(self.began.elapsed()), Ordering::Relaxed);
        }
        // Counted last, so that whoever sees the count finds the time.
        self.arrived.add();
    }

    fn fail(&self) {
        self.broken.store(true, Ordering::SeqCst);
        self.arrived.changed.notify_one();
        self.synced.changed.notify_one();
    }

    /// How long after `start` each of these arrivals came, in milliseconds.
    pub fn latencies(&self, start: Instant, arrivals: std::ops::Range<usize>) -> Vec<f64> {
        let start = nanos(start.duration_since(self.began));
        let since = |time: &AtomicU64| time.load(Ordering::Relaxed).saturating_sub(start) as f64 / 1e6;
        self.times[arrivals].iter().map(since).collect()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A count that somebody waits for.
#[derive(Default)]
struct Gauge {
    count: AtomicUsize,
    goal: AtomicUsize,
    changed: Notify,
}

impl Gauge {
    fn add(&self) {
        if self.count.fetch_add(1, Ordering::SeqCst) + 1 == self.goal.load(Ordering::SeqCst) {
            self.changed.notify_one();
        }
    }

    async fn reach(&self, goal: usize, broken: &AtomicBool) -> Outcome<()> {
        self.goal.store(goal, Ordering::SeqCst);
        let reached = async {
            while self.count.load(Ordering::SeqCst) < goal && !broken.load(Ordering::SeqCst) {
                self.changed.notified().await;
            }
        };
        let waited = timeout(PATIENCE, reached).await;
        if broken.load(Ordering::SeqCst) {
            return Err(Failure::new("a stream broke"));
        }
        let came = self.count.load(Ordering::SeqCst);
        waited.map_err(|_| Failure::new(format!("{came} of {goal} came within {PATIENCE:?}")))
    }
}
