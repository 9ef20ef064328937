//! One change is one trace on every replica: the log says whose it is, however the others hear of the commit.

use std::sync::{Arc, Mutex};

use signalbox::client::{Client, ClientOptions, Selector, TokenSource};
use tonic::Request;

use crate::{
    cluster::{Cluster, request},
    harness::{PATIENCE, collector::Collector, soon, until},
    pgbouncer::Pooler,
    postgres,
    support::resources::setting,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[tokio::test]
async fn one_change_is_one_trace_on_every_replica() {
    let cluster = Cluster::new().await;
    let url = cluster.url().to_owned();
    follow_one_change(cluster, &url).await;
}

/// Behind a pooler the other replica polls: what a doorbell could have carried would be lost.
#[tokio::test]
async fn one_change_is_one_trace_on_a_replica_that_polls() {
    let cluster = Cluster::new().await;
    let port = postgres::port_of(cluster.url());
    let pooler = Pooler::before(port);
    let url = cluster.url().replace(&format!(":{port}/"), &format!(":{}/", pooler.port()));
    follow_one_change(cluster, &url).await;
}

/// A write on one replica, and a callback of a client of another one, which reaches the database at `url`.
async fn follow_one_change(cluster: Cluster, url: &str) {
    let collector = Collector::start().await;
    let to = Box::leak(collector.url().into_boxed_str());
    let cluster = cluster.with("OTEL_EXPORTER_OTLP_ENDPOINT", to).with("OTEL_BSP_SCHEDULE_DELAY", "50");
    let mut members = [cluster.start().await, cluster.start_at(url).await];
    let token = cluster.first_token().await;
    let _traced = collector.trace_this_thread();
    let there = ClientOptions::new(format!("http://{}", members[1].site.address()));
    let client = Client::connect(there.token(TokenSource::fixed(&token))).unwrap();
    soon(client.wait_ready(PATIENCE)).await.unwrap();
    let told = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&told);
    let _callback =
        client.on_change(Selector::name("settings/traced"), move |_| *counted.lock().unwrap() += 1);

    let mut write = Request::new(request(setting("settings/traced", "x")));
    let traceparent = format!("00-{TRACE}-b7ad6b7169203331-01");
    write.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    write.metadata_mut().insert("tracestate", "a=b".parse().unwrap());
    members[0].caller(&token).config().create_resource(write).await.unwrap();
    until(PATIENCE, "the callback", || *told.lock().unwrap() == 1).await;

    let transaction = collector.only(TRACE, "transaction").await;
    let told_of = collector.named(TRACE, "fan out", 2).await;
    assert_eq!(transaction.attribute("db.system.name"), "postgresql");
    let replica = |span: &crate::harness::collector::Seen| span.attribute("service.instance.id").to_owned();
    let (here, there): (Vec<_>, Vec<_>) =
        told_of.into_iter().partition(|span| replica(span) == replica(&transaction));
    assert_eq!((here.len(), there.len()), (1, 1), "each replica tells once");
    assert!(here.iter().chain(&there).all(|span| span.parent == transaction.id));
    let called = collector.only(TRACE, "callback").await;
    assert_eq!(called.parent, there[0].id, "a child of what its own replica told");
    assert_eq!(called.state, "a=b", "what was said beside it came along");
    for member in &mut members {
        member.stop().await;
    }
}
