//! Somebody who notifies in a loop: a ring says only "look", so it changes nothing but how often that is done.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::Executor as _;

use crate::{
    cluster::{Cluster, agree, create},
    harness::{PATIENCE, until_answered, within},
    postgres,
    support::{Alarm, resources::setting, view::View, watcher::Open},
};

/// Far longer than any burst that a server would sit out.
const FLOOD: Duration = Duration::from_secs(7);
/// Reads of the log in a second at most, of one replica: rings of others are answered 5 ms apart, and polls come besides. A
/// slow machine stays below it anyhow; the rule itself is held where the rings are made.
const READS: f64 = 220.0;
/// A commit is seen by the next poll even if no ring comes through.
const SEEN: Duration = Duration::from_secs(3);
/// Notifications of one statement.
const MANY: u64 = 20_000;
/// A replica that gives way answers in milliseconds; the rest is a busy machine.
const ANSWERED: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_forged_notifications_have_no_effect_but_a_bounded_number_of_reads() {
    let cluster = Cluster::new().await;
    let (left, right) = (cluster.start().await, cluster.start().await);
    let token = cluster.first_token().await;
    let callers = [left.caller(&token), right.caller(&token)];
    let mut at = create(&callers[0], setting("settings/first", "x")).await;
    agree(&callers, at).await;
    let mut stream = Open::fresh(&callers[1], &View::everything()).await;
    stream.reach(at).await;

    let (alarm, over, forged) = (Alarm::default(), Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let forgers: Vec<_> = (0..2)
        .map(|_| alarm.spawn(forge(cluster.url().to_owned(), Arc::clone(&over), Arc::clone(&forged))))
        .collect();
    let reads = async || {
        let page = right.metrics(&token).await;
        page.value("signalbox_store_call_seconds_count", &[("call", "changes_after")])
    };
    let (begin, before, mut slowest) = (Instant::now(), reads().await, Duration::ZERO);
    while begin.elapsed() < FLOOD {
        let written = Instant::now();
        at = create(&callers[0], setting(&format!("settings/under_{at}"), "x")).await;
        stream.reach(at).await;
        slowest = slowest.max(written.elapsed());
        for caller in &callers {
            let status = caller.status().await;
            assert!(!status.stale, "{:?}", status.confirmed_age);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (reads, took) = (reads().await - before, begin.elapsed());
    over.store(true, Ordering::Relaxed);
    for forger in forgers {
        within(PATIENCE, "a forger's end", forger).await.expect("no notification fails");
    }
    let forged = forged.load(Ordering::Relaxed);
    eprintln!(
        "{forged} forged, {reads} reads of the log in {took:?}; the slowest write was seen after {slowest:?}"
    );
    assert!(reads / took.as_secs_f64() < READS, "{reads} reads in {took:?}");
    assert!(slowest < SEEN, "{slowest:?}");
    agree(&callers, at).await;
    let next = create(&callers[0], setting("settings/last", "x")).await;
    assert_eq!(next, at + 1, "nothing else was written");
    stream.reach(next).await;
}

/// Notifies as fast as the database takes it.
async fn forge(url: String, over: Arc<AtomicBool>, forged: Arc<AtomicU64>) {
    let mut connection = postgres::connect(&url).await;
    while !over.load(Ordering::Relaxed) {
        connection.execute("NOTIFY signalbox; NOTIFY signalbox_probe, 'forged'").await.expect("it is told");
        forged.fetch_add(1, Ordering::Relaxed);
    }
}

/// One statement that tells twenty thousand things, again and again: what comes in is never awaited then, and whoever reads it
/// must give way all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_statements_of_many_notifications_stop_no_replica() {
    let cluster = Cluster::new().await;
    let (left, right) = (cluster.start().await, cluster.start().await);
    let token = cluster.first_token().await;
    let callers = [left.caller(&token), right.caller(&token)];
    let at = create(&callers[0], setting("settings/first", "x")).await;
    agree(&callers, at).await;

    let (alarm, over, forged) = (Alarm::default(), Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let forgers: Vec<_> = (0..2)
        .map(|_| alarm.spawn(forge_many(cluster.url().to_owned(), Arc::clone(&over), Arc::clone(&forged))))
        .collect();
    let (begin, mut slowest, mut polled) = (Instant::now(), Duration::ZERO, false);
    while begin.elapsed() < FLOOD || (!polled && begin.elapsed() < PATIENCE) {
        for (member, caller) in [&left, &right].into_iter().zip(&callers) {
            let asked = Instant::now();
            let page = within(ANSWERED, "a probe under the flood", member.page("/livez", "")).await;
            assert_eq!(page.code, 200, "{page:?}");
            let status = within(ANSWERED, "a read under the flood", caller.status()).await;
            slowest = slowest.max(asked.elapsed());
            polled |= status.doorbell.starts_with("polling: somebody notifies in a loop");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    over.store(true, Ordering::Relaxed);
    for forger in forgers {
        within(PATIENCE, "a forger's end", forger).await.expect("no notification fails");
    }
    let forged = forged.load(Ordering::Relaxed);
    eprintln!("{forged} statements of {MANY} in {:?}; the slowest answers took {slowest:?}", begin.elapsed());
    assert!(polled, "a doorbell that rings all the time counts as none");
    let next = create(&callers[0], setting("settings/last", "x")).await;
    agree(&callers, next).await;
    for caller in &callers {
        until_answered(PATIENCE, "it rings again", async || caller.status().await.doorbell == "notify").await;
    }
}

/// Tells many different things with each statement, as fast as the database takes it.
async fn forge_many(url: String, over: Arc<AtomicBool>, forged: Arc<AtomicU64>) {
    let mut connection = postgres::connect(&url).await;
    let text = "SELECT count(pg_notify('signalbox_probe', i::text)) FROM generate_series(1, 20000) i";
    while !over.load(Ordering::Relaxed) {
        connection.execute(text).await.expect("it is told");
        forged.fetch_add(1, Ordering::Relaxed);
    }
}
