//! One stream: where it stands, and what it has to be sent next.
//!
//! A cursor is pulled, never pushed to. While its client does not read it costs its own few hundred bytes, and the
//! ring goes on without it; when the client reads again, the cursor finds its place in the ring, in the log, or, if
//! both have gone on, says so with a Reset and begins anew.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use rand::RngExt;
use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Streams,
    admission::Admission,
    batch::{Batch, frame, frame_into},
    filter::Filter,
    hub::{Behind, Signal},
    joined::Joined,
    snapshot::digest_of,
};
use crate::{
    digest::ViewDigest,
    domain::{ChainHash, Epoch, Error, Principal, Result, Revision, RevisionToken},
    proto::v1::{GoingAway, Progress, Reset, ResetReason, Synced, watch_config_response::Event},
    store::LogPage,
};

/// Revisions that are taken at once, and bytes that are joined into one DATA frame: large frames carry a backlog
/// several times faster than one frame a message.
const TAKE: usize = 256;
const JOIN_BYTES: usize = 64 * 1024;
/// Changes that are read from the log at once.
const PAGE: usize = 500;
/// How long a stream waits for a replica that is behind its token.
const CATCH_UP: Duration = Duration::from_secs(5);
/// Clients come back from a drained server within this time, each at a moment of its own.
const RECONNECT_SPREAD: Duration = Duration::from_secs(3);

/// One stream.
pub struct Cursor {
    streams: Arc<Streams>,
    principal: Arc<Principal>,
    filter: Filter,
    session_id: String,
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
    /// A snapshot is on its way.
    Snapshot { chunks: std::vec::IntoIter<Bytes> },
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
            session_id: uuid::Uuid::new_v4().to_string(),
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
            ended: None,
            admission,
        }
    }

    /// Name of this stream.
    #[must_use]
    pub fn session_id(&self) -> &str {
        &self.session_id
    }

    /// Has `ended` told of the end, with the last revision that was sent.
    pub fn on_end(&mut self, ended: impl FnOnce(Revision) + Send + Sync + 'static) {
        self.ended = Some(Box::new(ended));
    }

    /// What the stream shows, for the audit.
    #[must_use]
    pub fn describe(&self) -> String {
        self.filter.describe()
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
            match &mut self.phase {
                Phase::Ended => return Ok(None),
                Phase::Opening(_) => {
                    let Phase::Opening(resume) = std::mem::replace(&mut self.phase, Phase::Live) else {
                        continue;
                    };
                    return self.open(resume).await.map(Some);
                }
                Phase::Snapshot { chunks } => match chunks.next() {
                    Some(chunk) => return Ok(Some(chunk)),
                    None => {
                        self.phase = Phase::Live;
                        return Ok(Some(self.synced()));
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

    // -- opening

    async fn open(&mut self, resume: Resume) -> Result<Bytes> {
        if resume.token.is_empty() {
            return self.begin_snapshot(None).await;
        }
        match self.judge(&resume).await? {
            Ok(position) => {
                self.at = position;
                self.digest = None;
                Ok(self.synced())
            }
            Err(reason) => self.begin_snapshot(Some(reason)).await,
        }
    }

    /// Whether the stream can go on from the token: its position, or why not.
    async fn judge(&self, resume: &Resume) -> Result<std::result::Result<Position, ResetReason>> {
        let Some(token) = RevisionToken::parse(&resume.token) else {
            return Ok(Err(ResetReason::InvalidToken));
        };
        // Before anything is judged, so that a view that is built anew meanwhile is noticed.
        let generation = self.streams.hub.generation();
        if let Some(reason) = self.wait_for(&token).await? {
            return Ok(Err(reason));
        }
        if resume.view_id != self.filter.view_id {
            return Ok(Err(ResetReason::ViewChanged));
        }
        let position = |hash| Position { epoch: token.epoch, revision: token.revision, hash, generation };
        Ok(match self.hash_at(token.revision).await? {
            Some(hash) if hash.half() == token.hash => Ok(position(hash)),
            Some(_) => Err(ResetReason::OtherStore),
            None => Err(ResetReason::Compacted),
        })
    }

    /// Waits until this replica is where the token is, also where that is another life than its own. Asks the store's own
    /// head about what it has not seen: why there is no such place, if there is none.
    async fn wait_for(&self, token: &RevisionToken) -> Result<Option<ResetReason>> {
        let (view, state) = (&self.streams.view, self.streams.view.state());
        if state.has(token) {
            return Ok(None);
        }
        let head = self.streams.log.head().await.map_err(|error| unavailable(&error))?;
        let reason = match head.epoch == token.epoch {
            false => Some(ResetReason::OtherStore),
            true => (head.revision < token.revision).then_some(ResetReason::Ahead),
        };
        let wanted = match reason {
            None => *token,
            Some(_) if head.epoch == state.epoch => return Ok(reason),
            // What is shown here is about to be replaced, and may be older than what the client has.
            Some(_) => RevisionToken::new(head.epoch, head.revision, &head.hash),
        };
        match view.has_seen(&wanted, CATCH_UP).await {
            true => Ok(reason),
            false => Err(Error::Unavailable {
                reason: "REPLICA_BEHIND",
                description: "this replica has not yet seen the revision of the token".into(),
                retry_after: Duration::from_secs(1),
            }),
        }
    }

    async fn hash_at(&self, revision: Revision) -> Result<Option<ChainHash>> {
        let state = self.streams.view.state();
        if let Some(hash) = self.streams.hash_in_memory(&state, revision) {
            return Ok(Some(hash));
        }
        let _permit = self.streams.log_readers.acquire().await.map_err(Error::internal)?;
        self.streams.log.hash_at(revision).await.map_err(|error| unavailable(&error))
    }

    /// Begins a snapshot of the present state; says why first, if the client had another cursor.
    async fn begin_snapshot(&mut self, reason: Option<ResetReason>) -> Result<Bytes> {
        self.streams.tally.snapshot(reason);
        let generation = self.streams.hub.generation();
        let state = self.streams.view.state();
        let framed = self.streams.snapshots.of(&state, &self.filter).await?;
        self.at = Position { epoch: state.epoch, revision: state.revision, hash: state.hash, generation };
        self.digest = Some(framed.digest);
        let mut chunks = framed.chunks.clone().into_iter();
        let mut out = BytesMut::new();
        if let Some(reason) = reason {
            let floor_revision = self.streams.floor().await.0;
            frame_into(
                &mut out,
                Event::Reset(Reset { reason: reason.into(), floor_revision, revision: state.revision.0 }),
            );
        }
        let first = chunks.next().unwrap_or_default();
        self.phase = Phase::Snapshot { chunks };
        if out.is_empty() {
            return Ok(first);
        }
        out.extend_from_slice(&first);
        Ok(out.freeze())
    }

    // -- live

    /// Waits for the next thing to send. `None`: look again.
    async fn live(&mut self) -> Result<Option<Bytes>> {
        let signal = *self.signal.borrow_and_update();
        match self.streams.hub.after(self.at.revision, self.at.generation, TAKE) {
            Behind::Batches(batches) if !batches.is_empty() => return Ok(self.take(&batches)),
            Behind::Batches(_) if signal.draining => {
                return Ok(Some(self.going_away("the server is shutting down")));
            }
            Behind::Batches(_) if Instant::now() >= self.aged => {
                return Ok(Some(self.going_away("the stream is old; come back to whichever server answers")));
            }
            Behind::Batches(_) => {}
            Behind::FellOff => return self.read_log().await,
            Behind::Rebuilt => return self.begin_snapshot(Some(ResetReason::OtherStore)).await.map(Some),
        }
        if self.progress_due <= Instant::now() {
            return Ok(self.progress());
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
                Ok(self.take_all(&batches))
            }
            LogPage::Compacted { .. } => self.begin_snapshot(Some(ResetReason::Lagged)).await.map(Some),
            // The view finds it out by itself; until it has, the stream gets what the view shows.
            LogPage::OtherLife { .. } | LogPage::Diverged { .. } => {
                self.begin_snapshot(Some(ResetReason::OtherStore)).await.map(Some)
            }
        }
    }

    /// As [`Self::take`], but whole: what was read from the log must not be read again.
    fn take_all(&mut self, batches: &[Arc<Batch>]) -> Option<Bytes> {
        let mut joined = Joined::default();
        let mut rest = batches;
        while !rest.is_empty() {
            joined.push(self.take(rest));
            let next = rest.partition_point(|batch| batch.revision <= self.at.revision);
            rest = &rest[next..];
        }
        joined.finish()
    }

    // -- events

    fn token(&self) -> String {
        RevisionToken::new(self.at.epoch, self.at.revision, &self.at.hash).to_string()
    }

    fn confirmed_age(&self) -> Option<prost_types::Duration> {
        prost_types::Duration::try_from(self.streams.view.freshness().confirmed_age).ok()
    }

    fn synced(&mut self) -> Bytes {
        self.progress_due = Instant::now() + self.progress_interval;
        frame(Event::Synced(Synced {
            revision: self.at.revision.0,
            resume_token: self.token(),
            view_id: self.filter.view_id.clone(),
            session_id: self.session_id.clone(),
            confirmed_age: self.confirmed_age(),
        }))
    }

    /// The heartbeat, once the cursor stands where the view stands; the digest is counted from there if need be.
    fn progress(&mut self) -> Option<Bytes> {
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
        let confirmed_age = self.confirmed_age();
        let progress =
            Progress { revision: self.at.revision.0, resume_token: self.token(), digest, confirmed_age };
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

fn unavailable(error: &crate::store::StoreError) -> Error {
    tracing::warn!(%error, "a stream can't read the log");
    Error::Unavailable {
        reason: "STORE_UNAVAILABLE",
        description: "the log can't be read now".into(),
        retry_after: Duration::from_secs(1),
    }
}
