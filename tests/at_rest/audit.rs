//! The audit table: every way in which a secret leaves the server is written down, and nothing else is.

use std::sync::Arc;

use signalbox::proto::v1::{
    ListResourcesRequest, ListWorkersRequest, WatchConfigRequest, WatchConfigResponse, Worker,
    fleet_service_client::FleetServiceClient, watch_config_response::Event,
};
use tonic::Streaming;

use crate::{
    api::{Api, secret_setting, setting},
    harness::{
        Home, PATIENCE, Server,
        calls::{Bearer, channel},
        soon, until_answered,
    },
    sqlite::{edit, texts},
};

const SECRET: &str = "audit-secret~?>-31622776601";

/// What is written of secrets, in order: the event and its particulars.
async fn written(home: &Home) -> Vec<String> {
    texts(home, "SELECT event || ': ' || detail FROM audit WHERE event LIKE 'secret%' ORDER BY id").await
}

/// A server with one secret and one setting in the clear: revision 2.
async fn furnished(home: &Arc<Home>) -> Server {
    let server = Server::start_in(home).await;
    let mut admin = Api::admin(&server).await;
    admin.create("settings/pass", secret_setting(SECRET)).await;
    admin.create("settings/open", setting("in the clear")).await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_secrets_are_written_down_and_others_are_not() {
    let home = Arc::new(Home::new());
    let server = furnished(&home).await;
    let mut worker = Api::worker(&server).await;
    let list = |include_secrets| ListResourcesRequest { include_secrets, ..Default::default() };
    assert_eq!(worker.secrets("settings/pass", false).await[0].value, None);
    assert!(worker.secrets("settings/open", true).await.is_empty());
    worker.config.list_resources(list(false)).await.unwrap();
    assert!(written(&home).await.is_empty(), "{:?}", written(&home).await);

    assert_eq!(worker.secrets("settings/pass", true).await[0].value(), SECRET);
    assert_eq!(written(&home).await, ["secret_read: settings/pass at revision 2"], "before it is answered");
    worker.config.list_resources(list(true)).await.unwrap();
    let all = written(&home).await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(
        all[1].starts_with("secrets_listed: 2 resources of ") && all[1].ends_with(" at revision 2"),
        "{all:?}"
    );
    server.stop().await;
}

/// A stream with or without secrets, from which something has come.
async fn watch(worker: &mut Api, include_secrets: bool) -> Streaming<WatchConfigResponse> {
    let identity = Worker { id: "w-1".to_owned(), ..Default::default() };
    let request = WatchConfigRequest { include_secrets, worker: Some(identity), ..Default::default() };
    let mut stream = worker.config.watch_config(request).await.unwrap().into_inner();
    soon(stream.message()).await.expect("it goes on").expect("it does not end");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_stream_with_secrets_is_written_down() {
    let home = Arc::new(Home::new());
    let server = furnished(&home).await;
    let mut worker = Api::worker(&server).await;
    drop(watch(&mut worker, false).await);
    let stream = watch(&mut worker, true).await;
    let opened = written(&home).await;
    assert_eq!(opened.len(), 1, "{opened:?}");
    let session = opened[0].strip_prefix("secrets_watch_opened: ").expect("an opening");
    assert!(session.starts_with("session ") && session.contains("w-1"), "{opened:?}");
    assert!(session.ends_with(" at revision 2"), "{opened:?}");

    let mut admin = Api::admin(&server).await;
    admin.create("settings/later", setting("x")).await;
    drop(stream);
    until_answered(PATIENCE, "the end is written", async || written(&home).await.len() == 2).await;
    // Its end names the same session.
    let ended = written(&home).await.remove(1);
    let (same, _) = session.rsplit_once(" at revision ").unwrap();
    assert!(ended.starts_with(&format!("secrets_watch_ended: {same} at revision ")), "{ended}");

    let kept = watch(&mut worker, true).await;
    server.stop().await;
    let all = written(&home).await;
    let events: Vec<&str> = all.iter().filter_map(|line| line.split(':').next()).collect();
    let life = ["secrets_watch_opened", "secrets_watch_ended"];
    assert_eq!(events, [life, life].concat(), "also of a stream that the server ends: {all:?}");
    drop(kept);
}

/// The fleet: each worker's id, and whether its stream is open.
async fn fleet(server: &Server) -> Vec<(String, bool)> {
    let channel = channel(server.address()).await;
    let mut fleet = FleetServiceClient::with_interceptor(channel, Bearer::new(&server.admin_token()));
    let listed = fleet.list_workers(ListWorkersRequest::default()).await.expect("a list").into_inner();
    listed.workers.into_iter().map(|worker| (worker.id, worker.connected)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn regression_a_stream_that_is_not_opened_is_no_worker_and_takes_nobody_s_place() {
    let home = Arc::new(Home::new());
    let server = furnished(&home).await;
    let mut worker = Api::worker(&server).await;
    let request = |id: &str, previous: &str| WatchConfigRequest {
        include_secrets: true,
        worker: Some(Worker { id: id.to_owned(), ..Default::default() }),
        previous_session_id: previous.to_owned(),
        ..Default::default()
    };
    let mut stream = worker.config.watch_config(request("w-1", "")).await.expect("it opens").into_inner();
    let session = loop {
        let message = soon(stream.message()).await.expect("it goes on").expect("it does not end");
        if let Some(Event::Synced(synced)) = message.event {
            break synced.session_id;
        }
    };
    // Nothing can be written to the audit. (An edit by hand has to change something.)
    let refused = "CREATE TRIGGER no_audit BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'the test'); END; \
                   UPDATE head SET revision = revision";
    edit(&home, refused).await;
    for attempt in [request("w-1", &session), request("w-2", "")] {
        soon(worker.config.watch_config(attempt)).await.expect_err("it is not audited");
    }
    assert_eq!(fleet(&server).await, [("w-1".to_owned(), true)]);
    edit(&home, "DROP TRIGGER no_audit; UPDATE head SET revision = revision").await;
    let again =
        soon(worker.config.watch_config(request("w-1", &session))).await.expect("it opens").into_inner();
    until_answered(PATIENCE, "the new one is in the place of the one before", async || {
        fleet(&server).await == [("w-1".to_owned(), true)]
    })
    .await;
    drop((stream, again));
    server.stop().await;
}
