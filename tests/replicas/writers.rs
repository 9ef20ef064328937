//! Sixty-four writers through three replicas: whoever watches on one of them sees every revision of all, once, in order,
//! also over a database that stalls, and all replicas end with the same.
//!
//! `SIGNALBOX_TEST_SECONDS` says for how long (10), `SIGNALBOX_TEST_SEED` repeats the plan of a run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};
use signalbox::proto::v1::{Selector, VerifyLogRequest};
use tokio::sync::watch;

use crate::{
    cluster::{Cluster, Member, agree},
    harness::{PATIENCE, until},
    postgres,
    support::{
        Alarm,
        caller::{Caller, Rights},
        from_env, load,
        plan::Planner,
        record::Reader,
        resources::{by_kind, narrowed},
        rows, seed,
        truth::{Recorder, digest},
        view::View,
        watcher::{Habits, Watcher},
        writer::Writer,
    },
};

const WRITERS: usize = 64;
const STALL: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_revision_of_sixty_four_writers_is_seen_once_on_each_of_three_replicas() {
    let (seed, seconds) = (seed(), from_env("SIGNALBOX_TEST_SECONDS", 10));
    let run = format!("SIGNALBOX_TEST_SEED={seed} SIGNALBOX_TEST_SECONDS={seconds}");
    eprintln!("{run}");
    let database = postgres::Server::start(&["fsync=on"]);
    let cluster = Cluster::on(database.database().await).await;
    let members = cluster.start_three().await;
    let token = cluster.first_token().await;
    let callers = members.each_ref().map(|member| member.caller(&token));
    let base = agree(&callers, 0).await.revision;
    let (alarm, recorder, over) = (Alarm::default(), Recorder::default(), Arc::new(AtomicBool::new(false)));
    let (goal, goals) = watch::channel(None);
    let mut readers = Vec::new();
    for (index, member) in members.iter().enumerate() {
        for watcher in watchers(index, member, &callers[index], seed).await {
            readers.push(alarm.spawn(watcher.run(recorder.clone(), goals.clone())));
        }
    }
    let refused = Arc::new(AtomicU64::new(0));
    let writer = |id: usize| {
        let writer = Writer::new(callers[id % 3].reconnected(), recorder.clone());
        alarm.spawn(write(writer, Planner::new(seed, id), Arc::clone(&over), Arc::clone(&refused)))
    };
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();

    let limit = PATIENCE * 2 + Duration::from_secs(seconds);
    alarm.unless(limit, &run, stall(&database, &recorder, seconds)).await;
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        alarm
            .unless(PATIENCE * 2, &format!("a writer's end ({run})"), writer)
            .await
            .expect("no writer fails");
    }
    let head = recorder.newest().expect("something was written").0;
    goal.send_replace(Some(head));
    let mut recorded = Vec::new();
    for reader in readers {
        let ended = alarm.unless(PATIENCE * 2, &format!("a reader's end ({run})"), reader).await;
        recorded.push(ended.expect("no reader fails"));
    }
    let truth =
        recorder.truth(base, head).unwrap_or_else(|why| panic!("the answers contradict ({run}): {why}"));
    rows::judge(&truth, &recorded, &run);
    assert_eq!(truth.orphan(), None, "{run}");
    let all = truth.view_at(&View::everything(), head);
    let own = digest(all.iter().map(|(name, entry)| (*name, entry.masked.update_revision)));
    let end = agree(&callers, head).await;
    assert_eq!(
        (end.revision, &end.digest[..]),
        (head, &own[..]),
        "the replicas end with what was written ({run})"
    );
    let verified = callers[0].admin().verify_log(VerifyLogRequest::default()).await.expect("it is checked");
    assert!(verified.get_ref().intact, "{:?} ({run})", verified.get_ref().defects);
    let refused = refused.load(Ordering::Relaxed);
    assert!(refused > 0 && head > base, "something was written, and something refused");
    eprintln!("revisions {base}..={head}, {refused} refused, {} readers", recorded.len());
}

/// Lets the writers write, and in the middle of it the database stalls.
async fn stall(database: &postgres::Server, recorder: &Recorder, seconds: u64) {
    let newest = || recorder.newest().map_or(0, |(revision, _)| revision);
    until(PATIENCE, "the writers' first writes", || newest() > 0).await;
    // Not a wait for anything: this is the budget.
    let part = Duration::from_secs(seconds).saturating_sub(STALL) / 2;
    tokio::time::sleep(part).await;
    database.freeze();
    tokio::time::sleep(STALL).await;
    let stalled = newest();
    database.thaw();
    let begin = Instant::now();
    until(PATIENCE, "the writers go on after the stall", || newest() > stalled).await;
    eprintln!("after a stall of {STALL:?} the first write was acknowledged in {:?}", begin.elapsed());
    tokio::time::sleep(part).await;
}

async fn write(mut writer: Writer, mut planner: Planner, over: Arc<AtomicBool>, refused: Arc<AtomicU64>) {
    while !over.load(Ordering::Relaxed) {
        if !load::step(&mut writer, &mut planner).await {
            refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// On each replica: one who sees all, one who comes and goes, and a slow one who sees secrets.
async fn watchers(index: usize, member: &Member, admin: &Caller, seed: u64) -> Vec<Watcher> {
    let grants = || vec![by_kind("setting")];
    let worker = admin.colleague(&format!("worker {index}"), &Rights::worker(grants(), true)).await;
    let red = vec![narrowed(Selector::default(), "team", "red")];
    let steady = Habits { restless: false, slow: None };
    let kinds = [
        ("everything", admin, View::everything(), steady),
        ("red, restless", admin, View::of(red), Habits { restless: true, slow: None }),
        (
            "settings, slow",
            &worker,
            View { selectors: vec![], grants: grants(), secrets: true },
            Habits { restless: false, slow: Some(100) },
        ),
    ];
    let watcher = |(number, (what, caller, view, habits)): (u64, (&str, &Caller, View, Habits))| {
        let rng = StdRng::seed_from_u64(seed.wrapping_add(number));
        let reader = Reader::new(format!("{what}, on {}", member.site.address()), view);
        Watcher::new(caller.reconnected(), reader, rng, habits, FOREIGN)
    };
    (100 * index as u64..).zip(kinds).map(watcher).collect()
}

/// The token of a store that is not there.
const FOREIGN: &str = "AQEBAQEBAQEBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
