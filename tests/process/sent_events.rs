//! Streams as server-sent events: what a browser's `EventSource`, or `curl`, sees of a watch.

use rustix::process::Signal;
use serde_json::json;
use signalbox::proto::v1::{
    ExportConfigRequest, RevokeTokenRequest, Role, admin_service_client::AdminServiceClient,
};

use crate::{
    calls::{channel, token, with},
    harness::{
        Server,
        api::{Api, setting},
        events::Stream,
        http::{ask, get},
        soon,
    },
    shutdown::{LONG_GRACE, ORDERLY},
};

const ON: [&str; 2] = ["--http-listen", "127.0.0.1:0"];
const WATCH: &str = "/v1:watch?selectors=settings/*&progress_interval=1s&worker.id=browser";

#[tokio::test]
async fn regression_of_two_last_ids_none_is_taken() {
    let server = Server::start_with(&ON).await;
    let worker = token(&server, Role::Worker, "w").await;
    let headers = format!("Authorization: Bearer {worker}\r\nLast-Event-ID: a/b\r\nLast-Event-ID: c/d\r\n");
    let answer = ask(server.http_address(), "GET", WATCH, &headers).await;
    assert_eq!(answer.code, 400);
}

#[tokio::test]
async fn a_watch_is_told_of_everything_in_order_and_goes_on_where_it_was() {
    let server = Server::start_with(&ON).await;
    let mut api = Api::admin(&server).await;
    api.create("settings/a", setting("first")).await;
    let worker = token(&server, Role::Worker, "w").await;
    let mut stream = Stream::get(server.http_address(), WATCH, &worker, &[]).await;
    let headers = stream.head().headers();
    assert_eq!(
        (stream.head().status().as_u16(), &headers["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    assert_eq!(headers["cache-control"], "no-store");
    let snapshot = stream.event().await.unwrap();
    assert_eq!((snapshot.name.as_str(), snapshot.id.as_str()), ("snapshot", ""));
    assert_eq!(snapshot.data["snapshot"]["resources"][0]["setting"]["stringValue"], "first");
    let synced = stream.event().await.unwrap();
    let (resume, view) =
        (synced.data["synced"]["resumeToken"].clone(), synced.data["synced"]["viewId"].clone());
    assert_eq!(synced.name, "synced");
    assert_eq!(synced.id, format!("{}/{}", resume.as_str().unwrap(), view.as_str().unwrap()));
    api.create("settings/b", setting("second")).await;
    let changes = stream.until("changes").await;
    assert_eq!(changes.data["changes"]["changes"][0]["name"], "settings/b");
    assert!(changes.id.ends_with(view.as_str().unwrap()), "{changes:?}");
    assert!(!stream.until("progress").await.data["progress"]["digest"].as_str().unwrap().is_empty());
    drop(stream);
    api.create("settings/c", setting("third")).await;
    let again = [("last-event-id", changes.id.as_str())];
    let mut stream = Stream::get(server.http_address(), WATCH, &worker, &again).await;
    assert_eq!(stream.event().await.unwrap().name, "synced", "without a snapshot");
    let changes = stream.event().await.unwrap();
    assert_eq!(changes.data["changes"]["changes"][0]["name"], "settings/c");
    // An id that is none of ours, or of another view, begins anew and says so.
    for id in ["nonsense", "a/b"] {
        let mut stream = Stream::get(server.http_address(), WATCH, &worker, &[("last-event-id", id)]).await;
        assert_eq!(stream.event().await.unwrap().name, "reset", "{id}");
    }
}

#[tokio::test]
async fn a_watch_ends_with_its_token_and_says_so() {
    let server = Server::start_with(&ON).await;
    let worker = token(&server, Role::Worker, "w").await;
    let mut stream = Stream::get(server.http_address(), WATCH, &worker, &[]).await;
    stream.until("synced").await;
    let revoke = RevokeTokenRequest { subject: "w".into(), ..Default::default() };
    let mut admin = AdminServiceClient::new(channel(server.address()).await);
    admin.revoke_token(with(&server.admin_token(), revoke)).await.unwrap();
    let status = stream.until("status").await;
    assert_eq!(
        (&status.data["code"], &status.data["details"][0]["reason"]),
        (&json!(16), &json!("TOKEN_REVOKED"))
    );
    assert!(stream.event().await.is_none(), "the last one");
    let refused = get(server.http_address(), WATCH, &worker).await;
    assert_eq!(refused.refusal(), (401, "TOKEN_REVOKED".to_owned()));
    let viewer = token(&server, Role::Viewer, "v").await;
    let refused = get(server.http_address(), "/v1:watch?include_secrets=true", &viewer).await;
    assert_eq!(refused.refusal(), (403, "SECRETS_DENIED".to_owned()));
}

#[tokio::test]
async fn a_server_that_stops_says_goodbye_to_its_streams() {
    let mut server = Server::start_with(&[&ON[..], &LONG_GRACE].concat()).await;
    let worker = token(&server, Role::Worker, "w").await;
    let mut stream = Stream::get(server.http_address(), WATCH, &worker, &[]).await;
    stream.until("synced").await;
    server.signal(Signal::TERM);
    let going = stream.until("going_away").await;
    let pause: u64 = going.retry.parse().expect("when to come back, in milliseconds");
    assert!(going.data["goingAway"]["reconnectAfter"].is_string() && pause < 600_000, "{going:?}");
    assert_eq!(stream.until("status").await.data, json!({ "code": 0 }));
    assert!(stream.event().await.is_none());
    assert_eq!(server.wait(ORDERLY).await.code(), Some(0));
}

/// What a client leaves is let go of: the place among the open streams is free again.
#[tokio::test]
async fn a_stream_that_is_left_is_freed() {
    let server = Server::start_with(&ON).await;
    let worker = token(&server, Role::Worker, "w").await;
    let mut stream = Stream::get(server.http_address(), WATCH, &worker, &[]).await;
    stream.until("synced").await;
    let watchers =
        async || get(server.http_address(), "/v1/status", &worker).await.json()["watchers"].clone();
    assert_eq!(watchers().await, "1");
    drop(stream);
    soon(async { while !watchers().await.is_null() {} }).await;
}

/// Not only a watch: whatever streams.
#[tokio::test]
async fn an_export_comes_as_events() {
    let server = Server::start_with(&ON).await;
    let mut api = Api::admin(&server).await;
    api.create("settings/a", setting("first")).await;
    let request = hyper::Request::post("/v1/config:export")
        .header("host", "signalbox")
        .header("authorization", format!("Bearer {}", server.admin_token()))
        .body(http_body_util::Full::default())
        .unwrap();
    let mut stream = Stream::open(server.http_address(), request).await;
    let part = stream.until("message").await;
    assert_eq!(part.data["resources"][0]["name"], "settings/a");
    assert_eq!(stream.until("status").await.data, json!({ "code": 0 }));
    // As over gRPC.
    let mut admin = AdminServiceClient::new(channel(server.address()).await);
    let request = with(&server.admin_token(), ExportConfigRequest::default());
    let mut stream = admin.export_config(request).await.unwrap().into_inner();
    let message = stream.message().await.unwrap().unwrap();
    assert_eq!(message.revision.to_string(), part.data["revision"].as_str().unwrap());
}
