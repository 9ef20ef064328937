//! Replicas of a database that is far away, or that waits for another one itself.

use std::time::{Duration, Instant};

use signalbox::proto::v1::{DeleteResourceRequest, GetResourceRequest, VerifyLogRequest};

use crate::{
    cluster::{Cluster, create, insist, knows_of, request},
    harness::{PATIENCE, until_answered},
    postgres,
    proxy::Proxy,
    support::{
        caller::Caller,
        resources::{provider, setting},
    },
};

/// How long whatever is said takes to the database, and back again.
const AWAY: Duration = Duration::from_millis(250);
/// To begin under the lock and read what it is about, to write, to commit; what has parameters is prepared first.
const WAYS: u32 = 4;
/// The rest is a busy machine.
const WRITTEN: Duration = AWAY.saturating_mul(2 * WAYS + 8);
/// Longer than two probes of the doorbell are apart.
const WATCHED: Duration = Duration::from_secs(16);

/// Found by an attack: each probe took four ways of two seconds together, and was given up as unanswered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_database_far_away_is_not_taken_for_one_that_does_not_answer() {
    let cluster = Cluster::new().await;
    let port = postgres::port_of(cluster.url());
    let proxy = Proxy::before(port).await;
    let (near, far) = (cluster.start().await, cluster.start_at(&proxy.url(cluster.url(), port)).await);
    let caller = far.caller(&cluster.first_token().await);
    until_answered(PATIENCE, "notifications", async || caller.status().await.doorbell == "notify").await;
    let other = near.caller(caller.token());
    knows_of(&other, 2).await;
    proxy.delay(AWAY);
    let (begin, mut took) = (Instant::now(), Vec::new());
    for number in 0.. {
        if begin.elapsed() > WATCHED {
            break;
        }
        let write = Instant::now();
        create(&caller, setting(&format!("settings/s{number}"), "x")).await;
        took.push(write.elapsed());
        let status = caller.status().await;
        assert_eq!((status.doorbell.as_str(), status.stale), ("notify", false));
        // A heartbeat that takes longer than a replica is believed to live would have it come and go.
        assert_eq!(other.status().await.replicas.len(), 2, "after {:?}", begin.elapsed());
    }
    // Nor does one cost more that asks what lies beneath a name.
    create(&caller, provider("providers/p")).await;
    let name = "providers/p".to_owned();
    let delete = DeleteResourceRequest { name, ..DeleteResourceRequest::default() };
    caller.config().delete_resource(delete).await.expect("it is deleted");
    eprintln!("{AWAY:?} away, writes took {took:?}");
    assert!(!far.log().contains("it is polled"), "{}", far.log());
    assert_eq!(proxy.ways(), u64::from(WAYS));
    // Some wait for what else is written, such as what the house is kept with.
    assert!(took.iter().any(|took| *took < WRITTEN), "{took:?}");
}

/// Found by a stranger: signing in with a password takes two ways more than without, and was given up each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_database_far_away_that_asks_for_a_password_is_reached() {
    let mut database = postgres::Server::start(&[]);
    let direct = database.database().await;
    postgres::run(&direct, "ALTER ROLE signalbox PASSWORD 'right'").await;
    let rules = database.give("hba.conf", "host all all 127.0.0.1/32 scram-sha-256\n");
    database.stop();
    database.run(&[&format!("hba_file={rules}")]);
    let cluster = Cluster::on(direct.replace("://signalbox@", "://signalbox:right@")).await;
    let proxy = Proxy::before(database.port()).await;
    let far = cluster.start_at(&proxy.url(cluster.url(), database.port())).await;
    let caller = far.caller(&cluster.first_token().await);
    proxy.delay(AWAY);
    // Each connection is opened anew.
    proxy.cut();
    insist(&caller, &request(setting("settings/far", "x"))).await;
    let heard = async || {
        let status = caller.status().await;
        !status.stale && status.doorbell == "notify" && !tells(&status.warnings, "heartbeats are not taken")
    };
    until_answered(PATIENCE, "it is in touch", heard).await;
}

fn tells(warnings: &[String], words: &str) -> bool {
    warnings.iter().any(|warning| warning.contains(words))
}

/// Sets whom commits wait for.
async fn set_standbys(cluster: &Cluster, names: &str) {
    postgres::run(cluster.url(), &format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'")).await;
    postgres::run(cluster.url(), "SELECT pg_reload_conf()").await;
}

/// Found by an attack: it was said that another session holds the lock, which is nothing that anybody could look for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_standby_that_is_waited_for_is_named_as_what_is_waited_for() {
    const AWAITED: &str = "waits for a synchronous standby";
    let database = postgres::Server::start(&[]);
    let cluster = Cluster::on(database.database().await).await;
    let member = cluster.start().await;
    let caller: Caller = member.caller(&cluster.first_token().await);
    create(&caller, setting("settings/before", "x")).await;
    set_standbys(&cluster, "nobody").await;
    let write = request(setting("settings/meanwhile", "x"));
    caller.config().create_resource(write.clone()).await.expect_err("nobody confirms it");
    until_answered(PATIENCE, "the heartbeats tell of it", async || {
        let warnings = caller.status().await.warnings;
        tells(&warnings, "heartbeats are not taken") && tells(&warnings, AWAITED)
    })
    .await;
    let mut told = String::new();
    until_answered(PATIENCE, "writes are told of it", async || {
        let refused = caller.config().create_resource(request(setting("settings/next", "x"))).await;
        told = refused.map_or_else(|status| status.message().to_owned(), |_| String::new());
        told.contains(AWAITED)
    })
    .await;
    assert!(told.contains("synchronous_standby_names"), "it says what to do: {told}");
    set_standbys(&cluster, "").await;
    insist(&caller, &write).await;
    create(&caller, setting("settings/after", "x")).await;
    until_answered(PATIENCE, "it is over", async || !tells(&caller.status().await.warnings, AWAITED)).await;
}

/// Found by a stranger: only heartbeats and later writes named the standby. The write that met it first did not, nor what has to be
/// audited, and the doorbell was said to have a pooler before it; who had given no request id could not repeat the write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_whatever_waits_for_a_standby_names_it_and_the_write_can_be_repeated() {
    const AWAITED: &str = "waits for a synchronous standby";
    let database = postgres::Server::start(&[]);
    let cluster = Cluster::on(database.database().await).await;
    let member = cluster.start().await;
    let caller: Caller = member.caller(&cluster.first_token().await);
    until_answered(PATIENCE, "notifications", async || caller.status().await.doorbell == "notify").await;
    set_standbys(&cluster, "nobody").await;
    let (url, token) = (format!("http://{}", member.site.address()), caller.token().to_owned());
    let home = cluster.home().with("SIGNALBOX_URL", url).with("SIGNALBOX_TOKEN", token);
    let set = ["set", "settings/by_hand", "--value", "x"];
    let first = home.run(&set).await;
    let told = String::from_utf8(first.stderr).unwrap();
    assert_eq!(first.status.code(), Some(6), "{told}");
    assert!(told.contains(AWAITED) && told.contains("[OUTCOME_UNKNOWN]"), "{told}");
    let id = told.split("--request-id ").nth(1).and_then(|rest| rest.split(',').next()).expect("the id");
    until_answered(PATIENCE, "what has to be audited names it", async || {
        let refused = caller.admin().verify_log(VerifyLogRequest::default()).await;
        refused.is_err_and(|status| status.message().contains(AWAITED))
    })
    .await;
    until_answered(PATIENCE, "the doorbell names it", async || {
        let status = caller.status().await;
        status.doorbell.starts_with("polling") && status.doorbell.contains(AWAITED)
    })
    .await;
    set_standbys(&cluster, "").await;
    let again = [&set[..], &["--request-id", id]].concat();
    until_answered(PATIENCE, "it is repeated", async || home.run(&again).await.status.success()).await;
    until_answered(PATIENCE, "notifications", async || caller.status().await.doorbell == "notify").await;
    let read = GetResourceRequest { name: "settings/by_hand".to_owned(), ..GetResourceRequest::default() };
    let read = caller.config().get_resource(read).await.expect("it is there").into_inner();
    assert_eq!(read.resource.expect("with its content").version, 1, "it was done once");
}
