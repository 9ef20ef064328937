//! Writes that find everything as they want it: whether that is so only the store knows, and not the view of whoever is asked.

use signalbox::proto::v1::{DeleteResourceRequest, UpdateResourceRequest, UpdateResourceResponse};
use tonic::{Code, Status};

use crate::{
    cluster::{Cluster, create, is_refused_for_now, read},
    harness::{PATIENCE, until_answered},
    postgres,
    proxy::Proxy,
    support::{caller::Caller, resources::setting},
};

const NAME: &str = "settings/a";
const ROUNDS: usize = 40;

async fn set(caller: &Caller, value: &str, etag: &str) -> Result<UpdateResourceResponse, Status> {
    let mut resource = setting(NAME, value);
    resource.etag = etag.to_owned();
    let request = UpdateResourceRequest { resource: Some(resource), ..UpdateResourceRequest::default() };
    caller.config().update_resource(request).await.map(tonic::Response::into_inner)
}

/// Found by an attack: whoever wrote through one replica and then through another had the second write acknowledged and left
/// undone, as that replica had not heard of the first one yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_is_acknowledged_as_unchanged_is_so_in_the_store() {
    let cluster = Cluster::new().await;
    let (one, two) = (cluster.start().await, cluster.start().await);
    let token = cluster.first_token().await;
    let (here, there) = (one.caller(&token), two.caller(&token));
    let mut newest = create(&here, setting(NAME, "x")).await;
    for round in 0..ROUNDS {
        let before = set(&here, "x", "").await.expect("it is there");
        let etag = before.resource.expect("it is shown").etag;
        for (caller, value) in [(&here, "x"), (&there, "y"), (&here, "x")] {
            let done = set(caller, value, "").await.expect("it is there");
            assert!(done.revision >= newest, "round {round}: {} after {newest}", done.revision);
            newest = done.revision;
        }
        let found = read(&there, NAME, &set(&there, "x", "").await.expect("unchanged").revision_token).await;
        assert_eq!(found.expect("it is there").resource.expect("it is shown").spec, setting(NAME, "x").spec);
        let late = set(&there, "x", &etag).await.expect_err("what it was read as is over");
        assert_eq!(late.code(), Code::Aborted, "round {round}: {late:?}");
    }
    for round in 0..ROUNDS {
        let name = format!("settings/gone_{round}");
        create(&here, setting(&name, "x")).await;
        let request = DeleteResourceRequest { name: name.clone(), allow_missing: true, ..Default::default() };
        there.config().delete_resource(request).await.expect("it is deleted");
        let gone = read(&there, &name, "").await.expect_err("it was deleted");
        assert_eq!(gone.code(), Code::NotFound, "round {round}");
    }
}

/// A replica that is cut off from the database said "unchanged" of what others had changed since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_replica_without_its_database_acknowledges_nothing() {
    let cluster = Cluster::new().await;
    let port = postgres::port_of(cluster.url());
    let proxy = Proxy::before(port).await;
    let (near, cut) = (cluster.start().await, cluster.start_at(&proxy.url(cluster.url(), port)).await);
    let token = cluster.first_token().await;
    let (here, there) = (near.caller(&token), cut.caller(&token));
    let revision = create(&here, setting(NAME, "old")).await;
    until_answered(PATIENCE, "it is heard of", async || there.status().await.revision >= revision).await;
    proxy.close(true);
    proxy.cut();
    set(&here, "new", "").await.expect("it is written");
    is_refused_for_now("a write of what was there before", set(&there, "old", "")).await;
    proxy.close(false);
    until_answered(PATIENCE, "it is back", async || set(&there, "old", "").await.is_ok()).await;
    let found = read(&here, NAME, &there.status().await.revision_token).await.expect("it is there");
    assert_eq!(found.resource.expect("it is shown").spec, setting(NAME, "old").spec);
}
