//! The doorbell between replicas: LISTEN on a connection of its own, and the proof that it works.
//!
//! A ring says only "look". Whoever waits for it polls besides, so a dead doorbell costs latency and nothing else; but it
//! has to be known, so every few seconds a probe goes out through another connection and has to come in here. Engines
//! that have no NOTIFY, and poolers that give each transaction another connection, are found out and polled.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::{PgPool, postgres::PgListener};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    awaited::{self, NO_RING, SILENT},
    failure::bounded,
    session::{BEGIN_ASIDE, Lease, SILENCE, Server, asked, execute, not_opened},
};
use crate::store::{Doorbell, DoorbellState, failure::Failure};

/// The channel of the commits.
const COMMITS: &str = "signalbox";
/// The channel of the probes.
const PROBES: &str = "signalbox_probe";
/// How long a probe may be under way: sending it takes four ways to the database and back, of which each may take long.
const PROOF: Duration = SILENCE;
/// Pause between probes.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Pauses before it is tried anew: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Pause while the database is away: it is back at any moment, and is polled as often.
const AWAY: Duration = Duration::from_millis(250);
/// Pause where it can't work: behind a pooler, or on an engine without it.
const HOPELESS: Duration = Duration::from_secs(60);

/// What others tell is rung for at most so often: whoever may write to the database may also notify in a loop, and each ring is
/// answered with a read.
const APART: Duration = Duration::from_millis(5);
/// After so many notifications [`APART`] is waited. Those that have come in already are read without ever waiting for the
/// network, so that the task would give way to no other.
const BATCH: usize = 100;
/// So many between two probes are no longer commits of replicas: what is still to come would be read for minutes, and the
/// server would keep it as long.
const FLOOD: usize = 30_000;
/// Pause after that.
const CALM: Duration = Duration::from_secs(10);

/// How often it is looked whether there is a pooler: while others use it, it may give us what we had by chance.
const LOOKS: usize = 6;

const FLOODED: &str = "somebody notifies in a loop, so notifications come too late";
const POOLED: &str = "a pooler gives each transaction another connection, so notifications do not arrive";

/// Where the rings of this process and of others come together, and what is known of the latter.
pub struct Bell {
    rings: watch::Sender<u64>,
    state: Mutex<DoorbellState>,
    /// Something that others told, and that was not rung for yet.
    told: Notify,
}

impl Default for Bell {
    fn default() -> Self {
        let state = DoorbellState::Polling { reason: "it is not proven yet" };
        Self { rings: watch::Sender::new(0), state: Mutex::new(state), told: Notify::new() }
    }
}

impl Bell {
    /// Rings.
    pub fn ring(&self) {
        self.rings.send_modify(|rings| *rings += 1);
    }

    /// Rings for what others tell: at once for the first, and once for all that comes within [`APART`] after it.
    async fn ring_for_others(&self) -> Infallible {
        loop {
            self.told.notified().await;
            self.ring();
            tokio::time::sleep(APART).await;
        }
    }

    /// Tells of every ring from now on.
    pub fn subscribe(&self) -> Doorbell {
        self.rings.subscribe()
    }

    /// Whether the rings of others arrive.
    pub fn state(&self) -> DoorbellState {
        *self.state.lock()
    }

    fn set(&self, state: DoorbellState) {
        let before = std::mem::replace(&mut *self.state.lock(), state);
        match (before == state, state) {
            (false, DoorbellState::Polling { reason }) => {
                tracing::warn!(reason, "the database does not tell of the commits of others; it is polled");
            }
            (false, _) => tracing::info!("the database tells of the commits of others"),
            (true, _) => {}
        }
    }
}

/// Listens, for as long as the store is open.
pub struct Listening {
    pub bell: Arc<Bell>,
    /// Where the database is.
    pub server: Server,
    /// Other connections, through which probes go.
    pub readers: PgPool,
    /// The server's process that writes for us.
    pub writer: Arc<AtomicI32>,
    /// Whether the database knows NOTIFY.
    pub notifies: bool,
}

/// Why listening ended.
struct Ended {
    reason: &'static str,
    /// How long there is no use in trying again.
    rest: Option<Duration>,
    /// Whether it had worked.
    worked: bool,
}

impl Ended {
    fn because(reason: &'static str) -> Self {
        Self { reason, rest: None, worked: false }
    }

    /// The database did not answer, or not with what was asked for.
    fn away(reason: &'static str) -> Self {
        Self { rest: Some(AWAY), ..Self::because(reason) }
    }

    fn hopeless(reason: &'static str) -> Self {
        Self { rest: Some(HOPELESS), ..Self::because(reason) }
    }

    fn flooded() -> Self {
        Self { rest: Some(CALM), ..Self::because(FLOODED) }
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(reason) => Self::away(reason),
            _ => Self::because("the database refuses it"),
        }
    }
}

/// A connection that listens.
struct Ear {
    listener: PgListener,
    /// The server's process behind it.
    process: i32,
    /// Notifications since it was last begun to wait for something.
    heard: usize,
}

impl Listening {
    /// Listens until `stop`, trying again whenever it breaks. `tried` is told once the first attempt listens or has failed.
    pub async fn run(self, tried: oneshot::Sender<()>, stop: CancellationToken) {
        let mut tried = Some(tried);
        let mut pause = BACKOFF.0;
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.listen(&mut tried) => ended,
                never = self.bell.ring_for_others() => match never {},
            };
            let awaited = awaited::instead(&self.readers, ended.reason).await;
            self.bell.set(DoorbellState::Polling { reason: awaited.unwrap_or(ended.reason) });
            drop(tried.take());
            if ended.worked {
                pause = BACKOFF.0;
            }
            let now = ended.rest.unwrap_or(pause);
            if ended.rest.is_none() {
                pause = (pause * 2).min(BACKOFF.1);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(now) => {}
            }
        }
    }

    /// Listens until it breaks.
    async fn listen(&self, tried: &mut Option<oneshot::Sender<()>>) -> Ended {
        if !self.notifies {
            return Ended::hopeless("the database has no notifications");
        }
        let mut ear = match self.connect().await {
            Ok(ear) => ear,
            Err(ended) => return ended,
        };
        // What was committed before is not told any more.
        self.bell.ring();
        drop(tried.take());
        let ended = self.answer(&mut ear).await;
        if ended.reason == FLOODED {
            self.hang_up(ear).await;
        }
        ended
    }

    /// Rings for what comes in, and proves that something does, until it breaks.
    async fn answer(&self, ear: &mut Ear) -> Ended {
        let mut worked = false;
        loop {
            match self.prove(ear).await {
                Ok(()) => self.bell.set(DoorbellState::Notify),
                Err(ended) => return Ended { worked, ..ended },
            }
            worked = true;
            if let Err(ended) = self.serve(ear, Instant::now() + PROBE_EVERY, None).await {
                return Ended { worked, ..ended };
            }
        }
    }

    /// Ends a connection on which more comes in than is read. The driver would read all of it without a pause before it lets
    /// go: so the server ends it, and the little that was under way is read in turns with other tasks.
    async fn hang_up(&self, mut ear: Ear) {
        let process = ear.process;
        let kill = async {
            let mut lease = Lease::begin(&self.readers, BEGIN_ASIDE).await?;
            let query = sqlx::query("SELECT pg_terminate_backend($1)").bind(process);
            execute(lease.connection()?, query, SILENCE).await?;
            lease.end().await;
            Ok::<(), Failure>(())
        };
        if !matches!(timeout(PROOF, kill).await, Ok(Ok(()))) {
            tracing::debug!("the server was not told to end the connection that listens");
        }
        let rest = async {
            while let Ok(Some(_)) = ear.listener.try_recv().await {
                ear.heard += 1;
                if ear.heard.is_multiple_of(BATCH) {
                    tokio::task::yield_now().await;
                }
            }
        };
        if timeout(SILENCE, rest).await.is_err() {
            tracing::debug!("the connection that listened did not end");
        }
    }

    async fn connect(&self) -> Result<Ear, Ended> {
        let pool = self.server.listener();
        let connecting = timeout(SILENCE, PgListener::connect_with(&pool)).await;
        let connected = connecting.map_err(|_| Ended::away(SILENT))?;
        let mut listener = connected.map_err(|error| Ended::from(not_opened(&pool, error)))?;
        // A lost connection is told, and rung for, instead of being replaced unseen.
        listener.eager_reconnect(false);
        for _ in 0..LOOKS {
            if self.is_pooled(&mut listener).await? {
                return Err(Ended::hopeless(POOLED));
            }
        }
        let process = self.process_of(&mut listener).await?;
        let listening = bounded(SILENCE, listener.listen_all([COMMITS, PROBES])).await;
        listening.map_err(|trouble| Ended::from(trouble.failure))?;
        Ok(Ear { listener, process, heard: 0 })
    }

    /// Whether our connection changes behind a pooler. Asked before LISTEN, which would stay on whichever of the server's
    /// connections it met, and ring there in the midst of somebody else's answers.
    ///
    /// A session stays in one process of the server. While another session is in a transaction, a pooler has given it the
    /// process that we had, or gives us another one: unless others come in between, so it is looked at several times.
    async fn is_pooled(&self, listener: &mut PgListener) -> Result<bool, Ended> {
        let before = self.process_of(listener).await?;
        let mut other = Lease::begin(&self.readers, BEGIN_ASIDE).await?;
        let others: Vec<(i32,)> =
            asked(other.connection()?, "SELECT pg_backend_pid()", SILENCE).await.map_err(Failure::from)?;
        let pooled = others.contains(&(before,)) || self.process_of(listener).await? != before;
        other.end().await;
        Ok(pooled)
    }

    async fn process_of(&self, listener: &mut PgListener) -> Result<i32, Ended> {
        let row = bounded(SILENCE, sqlx::Executor::fetch_one(listener, "SELECT pg_backend_pid()")).await;
        let row = row.map_err(|trouble| Ended::from(trouble.failure))?;
        sqlx::Row::try_get(&row, 0).map_err(|_| Ended::because("the database's answer was not understood"))
    }

    /// Sends a probe out and waits until it comes in.
    async fn prove(&self, ear: &mut Ear) -> Result<(), Ended> {
        let nonce = format!("{:032x}", rand::random::<u128>());
        let sent = async {
            let mut lease = Lease::begin(&self.readers, BEGIN_ASIDE).await?;
            let query = sqlx::query("SELECT pg_notify($1, $2)").bind(PROBES).bind(&nonce);
            execute(lease.connection()?, query, SILENCE).await?;
            lease.end().await;
            Ok::<(), Failure>(())
        };
        match timeout(PROOF, sent).await {
            Ok(sent) => sent?,
            Err(_) => return Err(Ended::away(SILENT)),
        }
        match self.serve(ear, Instant::now() + PROOF, Some(&nonce)).await? {
            true => Ok(()),
            // It stands behind what others told.
            false if ear.heard > BATCH => Err(Ended::flooded()),
            false => Err(Ended::because(NO_RING)),
        }
    }

    /// Rings for what comes in until a time, or until the probe that is waited for. Says whether it came.
    async fn serve(&self, ear: &mut Ear, until: Instant, nonce: Option<&str>) -> Result<bool, Ended> {
        ear.heard = 0;
        // A time limit on what never waits would never be looked at.
        while Instant::now() < until {
            let told = match timeout_at(until, ear.listener.try_recv()).await {
                Err(_) => break,
                Ok(Ok(Some(told))) => told,
                Ok(_) => return Err(Ended::because("the connection to the database was lost")),
            };
            let own = i32::try_from(told.process_id()) == Ok(self.writer.load(Ordering::Relaxed));
            if told.channel() == PROBES {
                if nonce == Some(told.payload()) {
                    return Ok(true);
                }
            } else if !own {
                self.bell.told.notify_one();
            }
            ear.heard += 1;
            if ear.heard > FLOOD {
                return Err(Ended::flooded());
            }
            if ear.heard.is_multiple_of(BATCH) {
                tokio::time::sleep(APART).await;
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rings so far, after a moment in which no time passes.
    async fn heard(rings: &Doorbell) -> u64 {
        tokio::task::yield_now().await;
        *rings.borrow()
    }

    #[tokio::test(start_paused = true)]
    async fn regression_what_others_tell_in_a_loop_is_rung_for_at_a_bounded_rate() {
        let bell = Bell::default();
        let rings = bell.subscribe();
        let flood = async {
            bell.told.notify_one();
            assert_eq!(heard(&rings).await, 1, "the first is rung for at once");
            for _ in 0..1000 {
                bell.told.notify_one();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let rung = heard(&rings).await;
            assert!((150..=201).contains(&rung), "{rung} rings in a second");
            tokio::time::sleep(APART * 2).await;
            let before = heard(&rings).await;
            bell.told.notify_one();
            assert_eq!(heard(&rings).await, before + 1, "one that comes alone as well");
            bell.told.notify_one();
            tokio::time::sleep(APART * 2).await;
            assert_eq!(heard(&rings).await, before + 2, "nor is the last one lost");
        };
        // In this order: who hears yields once, in which the bell has to be looked at.
        tokio::select! {
            biased;
            never = bell.ring_for_others() => match never {},
            () = flood => {}
        }
    }
}
