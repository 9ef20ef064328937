//! The ring of the newest revisions, and the bell that wakes every stream.
//!
//! Streams hold a cursor, not a queue: nothing here grows with their number, and nothing on the commit path waits for
//! one of them.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;
use tokio::sync::watch;

use super::{
    batch::{Batch, Budget},
    revoked::{RevokedName, RevokedNames},
};
use crate::{
    domain::{ChainHash, Epoch, Revision, RevisionBatch, Selector},
    view::{Publish, State},
};

/// Revisions that the ring holds at most.
const RING_BATCHES: usize = 4096;

/// What streams wait on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal {
    /// The newest revision in the ring.
    pub head: Revision,
    /// Whether this server is about to stop.
    pub draining: bool,
}

/// The ring and its bell.
pub struct Hub {
    ring: RwLock<Ring>,
    signal: watch::Sender<Signal>,
    revoked: RwLock<RevokedNames>,
    /// Nothing was revoked after this revision, as far as this server has followed; streams ask for it at every step.
    revoked_until: AtomicU64,
    budget: Budget,
    max_bytes: usize,
}

struct Ring {
    batches: VecDeque<Arc<Batch>>,
    /// The ring holds every revision after this one.
    base: Revision,
    /// Grows when the view had to be built anew: cursors of the old one can't go on.
    generation: u64,
}

/// What lies behind a cursor.
pub enum Behind {
    /// These revisions follow; empty at the head.
    Batches(Vec<Arc<Batch>>),
    /// The ring no longer reaches back so far: read pages from the log.
    FellOff,
    /// The view was built anew.
    Rebuilt,
}

impl Hub {
    /// A ring that begins after `revision` and holds at most about `max_bytes`.
    #[must_use]
    pub fn new(revision: Revision, max_bytes: usize) -> Self {
        Self {
            ring: RwLock::new(Ring { batches: VecDeque::new(), base: revision, generation: 0 }),
            signal: watch::Sender::new(Signal { head: revision, draining: false }),
            revoked: RwLock::new(RevokedNames::new(revision)),
            revoked_until: AtomicU64::new(revision.0),
            budget: Budget::default(),
            max_bytes,
        }
    }

    /// The bell.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Signal> {
        self.signal.subscribe()
    }

    /// The generation that a new cursor belongs to.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.ring.read().generation
    }

    /// At most `limit` revisions after `at`.
    #[must_use]
    pub fn after(&self, at: Revision, generation: u64, limit: usize) -> Behind {
        let ring = self.ring.read();
        if ring.generation != generation {
            return Behind::Rebuilt;
        }
        if at < ring.base {
            return Behind::FellOff;
        }
        let start = ring.batches.partition_point(|batch| batch.revision <= at);
        Behind::Batches(ring.batches.range(start..).take(limit).cloned().collect())
    }

    /// The chain's head at a revision of a life, if the ring holds it.
    #[must_use]
    pub fn hash_at(&self, epoch: Epoch, revision: Revision) -> Option<ChainHash> {
        let ring = self.ring.read();
        let index = ring.batches.binary_search_by_key(&revision, |batch| batch.revision).ok()?;
        let batch = &ring.batches[index];
        (batch.token().epoch == epoch).then_some(batch.hash)
    }

    /// The earliest revision from which on, up to `at`, nothing has changed of what these selectors reach; as far back as the
    /// ring goes.
    #[must_use]
    pub fn unchanged_since(&self, selectors: &[Selector], at: Revision) -> Revision {
        let (base, batches): (Revision, Vec<Arc<Batch>>) = {
            let ring = self.ring.read();
            let end = ring.batches.partition_point(|batch| batch.revision <= at);
            // Of what lies ahead of the ring nothing is known, nor of what lies behind it.
            if ring.batches.range(..end).next_back().is_none_or(|last| last.revision < at) {
                return at;
            }
            (ring.base, ring.batches.range(..end).cloned().collect())
        };
        // Looked through without the lock: publishing waits for nobody.
        let changed = batches.iter().rev().find(|batch| batch.concerns(selectors));
        changed.map_or(base, |batch| batch.revision)
    }

    /// A revision after which nothing was revoked, as far as this server has followed.
    pub(super) fn revoked_until(&self) -> Revision {
        Revision(self.revoked_until.load(Ordering::Acquire))
    }

    /// What was revoked after a revision; or from where on it is held, if not from there.
    pub(super) fn revoked_after(&self, at: Revision) -> Result<Vec<RevokedName>, Revision> {
        self.revoked.read().after(at)
    }

    /// Takes in what the log tells of the revisions after `from` up to `through`.
    pub(super) fn revoked_before(&self, from: Revision, through: Revision, older: Vec<RevokedName>) {
        self.revoked.write().prepend(from, through, older);
    }

    /// What the ring's budget is, for batches that are made beside it.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Bytes that the ring's batches hold.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.budget.load(Ordering::Relaxed)
    }

    /// Tells every stream that this server is about to stop.
    pub fn drain(&self) {
        self.signal.send_modify(|signal| signal.draining = true);
    }

    fn over_budget(&self) -> bool {
        self.budget.load(Ordering::Relaxed) > self.max_bytes
    }

    /// Before the ring has the revision, so that no stream comes to it unwarned.
    fn revoke(&self, batch: &RevisionBatch) {
        let revoked = batch.changes.iter().filter_map(|change| RevokedName::of(batch.revision, change));
        let revoked: Vec<_> = revoked.collect();
        if !revoked.is_empty() {
            self.revoked.write().push(revoked);
            self.revoked_until.store(batch.revision.0, Ordering::Release);
        }
    }

    fn push(&self, batch: Arc<Batch>) {
        let head = batch.revision;
        {
            let mut ring = self.ring.write();
            ring.batches.push_back(batch);
            // The budget falls when a batch is dropped: at once, unless a stream is just sending it.
            while ring.batches.len() > RING_BATCHES || (self.over_budget() && ring.batches.len() > 1) {
                let Some(oldest) = ring.batches.pop_front() else { break };
                ring.base = oldest.revision;
            }
        }
        self.signal.send_modify(|signal| signal.head = head);
    }
}

impl Publish for Arc<Hub> {
    fn batch(&self, batch: RevisionBatch, state: &Arc<State>) {
        self.revoke(&batch);
        self.push(Arc::new(Batch::new(batch, state.epoch, &self.budget)));
    }

    fn rebuilt(&self, state: &Arc<State>) {
        let old = {
            let mut ring = self.ring.write();
            ring.base = state.revision;
            ring.generation += 1;
            // Revisions begin anew, and every stream with a snapshot.
            *self.revoked.write() = RevokedNames::new(state.revision);
            self.revoked_until.store(state.revision.0, Ordering::Release);
            std::mem::take(&mut ring.batches)
        };
        drop(old);
        self.signal.send_modify(|signal| signal.head = state.revision);
    }
}
