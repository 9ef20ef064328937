//! Servers that fail: what was acknowledged is there, what was refused is not, and nobody waits for long.

use std::time::{Duration, Instant};

use signalbox::{
    domain::{Applied, ApplyError, Read, Revision, WriteSet},
    store::{DoorbellState, Log as _, Store, StoreError},
};

use super::{
    Database, open,
    proxy::{Fault, Proxy},
    server::{self, Server},
};
use crate::fixture::{DEADLINE, Place as _, apply, create, log_after};

/// Every bound is kept with this to spare on a busy machine.
const BOUND: Duration = Duration::from_secs(15);

/// Waits for something that has to come true.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < DEADLINE, "{what} does not come true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The same write until it is taken, as a caller repeats it.
async fn insist(store: &impl Store, write: &WriteSet) -> Applied {
    let begin = Instant::now();
    loop {
        match store.apply(write.clone()).await {
            Ok(applied) => return applied,
            Err(ApplyError::Unavailable { .. } | ApplyError::Unknown { .. })
                if begin.elapsed() < DEADLINE =>
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn is_refused_in_time(store: &impl Store) {
    let begin = Instant::now();
    let refused = store.apply(create("settings/refused", "x")).await;
    assert!(matches!(refused, Err(ApplyError::Unavailable { .. })), "{refused:?}");
    assert!(begin.elapsed() < BOUND, "a write waited for {:?}", begin.elapsed());
    eprintln!("a write was refused after {:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_answered_as_what_it_became() {
    let direct = server::shared().database().await;
    let port = server::port_of(&direct);
    let proxy = Proxy::before(port).await;
    let store = open(&proxy.url(&direct, port)).await;
    let mut revision = 0;
    for (index, fault) in
        [Fault::LoseAnswer, Fault::LoseCommit, Fault::Silence, Fault::Stall].into_iter().enumerate()
    {
        let first = apply(&*store, create(&format!("settings/before{index}"), "x")).await;
        revision += 1;
        assert_eq!(first.revision, Revision(revision));
        proxy.break_next(fault);
        let write = create(&format!("settings/hit{index}"), "x");
        let begin = Instant::now();
        let answer = store.apply(write.clone()).await;
        assert!(proxy.has_broken() && begin.elapsed() < Duration::from_secs(16), "{:?}", begin.elapsed());
        let came_through = matches!(fault, Fault::LoseAnswer | Fault::Silence);
        match answer {
            Ok(Applied::Committed { token, .. }) => {
                revision += 1;
                assert!(came_through && token.revision == Revision(revision), "{fault:?}");
            }
            Err(ApplyError::Unavailable { .. }) => assert!(!came_through, "{fault:?}"),
            other => panic!("{fault:?}: {other:?}"),
        }
        // A repeated request is never done twice.
        let again = insist(&*store, &write).await;
        assert_eq!(matches!(again, Applied::Replayed { .. }), came_through, "{fault:?}");
        revision += u64::from(!came_through);
    }
    assert_eq!(log_after(&*store, Revision::ZERO).await.len() as u64, revision);
    assert_eq!(store.verify(None).await.unwrap().defects, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_commit_became_is_not_claimed_where_it_is_not_known() {
    let direct = server::shared().database().await;
    let port = server::port_of(&direct);
    let proxy = Proxy::before(port).await;
    let store = open(&proxy.url(&direct, port)).await;
    apply(&*store, create("settings/a", "x")).await;
    proxy.break_next(Fault::LoseAnswer);
    proxy.close(true);
    let write = create("settings/b", "x");
    let refused = store.apply(write.clone()).await;
    assert!(matches!(refused, Err(ApplyError::Unknown { .. })), "{refused:?}");
    proxy.close(false);
    assert!(matches!(insist(&*store, &write).await, Applied::Replayed { .. }), "it had come through");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_sessions_cost_a_try_and_nothing_else() {
    let place = Database::new().await;
    let store = place.open().await;
    let killer = tokio::spawn({
        let url = place.0.clone();
        async move {
            for _ in 0..25 {
                tokio::time::sleep(Duration::from_millis(40)).await;
                server::run(
                    &url,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid()",
                )
                .await;
            }
        }
    });
    let mut done = 0;
    while !killer.is_finished() {
        insist(&*store, &create(&format!("settings/k{done}"), "x")).await;
        done += 1;
    }
    killer.await.unwrap();
    until("reading", async || store.head().await.is_ok()).await;
    assert_eq!(log_after(&*store, Revision::ZERO).await.len(), done, "each once");
    assert_eq!(store.verify(None).await.unwrap().defects, []);
    until("the doorbell", async || store.doorbell_state() == DoorbellState::Notify).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_another_session_holds_is_waited_for_but_not_for_long() {
    let place = Database::new().await;
    let store = place.open().await;
    apply(&*store, create("settings/a", "x")).await;
    let mut other = server::connect(&place.0).await;
    sqlx::raw_sql("BEGIN; SELECT 1 FROM head FOR UPDATE").execute(&mut other).await.unwrap();
    is_refused_in_time(&*store).await;
    assert_eq!(store.head().await.unwrap().revision, Revision(1), "reads go on");
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    apply(&*store, create("settings/b", "x")).await;
    assert_eq!(store.verify(None).await.unwrap().defects, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_can_only_be_read_takes_no_write() {
    let place = Database::new().await;
    let store = place.open().await;
    apply(&*store, create("settings/a", "x")).await;
    let name = place.0.rsplit_once('/').unwrap().1;
    server::run(&place.0, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    store.close(DEADLINE).await;
    let store = place.open().await;
    is_refused_in_time(&*store).await;
    assert_eq!(store.snapshot().await.unwrap().records.len(), 1);
    let told = store.begin_life(store.head().await.unwrap().epoch).await;
    assert!(matches!(told, Err(StoreError::Unavailable(_))), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_given_up_and_found_again() {
    let server = Server::start(&[]);
    let place = Database(server.database().await);
    let store = place.open().await;
    apply(&*store, create("settings/a", "x")).await;
    until("the doorbell", async || store.doorbell_state() == DoorbellState::Notify).await;
    server.freeze();
    for _ in 0..2 {
        is_refused_in_time(&*store).await;
        let begin = Instant::now();
        assert!(matches!(store.head().await, Err(StoreError::Unavailable(_))));
        assert!(begin.elapsed() < BOUND, "a read waited for {:?}", begin.elapsed());
        eprintln!("a read was refused after {:?}", begin.elapsed());
    }
    until("silence", async || matches!(store.doorbell_state(), DoorbellState::Polling { .. })).await;
    server.thaw();
    let begin = Instant::now();
    until("reading", async || store.head().await.is_ok()).await;
    eprintln!("reads go on {:?} after the thaw", begin.elapsed());
    insist(&*store, &create("settings/b", "x")).await;
    until("the doorbell", async || store.doorbell_state() == DoorbellState::Notify).await;
    assert_eq!(
        log_after(&*store, Revision::ZERO).await.len(),
        2,
        "what was refused did not come through later"
    );
    assert_eq!(store.verify(None).await.unwrap().defects, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_stopped_and_comes_back_is_found_again() {
    let mut server = Server::start(&["fsync=on"]);
    let place = Database(server.database().await);
    let store = place.open().await;
    for index in 0..20 {
        apply(&*store, create(&format!("settings/k{index}"), "x")).await;
    }
    let mut bell = store.doorbell();
    server.stop();
    is_refused_in_time(&*store).await;
    assert!(matches!(store.head().await, Err(StoreError::Unavailable(_))));
    server.run(&["fsync=on"]);
    let mut write = create("settings/after", "x");
    write.reads.push(Read::Unchanged { name: crate::fixture::name("settings/k19"), revision: Revision(20) });
    let applied = insist(&*store, &write).await;
    assert_eq!(applied.token().revision, Revision(21), "all of what was acknowledged is there");
    assert!(bell.has_changed().unwrap());
    bell.mark_unchanged();
    until("the doorbell", async || store.doorbell_state() == DoorbellState::Notify).await;
    assert_eq!(store.verify(None).await.unwrap().defects, []);
}

/// A server that freezes in the midst of everything, not only between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_freezes_under_load_keeps_nobody_waiting() {
    let server = Server::start(&[]);
    let place = Database(server.database().await);
    let store = place.open().await;
    let load: Vec<_> = (0..8)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let (mut longest, mut done) = (Duration::ZERO, 0);
                for index in 0..2000 {
                    let begin = Instant::now();
                    match store.apply(create(&format!("settings/w{writer}i{index}"), "x")).await {
                        Ok(_) => done += 1,
                        Err(ApplyError::Unavailable { .. } | ApplyError::Unknown { .. }) => {
                            longest = longest.max(begin.elapsed());
                            break;
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                }
                (longest, done)
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(700)).await;
    server.freeze();
    let mut acknowledged = 0;
    for writer in load {
        let (longest, done) = writer.await.unwrap();
        eprintln!("{done} writes, then one was refused after {longest:?}");
        // A commit that was under way is looked for as long again.
        assert!(longest > Duration::ZERO && longest < Duration::from_secs(18), "{longest:?}");
        acknowledged += done;
    }
    server.thaw();
    until("reading", async || store.head().await.is_ok()).await;
    // Those whose outcome was not known may have come through; nobody else's.
    let there = log_after(&*store, Revision::ZERO).await.len();
    assert!((acknowledged..=acknowledged + 8).contains(&there), "{acknowledged} acknowledged, {there} there");
    assert_eq!(store.verify(None).await.unwrap().defects, []);
}

/// Readers that go away at any moment leave no connection behind in the middle of something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_reads_poison_nothing() {
    let place = Database::new().await;
    let store = place.open().await;
    apply(&*store, create("settings/k", "x")).await;
    for round in 0..400_u64 {
        let read = async {
            store.snapshot().await.unwrap();
            store.record_at(&crate::fixture::name("settings/k"), Revision(1)).await.unwrap();
        };
        let _ = tokio::time::timeout(Duration::from_micros(round * 37 % 6000), read).await;
        if round % 40 == 0 {
            let token = apply(&*store, create(&format!("settings/k{round}"), "x")).await;
            // Every connection that is left sees what was just committed.
            let heads = futures_util::future::join_all((0..12).map(|_| store.head())).await;
            assert!(heads.iter().all(|head| head.as_ref().unwrap().revision == token.revision), "{heads:?}");
        }
    }
}

#[tokio::test]
async fn what_can_not_be_opened_is_refused_in_time_and_without_its_password() {
    let begin = Instant::now();
    for (url, told) in [
        ("postgres://u:hunter2@127.0.0.1:1/db", "can't be reached"),
        ("postgres://u:hunter2@[bad", "URL can't be read"),
        ("postgres://u:hunter2@127.0.0.1/db?sslmode=sometimes", "URL can't be read"),
    ] {
        let error = match signalbox::store::postgres::PostgresDatabase::open(url, true).await {
            Ok(_) => panic!("{url}"),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(error.contains(told) && !error.contains("hunter2"), "{error}");
    }
    assert!(begin.elapsed() < BOUND);
}
