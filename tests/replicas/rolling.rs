//! A rolling restart of three replicas under writes, reads and many watchers: no read fails for who asks another one, no
//! event is missed, and most watchers go on without a snapshot.
//!
//! `SIGNALBOX_TEST_WATCHERS` says how many watch (50), `SIGNALBOX_TEST_RATE` how many writes a second are tried for (200),
//! `SIGNALBOX_TEST_REACHED` how many percent of them have to be reached over everything, the restarts among it (25: a busy
//! machine and a build without optimisation write slower).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use signalbox::proto::v1::watch_config_response::Event;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    cluster::{Cluster, agree, read},
    harness::{PATIENCE, until},
    support::{
        Alarm,
        caller::{Caller, Rights, Site},
        from_env,
        record::Asked,
        resources::{by_kind, setting},
        truth::Recorder,
        view::View,
        watcher::{Cursor, Open},
        writer::{Job, Op, Writer, unknown},
    },
};

const WRITERS: u64 = 32;
const READERS: usize = 6;
/// Who can't read on one replica asks another one, and has an answer by the third at the latest.
const TRIES: usize = 3;
/// Clients that share a connection to begin with.
const TOGETHER: usize = 20;

/// How the watchers came back.
#[derive(Default)]
struct Returns {
    resumed: AtomicU64,
    snapshots: AtomicU64,
    events: AtomicU64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_read_and_misses_no_event() {
    let (count, rate) = (from_env("SIGNALBOX_TEST_WATCHERS", 50), from_env("SIGNALBOX_TEST_RATE", 200));
    let cluster = Cluster::new().await;
    let mut members = cluster.start_three().await;
    let sites: Vec<Site> = members.iter().map(|member| member.site.clone()).collect();
    let anybody = Site::among(&sites);
    let token = cluster.first_token().await;
    let admin = Caller::new(&anybody, &token);
    let (alarm, recorder, returns) = (Alarm::default(), Recorder::default(), Arc::new(Returns::default()));
    let (goal, goals) = watch::channel(None);
    let over = Arc::new(AtomicBool::new(false));
    Writer::new(admin.clone(), recorder.clone()).write(Op::Create(setting("settings/read", "x"))).await;
    let base = recorder.newest().expect("it was written").0;
    // Who has no token yet may be answered by one that has not heard of it.
    agree(&members.each_ref().map(|member| member.caller(&token)), base).await;

    let rights = Rights::worker(vec![by_kind("setting")], false);
    let worker = admin.token_for("worker", &rights).await;
    let (opened, opens) = watch::channel(());
    let mut caller = Caller::new(&anybody, &worker);
    let mut following = Vec::new();
    for index in 0..count as usize {
        if index % TOGETHER == 0 {
            caller = Caller::new(&anybody, &worker);
        }
        let follower = Follower { caller: caller.clone(), returns: Arc::clone(&returns), cursor: None };
        following.push(alarm.spawn(follower.run(goals.clone(), opens.clone())));
    }
    drop(opens);
    alarm.unless(PATIENCE * 3, "all watch", opened.closed()).await;
    let readers: Vec<_> = (0..READERS)
        .map(|_| alarm.spawn(read_on(Caller::new(&anybody, &worker), Arc::clone(&over))))
        .collect();
    let writer = |id: u64| {
        let writer = Writer::new(Caller::new(&anybody, &token), recorder.clone());
        alarm.spawn(write(writer, id, rate, Arc::clone(&over)))
    };
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();

    let begin = Instant::now();
    let newest = || recorder.newest().map_or(0, |(revision, _)| revision);
    let some_more = async || {
        let target = newest() + rate;
        alarm.unless(PATIENCE * 2, "the writers go on", until(PATIENCE, "", || newest() >= target)).await;
    };
    some_more().await;
    for member in &mut members {
        let took = alarm.unless(PATIENCE, "a replica's end", member.stop()).await;
        assert!(took < Duration::from_secs(15), "a replica stops in order: {took:?}");
        eprintln!("a replica with a third of {count} watchers stopped in {took:?}");
        member.start().await;
        some_more().await;
    }
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        alarm.unless(PATIENCE, "a writer's end", writer).await.expect("no write fails");
    }
    let took = begin.elapsed();
    let head = newest();
    goal.send_replace(Some(head));
    let (mut reads, mut again) = (0, 0);
    for reader in readers {
        let read = alarm.unless(PATIENCE, "a reader's end", reader).await.expect("no read fails");
        (reads, again) = (reads + read.0, again + read.1);
    }
    for follower in following {
        alarm.unless(PATIENCE * 2, "a watcher's end", follower).await.expect("no event is missed");
    }
    recorder.truth(base - 1, head).unwrap_or_else(|why| panic!("the answers contradict: {why}"));
    agree(&members.each_ref().map(|member| member.caller(&token)), head).await;
    let [resumed, snapshots, events] =
        [&returns.resumed, &returns.snapshots, &returns.events].map(|count| count.load(Ordering::Relaxed));
    let reached = (head - base) as f64 / took.as_secs_f64();
    eprintln!(
        "{} writes in {took:?} ({reached:.0}/s of {rate}), {events} events at {count} watchers, of whose returns {resumed} resumed \
         and {snapshots} took a snapshot; {reads} reads, {again} of them asked another replica",
        head - base
    );
    let wanted = from_env("SIGNALBOX_TEST_REACHED", 25) * rate / 100;
    assert!(reached >= wanted as f64, "{reached:.0} writes/s, and {wanted} of {rate} were wanted");
    assert!(resumed + snapshots >= count, "every watcher had to move");
    assert!(resumed >= 9 * snapshots, "most return without a snapshot: {resumed} did, {snapshots} did not");
    assert!(reads > 0 && again > 0, "readers met the restarts");
}

/// Writes to a setting of its own, at its part of the rate.
async fn write(mut writer: Writer, id: u64, rate: u64, over: Arc<AtomicBool>) {
    let mut pace = interval(Duration::from_secs(WRITERS) / rate.max(1) as u32);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for count in 0_u64.. {
        pace.tick().await;
        if over.load(Ordering::Relaxed) {
            return;
        }
        let resource = setting(&format!("settings/w{id}"), count.to_string());
        let op = Op::Update { resource, mask: vec!["*".to_owned()], allow_missing: true };
        writer.carry_out(&Job::one(op)).await.unwrap_or_else(|status| panic!("a write: {status:?}"));
    }
}

/// Reads, each time no older than the time before. How many reads there were, and how many had to ask another replica.
async fn read_on(mut caller: Caller, over: Arc<AtomicBool>) -> (u64, u64) {
    let (mut reads, mut again, mut held, mut newest) = (0, 0, String::new(), 0);
    while !over.load(Ordering::Relaxed) {
        let mut tried = 0;
        let answer = loop {
            tried += 1;
            match read(&caller, "settings/read", &held).await {
                Ok(answer) => break answer,
                Err(status) if unknown(&status) && tried < TRIES => caller = caller.reconnected(),
                Err(status) => panic!("a read failed, tried {tried} times: {status:?}"),
            }
        };
        assert!(answer.revision >= newest, "{} after {newest}", answer.revision);
        (held, newest) = (answer.revision_token, answer.revision);
        reads += 1;
        again += u64::from(tried > 1);
        sleep(Duration::from_millis(20)).await;
    }
    (reads, again)
}

/// A watcher that keeps nothing but its place, since every revision concerns it: the next one is one more.
struct Follower {
    caller: Caller,
    returns: Arc<Returns>,
    cursor: Option<Cursor>,
}

impl Follower {
    /// Watches on one replica after the other until it is at the goal. Lets go of `first` once it is synced.
    async fn run(mut self, goal: watch::Receiver<Option<u64>>, first: watch::Receiver<()>) {
        let mut first = Some(first);
        loop {
            let (asked, resume) = match &self.cursor {
                Some(cursor) => {
                    (Asked::Resume { revision: cursor.revision }, Some((&*cursor.token, &*cursor.view_id)))
                }
                None => (Asked::Nothing, None),
            };
            let pause = match Open::ask(&self.caller, &View::everything(), asked, resume).await {
                Ok(stream) => match self.follow(stream, &goal, &mut first).await {
                    Some(pause) => pause,
                    None => return,
                },
                Err(status) if unknown(&status) => Duration::from_millis(50),
                Err(status) => panic!("the stream does not open: {status:?}"),
            };
            sleep(pause).await;
            self.caller = self.caller.reconnected();
        }
    }

    /// Follows one stream; when to come back after its end. `None`: it has seen everything.
    async fn follow(
        &mut self,
        mut stream: Open,
        goal: &watch::Receiver<Option<u64>>,
        first: &mut Option<watch::Receiver<()>>,
    ) -> Option<Duration> {
        let (mut pause, mut snapshot) = (Duration::from_millis(50), false);
        loop {
            let at = self.cursor.as_ref().map(|cursor| cursor.revision);
            if goal.borrow().is_some_and(|goal| at.is_some_and(|at| at >= goal)) {
                return None;
            }
            let Ok(event) = stream.next().await else { return Some(pause) };
            match event {
                Event::Snapshot(_) => snapshot = true,
                Event::Synced(synced) => {
                    let expected = at.unwrap_or(synced.revision);
                    assert!(synced.revision == expected || (snapshot && synced.revision > expected));
                    if self.cursor.is_some() {
                        let count = if snapshot { &self.returns.snapshots } else { &self.returns.resumed };
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    drop(first.take());
                }
                Event::Changes(changes) => {
                    assert_eq!(
                        Some(changes.revision),
                        at.map(|at| at + 1),
                        "an event was missed, or came twice"
                    );
                    self.returns.events.fetch_add(1, Ordering::Relaxed);
                }
                Event::Progress(progress) => assert_eq!(Some(progress.revision), at, "an event was missed"),
                Event::GoingAway(going) => {
                    let after = going.reconnect_after.and_then(|after| Duration::try_from(after).ok());
                    pause = after.expect("it says when to come back");
                }
                other => panic!("{other:?}"),
            }
            // Before it is synced, a stream has no place of its own.
            self.cursor = stream.cursor.clone().or(self.cursor.take());
            stream.forget();
        }
    }
}
