//! The database fails: reads and streams go on from memory and say so, writes are refused for now, and when it is back
//! everything catches up by itself; a write whose answer was lost is done once.
//!
//! `SIGNALBOX_TEST_OUTAGE` says for how many seconds it is away (7), `SIGNALBOX_TEST_WATCHERS` how many watch (12),
//! `SIGNALBOX_TEST_CATCH_UP` within how many seconds after its return every view is fresh, every doorbell rings, and everything
//! that was refused is written (10: the machine may be busy).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use signalbox::proto::v1::{GetResourceRequest, VerifyLogRequest, watch_config_response::Event};

use crate::{
    cluster::{Cluster, Member, agree, create, insist, is_refused_for_now, read, request},
    harness::{
        PATIENCE, Server,
        probe::{Probed, probe},
        until, until_answered, within,
    },
    postgres,
    proxy::{Fault, Proxy},
    support::{
        Alarm, caller::Caller, from_env, record::token_of, resources::setting, view::View, watcher::Open,
    },
};

/// After so long without a word from the database, answers are marked stale.
const STALE: Duration = Duration::from_secs(5);
/// By then everything goes on by itself (I7), writes among it.
const RECOVERY: Duration = Duration::from_secs(10);

/// What is wrong for good is told before this, however busy the machine is.
const PROMPT: Duration = Duration::from_secs(30);

/// How the database is away.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Away {
    Stopped,
    Frozen,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_stopped_reads_and_streams_go_on() {
    survive(Away::Stopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_frozen_reads_and_streams_go_on() {
    survive(Away::Frozen).await;
}

/// Whoever looks why nothing is written must not wait for what does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_frozen_database_does_not_hold_the_status_up() {
    let database = postgres::Server::start(&[]);
    let cluster = Cluster::on(database.database().await).await;
    let member = cluster.start().await;
    let caller = member.caller(&cluster.first_token().await);
    let before = create(&caller, setting("settings/before", "x")).await;
    database.freeze();
    let begin = Instant::now();
    let (mut slowest, mut stale) = (Duration::ZERO, false);
    while begin.elapsed() < STALE + Duration::from_secs(3) {
        let asked = Instant::now();
        let status = within(Duration::from_secs(3), "the status", caller.status()).await;
        slowest = slowest.max(asked.elapsed());
        let age = Duration::try_from(status.confirmed_age.expect("its age")).unwrap();
        assert_eq!((status.revision, status.stale), (before, age > STALE));
        stale = status.stale;
        // What was seen of a resource is left out then; nobody waits for it.
        let asked = Instant::now();
        let request = GetResourceRequest {
            name: "settings/before".into(),
            include_observations: true,
            ..GetResourceRequest::default()
        };
        caller.config().get_resource(request).await.expect("from memory");
        assert!(asked.elapsed() < Duration::from_millis(1500), "a read took {:?}", asked.elapsed());
    }
    database.thaw();
    assert!(stale, "it says that it is stale");
    eprintln!("the slowest status took {slowest:?}");
    until_answered(PATIENCE, "it is fresh again", async || !caller.status().await.stale).await;
}

/// A machine that comes up has no order. Whoever watches over the replica sees that it is alive meanwhile, and not ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_replica_that_starts_before_its_database_becomes_ready_with_it() {
    let mut database = postgres::Server::start(&["fsync=on"]);
    let cluster = Cluster::on(database.database().await).await;
    database.stop();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let health = free.local_addr().unwrap().to_string();
    drop(free);
    let (home, arguments) = (Arc::new(cluster.home()), ["--health-listen", &health]);
    let comes_up = async {
        let alive = async || probe(&health, "liveness").await == Probed::Serving;
        until_answered(PATIENCE, "it is alive", alive).await;
        assert_eq!(probe(&health, "readiness").await, Probed::NotServing);
        database.run(&["fsync=on"]);
    };
    let (server, ()) = tokio::join!(Server::start_in_with(&home, &arguments), comes_up);
    assert_eq!(probe(&health, "readiness").await, Probed::Serving);
    server.stop().await;
}

async fn survive(how: Away) {
    let outage = Duration::from_secs(from_env("SIGNALBOX_TEST_OUTAGE", 7));
    let catch_up = Duration::from_secs(from_env("SIGNALBOX_TEST_CATCH_UP", RECOVERY.as_secs()));
    let watchers = from_env("SIGNALBOX_TEST_WATCHERS", 12) as usize;
    let mut database = postgres::Server::start(&["fsync=on"]);
    let cluster = Cluster::on(database.database().await).await;
    let members = cluster.start_three().await;
    let token = cluster.first_token().await;
    let callers = members.each_ref().map(|member| member.caller(&token));
    let before = create(&callers[0], setting("settings/before", "x")).await;
    agree(&callers, before).await;
    let alarm = Alarm::default();
    // The last revision is known beforehand: one write is refused on each replica, and one is done at the end.
    let last = before + callers.len() as u64 + 1;
    let mut following = Vec::new();
    for index in 0..watchers {
        let stream = Open::fresh(&callers[index % 3], &View::everything()).await;
        following.push(alarm.spawn(follow(stream, last)));
    }
    let over = Arc::new(AtomicBool::new(false));
    let reading = callers.clone().map(|caller| alarm.spawn(read_on(caller, before, Arc::clone(&over))));

    match how {
        Away::Stopped => database.stop(),
        Away::Frozen => database.freeze(),
    }
    let begin = Instant::now();
    let refused: Vec<_> =
        (0..callers.len()).map(|index| request(setting(&format!("settings/refused_{index}"), "x"))).collect();
    let away = callers.iter().zip(&refused).map(|(caller, request)| async {
        is_refused_for_now("a write", caller.config().create_resource(request.clone())).await;
        until_answered(PATIENCE, "it is marked stale", async || caller.status().await.stale).await;
    });
    join_all(away).await;
    for member in &members {
        probes_say_away(member, &token).await;
    }
    alarm
        .unless(PATIENCE + outage, "the outage", until(outage + PATIENCE, "", || begin.elapsed() >= outage))
        .await;
    match how {
        Away::Stopped => database.run(&["fsync=on"]),
        Away::Frozen => database.thaw(),
    }
    let back = Instant::now();
    let fresh = callers.iter().map(|caller| async {
        until_answered(PATIENCE, "it is fresh again", async || !caller.status().await.stale).await;
    });
    join_all(fresh).await;
    let fresh = back.elapsed();
    let rings = join_all(callers.iter().map(|caller| async {
        until_answered(PATIENCE, "its doorbell rings", async || caller.status().await.doorbell == "notify")
            .await;
        back.elapsed()
    }));
    let writes = async {
        // What was refused can be repeated anywhere, and is done once.
        for (index, request) in refused.iter().enumerate() {
            insist(&callers[(index + 1) % 3], request).await;
        }
        let after = insist(&callers[0], &request(setting("settings/after", "x"))).await;
        assert_eq!(after.revision, last, "what was refused is done once");
        agree(&callers, last).await;
        back.elapsed()
    };
    let (written, rings) = tokio::join!(writes, rings);
    let rung = rings.into_iter().max().unwrap_or_default();
    eprintln!(
        "{how:?} for {:?}: fresh after {fresh:?}, all written and seen after {written:?}, every doorbell after {rung:?}",
        back - begin
    );
    assert!(
        [fresh, written, rung].into_iter().all(|took| took < catch_up),
        "{fresh:?}, {written:?}, {rung:?}"
    );
    for member in &members {
        let well = async || member.page("/readyz", "").await.json()["degraded"] == serde_json::json!([]);
        until_answered(PATIENCE, "probes have nothing to say any more", well).await;
    }

    over.store(true, Ordering::Relaxed);
    for reader in reading {
        let (reads, stale) = alarm.unless(PATIENCE, "a reader's end", reader).await.expect("no read fails");
        assert!(reads > stale && stale > 0, "{reads} reads, of which {stale} were stale");
    }
    for stream in following {
        alarm.unless(PATIENCE, "a stream's end", stream).await.expect("no stream fails");
    }
    let verified = callers[1].admin().verify_log(VerifyLogRequest::default()).await.expect("it is checked");
    assert!(verified.get_ref().intact, "{:?}", verified.get_ref().defects);
}

/// A replica that serves from memory is alive and ready, and says what it lacks: nobody must restart it.
async fn probes_say_away(member: &Member, token: &str) {
    for path in ["/livez", "/readyz"] {
        let page = member.page(path, "").await;
        let body = page.json();
        let reasons = body["degraded"].as_array().expect("a list").iter().map(|found| &found["reason"]);
        // The cause alone: that nobody rings and no heartbeat is taken follows from it.
        assert!(page.code == 200 && reasons.eq(["STORE_AWAY"]), "{page:?}");
    }
    for service in ["liveness", "readiness"] {
        assert_eq!(member.probe(service).await, Probed::Serving, "{service}");
    }
    let page = member.metrics(token).await;
    assert_eq!(page.value("signalbox_view_stale", &[]), 1.0);
    assert!(page.value("signalbox_view_age_seconds", &[]) > STALE.as_secs_f64());
    // As `signalbox status` has it: the store is lost, and heartbeats are not taken.
    assert!(page.value("signalbox_warnings", &[]) >= 1.0);
    let unheard = async || {
        member.metrics(token).await.value("signalbox_replica_alarms", &[("alarm", "heartbeat")]) == 1.0
    };
    until_answered(PATIENCE, "its heartbeats are not taken", unheard).await;
    // A write was refused: by the look-up of its request, or else by the write itself.
    let errors =
        |call| page.find("signalbox_store_errors_total", &[("call", call), ("error", "unavailable")]);
    assert!(["replay", "apply"].into_iter().filter_map(errors).sum::<f64>() > 0.0);
}

/// Reads, one after the other, none of which may fail, or say that it is fresh when it is not. How many there were, and
/// how many of them were stale.
async fn read_on(caller: Caller, revision: u64, over: Arc<AtomicBool>) -> (u64, u64) {
    let (mut reads, mut stale, mut newest) = (0, 0, revision);
    while !over.load(Ordering::Relaxed) {
        let answer = read(&caller, "settings/before", "").await.expect("reads go on");
        assert!(answer.revision >= newest, "{} after {newest}", answer.revision);
        newest = answer.revision;
        let age = Duration::try_from(answer.confirmed_age.expect("its age")).unwrap();
        assert_eq!(answer.stale, age > STALE, "at an age of {age:?}");
        reads += 1;
        stale += u64::from(answer.stale);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (reads, stale)
}

/// Follows a stream, which stays the same one over everything, says how old it is, and misses nothing.
async fn follow(mut stream: Open, last: u64) {
    let (mut at, mut oldest) = (None, Duration::ZERO);
    while at.is_none_or(|at| at < last) {
        let event = stream.next().await.unwrap_or_else(|end| panic!("the stream ended: {end:?}"));
        match &event {
            Event::Reset(reset) => panic!("{reset:?}"),
            Event::Changes(changes) => {
                assert_eq!(Some(changes.revision), at.map(|at| at + 1), "nothing is missed")
            }
            Event::Progress(progress) => {
                let age = Duration::try_from(progress.confirmed_age.expect("its age")).unwrap();
                oldest = oldest.max(age);
            }
            _ => {}
        }
        at = token_of(&event).map(|(revision, _)| revision).or(at);
        stream.forget();
    }
    assert!(oldest > STALE, "the heartbeat said how old it was: {oldest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_was_lost_is_done_once_whoever_is_asked_again() {
    let cluster = Cluster::new().await;
    let port = postgres::port_of(cluster.url());
    let proxy = Proxy::before(port).await;
    let (left, right) = (cluster.start_at(&proxy.url(cluster.url(), port)).await, cluster.start().await);
    let token = cluster.first_token().await;
    let callers = [left.caller(&token), right.caller(&token)];
    let mut at = create(&callers[1], setting("settings/first", "x")).await;
    agree(&callers, at).await;
    let mut streams = [
        Open::fresh(&callers[0], &View::everything()).await,
        Open::fresh(&callers[1], &View::everything()).await,
    ];
    for fault in [Fault::LoseAnswer, Fault::LoseCommit, Fault::Silence, Fault::Stall] {
        let request = request(setting(&format!("settings/{}", format!("{fault:?}").to_lowercase()), "x"));
        proxy.break_next(fault);
        let first = callers[0].config().create_resource(request.clone()).await;
        assert!(proxy.has_broken(), "{fault:?}");
        let again = insist(&callers[1], &request).await;
        at += 1;
        assert_eq!(again.revision, at, "{fault:?}: it was done, and once");
        match first {
            Ok(first) => assert_eq!(first.into_inner(), again, "{fault:?}"),
            Err(status) => assert_eq!(status.code(), tonic::Code::Unavailable, "{fault:?}: {status:?}"),
        }
        assert_eq!(insist(&callers[0], &request).await, again, "{fault:?}");
        agree(&callers, at).await;
    }
    for stream in &mut streams {
        stream.reach(at).await;
    }
    let verified = callers[1].admin().verify_log(VerifyLogRequest::default()).await.expect("it is checked");
    assert!(verified.get_ref().intact, "{:?}", verified.get_ref().defects);
}

/// After a power cut nothing comes up in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_replica_waits_for_a_database_that_is_not_up_yet() {
    let mut database = postgres::Server::start(&[]);
    let url = database.database().await.replace("://signalbox@", "://signalbox:Sesame@");
    let cluster = Cluster::on(url).await;
    database.stop();
    let waits = format!("127.0.0.1:{} can't be reached", database.port());
    let (home, mut child) = starting(&cluster);
    until(PATIENCE, "it says that it waits", || home.log().contains(&waits)).await;
    // One that is told to stop meanwhile does, in good order.
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .unwrap();
    let mut status = None;
    until(PATIENCE, "its end", || {
        status = child.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert!(status.is_some_and(|status| status.success()), "{status:?}: {}", home.log());
    let (home, mut child) = starting(&cluster);
    until(PATIENCE, "it says that it waits", || home.log().contains(&waits)).await;
    database.run(&[]);
    let ready = || std::fs::read_to_string(home.path("server.out")).unwrap().contains("is ready");
    until(PATIENCE, "it serves", ready).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!home.log().contains("Sesame"), "{}", home.log());
    // What does not pass by itself is told at once.
    let elsewhere = format!("{}_of_nobody", cluster.url());
    let refused = cluster.home().with("SIGNALBOX_DATABASE_URL", elsewhere).refused().await;
    assert!(refused.code == Some(1) && refused.message.contains("no such database"), "{}", refused.message);
}

/// What does not pass by itself is told at once, and not waited for: who is refused by the database would wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_wrong_password_or_key_is_told_at_once() {
    let mut database = postgres::Server::start(&[]);
    let url = database.database().await;
    postgres::run(&url, "ALTER ROLE signalbox PASSWORD 'right'").await;
    let rules = database.give("hba.conf", "host all all 127.0.0.1/32 scram-sha-256\n");
    database.stop();
    database.run(&[&format!("hba_file={rules}")]);
    let with = |password: &str| url.replace("://signalbox@", &format!("://signalbox:{password}@"));
    let cluster = Cluster::on(with("right")).await;
    cluster.start().await.stop().await;
    let wrong_password = cluster.home().with("SIGNALBOX_DATABASE_URL", with("Sesame"));
    let other = Cluster::on(with("right")).await;
    let wrong_key = cluster.home().with("ENCRYPTION_KEY", other.key());
    for (home, says) in [(wrong_password, "as \"signalbox\" at 127.0.0.1:"), (wrong_key, "key")] {
        let refused = within(PROMPT, says, home.refused()).await;
        assert!(refused.code == Some(1) && refused.message.contains(says), "{}", refused.message);
        assert!(
            !refused.message.contains("tried again") && !refused.message.contains("Sesame"),
            "{refused:?}"
        );
    }
}

/// A server that need not become ready.
fn starting(cluster: &Cluster) -> (crate::harness::Home, std::process::Child) {
    let home = cluster.home();
    let file = |name| std::fs::File::create(home.path(name)).unwrap();
    let child = home.serve(&[]).stdout(file("server.out")).stderr(file("server.log")).spawn().unwrap();
    (home, child)
}
