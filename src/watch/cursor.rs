//! One stream: where it stands, and what it has to be sent next.
//!
//! A cursor is pulled, never pushed to. While its client does not read it costs its own few hundred bytes, and the
//! ring goes on without it; when the client reads again, the cursor finds its place in the ring, in the log, or, if
//! both have gone on, says so with a Reset and begins anew.

mod opening;

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use rand::RngExt;
use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Streams,
    admission::Admission,
    batch::{Batch, frame},
    filter::Filter,
    hub::{Behind, Signal},
    joined::Joined,
    revoked,
    session::{NameSession, Session},
    snapshot::digest_of,
};
use crate::{
    digest::ViewDigest,
    domain::{ChainHash, Epoch, Error, Principal, Result, Revision, RevisionToken},
    proto::v1::{GoingAway, Progress, ResetReason, Synced, watch_config_response::Event},
    store::LogPage,
    view::{Confirmed, Reveal},
};

/// Revisions that are taken at once, and bytes that are joined into one DATA frame: large frames carry a backlog
/// several times faster than one frame a message.
const TAKE: usize = 256;
const JOIN_BYTES: usize = 64 * 1024;
/// Changes that are read from the log at once.
const PAGE: usize = 500;
/// Clients come back from a drained server within this time, each at a moment of its own.
const RECONNECT_SPREAD: Duration = Duration::from_secs(3);

/// One stream.
pub struct Cursor {
    streams: Arc<Streams>,
    principal: Arc<Principal>,
    filter: Filter,
    session: Session,
    signal: watch::Receiver<Signal>,
    timer: Pin<Box<Sleep>>,
    progress_interval: Duration,
    progress_due: Instant,
    expires: Instant,
    aged: Instant,
    at: Position,
    /// What the client holds; not known while a resumed stream catches up.
    digest: Option<ViewDigest>,
    phase: Phase,
    /// What was read from the log and is still to be handed over, in pieces that end with a revision.
    pending: VecDeque<Bytes>,
    /// What was revoked up to this revision needs no telling any more.
    warned: Revision,
    /// Told the last revision when the stream is gone, however it ended.
    ended: Option<Ended>,
    admission: Admission,
}

type Ended = Box<dyn FnOnce(Revision) + Send + Sync>;

/// The revision that the client has been sent, whole.
#[derive(Clone, Copy)]
struct Position {
    epoch: Epoch,
    revision: Revision,
    hash: ChainHash,
    generation: u64,
}

enum Phase {
    /// Nothing has been sent yet.
    Opening(Resume),
    /// A snapshot is on its way, of a state that is at least as new as what was confirmed.
    Snapshot { chunks: std::vec::IntoIter<Bytes>, confirmed: Confirmed },
    /// Changes follow as they come.
    Live,
    /// The last event has been sent.
    Ended,
}

/// What a client gives to go on from where it was.
pub struct Resume {
    /// The token, as it came.
    pub token: String,
    /// The view that the token belongs to.
    pub view_id: String,
}

/// What a stream needs beside the shared parts.
pub(super) struct Opening {
    pub principal: Arc<Principal>,
    pub filter: Filter,
    pub resume: Resume,
    pub progress_interval: Duration,
    pub expires: Instant,
    pub aged: Instant,
    pub admission: Admission,
}

impl Cursor {
    pub(super) fn new(streams: Arc<Streams>, opening: Opening) -> Self {
        let Opening { principal, filter, resume, progress_interval, expires, aged, admission } = opening;
        let progress_due = Instant::now() + progress_interval;
        let state = streams.view.state();
        let generation = streams.hub.generation();
        Self {
            signal: streams.hub.subscribe(),
            streams,
            principal,
            filter,
            session: Session::anonymous(),
            timer: Box::pin(sleep_until(progress_due.min(expires))),
            progress_interval,
            progress_due,
            expires,
            aged,
            at: Position {
                epoch: state.epoch,
                revision: Revision::ZERO,
                hash: ChainHash::default(),
                generation,
            },
            digest: None,
            phase: Phase::Opening(resume),
            pending: VecDeque::new(),
            warned: Revision::ZERO,
            ended: None,
            admission,
        }
    }

    /// Has the stream's sessions named. Gives the name of the present one.
    pub fn name_session(&mut self, name: NameSession) -> String {
        self.session = Session::named(name);
        self.session.in_life(self.at.epoch)
    }

    /// Has `ended` told of the end, with the last revision that was sent.
    pub fn on_end(&mut self, ended: impl FnOnce(Revision) + Send + Sync + 'static) {
        self.ended = Some(Box::new(ended));
    }

    /// What the stream shows.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The next framed messages, or the error that ends the stream; `None` at its orderly end.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        self.admission.asked();
        let step = self.advance().await;
        self.admission.handed();
        match step {
            Ok(Some(bytes)) => Some(Ok(bytes)),
            Ok(None) => None,
            Err(error) => {
                self.phase = Phase::Ended;
                Some(Err(error))
            }
        }
    }

    async fn advance(&mut self) -> Result<Option<Bytes>> {
        loop {
            self.check_rights()?;
            if let Some(bytes) = self.revoked().await? {
                return Ok(Some(bytes));
            }
            match &mut self.phase {
                Phase::Ended => return Ok(None),
                Phase::Opening(_) => {
                    let Phase::Opening(resume) = std::mem::replace(&mut self.phase, Phase::Live) else {
                        continue;
                    };
                    return self.open(resume).await.map(Some);
                }
                Phase::Snapshot { chunks, confirmed } => match chunks.next() {
                    Some(chunk) => return Ok(Some(chunk)),
                    None => {
                        let confirmed = *confirmed;
                        self.phase = Phase::Live;
                        return Ok(Some(self.synced(confirmed)));
                    }
                },
                Phase::Live => {
                    // Changes are no heartbeat, and don't put it off: only it says that the store was heard from.
                    if let Some(bytes) = self.live().await? {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Rights end a stream at once, whatever is still queued for it.
    fn check_rights(&self) -> Result<()> {
        if Instant::now() >= self.expires {
            return Err(Error::Unauthenticated {
                reason: "TOKEN_EXPIRED",
                description: "the token of this stream has expired; come back with a new one".into(),
            });
        }
        if self.streams.view.state().revocations.revokes(&self.principal) {
            return Err(Error::Unauthenticated {
                reason: "TOKEN_REVOKED",
                description: "the token of this stream has been revoked".into(),
            });
        }
        Ok(())
    }

    // -- live

    /// In the same life, and further on, the log was compacted past the view of this server, which may have lagged far behind.
    fn why_rebuilt(&self) -> ResetReason {
        let state = self.streams.view.state();
        match state.epoch == self.at.epoch && state.revision > self.at.revision {
            true => ResetReason::Lagged,
            false => ResetReason::OtherStore,
        }
    }

    /// Waits for the next thing to send. `None`: look again.
    async fn live(&mut self) -> Result<Option<Bytes>> {
        if self.at.generation == self.streams.hub.generation()
            && let Some(bytes) = self.pending.pop_front()
        {
            return Ok(Some(bytes));
        }
        let signal = *self.signal.borrow_and_update();
        let confirmed = self.streams.view.confirmed();
        match self.streams.hub.after(self.at.revision, self.at.generation, TAKE) {
            // What has come since the last look at what is revoked is told of first.
            Behind::Batches(batches) if !batches.is_empty() && self.owes_warning() => return Ok(None),
            Behind::Batches(batches) if !batches.is_empty() => return Ok(self.take(&batches)),
            Behind::Batches(_) if signal.draining => {
                return Ok(Some(self.going_away("the server is shutting down")));
            }
            Behind::Batches(_) if Instant::now() >= self.aged => {
                return Ok(Some(self.going_away("the stream is old; come back to whichever server answers")));
            }
            Behind::Batches(_) => {}
            Behind::FellOff => return self.read_log().await,
            Behind::Rebuilt => {
                let reason = self.why_rebuilt();
                return self.begin_snapshot(Some(reason), None).await.map(Some);
            }
        }
        if self.progress_due <= Instant::now() {
            return Ok(self.progress(confirmed));
        }
        let wake = self.progress_due.min(self.expires).min(self.aged);
        // Moved only when it has gone off: a busy stream never touches the timer wheel.
        if self.timer.is_elapsed() {
            self.timer.as_mut().reset(wake);
        }
        tokio::select! {
            changed = self.signal.changed() => changed.map_err(Error::internal)?,
            () = self.timer.as_mut() => {}
        }
        Ok(None)
    }

    /// Moves over the batches, and joins what they have for this stream, up to a bound.
    fn take(&mut self, batches: &[Arc<Batch>]) -> Option<Bytes> {
        let (mut joined, mut delivered) = (Joined::default(), 0);
        for batch in batches {
            let frames = batch.frames(&self.filter, &self.streams.revealer);
            if let (Some(digest), true) = (&mut self.digest, frames.is_some()) {
                batch.count(&self.filter, digest);
            }
            self.at.revision = batch.revision;
            self.at.hash = batch.hash;
            delivered += u64::from(frames.is_some());
            joined.push(frames);
            // A revocation stops the stream before it is sent anything later.
            if joined.len() >= JOIN_BYTES || !batch.revocations.is_empty() {
                break;
            }
        }
        self.streams.tally.delivered(delivered);
        joined.finish()
    }

    /// Reads on in the log, because the ring has gone on without this stream.
    async fn read_log(&mut self) -> Result<Option<Bytes>> {
        let streams = Arc::clone(&self.streams);
        let permit = streams.log_readers.acquire().await.map_err(Error::internal)?;
        let at = RevisionToken::new(self.at.epoch, self.at.revision, &self.at.hash);
        streams.tally.log_read();
        let page = streams.log.changes_after(&at, PAGE).await.map_err(|error| unavailable(&error))?;
        drop(permit);
        match page {
            LogPage::Batches(batches) => {
                // Not beyond the view: what a stream has seen, a read on the same server must see too.
                let seen = streams.view.state().revision;
                let budget = streams.hub.budget();
                let batches: Vec<_> = batches
                    .into_iter()
                    .filter(|batch| batch.revision <= seen)
                    .map(|batch| Arc::new(Batch::new(batch, self.at.epoch, budget)))
                    .collect();
                self.take_all(&batches);
                Ok(self.pending.pop_front())
            }
            LogPage::Compacted { .. } => {
                self.begin_snapshot(Some(ResetReason::Lagged), Some(self.warned)).await.map(Some)
            }
            // The view finds it out by itself; until it has, the stream gets what the view shows.
            LogPage::OtherLife { .. } | LogPage::Diverged { .. } => {
                self.begin_snapshot(Some(ResetReason::OtherStore), None).await.map(Some)
            }
        }
    }

    /// As [`Self::take`], but whole: what was read from the log must not be read again. It waits in pieces, so that what has
    /// to be told first does not wait for all of it.
    fn take_all(&mut self, batches: &[Arc<Batch>]) {
        let mut rest = batches;
        while !rest.is_empty() {
            let piece = self.take(rest);
            self.pending.extend(piece);
            let next = rest.partition_point(|batch| batch.revision <= self.at.revision);
            rest = &rest[next..];
        }
    }

    // -- events

    /// Whether the client may hold secrets of whose revocation it has not been told.
    fn owes_warning(&self) -> bool {
        self.filter.reveal == Reveal::Plain && self.streams.hub.revoked_until() > self.warned
    }

    /// What was revoked since the client was last told, ahead of all that waits for it. It moves no cursor.
    async fn revoked(&mut self) -> Result<Option<Bytes>> {
        match self.phase {
            Phase::Opening(_) | Phase::Ended => return Ok(None),
            Phase::Live if self.pending.is_empty() => self.warned = self.warned.max(self.at.revision),
            Phase::Live | Phase::Snapshot { .. } => {}
        }
        self.warning().await
    }

    /// What was revoked since the client was last told.
    async fn warning(&mut self) -> Result<Option<Bytes>> {
        if !self.owes_warning() {
            return Ok(None);
        }
        let until = self.streams.hub.revoked_until();
        let revoked = self.streams.revoked_after(self.warned).await?;
        // What belongs to another life says nothing of this one; a snapshot of the new one is about to begin.
        if self.at.generation != self.streams.hub.generation() {
            return Ok(None);
        }
        self.warned = revoked.last().map_or(until, |last| last.revision().max(until));
        Ok(revoked::frames(&revoked, &self.filter))
    }

    fn token(&self) -> String {
        RevisionToken::new(self.at.epoch, self.at.revision, &self.at.hash).to_string()
    }

    fn synced(&mut self, confirmed: Confirmed) -> Bytes {
        self.progress_due = Instant::now() + self.progress_interval;
        frame(Event::Synced(Synced {
            revision: self.at.revision.0,
            resume_token: self.token(),
            view_id: self.filter.view_id.clone(),
            session_id: self.session.in_life(self.at.epoch),
            confirmed_age: age(confirmed),
        }))
    }

    /// The heartbeat, once the cursor stands where the view stands; the digest is counted from there if need be. It comes on
    /// busy streams too: changes tell nothing of how fresh they are, and a cache must not age because its store is written to.
    /// `confirmed` is of the moment before it was seen that there is nothing more to send.
    fn progress(&mut self, confirmed: Confirmed) -> Option<Bytes> {
        let state = self.streams.view.state();
        self.progress_due = Instant::now() + self.progress_interval;
        if self.digest.is_none() && state.revision == self.at.revision {
            self.digest = Some(digest_of(&state, &self.filter));
        }
        // Behind the view by a revision that is just being published: the changes come first, the heartbeat after.
        let Some(digest) = &self.digest else {
            self.progress_due = Instant::now() + Duration::from_millis(20);
            return None;
        };
        let digest = digest.to_bytes().to_vec();
        let progress = Progress {
            revision: self.at.revision.0,
            resume_token: self.token(),
            digest,
            confirmed_age: age(confirmed),
        };
        Some(frame(Event::Progress(progress)))
    }

    fn going_away(&mut self, reason: &str) -> Bytes {
        self.phase = Phase::Ended;
        let after = rand::rng().random_range(Duration::from_millis(50)..RECONNECT_SPREAD);
        let reconnect_after = prost_types::Duration::try_from(after).ok();
        frame(Event::GoingAway(GoingAway { reason: reason.into(), reconnect_after }))
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            ended(self.at.revision);
        }
    }
}

/// What an event says of its age.
fn age(confirmed: Confirmed) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(confirmed.freshness().confirmed_age).ok()
}

/// What a stream is told that can't read the log now.
pub(super) fn unavailable(error: &crate::store::StoreError) -> Error {
    tracing::warn!(%error, "a stream can't read the log");
    Error::Unavailable {
        reason: "STORE_UNAVAILABLE",
        description: "the log can't be read now".into(),
        retry_after: Duration::from_secs(1),
    }
}
