//! Logs that lost commits: by a restore of an older copy, or by a failover.

use std::sync::Arc;

use parking_lot::Mutex;
use signalbox::{
    domain::{ChainHash, Clock as _, Revision, RevisionBatch, RevisionToken, SystemClock},
    store::{Cluster as _, Head, Log as _, LogPage, Store as _},
    view::{Publish, State, View, follow},
};
use tokio_util::sync::CancellationToken;

use crate::fixture::{DEADLINE, Place, apply, create, log_after, position, record, update};

pub async fn a_position_that_is_not_in_the_log_is_noticed(place: &impl Place) {
    let store = place.open().await;
    for at in ["settings/a", "settings/b", "settings/c"] {
        apply(&*store, create(at, "one")).await;
    }
    let there = position(&*store, Revision(2)).await;
    assert!(matches!(store.changes_after(&there, 9).await, Ok(LogPage::Batches(page)) if page.len() == 1));
    // As if it had been written over, within the log and at its end; and as if it were lost.
    for revision in [2, 3, 4, 400] {
        let lost = RevisionToken { revision: Revision(revision), hash: [9; 16], ..there };
        let page = store.changes_after(&lost, 9).await.unwrap();
        assert!(matches!(page, LogPage::Diverged { revision: Revision(3) }), "{revision}: {page:?}");
    }
    let other = RevisionToken { epoch: signalbox::domain::Epoch(there.epoch.0 ^ 1), ..there };
    let page = store.changes_after(&other, 9).await.unwrap();
    assert!(matches!(page, LogPage::OtherLife { epoch } if epoch == there.epoch), "{page:?}");
}

pub async fn a_life_is_begun_once(place: &impl Place) {
    let store = place.open().await;
    let token = apply(&*store, create("settings/a", "one")).await;
    let at = position(&*store, Revision(1)).await;
    let mut bell = store.doorbell();
    let begun = tokio::join!(store.begin_life(token.epoch), store.begin_life(token.epoch));
    let epoch = begun.0.unwrap();
    assert_ne!(epoch, token.epoch);
    assert_eq!((begun.1.unwrap(), store.begin_life(token.epoch).await.unwrap()), (epoch, epoch));
    // Whoever finds it finds why, for a day.
    let (now, long) = (SystemClock.now(), chrono::TimeDelta::days(2));
    let told = store.begun_life(now).await.unwrap().expect("it is told");
    assert!(told.detail.contains(&epoch.to_string()) && told.is_told(now), "{told:?}");
    for other in [now + long, now - long] {
        assert!(!told.is_told(other));
        assert_eq!(store.begun_life(other).await.unwrap(), None);
    }
    assert!(bell.has_changed().unwrap());
    bell.mark_unchanged();
    let page = store.changes_after(&at, 9).await.unwrap();
    assert!(matches!(page, LogPage::OtherLife { epoch: now } if now == epoch), "{page:?}");
    // Everything else is as it was, and goes on.
    assert_eq!(store.snapshot().await.unwrap().defect, None);
    let next = apply(&*store, update(&record(&*store, "settings/a").await, "two")).await;
    assert_eq!((next.epoch, next.revision), (epoch, Revision(2)));
    assert_eq!(log_after(&*store, Revision(0)).await.len(), 2);
    assert_eq!(store.verify(Some((Revision(1), token.hash))).await.unwrap().defects, []);
    store.close(DEADLINE).await;
    assert_eq!(place.open().await.head().await.unwrap().epoch, epoch);
}

/// What the follower told, in words.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Publish for Told {
    fn batch(&self, batch: RevisionBatch, _: &Arc<State>) {
        self.0.lock().push(format!("batch {}", batch.revision));
    }
    fn rebuilt(&self, state: &Arc<State>) {
        self.0.lock().push(format!("rebuilt {}", state.revision));
    }
}

pub async fn a_view_that_lost_its_ground_is_built_anew(place: &impl Place) {
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    // A view that had seen two revisions which are not there any more.
    let mut snapshot = store.snapshot().await.unwrap();
    let seen = snapshot.head.epoch;
    snapshot.head = Head { revision: Revision(3), hash: ChainHash([9; 32]), ..snapshot.head };
    let (view, told, stop) =
        (Arc::new(View::new(State::from_snapshot(snapshot))), Told::default(), CancellationToken::new());
    let following = tokio::spawn(follow(store.clone(), view.clone(), told.clone(), stop.clone()));
    let begin = tokio::time::Instant::now();
    while view.state().epoch == seen {
        assert!(begin.elapsed() < DEADLINE, "{:?}", told.0.lock());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(view.state().revision, Revision(1));
    assert_eq!(view.state().epoch, store.head().await.unwrap().epoch);
    apply(&*store, create("settings/b", "one")).await;
    assert!(view.reached(Revision(2), DEADLINE).await);
    stop.cancel();
    following.await.unwrap();
    assert_eq!(*told.0.lock(), ["rebuilt 1", "batch 2"], "once, and it goes on from there");
}
