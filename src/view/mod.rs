//! The current state in memory: read without locks, written only by the follower of the log.
//!
//! It holds masked resources and sealed secrets, never an opened one. It must not know transport. Every current read
//! is served from here, also while the store is away; then it says how long ago it last heard from it.

mod follower;
mod reveal;
mod state;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

pub use follower::{Publish, follow};
pub use reveal::{Reveal, Revealer, Undecryptable, Unopened};
pub use state::{Entry, State};

use crate::domain::{Revision, RevisionBatch};

/// After so long without a word from the store, answers are marked stale.
pub const STALE_AFTER: Duration = Duration::from_secs(5);
/// Old states that are held for page tokens.
const PINNED: usize = 64;

/// The current state, and a few old ones that page tokens stand on.
pub struct View {
    state: ArcSwap<State>,
    revision: watch::Sender<Revision>,
    confirmed: Mutex<Instant>,
    pinned: Mutex<VecDeque<Arc<State>>>,
}

/// What every answer says of its own age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// How long ago the store was last heard from.
    pub confirmed_age: Duration,
    /// Whether that is too long ago.
    pub stale: bool,
}

impl View {
    /// A view of a state that was just read.
    #[must_use]
    pub fn new(state: State) -> Self {
        Self {
            revision: watch::Sender::new(state.revision),
            state: ArcSwap::from_pointee(state),
            confirmed: Mutex::new(Instant::now()),
            pinned: Mutex::default(),
        }
    }

    /// The current state. Never waits.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Waits until the view has reached `revision`, at most for `patience`. Says whether it has.
    pub async fn reached(&self, revision: Revision, patience: Duration) -> bool {
        let mut watcher = self.revision.subscribe();
        let arrived = watcher.wait_for(|current| *current >= revision);
        timeout(patience, arrived).await.is_ok_and(|arrived| arrived.is_ok())
    }

    /// How fresh the current state is.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        let confirmed_age = self.confirmed.lock().elapsed();
        Freshness { confirmed_age, stale: confirmed_age > STALE_AFTER }
    }

    /// Holds `state` for the pages that follow; the oldest one held makes room.
    pub fn pin(&self, state: &Arc<State>) {
        let mut pinned = self.pinned.lock();
        if pinned.iter().any(|held| held.revision == state.revision) {
            return;
        }
        if pinned.len() == PINNED {
            pinned.pop_front();
        }
        pinned.push_back(Arc::clone(state));
    }

    /// The state at `revision`, if it is the current one or still held.
    #[must_use]
    pub fn at(&self, revision: Revision) -> Option<Arc<State>> {
        let current = self.state();
        if current.revision == revision {
            return Some(current);
        }
        self.pinned.lock().iter().find(|held| held.revision == revision).cloned()
    }

    fn confirm(&self) {
        *self.confirmed.lock() = Instant::now();
    }

    fn advance(&self, batch: &RevisionBatch) -> Arc<State> {
        self.replace(self.state.load().after(batch))
    }

    fn replace(&self, state: State) -> Arc<State> {
        let state = Arc::new(state);
        self.state.store(Arc::clone(&state));
        self.revision.send_replace(state.revision);
        state
    }
}
