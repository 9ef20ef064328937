//! The model-based run of the watch contract: random writers, compactions, restarts and readers of every habit, against one
//! server or against several on one store; afterwards every row of the guarantees' table is checked for every reader.

use std::{future::Future, sync::Arc};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use signalbox::proto::v1::{CompactLogRequest, RevokeTokenRequest, VerifyLogRequest};
use tokio::sync::{Barrier, Mutex, watch};
use tonic::Code;

use super::{
    Alarm,
    caller::{Caller, Rights},
    from_env, load,
    plan::Planner,
    record::Reader,
    resources::{by_kind, by_name, by_prefix, narrowed},
    rows, seed,
    truth::{Answer, Recorder, digest},
    view::View,
    watcher::{Habits, Watcher},
    writer::{Writer, unknown},
};
use crate::harness::{PATIENCE, until, until_answered};

const WRITERS: usize = 4;

/// What is written to and watched.
pub trait Stage {
    /// An administrator on a connection of its own; where there are several servers, he takes one after the other.
    fn admin(&self) -> Caller;
    /// The administrator on each server.
    fn each(&self) -> Vec<Caller>;
    /// A server goes, in one way or another, and comes back.
    fn disturb(&mut self) -> impl Future<Output = ()>;
}

/// Runs the model, with so many writes of each writer unless the environment says otherwise. `foreign` is a token of
/// another store.
pub async fn every_row_of_the_table_holds(stage: &mut impl Stage, foreign: &str, writes: u64) {
    let seed = seed();
    let run = format!("SIGNALBOX_TEST_SEED={seed}");
    eprintln!("{run}");
    let writes = from_env("SIGNALBOX_TEST_WRITES", writes);
    let base = stage.admin().status().await.revision;
    let alarm = Alarm::default();
    let (recorder, (goal, goals)) = (Recorder::default(), watch::channel(None));

    let readers: Vec<_> = watchers(&stage.admin(), seed, foreign)
        .await
        .into_iter()
        .map(|watcher| alarm.spawn(watcher.run(recorder.clone(), goals.clone())))
        .collect();
    let barrier = Arc::new(Barrier::new(WRITERS + 1));
    let writers: Vec<_> = (0..WRITERS)
        .map(|id| {
            let writer = Writer::new(stage.admin(), recorder.clone());
            alarm.spawn(write(writer, Planner::new(seed, id), writes, Arc::clone(&barrier)))
        })
        .collect();
    let calm = Arc::new(Mutex::new(()));
    let chores = alarm.spawn(chores(stage.admin(), recorder.clone(), seed, goals.clone(), Arc::clone(&calm)));
    // Twice, in the middle of everything: the writers pass the barrier at a third and at two thirds of their way.
    for _ in 0..2 {
        alarm.unless(PATIENCE * 5, &format!("the writers' progress ({run})"), barrier.wait()).await;
        let _calm = calm.lock().await;
        stage.disturb().await;
    }
    for writer in writers {
        let ended = alarm.unless(PATIENCE * 5, &format!("a writer's end ({run})"), writer).await;
        ended.expect("no writer fails");
    }
    goal.send_replace(Some(newest(&*stage).await));
    alarm.unless(PATIENCE, "the end of the chores", chores).await.expect("no chore fails");
    let head = newest(&*stage).await;
    goal.send_replace(Some(head));
    let mut recorded = Vec::new();
    for reader in readers {
        let ended = alarm.unless(PATIENCE, &format!("a reader's end ({run})"), reader).await;
        recorded.push(ended.expect("no reader fails"));
    }
    judge(stage, &recorder, &recorded, (base, head), &run).await;
}

/// The newest revision that any of the servers knows of.
async fn newest(stage: &impl Stage) -> u64 {
    let mut newest = 0;
    for caller in stage.each() {
        newest = newest.max(caller.status().await.revision);
    }
    newest
}

/// Holds what was seen, and what each server ended with, against what was written.
async fn judge(
    stage: &impl Stage,
    recorder: &Recorder,
    recorded: &[Reader],
    (base, head): (u64, u64),
    run: &str,
) {
    let truth =
        recorder.truth(base, head).unwrap_or_else(|why| panic!("the answers contradict ({run}): {why}"));
    rows::judge(&truth, recorded, run);
    assert_eq!(truth.orphan(), None, "{run}");
    let everything = truth.view_at(&View::everything(), head);
    let own = digest(everything.iter().map(|(name, entry)| (*name, entry.masked.update_revision)));
    for caller in stage.each() {
        let there = async || caller.status().await.revision == head;
        until_answered(PATIENCE, "every server is at the end", there).await;
        let digest = caller.status().await.digest;
        assert_eq!(digest, own, "a server's own digest is that of the truth ({run})");
    }
    let verified = stage.admin().admin().verify_log(VerifyLogRequest::default()).await;
    let verified = verified.expect("the log is verified").into_inner();
    assert!(verified.intact, "{:?} ({run})", verified.defects);
    report(recorded, base, head);
}

/// One writer's way.
async fn write(mut writer: Writer, mut planner: Planner, writes: u64, barrier: Arc<Barrier>) {
    for step in 0..writes {
        if step == writes / 3 || step == 2 * writes / 3 {
            barrier.wait().await;
        }
        load::step(&mut writer, &mut planner).await;
        if step % 7 == 0 {
            writer.move_on().await;
        }
    }
}

/// Compactions at random floors, and revisions without configuration, until the writers are done.
async fn chores(
    mut admin: Caller,
    recorder: Recorder,
    seed: u64,
    goals: watch::Receiver<Option<u64>>,
    calm: Arc<Mutex<()>>,
) {
    let mut rng = StdRng::seed_from_u64(seed ^ 0xC0FFEE);
    let mut next = 20;
    while goals.borrow().is_none() {
        let newest = || recorder.newest().map_or(0, |(revision, _)| revision);
        until(PATIENCE * 2, "the writers go on", || newest() >= next || goals.borrow().is_some()).await;
        if rng.random_bool(0.6) {
            // Sometimes at the very head, or at a revision that may be just being written: the view must not trip.
            let lag = if rng.random_bool(0.3) { 0 } else { rng.random_range(0..60) };
            let revision = (newest() + u64::from(rng.random_bool(0.3))).saturating_sub(lag).max(1);
            recorder.compacting(revision);
            match admin.admin().compact_log(CompactLogRequest { revision }).await {
                Ok(done) => {
                    assert!(done.get_ref().floor_revision >= revision, "the floor is where it was wanted")
                }
                Err(status) if unknown(&status) => admin = admin.reconnected(),
                Err(status) if status.code() == Code::OutOfRange => {}
                Err(status) => panic!("a compaction: {status:?}"),
            }
        } else {
            let _calm = calm.lock().await;
            revoke(&admin.reconnected(), &recorder).await;
        }
        next = newest() + rng.random_range(5..60);
    }
}

/// A revision that changes no configuration. It has no request id, so it is asked for only while nobody restarts the
/// server: a lost answer would leave a revision that nobody owns.
async fn revoke(admin: &Caller, recorder: &Recorder) {
    let request = RevokeTokenRequest { token_id: "nobody's".to_owned(), ..RevokeTokenRequest::default() };
    let answer = admin.admin().revoke_token(request).await.expect("a revocation is answered");
    let revision = answer.get_ref().revision;
    recorder.keep(Answer { revision, token: String::new(), changes: Vec::new() });
}

/// Readers of every kind of right, view and habit.
async fn watchers(admin: &Caller, seed: u64, foreign: &str) -> Vec<Watcher> {
    let everything = || vec![by_prefix("providers/"), by_kind("setting"), by_kind("api_key")];
    let viewer = admin.colleague("viewer", &Rights::viewer()).await;
    let plain = admin.colleague("plain", &Rights::worker(everything(), true)).await;
    let narrow_grants =
        vec![by_prefix("providers/w0-0/"), by_name("providers/w0-0"), by_name("settings/shared_0")];
    let narrow = admin.colleague("narrow", &Rights::worker(narrow_grants.clone(), true)).await;
    let red = narrowed(signalbox::proto::v1::Selector::default(), "team", "red");
    let red_keys = vec![narrowed(by_kind("api_key"), "team", "red"), by_name("providers/shared-0")];
    let production =
        vec![narrowed(by_prefix("providers/"), "env", "prod"), narrowed(by_kind("setting"), "team", "blue")];
    let granted = |selectors: Vec<_>, secrets| View { selectors, grants: everything(), secrets };

    let views = [
        ("admin, everything", admin, View::everything()),
        ("viewer, everything", &viewer, View::everything()),
        ("viewer, team red", &viewer, View::of(vec![red])),
        ("plain, all its grants", &plain, granted(vec![], true)),
        ("plain, red keys", &plain, granted(red_keys, true)),
        ("plain, production", &plain, granted(production.clone(), true)),
        ("masked worker", &plain, granted(vec![by_kind("setting")], false)),
        ("narrow", &narrow, View { selectors: vec![], grants: narrow_grants, secrets: true }),
        ("viewer, production", &viewer, View::of(production)),
        ("viewer, nothing", &viewer, View::of(vec![by_name("settings/nobody_writes_this")])),
    ];
    let restless = Habits { restless: true, slow: None };
    let steady = Habits { restless: false, slow: None };
    let slow = Habits { restless: false, slow: Some(60) };
    let habits = [("restless", restless), ("steady", steady), ("slow", slow)];
    let mut watchers = Vec::new();
    for (what, caller, view) in views {
        for (how, habits) in habits {
            // The steady ones share a connection, so that slow and restless neighbours would show.
            let caller = if how == "steady" { caller.clone() } else { caller.reconnected() };
            let reader = Reader::new(format!("{what}, {how}"), view.clone());
            let rng = StdRng::seed_from_u64(seed.wrapping_add(1000 + watchers.len() as u64));
            watchers.push(Watcher::new(caller, reader, rng, habits, foreign));
        }
    }
    watchers
}

/// What the run was worth: a run in which nobody was ever reset proves little.
fn report(readers: &[Reader], base: u64, head: u64) {
    use signalbox::proto::v1::watch_config_response::Event;
    let events = readers.iter().flat_map(|reader| reader.streams.iter().flat_map(|stream| &stream.seen));
    let (mut resets, mut changes, mut messages) = (std::collections::BTreeMap::<String, u32>::new(), 0, 0);
    for seen in events {
        messages += 1;
        match seen.event() {
            Some(Event::Reset(reset)) => *resets.entry(format!("{:?}", reset.reason())).or_default() += 1,
            Some(Event::Changes(event)) => changes += event.changes.len(),
            _ => {}
        }
    }
    let (streams, reads): (usize, usize) = (
        readers.iter().map(|reader| reader.streams.len()).sum(),
        readers.iter().map(|reader| reader.reads.len()).sum(),
    );
    eprintln!(
        "revisions {base}..={head}; {} readers, {streams} streams, {messages} messages, {changes} changes, {reads} lists; resets: {resets:?}",
        readers.len()
    );
    assert!(streams > readers.len() && changes > 0 && reads > 0, "the run shows nothing");
}
