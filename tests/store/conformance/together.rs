//! Many at once.

use signalbox::{
    domain::{ApplyError, PlannedChange, Revision},
    store::{Log as _, Store as _},
};
use tokio::task::JoinSet;

use crate::fixture::{Place, apply, create, log_after, put, record, update, write};

pub async fn sixty_four_writers_leave_no_gap(place: &impl Place) {
    const EACH: usize = 10;
    let store = place.open().await;
    // A reader that follows all the while must see every revision, in order, and never one that is not there later.
    let follower = tokio::spawn({
        let store = store.clone();
        async move {
            let (mut bell, mut seen) = (store.doorbell(), vec![]);
            while seen.len() < 64 * EACH {
                bell.changed().await.unwrap();
                let after = Revision(seen.len() as u64);
                seen.extend(
                    log_after(&*store, after).await.into_iter().map(|batch| (batch.revision, batch.hash)),
                );
            }
            seen
        }
    });
    let mut tasks = JoinSet::new();
    for writer in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut tokens = vec![];
            for index in 0..EACH {
                tokens.push(apply(&*store, create(&format!("settings/w{writer}i{index}"), "x")).await);
            }
            assert!(tokens.is_sorted_by(|left, right| left.revision < right.revision));
            tokens
        });
    }
    let mut tokens: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    tokens.sort_by_key(|token| token.revision);
    let seen = follower.await.unwrap();
    assert_eq!(seen.len(), 64 * EACH);
    for (index, (token, (revision, hash))) in tokens.iter().zip(&seen).enumerate() {
        assert_eq!((token.revision, revision.0), (*revision, index as u64 + 1));
        assert_eq!(token.hash, hash.half());
    }
    assert_eq!(store.snapshot().await.unwrap().defect, None);
    assert_eq!(store.verify(None).await.unwrap().defects, []);
}

pub async fn writers_of_one_resource_conflict(place: &impl Place) {
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    let old = record(&*store, "settings/a").await;
    let mut tasks = JoinSet::new();
    for index in 0..32 {
        let (store, write) = (store.clone(), update(&old, &index.to_string()));
        tasks.spawn(async move { store.apply(write).await });
    }
    let answers = tasks.join_all().await;
    let written = answers.iter().filter(|answer| answer.is_ok()).count();
    let stale =
        answers.iter().filter(|answer| **answer == Err(ApplyError::Stale { at: Revision(2) })).count();
    assert_eq!((written, stale), (1, 31), "{answers:?}");
    assert_eq!(record(&*store, "settings/a").await.version, 2);
}

pub async fn the_doorbell_rings(place: &impl Place) {
    let store = place.open().await;
    let mut bell = store.doorbell();
    assert!(!bell.has_changed().unwrap());
    apply(&*store, create("settings/a", "one")).await;
    assert!(bell.has_changed().unwrap(), "before the writer was answered");
    bell.mark_unchanged();
    let refused = store.apply(create("settings/a", "one")).await;
    assert!(refused.is_err() && !bell.has_changed().unwrap(), "nothing was written");
    apply(&*store, create("settings/b", "one")).await;
    assert!(bell.has_changed().unwrap());
}

pub async fn compaction_and_writes_go_together(place: &impl Place) {
    let store = place.open().await;
    let changes = |round: u64| {
        let puts = (0..500).map(move |index| put(&format!("settings/k{index}"), round, &round.to_string()));
        write(puts.map(|put| PlannedChange::Put(Box::new(put))).collect())
    };
    for round in 1..=12 {
        apply(&*store, changes(round)).await;
    }
    let compaction = tokio::spawn({
        let store = store.clone();
        async move { store.compact(Revision(11)).await.unwrap() }
    });
    for index in 0..30 {
        apply(&*store, create(&format!("settings/new{index}"), "x")).await;
    }
    assert_eq!(compaction.await.unwrap(), (Revision(11), 5000));
    assert_eq!(log_after(&*store, Revision(11)).await.len(), 31);
    assert_eq!(store.verify(None).await.unwrap().defects, []);
}
