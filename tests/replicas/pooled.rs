//! The doorbell between replicas fails: behind a pooler in transaction mode, for ever, or for a moment. Everything works,
//! and is said.

use std::time::{Duration, Instant};

use signalbox::proto::v1::watch_config_response::Event;

use crate::{
    cluster::{Cluster, agree, create, knows_of},
    harness::{PATIENCE, until_answered},
    pgbouncer::Pooler,
    postgres,
    support::{resources::setting, view::View, watcher::Open},
};

/// Polls are at most a second apart; the rest is a busy machine.
const POLLED: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler_replicas_poll_and_say_so() {
    let direct = postgres::shared().database().await;
    let port = postgres::port_of(&direct);
    let Some(pooler) = Pooler::before(port) else {
        eprintln!("SKIPPED: this machine has no pgbouncer; scripts/tools installs it");
        return;
    };
    let cluster = Cluster::on(direct.replace(&format!(":{port}/"), &format!(":{}/", pooler.port()))).await;
    let members = cluster.start_three().await;
    let token = cluster.first_token().await;
    let callers = members.each_ref().map(|member| member.caller(&token));
    for (caller, member) in callers.iter().zip(&members) {
        let status = caller.status().await;
        assert!(status.doorbell.starts_with("polling: a pooler"), "{}", status.doorbell);
        assert!(member.log().contains("it is polled"), "it is logged");
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
    for (caller, member) in callers.iter().zip([&left, &right]) {
        let noticed = async || member.log().contains("it is polled");
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

/// The processes of the database that listen for a replica.
async fn listeners(url: &str) -> Vec<i32> {
    let mut connection = postgres::connect(url).await;
    let text =
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'";
    sqlx::query_scalar(text).fetch_all(&mut connection).await.unwrap()
}
