//! The doorbell between replicas fails: behind a pooler in transaction mode, on an engine that has none, or for a moment.
//! Everything works, and is said.

use std::time::{Duration, Instant};

use signalbox::proto::v1::watch_config_response::Event;

use crate::{
    cluster::{Cluster, Member, agree, create, knows_of, read},
    harness::{PATIENCE, until_answered},
    pgbouncer::Pooler,
    postgres,
    proxy::Proxy,
    support::{caller::Caller, resources::setting, view::View, watcher::Open},
};

/// A probe is given 2 s; the rest is a busy machine.
const FOUND_OUT: Duration = Duration::from_secs(3);
/// Polls are at most a second apart; the rest is a busy machine.
const POLLED: Duration = Duration::from_secs(2);
/// Calls that know of news, one after the other.
const CALLS: usize = 12;
/// All of them: by polls alone they take about a second each.
const ALL_CALLS: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler_replicas_poll_and_say_so() {
    let direct = postgres::shared().database().await;
    let port = postgres::port_of(&direct);
    let pooler = Pooler::before(port);
    let cluster = Cluster::on(direct.replace(&format!(":{port}/"), &format!(":{}/", pooler.port()))).await;
    replicas_poll_and_say_so(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_an_engine_without_notifications_replicas_poll_and_say_so() {
    let direct = postgres::shared().database().await;
    let port = postgres::port_of(&direct);
    let engine = Proxy::before(port).await;
    engine.unlearn_notifications();
    let cluster = Cluster::on(engine.url(&direct, port)).await;
    let said = replicas_poll_and_say_so(&cluster).await;
    assert_eq!(said, "polling: the database has no notifications");
}

/// What one of three replicas says of its doorbell, after all of them were seen to do without.
async fn replicas_poll_and_say_so(cluster: &Cluster) -> String {
    let members = cluster.start_three().await;
    let token = cluster.first_token().await;
    let callers = members.each_ref().map(|member| member.caller(&token));
    let mut told = String::new();
    let begin = Instant::now();
    for (caller, member) in callers.iter().zip(&members) {
        // Found out before it listens, or by the first probe that does not arrive.
        until_answered(FOUND_OUT, "the pooler is found out", async || {
            told = caller.status().await.doorbell;
            assert!(told.starts_with("polling: "), "{told}");
            told != "polling: it is not proven yet"
        })
        .await;
        eprintln!("{told}: known {:?} after the start of the last", begin.elapsed());
        assert!(member.log().contains("it is polled"), "it is logged");
    }
    for member in &members {
        assert_eq!(doorbell(member, &token).await, "polling", "metrics say so");
        let ready = member.page("/readyz", "").await;
        assert_eq!((ready.code, &ready.json()["degraded"][0]["reason"]), (200, &"STORE_POLLED".into()));
    }
    let known = knows_of(&callers[0], 3).await;
    assert!(known.iter().all(|replica| replica.doorbell.starts_with("polling: ")), "{known:?}");

    let mut streams = Vec::new();
    for caller in &callers {
        let mut stream = Open::fresh(caller, &View::everything()).await;
        stream.wait_for("the snapshot", |event| matches!(event, Event::Synced(_))).await;
        streams.push(stream);
    }
    let mut longest = Duration::ZERO;
    for round in 0..6 {
        let begin = Instant::now();
        let name = format!("settings/k{round}");
        let revision = create(&callers[round % 3], setting(&name, "x")).await;
        for stream in &mut streams {
            let event = stream.wait_for("the change", |event| matches!(event, Event::Changes(_))).await;
            assert!(matches!(event, Event::Changes(changes) if changes.revision == revision));
            longest = longest.max(begin.elapsed());
        }
    }
    eprintln!("from the write on one replica to the event on all, by polling: at most {longest:?}");
    assert!(longest < POLLED, "{longest:?}");
    agree(&callers, 6).await;
    known_news_is_not_polled_for(&callers).await;
    told
}

/// Who asks for what another replica has answered, or changes what that one wrote last, knows that there is news: each such call had
/// waited for the next poll.
async fn known_news_is_not_polled_for(callers: &[Caller]) {
    let begin = Instant::now();
    for round in 0..CALLS {
        let (here, there) = (&callers[round % 3], &callers[(round + 1) % 3]);
        create(here, setting(&format!("settings/n{round}"), "x")).await;
        let token = here.status().await.revision_token;
        read(there, &format!("settings/n{round}"), &token).await.expect("it is there");
    }
    let took = begin.elapsed();
    eprintln!("{CALLS} writes on one replica, each read on another, by polling: {took:?}");
    assert!(took < ALL_CALLS, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doorbell_that_is_killed_is_noticed_and_hung_anew() {
    let cluster = Cluster::new().await;
    let (left, right) = tokio::join!(cluster.start(), cluster.start());
    let token = cluster.first_token().await;
    let callers = [left.caller(&token), right.caller(&token)];
    let mut streams = Vec::new();
    for caller in &callers {
        let rings = async || caller.status().await.doorbell == "notify";
        until_answered(PATIENCE, "the doorbell", rings).await;
        let mut stream = Open::fresh(caller, &View::everything()).await;
        stream.wait_for("the snapshot", |event| matches!(event, Event::Synced(_))).await;
        streams.push(stream);
    }
    for member in [&left, &right] {
        assert_eq!(doorbell(member, &token).await, "notify");
        assert_eq!(member.page("/readyz", "").await.json()["degraded"], serde_json::json!([]));
    }
    let polled = |member: &Member| member.log().matches("it is polled").count();
    let logged = [polled(&left), polled(&right)];
    let before = listeners(cluster.url()).await;
    assert_eq!(before.len(), 2, "one for each replica");
    for pid in &before {
        postgres::run(cluster.url(), &format!("SELECT pg_terminate_backend({pid})")).await;
    }
    // Meanwhile nothing is lost.
    let revision = create(&callers[0], setting("settings/meanwhile", "x")).await;
    for stream in &mut streams {
        stream.reach(revision).await;
    }
    for ((caller, member), logged) in callers.iter().zip([&left, &right]).zip(logged) {
        let noticed = async || polled(member) > logged;
        until_answered(PATIENCE, "it is noticed", noticed).await;
        let rings = async || caller.status().await.doorbell == "notify";
        until_answered(PATIENCE, "the doorbell is hung anew", rings).await;
    }
    until_answered(PATIENCE, "other listeners", async || {
        let now = listeners(cluster.url()).await;
        now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
    })
    .await;
}

/// How a replica's metrics say that it hears of commits.
async fn doorbell(member: &Member, token: &str) -> &'static str {
    let page = member.metrics(token).await;
    let states = ["local", "notify", "polling"];
    let holds = |state: &&str| page.value("signalbox_store_doorbell", &[("state", *state)]) == 1.0;
    let holding: Vec<_> = states.into_iter().filter(holds).collect();
    assert_eq!(holding.len(), 1, "one state at a time: {holding:?}");
    holding[0]
}

/// The processes of the database that listen for a replica.
async fn listeners(url: &str) -> Vec<i32> {
    let mut connection = postgres::connect(url).await;
    let text =
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'";
    sqlx::query_scalar(text).fetch_all(&mut connection).await.unwrap()
}
