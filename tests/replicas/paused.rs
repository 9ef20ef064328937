//! A replica that is paused while others go on: whatever it answers afterwards, no answer is marked fresher than what it
//! shows.
//!
//! `SIGNALBOX_TEST_PAUSE` says for how many seconds the longest pause lasts (8).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::process::Signal;
use signalbox::proto::v1::{
    CompactLogRequest, GetResourceRequest, GetStatusRequest, ListResourcesRequest, ResetReason,
    WatchConfigRequest, watch_config_response::Event,
};

use crate::{
    cluster::{Cluster, Member, agree, create, request},
    harness::{PATIENCE, soon, until, within},
    support::{Alarm, caller::Caller, from_env, resources::setting},
};

/// Beyond it an answer has to be marked stale.
const STALE: Duration = Duration::from_secs(5);
/// Pauses that follow the long one: each stops the replica at another point of what it does.
const PAUSES: u64 = 5;
const WRITERS: usize = 4;
const READERS: usize = 6;

/// What was acknowledged, and when.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<Vec<(Instant, u64)>>>);

impl Acknowledged {
    fn note(&self, revision: u64) {
        self.0.lock().push((Instant::now(), revision));
    }

    /// The newest revision that was acknowledged before a moment.
    fn before(&self, moment: Instant) -> u64 {
        let known = self.0.lock();
        known.iter().filter(|(at, _)| *at < moment).map(|(_, revision)| *revision).max().unwrap_or(0)
    }
}

/// What an answer says of itself.
struct Answer {
    revision: u64,
    stale: bool,
    age: Duration,
}

/// One that is to be paused beside another one. Both have the first setting.
struct Beside {
    _cluster: Cluster,
    token: String,
    paused: Member,
    other: Member,
    callers: [Caller; 2],
}

impl Beside {
    async fn new() -> Self {
        let cluster = Cluster::new().await;
        let (paused, other) = (cluster.start().await, cluster.start().await);
        let token = cluster.first_token().await;
        let callers = [paused.caller(&token), other.caller(&token)];
        let at = create(&callers[1], setting("settings/first", "x")).await;
        agree(&callers, at).await;
        Self { _cluster: cluster, token, paused, other, callers }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_a_paused_replica_answers_is_no_fresher_than_it_says() {
    let Beside { token, paused, other, callers, .. } = &Beside::new().await;
    let (alarm, acknowledged, over) = (Alarm::default(), Acknowledged::default(), Arc::default());
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            alarm.spawn(write_on(other.caller(token), number, acknowledged.clone(), Arc::clone(&over)))
        })
        .collect();
    let longest = Duration::from_secs(from_env("SIGNALBOX_TEST_PAUSE", 8));
    let mut checked = 0;
    for round in 0..=PAUSES {
        let pause = if round == 0 { longest } else { Duration::from_millis(700 + 130 * round) };
        let paused = pause_and_read(paused, token, pause, &acknowledged);
        checked += alarm.unless(PATIENCE, "a pause", paused).await;
    }
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        alarm.unless(PATIENCE, "a writer's end", writer).await.expect("no write fails");
    }
    agree(callers, acknowledged.before(Instant::now())).await;
    assert!(checked > 100, "only {checked} answers were looked at");
}

/// They were told that the store is another one, for which a client gives up more than it has to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_streams_of_a_view_that_a_compaction_has_passed_are_told_that_they_lag() {
    let Beside { paused, callers, .. } = &Beside::new().await;
    let opened = soon(callers[0].config().watch_config(WatchConfigRequest::default())).await;
    let mut stream = opened.expect("it opens").into_inner();
    let mut next = async || soon(stream.message()).await.expect("it goes on").expect("it goes on").event;
    while !matches!(next().await, Some(Event::Synced(_))) {}
    paused.signal(Signal::STOP);
    create(&callers[1], setting("settings/second", "x")).await;
    let revision = create(&callers[1], setting("settings/third", "x")).await;
    soon(callers[1].admin().compact_log(CompactLogRequest { revision })).await.expect("it is compacted");
    paused.signal(Signal::CONT);
    let reset = loop {
        if let Some(Event::Reset(reset)) = next().await {
            break reset;
        }
    };
    assert_eq!(reset.reason(), ResetReason::Lagged);
    agree(callers, revision).await;
}

/// Stops a replica, has it asked from before its first moment afterwards on, and holds each answer to what was acknowledged. How
/// many there were.
async fn pause_and_read(member: &Member, token: &str, pause: Duration, acknowledged: &Acknowledged) -> u64 {
    let (begin, count, over) = (Instant::now(), Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let callers: Vec<Caller> = (0..READERS).map(|_| member.caller(token)).collect();
    for caller in &callers {
        ask(caller, 0).await;
    }
    member.signal(Signal::STOP);
    until(PATIENCE, "the pause", || begin.elapsed() >= pause).await;
    let before = acknowledged.before(Instant::now());
    let readers = callers.into_iter().enumerate().map(|(number, caller)| {
        let (acknowledged, count, over) = (acknowledged.clone(), Arc::clone(&count), Arc::clone(&over));
        tokio::spawn(async move {
            let (mut turn, mut newest) = (number, 0);
            // Until it has caught up, or else the replica did not hear of what it missed.
            while newest < before || !over.load(Ordering::Relaxed) {
                newest = check(&caller, turn, &acknowledged).await;
                count.fetch_add(1, Ordering::Relaxed);
                turn += 1;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    // Their questions lie there when it wakes.
    tokio::time::sleep(Duration::from_millis(20)).await;
    member.signal(Signal::CONT);
    let woken = Instant::now();
    until(PATIENCE, "a second of reading", || woken.elapsed() >= Duration::from_secs(1)).await;
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        within(PATIENCE, "a reader's end", reader).await.expect("every answer is as fresh as it says");
    }
    count.load(Ordering::Relaxed)
}

/// Asks once: whatever was acknowledged before the time that the answer dates itself to is shown by it.
async fn check(caller: &Caller, turn: usize, acknowledged: &Acknowledged) -> u64 {
    let sent = Instant::now();
    let Answer { revision, stale, age } = ask(caller, turn).await;
    assert_eq!(stale, age > STALE, "at the age of {age:?}");
    let dated = sent.checked_sub(age).expect("the machine runs for longer");
    let least = acknowledged.before(dated);
    assert!(
        revision >= least,
        "an answer of the age {age:?} (kind {}) shows {revision}, and {least} was acknowledged",
        turn % 4
    );
    revision
}

/// One of the reads, by turns.
async fn ask(caller: &Caller, turn: usize) -> Answer {
    let name = "settings/first".to_owned();
    let (revision, stale, age) = match turn % 4 {
        0 => {
            let request = GetResourceRequest { name, ..GetResourceRequest::default() };
            let answer = caller.config().get_resource(request).await.expect("it is read").into_inner();
            (answer.revision, answer.stale, answer.confirmed_age)
        }
        // What was seen of it is looked up in the database, which takes a while.
        1 => {
            let request =
                GetResourceRequest { name, include_observations: true, ..GetResourceRequest::default() };
            let answer = caller.config().get_resource(request).await.expect("it is read").into_inner();
            (answer.revision, answer.stale, answer.confirmed_age)
        }
        2 => {
            let request = ListResourcesRequest { page_size: 1, ..ListResourcesRequest::default() };
            let answer = caller.config().list_resources(request).await.expect("it is listed").into_inner();
            (answer.revision, answer.stale, answer.confirmed_age)
        }
        _ => {
            let answer = caller.admin().get_status(GetStatusRequest {}).await.expect("it tells").into_inner();
            (answer.revision, answer.stale, answer.confirmed_age)
        }
    };
    Answer { revision, stale, age: Duration::try_from(age.expect("its age")).expect("a duration") }
}

async fn write_on(caller: Caller, number: usize, acknowledged: Acknowledged, over: Arc<AtomicBool>) {
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        let resource = setting(&format!("settings/of_{number}_{count}"), "x");
        let written = caller.config().create_resource(request(resource)).await.expect("it is written");
        acknowledged.note(written.get_ref().revision);
        count += 1;
    }
}
