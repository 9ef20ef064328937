//! Several stores on one database: no leader, one order, and everybody hears of everybody.

use std::{sync::Arc, time::Duration};

use signalbox::{
    domain::{Revision, RevisionToken, SystemClock, keys::LogKey},
    store::{
        DoorbellState, Log as _, LogPage, Store as _,
        postgres::{PostgresDatabase, PostgresStore},
    },
};
use tokio::task::JoinSet;

use super::{Database, first_keys, open, server::Server};
use crate::fixture::{DEADLINE, Place as _, apply, create, log_after, name, position, record, update, write};

/// Follows a store by its doorbell alone until it has seen so many revisions.
async fn follow(store: Arc<PostgresStore>, count: usize) -> Vec<(Revision, [u8; 16])> {
    let mut bell = store.doorbell();
    let mut at = position(&*store, Revision::ZERO).await;
    let mut seen = vec![];
    while seen.len() < count {
        match store.changes_after(&at, 50).await.unwrap() {
            LogPage::Batches(page) if page.is_empty() => {
                tokio::time::timeout(DEADLINE, bell.changed()).await.expect("a ring").unwrap();
            }
            LogPage::Batches(page) => {
                seen.extend(page.iter().map(|batch| (batch.revision, batch.hash.half())));
                let (revision, hash) = *seen.last().unwrap();
                at = RevisionToken { revision, hash, ..at };
            }
            other => panic!("{other:?}"),
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_writers_through_three_replicas_leave_no_gap() {
    const EACH: usize = 8;
    let place = Database::new().await;
    let stores = [place.open().await, place.open().await, place.open().await];
    let followers: Vec<_> =
        stores.iter().map(|store| tokio::spawn(follow(store.clone(), 64 * EACH))).collect();
    let mut tasks = JoinSet::new();
    for writer in 0..64 {
        let store = stores[writer % 3].clone();
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
    let written: Vec<_> = tokens.iter().map(|token| (token.revision, token.hash)).collect();
    assert!(written.iter().map(|(revision, _)| revision.0).eq(1..=64 * EACH as u64), "no gap, none twice");
    for follower in followers {
        assert_eq!(follower.await.unwrap(), written, "every replica tells the same");
    }
    let heads = [stores[0].head().await, stores[1].head().await, stores[2].head().await];
    assert!(heads.iter().all(|head| head == &heads[0]));
    assert_eq!(stores[0].verify(None).await.unwrap().defects, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_comes_to_two_replicas_is_done_once() {
    let place = Database::new().await;
    let stores = [place.open().await, place.open().await];
    for round in 0..20 {
        let same = create(&format!("settings/k{round}"), "x");
        let (left, right) = tokio::join!(stores[0].apply(same.clone()), stores[1].apply(same));
        let (left, right) = (left.unwrap(), right.unwrap());
        assert_eq!(left.token(), right.token());
        assert_ne!(std::mem::discriminant(&left), std::mem::discriminant(&right), "one of them was first");
    }
    assert_eq!(stores[0].head().await.unwrap().revision, Revision(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_plans_on_another_may_have_changed() {
    let place = Database::new().await;
    let stores = [place.open().await, place.open().await];
    apply(&*stores[0], create("settings/a", "one")).await;
    let old = record(&*stores[1], "settings/a").await;
    let writes = [update(&old, "two"), update(&old, "three")];
    let [left, right] = writes;
    let (left, right) = tokio::join!(stores[0].apply(left), stores[1].apply(right));
    assert_eq!([&left, &right].iter().filter(|answer| answer.is_ok()).count(), 1, "{left:?} {right:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_compact_at_once_forget_the_same() {
    let place = Database::new().await;
    let stores = [place.open().await, place.open().await];
    apply(&*stores[0], create("settings/a", "0")).await;
    for index in 1..20 {
        let old = record(&*stores[0], "settings/a").await;
        apply(&*stores[index % 2], update(&old, &index.to_string())).await;
    }
    let (left, right) = tokio::join!(stores[0].compact(Revision(10)), stores[1].compact(Revision(15)));
    assert!(left.unwrap().0 >= Revision(10));
    assert_eq!(right.unwrap().0, Revision(15));
    assert_eq!(log_after(&*stores[0], Revision(15)).await.len(), 5);
    assert_eq!(stores[1].verify(None).await.unwrap().defects, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_replicas_that_start_at_once_make_one_store() {
    for _ in 0..3 {
        let place = Database::new().await;
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let url = place.0.clone();
            tasks.spawn(async move {
                let mut database = PostgresDatabase::open(&url, true).await.unwrap();
                let fresh = database.identity().fresh;
                let first = fresh && database.initialise(first_keys()).await.unwrap();
                assert!(!database.identity().fresh && database.identity().keys.len() == 2);
                let id = database.identity().store_id.clone();
                let store = database.into_store(&LogKey([3; 32]), Arc::new(SystemClock)).await.unwrap();
                apply(&store, write(vec![])).await;
                (first, id)
            });
        }
        let opened = tasks.join_all().await;
        assert_eq!(opened.iter().filter(|(first, _)| *first).count(), 1, "one gave the keys");
        assert!(opened.iter().all(|(_, id)| *id == opened[0].1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_lost_commits_is_a_new_life_for_every_replica() {
    let mut server = Server::start(&["fsync=on"]);
    let url = server.database().await;
    let (left, right) = (open(&url).await, open(&url).await);
    apply(&*left, create("settings/a", "kept")).await;
    server.stop();
    server.save();
    server.run(&["fsync=on"]);
    until_writable(&left).await;
    apply(&*left, create("settings/b", "lost")).await;
    apply(&*right, create("settings/c", "lost")).await;
    let seen = [position(&*left, Revision(4)).await, position(&*right, Revision(4)).await];
    server.stop();
    server.restore();
    server.run(&["fsync=on"]);
    // A third one, which knows nothing, writes over what was lost.
    let third = open(&url).await;
    for at in ["settings/x", "settings/y", "settings/z", "settings/w"] {
        apply(&*third, create(at, "other")).await;
    }
    let page = left.changes_after(&seen[0], 9).await.unwrap();
    assert!(matches!(page, LogPage::Diverged { .. }), "{page:?}");
    // Whoever writes finds it out too, and writes nothing on top before the new life.
    let refused = right.apply(create("settings/v", "x")).await;
    assert!(refused.is_err(), "{refused:?}");
    let epoch = left.begin_life(seen[0].epoch).await.unwrap();
    assert_ne!(epoch, seen[0].epoch);
    let page = right.changes_after(&seen[1], 9).await.unwrap();
    assert!(matches!(page, LogPage::OtherLife { epoch: now } if now == epoch), "{page:?}");
    let token = apply(&*right, create("settings/v", "x")).await;
    assert_eq!((token.epoch, token.revision), (epoch, Revision(6)));
    assert_eq!(third.verify(None).await.unwrap().defects, []);
}

/// Waits until a server that came back takes writes: one, which stays.
async fn until_writable(store: &PostgresStore) {
    let begin = tokio::time::Instant::now();
    while store.apply(create("settings/again", "x")).await.is_err() {
        assert!(begin.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rings_that_are_forged_or_lost_change_nothing() {
    let place = Database::new().await;
    let stores = [place.open().await, place.open().await];
    let begin = tokio::time::Instant::now();
    while stores[1].doorbell_state() != DoorbellState::Notify {
        assert!(begin.elapsed() < DEADLINE, "{:?}", stores[1].doorbell_state());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut bell = stores[1].doorbell();
    super::server::run(
        &place.0,
        "SELECT pg_notify('signalbox', 'forged'), pg_notify('signalbox_probe', 'forged')",
    )
    .await;
    tokio::time::timeout(DEADLINE, bell.changed()).await.unwrap().unwrap();
    assert!(log_after(&*stores[1], Revision::ZERO).await.is_empty());
    // Written by hand of one who does not ring: it is found by looking.
    let token = apply(&*stores[0], create("settings/a", "x")).await;
    tokio::time::timeout(DEADLINE, bell.changed()).await.unwrap().unwrap();
    assert_eq!(position(&*stores[1], Revision(1)).await.hash, token.hash);
    assert!(stores[1].record_at(&name("settings/a"), Revision(1)).await.unwrap().is_some());
}
