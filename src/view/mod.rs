//! The current state in memory: read without locks, written only by the follower of the log.
//!
//! It holds masked resources and sealed secrets, never an opened one. It must not know transport. Every current read
//! is served from here, also while the store is away; then it says how long ago it last heard from it.

mod follower;
mod reveal;
mod state;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

pub use follower::{Publish, follow};
pub use reveal::{Reveal, Revealer, Undecryptable, Unopened};
pub use state::{Entry, State};

use crate::domain::{Revision, RevisionBatch, RevisionToken};

/// After so long without a word from the store, answers are marked stale.
pub const STALE_AFTER: Duration = Duration::from_secs(5);
/// Old states that are held for page tokens.
const PINNED: usize = 64;

/// The current state, and a few old ones that page tokens stand on.
pub struct View {
    state: ArcSwap<State>,
    revision: watch::Sender<Revision>,
    confirmed: Mutex<Instant>,
    damage: Mutex<Option<Damage>>,
    /// What is wrong with what lies beside the log and the state.
    distrusted: Mutex<Option<String>>,
    /// The store could not be read when it was last asked.
    unread: AtomicBool,
    /// Somebody knows that the log holds more than is shown.
    behind: Notify,
    /// Somebody has reason to think that the store holds what was never written.
    doubted: AtomicBool,
    pinned: Mutex<VecDeque<Arc<State>>>,
}

/// What is wrong with the store.
struct Damage {
    what: String,
    /// Whether it lies in the rows of the state, which may be what is shown: that the log goes on makes that no better. If not, the
    /// log itself can't be followed.
    state: bool,
}

/// When the store last confirmed what the view shows, and whether it is whole.
///
/// Taken before the state that it is told with: what the view shows then is at least as new. The other way round an old
/// state would be told with a later confirmation.
#[derive(Clone, Copy, Debug)]
pub struct Confirmed {
    at: Instant,
    damaged: bool,
}

/// What every answer says of its own age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// How long ago the store was last heard from.
    pub confirmed_age: Duration,
    /// Whether that is too long ago, or the store is damaged.
    pub stale: bool,
}

impl Confirmed {
    /// How long ago that is by now. Asked when the answer is put together, so that a pause before counts as well.
    #[must_use]
    pub fn freshness(self) -> Freshness {
        let confirmed_age = self.at.elapsed();
        Freshness { confirmed_age, stale: self.damaged || confirmed_age > STALE_AFTER }
    }
}

impl View {
    /// A view of a state that was just read.
    #[must_use]
    pub fn new(state: State) -> Self {
        Self {
            revision: watch::Sender::new(state.revision),
            state: ArcSwap::from_pointee(state),
            confirmed: Mutex::new(Instant::now()),
            damage: Mutex::default(),
            distrusted: Mutex::default(),
            unread: AtomicBool::new(false),
            behind: Notify::new(),
            doubted: AtomicBool::new(false),
            pinned: Mutex::default(),
        }
    }

    /// A view of what can be read of a damaged store: never fresh, until the store is found to be whole.
    #[must_use]
    pub fn damaged(state: State, what: String) -> Self {
        Self { damage: Mutex::new(Some(Damage { what, state: true })), ..Self::new(state) }
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

    /// Waits until the view is in the life of a token and has reached its revision, at most for `patience`. Says whether
    /// it has.
    pub async fn has_seen(&self, token: &RevisionToken, patience: Duration) -> bool {
        let mut watcher = self.revision.subscribe();
        let arrived = watcher.wait_for(|_| self.state.load().has(token));
        timeout(patience, arrived).await.is_ok_and(|arrived| arrived.is_ok())
    }

    /// Has the log looked at now: whoever asks knows that it holds more than is shown, and the doorbell may not ring.
    pub fn look(&self) {
        self.behind.notify_one();
    }

    /// Has all that the store holds looked at soon: a write met rows that are not what the log says, or another replica holds
    /// something else.
    pub fn doubt(&self) {
        self.doubted.store(true, Ordering::Release);
        self.behind.notify_one();
    }

    /// When the store last confirmed what is shown from now on.
    #[must_use]
    pub fn confirmed(&self) -> Confirmed {
        let damaged = self.damage.lock().is_some() || self.distrusted.lock().is_some();
        Confirmed { at: *self.confirmed.lock(), damaged }
    }

    /// What is wrong with the store, while it holds what was never written: the state before goes on being shown, or what could
    /// be read of it at the start, and nothing confirms it. May be shown to an operator.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        self.followed_damage().or_else(|| self.distrusted.lock().clone())
    }

    /// The same, of the log and the state alone: others that look at these find it as well.
    #[must_use]
    pub fn followed_damage(&self) -> Option<String> {
        self.damage.lock().as_ref().map(|damage| damage.what.clone())
    }

    /// Whether the store could not be read when it was last asked: what is shown may be fresh yet.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Acquire)
    }

    /// Says what lies beside the log and is not what was written: nothing that is shown is fresh until it is put right, which is
    /// said by `None`.
    pub fn distrust(&self, what: Option<String>) {
        let before = std::mem::replace(&mut *self.distrusted.lock(), what.clone());
        match (before, what) {
            (before, Some(damage)) if before.as_ref() != Some(&damage) => tracing::error!(
                damage,
                "the store is damaged: what was read goes on being served, and writes are refused; run `signalbox doctor`"
            ),
            (Some(_), None) => tracing::info!("what was damaged beside the log is put right"),
            _ => {}
        }
    }

    /// Holds `state` for the pages that follow; the oldest one held makes room. One of a life that is over is not held.
    pub fn pin(&self, state: &Arc<State>) {
        let mut pinned = self.pinned.lock();
        // Asked under the lock: who begins anew shows the new life first, and lets go of the old one after.
        let over = state.epoch != self.state.load().epoch;
        if over || pinned.iter().any(|held| held.revision == state.revision) {
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

    /// The store has answered what was asked of it at a moment. An answer may have lain unread for long, if this process was
    /// paused: it tells nothing of what came after the question.
    fn confirm(&self, asked: Instant) {
        *self.confirmed.lock() = asked;
        self.unread.store(false, Ordering::Release);
        if self.damage.lock().take().is_some() {
            tracing::info!("the store is whole again");
        }
    }

    /// Whether the rows of the state are damaged. That the log goes on makes them no better.
    fn state_is_damaged(&self) -> bool {
        self.damage.lock().as_ref().is_some_and(|damage| damage.state)
    }

    /// What the store holds can't be shown: what is shown stays as it is. Says whether that is news.
    fn refuse(&self, what: String) -> bool {
        let mut damage = self.damage.lock();
        let news = damage.as_ref().is_none_or(|known| known.what != what);
        let state = damage.as_ref().is_some_and(|known| known.state);
        *damage = Some(Damage { what, state });
        news
    }

    /// The rows of the state are damaged: what is shown is what could be read of them, or was read before.
    fn admit(&self, what: String) {
        *self.damage.lock() = Some(Damage { what, state: true });
    }

    /// Shows a state that does not follow from the one before it, and lets go of all that was held of that.
    fn begin_anew(&self, state: State) -> Arc<State> {
        let state = self.replace(state);
        self.pinned.lock().clear();
        state
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::Epoch, store::StateSnapshot};

    fn state(epoch: u64, revision: u64) -> State {
        let head = crate::store::Head {
            epoch: Epoch(epoch),
            revision: Revision(revision),
            hash: Default::default(),
            floor: Revision::ZERO,
        };
        let (records, sealed, revocations) = (vec![], vec![], vec![]);
        State::from_snapshot(StateSnapshot { head, records, sealed, revocations, defect: None })
    }

    #[test]
    fn nothing_of_a_life_that_is_over_is_held() {
        let view = View::new(state(1, 5));
        let old = view.state();
        view.pin(&old);
        view.replace(state(1, 6));
        assert!(view.at(Revision(5)).is_some());
        view.begin_anew(state(2, 7));
        assert!(view.at(Revision(5)).is_none());
        view.pin(&old);
        assert!(view.at(Revision(5)).is_none(), "a list that had begun before does not bring it back");
    }

    /// Found by an attack: what an edited store held was served as fresh by whoever started on it.
    #[tokio::test]
    async fn regression_what_a_damaged_store_shows_is_never_fresh() {
        let view = View::damaged(state(1, 5), "edited".into());
        assert!(view.confirmed().freshness().stale && view.state_is_damaged());
        view.refuse("edited again".into());
        assert!(view.state_is_damaged(), "it is still what was read then");
        assert_eq!(view.damage().as_deref(), Some("edited again"));
        view.confirm(Instant::now());
        assert!(!view.confirmed().freshness().stale && view.damage().is_none());
        view.refuse("edited".into());
        assert!(
            view.confirmed().freshness().stale && !view.state_is_damaged(),
            "what was read before is whole"
        );
    }

    #[test]
    fn what_lies_beside_the_log_is_damage_until_it_is_put_right() {
        let view = View::new(state(1, 5));
        view.distrust(Some("edited".into()));
        view.confirm(Instant::now());
        assert!(view.confirmed().freshness().stale, "that the log goes on makes it no better");
        assert_eq!((view.damage().as_deref(), view.followed_damage()), (Some("edited"), None));
        view.distrust(None);
        assert!(!view.confirmed().freshness().stale && view.damage().is_none());
    }

    /// A state that is told with a confirmation of a later one would be shown as fresher than it is.
    #[tokio::test(start_paused = true)]
    async fn regression_an_answer_is_no_fresher_than_its_state() {
        let view = View::new(state(1, 5));
        let (confirmed, old) = (view.confirmed(), view.state());
        tokio::time::advance(Duration::from_secs(9)).await;
        view.replace(state(1, 6));
        view.confirm(Instant::now());
        assert_eq!(old.revision, Revision(5));
        let told = confirmed.freshness();
        assert!(told.stale && told.confirmed_age == Duration::from_secs(9), "{told:?}");
        assert!(!view.confirmed().freshness().stale);
    }

    #[tokio::test]
    async fn a_token_of_another_life_is_not_seen_however_far_the_view_is() {
        let view = View::new(state(1, 9));
        let token = state(2, 3).token();
        assert!(!view.has_seen(&token, Duration::ZERO).await);
        view.begin_anew(state(2, 2));
        assert!(!view.has_seen(&token, Duration::ZERO).await);
        view.replace(state(2, 3));
        assert!(view.has_seen(&token, Duration::ZERO).await);
    }
}
