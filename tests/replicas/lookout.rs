//! Workers whose replica is cut off from the database: they are with another before they are stale, and stay where they are
//! while none is better.

use std::time::Duration;

use signalbox::client::{Client, ClientOptions, Error, Staleness, TokenSource};
use signalbox::proto::v1::Selector;

use crate::{
    cluster::{Cluster, Member, agree, create},
    harness::{PATIENCE, until},
    postgres,
    proxy::Proxy,
    support::{
        caller::Rights,
        resources::{api_key, provider, setting},
    },
};

/// How old the last word of the store may be.
const BOUND: Duration = Duration::from_secs(10);

/// A worker with secrets that knows these replicas.
fn worker(members: &[&Member], token: &str) -> Client {
    let endpoints = members.iter().map(|member| format!("http://{}", member.site.address())).collect();
    let options = ClientOptions::new("http://unused")
        .endpoints(endpoints)
        .token(TokenSource::fixed(token))
        .include_secrets(true)
        .progress_interval(Duration::from_secs(1))
        .staleness(Staleness::default().bound(BOUND));
    Client::connect(options).expect("options that can work")
}

fn take_away(proxy: &Proxy) {
    proxy.close(true);
    proxy.cut();
}

/// Found by strangers: a worker beside a healthy replica was not ready for half a minute, and a minute without a database took the
/// streams of all workers with secrets, none of which could be opened again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_stream_is_left_for_a_better_replica_in_time_and_for_no_other() {
    let cluster = Cluster::new().await;
    let port = postgres::port_of(cluster.url());
    let (first, second) = (Proxy::before(port).await, Proxy::before(port).await);
    let left = cluster.start_at(&first.url(cluster.url(), port)).await;
    let right = cluster.start_at(&second.url(cluster.url(), port)).await;
    let token = cluster.first_token().await;
    let admins = [left.caller(&token), right.caller(&token)];
    create(&admins[0], provider("providers/a")).await;
    let revision = create(&admins[0], api_key("providers/a/apiKeys/k", "sk-first")).await;
    agree(&admins, revision).await;
    let token = admins[0].token_for("worker", &Rights::worker(vec![Selector::default()], true)).await;
    let (both, one) = (worker(&[&left, &right], &token), worker(&[&right], &token));
    for client in [&both, &one] {
        client.wait_revision(revision, PATIENCE).await.expect("it has the key");
    }
    take_away(&first);
    until(PATIENCE, "it is with the other one, and confirmed", || {
        let status = both.status();
        assert!(status.ready, "{status:?}");
        status.reconnects == 1 && status.last_error.is_none()
    })
    .await;
    let revision = create(&admins[1], setting("settings/s", "1")).await;
    both.wait_revision(revision, PATIENCE).await.expect("it is told");
    take_away(&second);
    until(PATIENCE * 2, "both are stale", || [&both, &one].iter().all(|client| !client.status().ready)).await;
    for client in [&both, &one] {
        let error = client.status().last_error;
        assert!(matches!(error.as_deref(), Some(Error::Unconfirmed(_))), "{error:?}");
    }
    assert_eq!((both.status().reconnects, one.status().reconnects), (1, 0), "both have kept their streams");
    // Whichever comes first then: a heartbeat on the stream, or the answer of the server that was asked, to which it goes.
    second.close(false);
    until(PATIENCE * 2, "both are fresh", || [&both, &one].iter().all(|client| client.status().ready)).await;
}
