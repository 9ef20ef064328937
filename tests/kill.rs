//! kill -9 of the real binary under load: what was acknowledged is there, nothing is there by half, watchers go on
//! exactly where they were, and a write whose outcome was lost is resolved by its request id, exactly once.
//!
//! `SIGNALBOX_KILL_ROUNDS` says how often (20), `SIGNALBOX_TEST_SEED` repeats the plan of a run.

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod harness;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use harness::{Home, PATIENCE, Server, until};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use signalbox::proto::v1::VerifyLogRequest;
use support::{
    Alarm,
    caller::{Caller, Rights, Site},
    from_env, load,
    plan::Planner,
    record::Reader,
    resources::{by_kind, by_prefix, narrowed},
    rows, seed,
    truth::{Recorder, digest},
    view::View,
    watcher::{Habits, Watcher},
    writer::Writer,
};
use tokio::sync::watch;

const WRITERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_every_kill() {
    let seed = seed();
    let run = format!("SIGNALBOX_TEST_SEED={seed}");
    let rounds = from_env("SIGNALBOX_KILL_ROUNDS", 20);
    eprintln!("{run}, {rounds} rounds");
    let home = Arc::new(Home::new().with("SIGNALBOX_LOG_RING_BYTES", "1MiB"));
    let mut server = Server::start_in(&home).await;
    let site = Site::of(&server);
    let admin = || Caller::new(&site, &home.admin_token());
    let foreign = token_of_another_store().await;
    let base = admin().status().await.revision;
    let (alarm, recorder, over) = (Alarm::default(), Recorder::default(), Arc::new(AtomicBool::new(false)));
    let (goal, goals) = watch::channel(None);

    let readers: Vec<_> = watchers(&admin(), seed, &foreign)
        .await
        .into_iter()
        .map(|watcher| alarm.spawn(watcher.run(recorder.clone(), goals.clone())))
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|id| {
            let writer = Writer::new(admin(), recorder.clone());
            alarm.spawn(write(writer, Planner::new(seed, id), Arc::clone(&over)))
        })
        .collect();
    let mut rng = StdRng::seed_from_u64(seed);
    for round in 0..rounds {
        let acknowledged = some_writes(&recorder, &alarm, &mut rng, &run).await;
        server.kill().await;
        server = Server::start_in(&home).await;
        site.moved_to(server.address());
        recovered(&admin(), acknowledged, &format!("{run}, round {round}")).await;
    }
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        alarm.unless(PATIENCE, &format!("a writer's end ({run})"), writer).await.expect("no writer fails");
    }
    let head = admin().status().await.revision;
    goal.send_replace(Some(head));
    let mut recorded = Vec::new();
    for reader in readers {
        let ended = alarm.unless(PATIENCE, &format!("a reader's end ({run})"), reader).await;
        recorded.push(ended.expect("no reader fails"));
    }
    let truth =
        recorder.truth(base, head).unwrap_or_else(|why| panic!("the answers contradict ({run}): {why}"));
    rows::judge(&truth, &recorded, &run);
    assert_eq!(truth.orphan(), None, "{run}");
    let all = truth.view_at(&View::everything(), head);
    let own = digest(all.iter().map(|(name, entry)| (*name, entry.masked.update_revision)));
    assert_eq!(admin().status().await.digest, own, "the store holds what was acknowledged ({run})");
    let streams: usize = recorded.iter().map(|reader| reader.streams.len()).sum();
    eprintln!("{rounds} kills, revisions {base}..={head}, {} readers, {streams} streams", recorded.len());
}

async fn token_of_another_store() -> String {
    let other = Server::start().await;
    Caller::new(&Site::of(&other), &other.admin_token()).status().await.revision_token
}

/// Lets some writes be acknowledged, and stops at any moment of the next one.
async fn some_writes(
    recorder: &Recorder,
    alarm: &Alarm,
    rng: &mut StdRng,
    run: &str,
) -> Option<(u64, String)> {
    let newest = || recorder.newest().map_or(0, |(revision, _)| revision);
    let target = newest() + rng.random_range(1..25);
    let what = format!("the writers' progress ({run})");
    alarm.unless(PATIENCE * 2, &what, until(PATIENCE, &what, || newest() >= target)).await;
    // Not a wait for anything: the moment of the kill is to be any.
    tokio::time::sleep(Duration::from_micros(rng.random_range(0..20_000))).await;
    recorder.newest()
}

/// After each start: nothing that was acknowledged is missing, by the store's own chain of hashes.
async fn recovered(admin: &Caller, acknowledged: Option<(u64, String)>, run: &str) {
    let (revision, anchor_token) = acknowledged.unwrap_or_default();
    let status = admin.status().await;
    assert!(
        status.revision >= revision,
        "{revision} was acknowledged, the store is at {} ({run})",
        status.revision
    );
    let verified = admin.admin().verify_log(VerifyLogRequest { anchor_token }).await;
    let verified =
        verified.unwrap_or_else(|status| panic!("the log is not verified ({run}): {status:?}")).into_inner();
    assert!(verified.intact, "the log is not intact ({run}): {:?}", verified.defects);
}

async fn write(mut writer: Writer, mut planner: Planner, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        load::step(&mut writer, &mut planner).await;
    }
}

async fn watchers(admin: &Caller, seed: u64, foreign: &str) -> Vec<Watcher> {
    let grants = || vec![by_prefix("providers/"), by_kind("setting")];
    let viewer = admin.colleague("viewer", &Rights::viewer()).await;
    let plain = admin.colleague("plain", &Rights::worker(grants(), true)).await;
    let red = vec![narrowed(signalbox::proto::v1::Selector::default(), "team", "red")];
    let steady = Habits { restless: false, slow: None };
    let views = [
        ("viewer", &viewer, View::everything(), steady),
        ("plain", &plain, View { selectors: vec![], grants: grants(), secrets: true }, steady),
        ("viewer of red", &viewer, View::of(red.clone()), steady),
        ("restless viewer of red", &viewer, View::of(red), Habits { restless: true, slow: None }),
        ("slow viewer", &viewer, View::everything(), Habits { restless: false, slow: Some(40) }),
    ];
    let watcher = |(index, (what, caller, view, habits)): (u64, (&str, &Caller, View, Habits))| {
        let rng = StdRng::seed_from_u64(seed.wrapping_add(index));
        Watcher::new(caller.reconnected(), Reader::new(what, view), rng, habits, foreign)
    };
    (1000..).zip(views).map(watcher).collect()
}
