//! The state machine that turns the events of streams into snapshots.
//!
//! Owns the watch contract on the client's side: what is staged, when it is served, where to resume, what is refused.
//! Events go in, a snapshot and notifications come out; it must not know sockets, tasks, clocks or callbacks.

use std::{sync::Arc, time::Duration};

use imbl::OrdMap;

use super::{
    bounds,
    entry::Entry,
    events::{ChangeEvent, ChangeSet, difference},
    settings::Overrides,
    snapshot::Snapshot,
    validation::{Rejection, Validation},
};
use crate::{
    digest::ViewDigest,
    duration,
    proto::v1::{
        Change, ChangeType, Changes, GoingAway, Progress, Reset, ResetReason, Revoked,
        Snapshot as SnapshotPart, Synced, watch_config_response::Event,
    },
    trace_context::TraceContext,
};

/// What one event did.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// What became visible, if anything did.
    pub(super) changes: Option<ChangeSet>,
    /// How long ago the server last heard from the store, where the event says so.
    pub(super) confirmed_age: Option<Duration>,
    /// What the caller has to know beyond that.
    pub(super) signal: Signal,
    /// Whether the state that it completes is not accepted.
    pub(super) rejected: bool,
    /// Whether it completes a later revision of the store.
    pub(super) advanced: bool,
    /// Why the stream can't be followed any further, though this counts.
    pub(super) over: Option<Desync>,
}

/// What the caller has to know about an event.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Signal {
    #[default]
    None,
    /// The cache is complete; with the server's name for the stream.
    Synced(String),
    Reset(ResetReason),
    Revoked,
    GoingAway {
        reason: String,
        after: Duration,
    },
}

/// Why the stream can't be followed any further. The next one begins with a snapshot; the old state is served on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Desync {
    #[error("the digest of the cache at revision {revision} is not the server's")]
    Digest { revision: u64 },
    #[error("the stream breaks the watch contract: {0}")]
    Contract(&'static str),
}

/// A revision that every cursor has passed.
const UNTIL_THE_SWAP: u64 = 0;

/// Where a new stream goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) resume_token: String,
    pub(super) view_id: String,
}

impl Cursor {
    /// As a server gives it.
    fn told(resume_token: String, view_id: String) -> Self {
        if bounds::is_token(&resume_token, &view_id) {
            Self { resume_token, view_id }
        } else {
            Self::default()
        }
    }
}

/// The client's copy of the store's state, and how far it has come.
///
/// What is served is what is known, unless the worker does not accept that: then it is what was accepted last, until a
/// later revision is.
pub(super) struct Replica {
    served: Arc<Snapshot>,
    /// Where to resume with what is served.
    served_at: Cursor,
    /// The store's state where the cursor stands.
    known: Arc<Snapshot>,
    cursor: Cursor,
    /// Why what is known is not served.
    rejection: Option<Rejection>,
    validation: Validation,
    /// What a state may take.
    max_bytes: usize,
    /// A map of revoked names, and what they take.
    counted: (OrdMap<Arc<str>, u64>, usize),
    phase: Phase,
}

enum Phase {
    /// A snapshot is being put together, out of sight.
    Snapshot { staged: Snapshot, bytes: usize, begun: bool, complete: bool },
    /// Changes follow on what is known.
    Live(Option<Part>),
}

/// A revision of which the last part has not come yet.
struct Part {
    staged: Snapshot,
    bytes: usize,
    events: Vec<ChangeEvent>,
}

impl Replica {
    pub(super) fn new(overrides: Arc<Overrides>, validation: Validation, max_bytes: usize) -> Self {
        let served = Arc::new(Snapshot::new(overrides));
        Self {
            phase: staging(&served),
            known: served.clone(),
            served,
            served_at: Cursor::default(),
            cursor: Cursor::default(),
            rejection: None,
            validation,
            max_bytes,
            counted: (OrdMap::new(), 0),
        }
    }

    /// What may be read now.
    pub(super) fn served(&self) -> &Arc<Snapshot> {
        &self.served
    }

    /// Where to resume with that.
    pub(super) fn served_at(&self) -> &Cursor {
        &self.served_at
    }

    /// The revision that is known and not accepted.
    pub(super) fn rejection(&self) -> Option<&Rejection> {
        self.rejection.as_ref()
    }

    /// Begins with a state that another process has left behind.
    pub(super) fn begin_with(&mut self, state: &Snapshot, cursor: Cursor) -> Option<ChangeSet> {
        self.move_to(cursor);
        let before = self.served.clone();
        self.publish(state.clone());
        self.told(difference(&before, &self.served))
    }

    /// Forgets whatever the last stream left unfinished, and tells where the new one has to begin. An empty resume
    /// token asks for a snapshot.
    pub(super) fn begin_stream(&mut self) -> Cursor {
        if self.cursor.resume_token.is_empty() {
            self.start_over();
        } else {
            self.phase = Phase::Live(None);
        }
        self.cursor.clone()
    }

    /// Whether a state is being put together that is not whole yet.
    pub(super) fn is_unfinished(&self) -> bool {
        !matches!(self.phase, Phase::Live(None))
    }

    /// Takes in one event.
    ///
    /// # Errors
    /// [`Desync`] when the stream can't be followed; drop it then, the next begins with a snapshot.
    pub(super) fn apply(&mut self, event: Option<Event>) -> Result<Applied, Desync> {
        let applied = match event {
            Some(Event::Snapshot(part)) => self.stage_snapshot(part),
            Some(Event::Synced(synced)) => self.synced(synced),
            Some(Event::Changes(changes)) => self.change(changes),
            Some(Event::Progress(progress)) => self.progress(&progress),
            Some(Event::Reset(reset)) => Ok(self.reset(&reset)),
            Some(Event::Revoked(revoked)) => Ok(self.revoke(revoked)),
            Some(Event::GoingAway(going_away)) => Ok(leave(going_away)),
            // An event of a newer server, which by the rules of compatibility can be left out.
            None => Ok(Applied::default()),
        };
        if applied.is_err() {
            self.forget_cursor();
        }
        applied
    }

    fn stage_snapshot(&mut self, part: SnapshotPart) -> Result<Applied, Desync> {
        let Phase::Snapshot { staged, bytes, begun, complete } = &mut self.phase else {
            return Err(Desync::Contract("a snapshot without a reset"));
        };
        bounds::grow(bytes, &part, self.max_bytes)?;
        if *complete || (*begun && staged.revision != part.revision) {
            return Err(Desync::Contract("a snapshot of several revisions"));
        }
        staged.revision = part.revision;
        *begun = true;
        *complete = part.last;
        for resource in part.resources {
            staged.upsert(Arc::new(Entry::new(resource)));
        }
        bounds::check_state(staged, self.max_bytes)?;
        Ok(Applied::default())
    }

    fn synced(&mut self, synced: Synced) -> Result<Applied, Desync> {
        // A stream that resumes is in sync with where it left off. What it has missed is still to come, and only the
        // heartbeat after that confirms the present.
        let staged = match &mut self.phase {
            Phase::Snapshot { begun: true, complete: false, .. } => {
                return Err(Desync::Contract("synced in the middle of a snapshot"));
            }
            Phase::Snapshot { staged, .. } => Some(std::mem::take(staged)),
            Phase::Live(None) => None,
            Phase::Live(Some(_)) => {
                return Err(Desync::Contract("synced in the middle of a revision"));
            }
        };
        if synced.revision < staged.as_ref().unwrap_or(&self.known).revision {
            return Err(Desync::Contract("synced below what it completes"));
        }
        let (before, resumed) = (self.served.clone(), staged.is_none());
        let accepted = match staged {
            Some(staged) => self.offer(staged.at(synced.revision)),
            None => {
                self.advance(synced.revision);
                true
            }
        };
        self.move_to(Cursor::told(synced.resume_token, synced.view_id));
        self.phase = Phase::Live(None);
        Ok(Applied {
            // A snapshot need not share anything with what was served; after a resume this compares a map with itself.
            changes: self.told(difference(&before, &self.served)),
            confirmed_age: (!resumed).then(|| age(synced.confirmed_age)),
            signal: Signal::Synced(bounds::session(synced.session_id)),
            rejected: !accepted,
            ..Applied::default()
        })
    }

    fn change(&mut self, changes: Changes) -> Result<Applied, Desync> {
        let Phase::Live(unfinished) = &mut self.phase else {
            return Err(Desync::Contract("changes before the snapshot is complete"));
        };
        let mut part = match unfinished.take() {
            Some(part) if part.staged.revision != changes.revision => {
                return Err(Desync::Contract("a revision begins before the last part of another"));
            }
            Some(part) => part,
            None if changes.revision <= self.known.revision => {
                return Err(Desync::Contract("changes at or below what was sent before"));
            }
            None => Part { staged: (*self.known).clone(), bytes: 0, events: Vec::new() },
        };
        bounds::grow(&mut part.bytes, &changes, self.max_bytes)?;
        part.staged.revision = changes.revision;
        let trace = TraceContext::parse(&changes.traceparent, &changes.tracestate);
        for change in changes.changes {
            part.take_in(change, trace.as_ref())?;
        }
        bounds::check_state(&part.staged, self.max_bytes)?;
        if !changes.last {
            *unfinished = Some(part);
            return Ok(Applied::default());
        }
        let (before, caught_up) = (self.served.clone(), self.rejection.is_none());
        let accepted = self.offer(part.staged);
        self.move_to(Cursor::told(changes.resume_token, self.cursor.view_id.clone()));
        let events = if caught_up && accepted { part.events } else { difference(&before, &self.served) };
        Ok(Applied { changes: self.told(events), rejected: !accepted, advanced: true, ..Applied::default() })
    }

    fn progress(&mut self, progress: &Progress) -> Result<Applied, Desync> {
        match &self.phase {
            Phase::Live(None) => {}
            _ => return Err(Desync::Contract("progress ahead of what is still to come")),
        }
        if progress.revision < self.known.revision {
            return Err(Desync::Contract("progress below what was sent before"));
        }
        // A server may leave the digest out; it can't send half of one.
        if !progress.digest.is_empty() {
            let digest = <[u8; 16]>::try_from(progress.digest.as_slice());
            let digest = digest.map_err(|_| Desync::Contract("a digest that is not 16 bytes"))?;
            if ViewDigest::from_bytes(digest) != self.known.digest() {
                return Err(Desync::Digest { revision: progress.revision });
            }
        }
        self.advance(progress.revision);
        self.move_to(Cursor::told(progress.resume_token.clone(), self.cursor.view_id.clone()));
        Ok(Applied { confirmed_age: Some(age(progress.confirmed_age)), ..Applied::default() })
    }

    fn reset(&mut self, reset: &Reset) -> Applied {
        let reason = reset.reason();
        self.start_over();
        if matches!(reason, ResetReason::OtherStore | ResetReason::Ahead) {
            // Revisions begin anew. Those of the former life might never be passed, so they hold until the swap.
            let mut next = (*self.served).clone();
            next.revoked = next.revoked.into_iter().map(|(name, _)| (name, UNTIL_THE_SWAP)).collect();
            self.publish(next);
        }
        Applied { signal: Signal::Reset(reason), ..Applied::default() }
    }

    /// The next state comes as a snapshot. What is served is served on.
    pub(super) fn start_over(&mut self) {
        self.forget_cursor();
        self.phase = staging(&self.served);
    }

    fn forget_cursor(&mut self) {
        (self.cursor, self.served_at) = (Cursor::default(), Cursor::default());
    }

    fn revoke(&mut self, revoked: Revoked) -> Applied {
        // While a snapshot is on its way, what is served may be of another life, and its revision no measure.
        if matches!(self.phase, Phase::Live(_)) && revoked.revision <= self.served.revision {
            return Applied::default();
        }
        let before = self.served.clone();
        let mut bytes = self.revoked_bytes();
        let mut next = (*before).clone();
        let names: Vec<Arc<str>> = revoked.names.into_iter().map(Arc::from).collect();
        for name in &names {
            if next.revoked.insert(name.clone(), revoked.revision).is_none() {
                bytes = bytes.saturating_add(bounds::revoked_bytes(name));
            }
        }
        let over = bounds::check_revoked(bytes).err();
        if over.is_some() {
            // What is held is refused all the same; the snapshot that brings the rest may be long in coming.
            next.revoked.clone_from(&before.revoked);
            let held = names.into_iter().filter(|name| before.entries().contains_key(name));
            next.revoked.extend(held.map(|name| (name, revoked.revision)));
            self.forget_cursor();
        } else {
            self.counted = (next.revoked.clone(), bytes);
        }
        self.publish(next);
        let changes = self.told(difference(&before, &self.served));
        Applied { changes, signal: Signal::Revoked, over, ..Applied::default() }
    }

    /// What the names take that are revoked, counted once for each map.
    fn revoked_bytes(&mut self) -> usize {
        let revoked = &self.served.revoked;
        if !self.counted.0.ptr_eq(revoked) {
            self.counted = (revoked.clone(), revoked.keys().map(|name| bounds::revoked_bytes(name)).sum());
        }
        self.counted.1
    }

    /// Serves what the cursor has come to, if that is accepted; tells whether it is. Revocations at or below it are part of
    /// the state then.
    fn offer(&mut self, mut offered: Snapshot) -> bool {
        offered.revoked = self.still_revoked(offered.revision);
        match self.validation.check(&offered) {
            Ok(()) => {
                self.rejection = None;
                self.publish(offered);
                true
            }
            Err(rejection) => {
                self.rejection = Some(rejection);
                self.known = Arc::new(offered);
                self.revoke_what_is_gone();
                false
            }
        }
    }

    /// What is gone from the state that is not accepted may be gone because it has leaked.
    fn revoke_what_is_gone(&mut self) {
        let gone = self.served.entries().keys().filter(|name| !self.known.entries().contains_key(*name));
        let mut next = (*self.served).clone();
        for name in gone {
            next.revoked.entry(name.clone()).or_insert(self.known.revision);
        }
        if next.revoked.len() > self.served.revoked.len() {
            self.publish(next);
        }
    }

    /// The same resources at a later revision.
    fn advance(&mut self, revision: u64) {
        if self.rejection.is_some() {
            // What is served does not become a later revision by that.
            self.known = Arc::new((*self.known).clone().at(revision));
            return;
        }
        let revoked = self.still_revoked(revision);
        if revision > self.served.revision || revoked.len() < self.served.revoked.len() {
            let mut next = (*self.served).clone().at(revision);
            next.revoked = revoked;
            self.publish(next);
        }
    }

    fn move_to(&mut self, cursor: Cursor) {
        if self.rejection.is_none() {
            self.served_at.clone_from(&cursor);
        }
        self.cursor = cursor;
    }

    /// The revocations that a revision has not passed.
    fn still_revoked(&self, passed: u64) -> OrdMap<Arc<str>, u64> {
        let revoked = self.served.revoked.clone();
        if revoked.is_empty() {
            return revoked;
        }
        revoked.into_iter().filter(|(_, revision)| *revision > passed).collect()
    }

    fn publish(&mut self, mut next: Snapshot) {
        next.sequence = self.served.sequence + 1;
        self.served = Arc::new(next);
        if self.rejection.is_none() {
            self.known = self.served.clone();
        }
    }

    fn told(&self, events: Vec<ChangeEvent>) -> Option<ChangeSet> {
        (!events.is_empty()).then(|| ChangeSet { events, snapshot: self.served.clone() })
    }
}

impl Part {
    fn take_in(&mut self, change: Change, trace: Option<&TraceContext>) -> Result<(), Desync> {
        let (before, after) = if change.r#type() == ChangeType::Deleted {
            (self.staged.remove(&change.name), None)
        } else {
            // Every other type, those of newer servers included, brings the resource as it is.
            let resource = change.resource.filter(|resource| resource.name == change.name);
            let resource = resource.ok_or(Desync::Contract("a change without its resource"))?;
            let entry = Arc::new(Entry::new(resource));
            (self.staged.upsert(entry.clone()), Some(entry))
        };
        let event = ChangeEvent::between(&change.name, self.staged.revision, before.as_ref(), after.as_ref());
        self.events.extend(event.map(|event| ChangeEvent {
            action: change.action,
            actor: change.actor,
            traceparent: trace.map(|trace| trace.parent),
            tracestate: trace.map(|trace| trace.state.clone()).unwrap_or_default(),
            ..event
        }));
        Ok(())
    }
}

fn staging(served: &Snapshot) -> Phase {
    let staged = Snapshot::new(served.overrides.clone());
    Phase::Snapshot { staged, bytes: 0, begun: false, complete: false }
}

fn leave(going_away: GoingAway) -> Applied {
    Applied {
        signal: Signal::GoingAway { after: age(going_away.reconnect_after), reason: going_away.reason },
        ..Applied::default()
    }
}

/// A length of time from the wire; what is not set or negative is none.
fn age(duration: Option<prost_types::Duration>) -> Duration {
    duration.and_then(duration::read).unwrap_or_default()
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
