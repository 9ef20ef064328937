//! The task that watches for ever: opens a stream, follows it, waits, opens the next.
//!
//! Owns deadlines, delays and what is recorded about them. What events mean is the replica's; how a stream is opened is
//! the transport's.

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt};
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
    transport::{EventStream, Transport},
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
/// How long a stream may bring no fresh word of the store, whatever else it brings, from its first message and from being in
/// sync. So many intervals, where that is longer.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(30);

pub(super) struct Watcher<T> {
    transport: T,
    request: WatchConfigRequest,
    heartbeat_deadline: Duration,
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
#[derive(Default)]
struct StreamState {
    /// When it was asked for, until it is in sync.
    asked: Option<Instant>,
    opened: Option<Instant>,
    synced: bool,
    /// By when the store has to be heard of, once the stream has brought anything.
    confirm_by: Option<Instant>,
    /// By when that has to be, however many changes come before it.
    catch_up_by: Option<Instant>,
    /// Whether it has been heard of.
    confirmed: bool,
    /// Since when a state is being sent that is not whole yet.
    unfinished: Option<Instant>,
    /// When the server wants this client to come back, once it has said that it goes away.
    leave_at: Option<Instant>,
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
        Self {
            transport,
            request,
            heartbeat_deadline: progress_interval * MISSED_INTERVALS,
            replica,
            publisher,
            metrics,
            keeper,
            demands,
            backoff: Backoff::new(BACKOFF_FLOOR, BACKOFF_CEILING, random),
            stream: StreamState::default(),
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
        self.stream = StreamState { asked: Some(Instant::now()), ..StreamState::default() };
        let mut stream = match self.open().await {
            Ok(stream) => stream,
            Err(error) => return End::Failed(error),
        };
        self.stream.opened = Some(Instant::now());
        self.publisher.record(|health| health.streams += 1);
        loop {
            let began = self.stream.unfinished.unwrap_or_else(Instant::now);
            self.stream.unfinished = self.replica.is_unfinished().then_some(began);
            let event = match self.next(&mut stream).await {
                Ok(event) => event,
                Err(end) => return end,
            };
            if let Err(desync) = self.take_in(event) {
                return End::Desync(desync);
            }
        }
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

    /// Has it reported that what is served now is run: in the session that `synced` names, or in the one before.
    fn tell(&self, synced: Option<&str>) {
        if !self.stream.synced && synced.is_none() {
            return;
        }
        let rejection = self.replica.rejection();
        self.running.send_if_modified(|running| {
            let revision = match (rejection, synced) {
                (None, _) => self.replica.served().revision(),
                (Some(_), None) => running.revision,
                (Some(_), Some(_)) => 0,
            };
            let same = synced.is_none_or(|session| session == running.session)
                && running.revision == revision
                && running.rejection.as_ref() == rejection;
            if let Some(session) = synced {
                running.over = self.transport.reports().filter(|_| self.reports());
                session.clone_into(&mut running.session);
            }
            running.revision = revision;
            running.rejection = rejection.cloned();
            !same
        });
    }

    /// Whether anybody is to be told at all.
    fn reports(&self) -> bool {
        self.request.worker.as_ref().is_some_and(|worker| !worker.silent)
    }

    /// The next event, or why there is none. A server that goes away is listened to until it has gone or the time to
    /// come back is there, whichever is first.
    async fn next(&mut self, stream: &mut EventStream) -> Result<Option<Event>, End> {
        let deadline = self.deadline();
        let silent_at = Instant::now() + deadline;
        let leave_at = self.stream.leave_at;
        // A state on its way has a deadline of its own: nothing confirms it before it is whole.
        let confirm_by = self.stream.confirm_by.filter(|_| self.stream.unfinished.is_none());
        let until = [leave_at, confirm_by].into_iter().flatten().fold(silent_at, Instant::min);
        if confirm_by.is_some_and(|by| by <= Instant::now()) {
            return Err(self.unconfirmed());
        }
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
            Err(_) if confirm_by == Some(until) => return Err(self.unconfirmed()),
            Err(_) => Error::Silent(deadline),
        };
        Err(leave_at.map_or(End::Failed(error), End::Left))
    }

    /// The end of a stream that confirms nothing. One that goes away meanwhile has no say in when the next begins.
    fn unconfirmed(&self) -> End {
        End::Failed(Error::Unconfirmed(self.confirm_deadline()))
    }

    fn take_in(&mut self, event: Option<Event>) -> Result<(), Desync> {
        let mut applied = self.replica.apply(event)?;
        self.confirm(&applied);
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

    /// Notes by when the store has to be heard of again.
    fn confirm(&mut self, applied: &Applied) {
        let fresh = self.publisher.is_fresh(applied.confirmed_age);
        // The first word sets the time in which a resumed stream has to come in sync, and that sets it once more.
        let first_sync = matches!(applied.signal, Signal::Synced(_)) && self.stream.asked.is_some();
        let begins = fresh || first_sync || self.stream.confirm_by.is_none();
        if begins {
            self.stream.catch_up_by = Some(Instant::now() + WHOLE_DEADLINE);
        }
        // Heartbeats come behind all that is queued, and who has something new to send has its store.
        if begins || applied.advanced {
            let by = Instant::now() + self.confirm_deadline();
            self.stream.confirm_by = self.stream.catch_up_by.map(|last| by.min(last));
        }
        self.stream.confirmed |= fresh;
    }

    /// Sees to it that what is on disk is what an event has made of it.
    fn keep(&mut self, applied: &Applied, changed: bool) {
        let Some(keeper) = &mut self.keeper else { return };
        let in_sync = match &applied.signal {
            Signal::Synced(_) => true,
            Signal::Reset(_) => false,
            _ => self.stream.synced,
        };
        if in_sync && self.replica.rejection().is_none() {
            keeper.vouch(self.transport.subject());
        }
        if let Signal::Reset(reason) = applied.signal
            && !matches!(reason, ResetReason::Compacted | ResetReason::Lagged)
        {
            keeper.refute();
        }
        let health = self.publisher.health();
        // Before a first state is accepted there is nothing to keep.
        let confirmed = health.confirmed.filter(|_| health.is_loaded());
        keeper.take_note(&self.replica, applied, changed, confirmed);
    }

    /// Records what an event has done.
    fn note(&self, applied: &Applied, health: &mut Health) {
        let (now, rejection) = (self.publisher.now(), self.replica.rejection());
        health.last_message = Some(now);
        if let Some(age) = applied.confirmed_age {
            health.confirmed = Some(now.before(age));
        }
        if self.publisher.is_fresh(applied.confirmed_age) {
            health.last_error = None;
        }
        let mut completes = health.rejection.is_some();
        match &applied.signal {
            Signal::Synced(session_id) => {
                completes = true;
                health.session_id.clone_from(session_id);
                // A server that tells nothing fresh is in the way until one does, however many streams it opens.
                health.last_error.take_if(|error| !matches!(**error, Error::Unconfirmed(_)));
            }
            Signal::Reset(reason) => {
                health.resets += 1;
                // What is served on until the snapshot is complete may be of a life of the store that is over.
                health.refuted |= matches!(reason, ResetReason::OtherStore | ResetReason::Ahead);
            }
            Signal::None | Signal::Revoked | Signal::GoingAway { .. } => {}
        }
        if completes && rejection.is_none() {
            health.source = Filled::Stream;
            health.refuted = false;
            health.demand = *self.demands.borrow();
        }
        if let Some(Rejection { revision, reason }) = rejection.filter(|_| applied.rejected) {
            tracing::warn!(revision, reason, "a revision is not accepted");
        }
        health.rejection = rejection.cloned();
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

    fn measure(&mut self, changed: Option<usize>, applied: &Applied) {
        // After a reset it is in sync once more, and nothing was asked for again.
        let asked = if matches!(applied.signal, Signal::Synced(_)) { self.stream.asked.take() } else { None };
        let told = |metric| self.metrics.tell(metric);
        let count = |count: fn(&Health) -> u64| count(&self.publisher.health());
        told(Metric::Revision(self.replica.served().revision()));
        if let Some(changed) = changed {
            told(Metric::Changes(changed));
        }
        if let Some(age) = applied.confirmed_age {
            told(Metric::ConfirmedAge(age));
        }
        if let Some(asked) = asked {
            told(Metric::Load(asked.elapsed()));
        }
        self.metrics.tell_reads();
        match applied.signal {
            Signal::Synced(_) => told(Metric::Reconnects(count(|health| health.streams.saturating_sub(1)))),
            Signal::Reset(_) => told(Metric::Resets(count(|health| health.resets))),
            Signal::Revoked => told(Metric::Revoked),
            Signal::None | Signal::GoingAway { .. } => {}
        }
    }

    /// How long the server may be silent at this point.
    fn deadline(&self) -> Duration {
        if self.stream.synced { self.heartbeat_deadline } else { self.heartbeat_deadline.max(SYNC_DEADLINE) }
    }

    /// How long a stream may confirm nothing.
    fn confirm_deadline(&self) -> Duration {
        self.heartbeat_deadline.max(CONFIRM_DEADLINE)
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

    /// What is told while no message comes that could tell it.
    fn measure_outage(&self) {
        self.metrics.tell_reads();
        let confirmed = self.publisher.health().confirmed;
        if let Some(confirmed) = confirmed {
            self.metrics.tell(Metric::ConfirmedAge(self.publisher.now().since(confirmed)));
        }
    }

    /// Known to be wrong is not fresh, whenever it was confirmed.
    fn note_mismatch(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.refute();
        }
        self.publisher.record(|health| {
            health.digest_mismatches += 1;
            health.refuted = true;
        });
        let mismatches = self.publisher.health().digest_mismatches;
        self.metrics.tell(Metric::DigestMismatches(mismatches));
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
