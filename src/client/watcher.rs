//! The task that watches for ever: opens a stream, follows it, waits, opens the next.
//!
//! Owns deadlines, delays and what is recorded about them. What events mean is the replica's; how a stream is opened is
//! the transport's.

mod confirmation;
mod record;

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use confirmation::Confirmation;
use futures_util::{FutureExt as _, StreamExt, future::OptionFuture};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tonic::Code;

use super::{
    backoff::{Backoff, Random},
    cache::keeper::Keeper,
    error::Error,
    health::{Filled, Health},
    metrics::{Metric, Metrics},
    publisher::Publisher,
    replica::{Applied, Desync, Replica, Signal},
    reporter::{Running, report},
    transport::{EventStream, Looking, Transport},
    validation::Rejection,
};
use crate::proto::v1::{ResetReason, WatchConfigRequest, watch_config_response::Event};

const BACKOFF_FLOOR: Duration = Duration::from_millis(100);
const BACKOFF_CEILING: Duration = Duration::from_secs(10);
/// Between attempts that only a person can make succeed.
const FATAL_DELAY: Duration = Duration::from_secs(30);
/// No server may send a client away for longer.
const MAX_REQUESTED_DELAY: Duration = Duration::from_secs(60);
/// Until a snapshot is complete a server may be silent for longer: it admits snapshots at a bounded rate.
const SYNC_DEADLINE: Duration = Duration::from_secs(30);
/// How long a server may take to send a state as a whole, however little it is silent meanwhile.
const WHOLE_DEADLINE: Duration = Duration::from_secs(600);
/// Heartbeats that may be missed.
const MISSED_INTERVALS: u32 = 3;

pub(super) struct Watcher<T> {
    transport: T,
    request: WatchConfigRequest,
    heartbeat_deadline: Duration,
    /// How old the last word of the store may be before another server is looked for.
    patience: Duration,
    replica: Replica,
    publisher: Publisher,
    metrics: Metrics,
    keeper: Option<Keeper>,
    /// Counts the demands for a new snapshot.
    demands: watch::Receiver<u64>,
    backoff: Backoff,
    stream: StreamState,
    /// What this process runs, for reports.
    running: watch::Sender<Running>,
    /// Held by whoever still has something to tell the server.
    telling: mpsc::Sender<Infallible>,
}

/// What a watcher works for, beside the replica.
pub(super) struct Outlets {
    pub(super) publisher: Publisher,
    pub(super) metrics: Metrics,
    pub(super) keeper: Option<Keeper>,
    /// Counts the demands for a new snapshot; health tells which was met.
    pub(super) demands: watch::Receiver<u64>,
    /// Let go of once the server was told goodbye.
    pub(super) telling: mpsc::Sender<Infallible>,
}

/// What is known of the present stream.
struct StreamState {
    /// When it was asked for, until it is in sync.
    asked: Option<Instant>,
    opened: Option<Instant>,
    synced: bool,
    /// By when the store has to be heard of.
    confirmation: Confirmation,
    /// Whether it has been heard of.
    confirmed: bool,
    /// Since when a state is being sent that is not whole yet.
    unfinished: Option<Instant>,
    /// When the server wants this client to come back, once it has said that it goes away.
    leave_at: Option<Instant>,
}

impl StreamState {
    fn new(patience: Duration) -> Self {
        Self {
            asked: Some(Instant::now()),
            opened: None,
            synced: false,
            confirmation: Confirmation::new(patience, WHOLE_DEADLINE),
            confirmed: false,
            unfinished: None,
            leave_at: None,
        }
    }
}

/// Why a stream is not followed any more.
enum End {
    Left(Instant),
    /// A new snapshot is demanded.
    Demanded,
    Failed(Error),
    Desync(Desync),
}

impl<T: Transport> Watcher<T> {
    pub(super) fn new(
        transport: T,
        request: WatchConfigRequest,
        progress_interval: Duration,
        replica: Replica,
        outlets: Outlets,
        random: Random,
    ) -> Self {
        let Outlets { publisher, metrics, keeper, demands, telling } = outlets;
        let heartbeat_deadline = progress_interval * MISSED_INTERVALS;
        // So that there is another before the client is stale.
        let patience = heartbeat_deadline.max(publisher.bound() / 2);
        Self {
            transport,
            request,
            heartbeat_deadline,
            patience,
            replica,
            publisher,
            metrics,
            keeper,
            demands,
            backoff: Backoff::new(BACKOFF_FLOOR, BACKOFF_CEILING, random),
            stream: StreamState::new(patience),
            running: watch::Sender::default(),
            telling,
        }
    }

    /// Watches until the task is dropped.
    pub(super) async fn run(mut self) {
        // It ends by itself, after the last word, when this one is gone.
        let (running, telling) = (self.running.subscribe(), self.telling.clone());
        tokio::spawn(async move {
            report(running, Box::new(rand::random::<f64>)).await;
            drop(telling);
        });
        let mut demands = self.demands.clone();
        self.load().await;
        loop {
            let end = tokio::select! {
                biased;
                demanded = demands.changed() => match demanded {
                    Ok(()) => End::Demanded,
                    // Nobody is left who could read what is watched.
                    Err(_) => return,
                },
                end = self.follow_safely() => end,
            };
            self.publisher.record(|health| health.nameless = false);
            let resume_at = self.account_for(end);
            self.transport.rotate();
            tokio::select! {
                _ = demands.changed() => self.replica.start_over(),
                () = sleep_until(resume_at) => {}
            }
        }
    }

    /// Begins with what is on disk, where that can be used.
    async fn load(&mut self) {
        let Some(keeper) = &mut self.keeper else { return };
        let Some((saved, confirmed)) = keeper.load(self.replica.served().overrides.clone()).await else {
            return;
        };
        let changes = self.replica.begin_with(&saved.snapshot, saved.cursor);
        tracing::info!(revision = saved.snapshot.revision(), "configuration was read from disk");
        self.publisher.publish(self.replica.served(), changes, |health| {
            health.source = Filled::Disk;
            health.confirmed = Some(confirmed);
        });
    }

    /// Follows a stream. A defect in that must not end the cache for good: the next one begins with a snapshot.
    async fn follow_safely(&mut self) -> End {
        if let Ok(end) = AssertUnwindSafe(self.follow()).catch_unwind().await {
            return end;
        }
        self.replica.start_over();
        End::Failed(Error::Desync("a defect in the client".to_owned()))
    }

    /// Opens a stream and follows it to its end.
    async fn follow(&mut self) -> End {
        self.stream = StreamState::new(self.patience);
        self.publisher.record(|health| health.nameless = true);
        let mut stream = match self.open().await {
            Ok(stream) => stream,
            Err(error) => return End::Failed(error),
        };
        self.stream.opened = Some(Instant::now());
        self.publisher.record(|health| health.streams += 1);
        let mut lookout = None;
        loop {
            let began = self.stream.unfinished.unwrap_or_else(Instant::now);
            self.stream.unfinished = self.replica.is_unfinished().then_some(began);
            // A state on its way has a deadline of its own: nothing confirms it before it is whole.
            let overdue = self.stream.unfinished.is_none() && self.stream.confirmation.is_overdue();
            lookout = if overdue { Some(lookout.unwrap_or_else(|| self.look())) } else { None };
            let event = tokio::select! {
                biased;
                Some(found) = OptionFuture::from(lookout.as_mut()) => {
                    self.transport.go_to(found);
                    return End::Failed(Error::Unconfirmed(self.patience));
                }
                event = self.next(&mut stream) => event,
            };
            let event = match event {
                Ok(event) => event,
                Err(end) => return end,
            };
            if let Err(desync) = self.take_in(event) {
                return End::Desync(desync);
            }
        }
    }

    /// Looks for another server while this one does not hear of the store. The stream is kept until one is found.
    fn look(&self) -> Looking<T::Found> {
        let error = Error::Unconfirmed(self.patience);
        tracing::warn!(%error, "another server is looked for that hears of the store");
        self.publisher.record(|health| health.last_error = Some(Arc::new(error)));
        self.transport.look(self.patience)
    }

    async fn open(&mut self) -> Result<EventStream, Error> {
        let cursor = self.replica.begin_stream();
        let request = WatchConfigRequest {
            resume_token: cursor.resume_token,
            view_id: cursor.view_id,
            previous_session_id: self.running.borrow().session.clone(),
            ..self.request.clone()
        };
        let deadline = self.deadline();
        let opened = timeout(deadline, self.transport.open(request)).await;
        opened.unwrap_or(Err(Error::Silent(deadline)))
    }

    /// The next event, or why there is none. A server that goes away is listened to until it has gone or the time to
    /// come back is there, whichever is first.
    async fn next(&mut self, stream: &mut EventStream) -> Result<Option<Event>, End> {
        let deadline = self.deadline();
        let silent_at = Instant::now() + deadline;
        let leave_at = self.stream.leave_at;
        let until = leave_at.map_or(silent_at, |leave_at| leave_at.min(silent_at));
        if self.stream.unfinished.is_some_and(|since| since.elapsed() > WHOLE_DEADLINE) {
            self.replica.start_over();
            return Err(End::Desync(Desync::Contract("a state is not whole after ten minutes")));
        }
        let begun = self.publisher.now();
        let next = timeout_at(until, stream.next()).await;
        let error = match next {
            // This process stood still. What has waited for it meanwhile tells of the past as if it were the present.
            Ok(Some(Ok(_))) if self.publisher.now().since(begun) > deadline => Error::Silent(deadline),
            Ok(Some(Ok(message))) => return Ok(message.event),
            Ok(Some(Err(status))) => Error::from(status),
            Ok(None) => Error::Ended,
            Err(_) => Error::Silent(deadline),
        };
        Err(leave_at.map_or(End::Failed(error), End::Left))
    }

    fn take_in(&mut self, event: Option<Event>) -> Result<(), Desync> {
        let mut applied = self.replica.apply(event)?;
        let fresh = self.publisher.is_fresh(applied.confirmed_age);
        let first_sync = matches!(applied.signal, Signal::Synced(_)) && self.stream.asked.is_some();
        self.stream.confirmation.note(&applied, fresh, first_sync);
        self.stream.confirmed |= fresh;
        let changes = applied.changes.take();
        let changed = changes.as_ref().map(|changes| changes.events.len());
        self.publisher.publish(self.replica.served(), changes, |health| self.note(&applied, health));
        self.measure(changed, &applied);
        let synced = match &applied.signal {
            Signal::Synced(session) => Some(session.as_str()),
            _ => None,
        };
        self.tell(synced);
        self.keep(&applied, changed.is_some());
        self.heed(applied.signal);
        applied.over.map_or(Ok(()), Err)
    }

    /// Does what an event asks of the watcher itself.
    fn heed(&mut self, signal: Signal) {
        match signal {
            Signal::None | Signal::Revoked => {}
            Signal::Synced(_) => {
                self.stream.synced = true;
                tracing::info!(revision = self.replica.served().revision(), "configuration is in sync");
            }
            Signal::Reset(reason) => {
                self.stream.synced = false;
                tracing::warn!(reason = reason.as_str_name(), "configuration is sent anew");
            }
            Signal::GoingAway { reason, after } => {
                let after = after.min(MAX_REQUESTED_DELAY);
                let at = Instant::now() + after;
                self.stream.leave_at = Some(self.stream.leave_at.map_or(at, |before| before.min(at)));
                tracing::info!(reason, ?after, "the server goes away");
            }
        }
    }

    /// How long the server may be silent at this point.
    fn deadline(&self) -> Duration {
        if self.stream.synced { self.heartbeat_deadline } else { self.heartbeat_deadline.max(SYNC_DEADLINE) }
    }

    /// Records how a stream ended, and tells when the next may begin.
    fn account_for(&mut self, end: End) -> Instant {
        let now = Instant::now();
        let lived =
            self.stream.confirmed && self.stream.opened.is_some_and(|opened| now - opened >= BACKOFF_CEILING);
        // A cache that does not match has not worked, however long it took to find out, nor has a server without its store.
        if lived && !matches!(end, End::Desync(_) | End::Failed(Error::Unconfirmed(_))) {
            self.backoff.reset();
        }
        let (error, resume_at) = match end {
            End::Demanded => {
                self.replica.start_over();
                return now;
            }
            End::Left(leave_at) if lived => return leave_at,
            // Else a server that sends everybody away at once would be asked again at once, for ever.
            End::Left(leave_at) => return leave_at.max(now + self.backoff.next_delay()),
            End::Desync(desync) => {
                if matches!(desync, Desync::Digest { .. }) {
                    self.note_mismatch();
                }
                (Error::Desync(desync.to_string()), now + self.backoff.next_delay())
            }
            End::Failed(error) => {
                let delay = self.delay_after(&error);
                (error, now + delay)
            }
        };
        tracing::warn!(%error, delay = ?(resume_at - now), "the configuration stream was lost");
        self.publisher.record(|health| health.last_error = Some(Arc::new(error)));
        self.measure_outage();
        resume_at
    }

    fn delay_after(&mut self, error: &Error) -> Duration {
        if error.is_fatal() {
            return self.backoff.spread(FATAL_DELAY);
        }
        let own = self.backoff.next_delay();
        match error.rpc().filter(|rpc| rpc.code != Code::Unauthenticated).and_then(|rpc| rpc.retry_delay) {
            Some(requested) => own.max(self.backoff.spread(requested.min(MAX_REQUESTED_DELAY))),
            None => own,
        }
    }
}

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;
