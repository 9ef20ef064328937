//! One revision as streams share it: encoded once for everybody who sees the same part of it in the same way.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use prost::Message;
use prost_types::Timestamp;

use super::filter::{Effect, Filter, effect};
use crate::{
    digest::ViewDigest,
    domain::{
        ChainHash, Epoch, LoggedChange, Revision, RevisionBatch, RevisionToken, Revocation, Selector,
        TraceContext, limits,
    },
    proto::v1::{Change, ChangeType, Changes, WatchConfigResponse, watch_config_response::Event},
    view::{Reveal, Revealer},
};

/// Different encodings of one batch that are kept; more are made for each stream anew.
const KEPT_ENCODINGS: usize = 64;

/// Bytes of a message's head in gRPC's framing: a flag and the length.
const FRAME_HEAD: usize = 5;

/// Bytes that all batches together hold; shared by a hub and its batches.
pub type Budget = Arc<AtomicUsize>;

/// One revision, and its encodings so far.
pub struct Batch {
    /// The revision.
    pub revision: Revision,
    /// Head of the hash chain after it.
    pub hash: ChainHash,
    /// Tokens that it revoked.
    pub revocations: Vec<Revocation>,
    changes: Vec<LoggedChange>,
    epoch: Epoch,
    time: Timestamp,
    trace: Option<TraceContext>,
    encodings: Mutex<Vec<(Reveal, Part, Bytes)>>,
    weight: AtomicUsize,
    budget: Budget,
}

/// Which changes of a batch a stream sees, and as what.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    /// The usual batch has one change; this spares an allocation a stream.
    One(u32, Effect),
    Many(Vec<(u32, Effect)>),
}

impl Batch {
    /// Takes a revision from the log. Counts its size into `budget` until it is dropped.
    #[must_use]
    pub fn new(batch: RevisionBatch, epoch: Epoch, budget: &Budget) -> Self {
        let RevisionBatch { revision, hash, time, changes, revocations, trace } = batch;
        let content =
            |change: &LoggedChange| change.record.as_ref().map_or(0, |record| record.spec_json.len() * 2);
        let weight = changes.iter().map(|change| 512 + content(change)).sum();
        budget.fetch_add(weight, Ordering::Relaxed);
        Self {
            revision,
            hash,
            revocations,
            changes,
            epoch,
            time: timestamp(time),
            trace,
            encodings: Mutex::default(),
            weight: AtomicUsize::new(weight),
            budget: Arc::clone(budget),
        }
    }

    /// The token of this revision.
    #[must_use]
    pub fn token(&self) -> RevisionToken {
        RevisionToken::new(self.epoch, self.revision, &self.hash)
    }

    /// Whether anything in it concerns who sees what these selectors reach.
    #[must_use]
    pub fn concerns(&self, selectors: &[Selector]) -> bool {
        self.changes.iter().any(|change| effect(selectors, change).is_some())
    }

    /// Counts the batch into the digest of a stream: what it holds after this revision.
    pub fn count(&self, filter: &Filter, digest: &mut ViewDigest) {
        for change in &self.changes {
            let effect = filter.effect(change);
            let (was, is) = (
                matches!(effect, Some(Effect::Updated | Effect::Removed)),
                matches!(effect, Some(Effect::Created | Effect::Updated)),
            );
            if let (true, Some(previous)) = (was, &change.previous) {
                digest.remove(change.name.as_str(), previous.update_revision.0);
            }
            if is {
                digest.add(change.name.as_str(), self.revision.0);
            }
        }
    }

    /// The framed messages that this stream has to be sent, if any.
    #[must_use]
    pub fn frames(&self, filter: &Filter, revealer: &Revealer) -> Option<Bytes> {
        let part = self.part(filter)?;
        let mut encodings = self.encodings.lock();
        if let Some((_, _, bytes)) =
            encodings.iter().find(|(reveal, kept, _)| *reveal == filter.reveal && *kept == part)
        {
            return Some(bytes.clone());
        }
        let bytes = self.encode(&part, filter.reveal, revealer);
        if encodings.len() < KEPT_ENCODINGS {
            self.weight.fetch_add(bytes.len(), Ordering::Relaxed);
            self.budget.fetch_add(bytes.len(), Ordering::Relaxed);
            encodings.push((filter.reveal, part, bytes.clone()));
        }
        Some(bytes)
    }

    fn part(&self, filter: &Filter) -> Option<Part> {
        let mut seen =
            (0u32..).zip(&self.changes).filter_map(|(index, change)| Some((index, filter.effect(change)?)));
        let first = seen.next()?;
        Some(match seen.next() {
            None => Part::One(first.0, first.1),
            Some(second) => Part::Many([first, second].into_iter().chain(seen).collect()),
        })
    }

    /// Encodes the part in messages of bounded size; the last one says so and carries the token.
    fn encode(&self, part: &Part, reveal: Reveal, revealer: &Revealer) -> Bytes {
        let one;
        let members = match part {
            Part::One(index, effect) => {
                one = [(*index, *effect)];
                &one[..]
            }
            Part::Many(members) => members,
        };
        let mut out = BytesMut::new();
        let (mut chunk, mut size) = (Vec::new(), 0);
        for (index, effect) in members {
            let change = self.change(*index as usize, *effect, reveal, revealer);
            let length = change.encoded_len() + 8;
            if size + length > limits::MESSAGE_OUT_BYTES / 2 && !chunk.is_empty() {
                self.put(&mut out, std::mem::take(&mut chunk), false);
                size = 0;
            }
            size += length;
            chunk.push(change);
        }
        self.put(&mut out, chunk, true);
        out.freeze()
    }

    fn put(&self, out: &mut BytesMut, changes: Vec<Change>, last: bool) {
        let resume_token = if last { self.token().to_string() } else { String::new() };
        let traceparent = self.trace.as_ref().map(|trace| trace.parent.to_string()).unwrap_or_default();
        let tracestate = self.trace.as_ref().map(|trace| trace.state.as_str().to_owned()).unwrap_or_default();
        let revision = self.revision.0;
        let changes = Changes { revision, changes, last, resume_token, traceparent, tracestate };
        frame_into(out, Event::Changes(changes));
    }

    fn change(&self, index: usize, effect: Effect, reveal: Reveal, revealer: &Revealer) -> Change {
        let LoggedChange { action, name, actor, record, sealed, .. } = &self.changes[index];
        let resource = record
            .as_ref()
            .filter(|_| effect != Effect::Removed)
            .map(|record| revealer.resource(record, sealed, self.epoch, reveal));
        let change_type = match effect {
            Effect::Created => ChangeType::Created,
            Effect::Updated => ChangeType::Updated,
            Effect::Removed => ChangeType::Deleted,
        };
        Change {
            r#type: change_type.into(),
            name: name.to_string(),
            resource,
            action: action.clone(),
            actor: actor.clone(),
            time: Some(self.time),
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.budget.fetch_sub(self.weight.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Frames one event as gRPC does: no compression, length as 4 bytes big-endian.
#[must_use]
pub fn frame(event: Event) -> Bytes {
    let mut out = BytesMut::new();
    frame_into(&mut out, event);
    out.freeze()
}

/// Appends one framed event.
pub fn frame_into(out: &mut BytesMut, event: Event) {
    let message = WatchConfigResponse { event: Some(event) };
    let length = message.encoded_len();
    out.reserve(FRAME_HEAD + length);
    out.put_u8(0);
    // A message is bounded by MESSAGE_OUT_BYTES and one resource, far below 4 GiB.
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(out);
}

/// A time as the wire has it.
#[must_use]
pub fn timestamp(time: chrono::DateTime<chrono::Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}
