//! Watchers that read nothing of what they are sent: freed, while those that only have nothing to read stay.

use signalbox::proto::v1::{Role, setting_spec::Value, watch_config_response::Event};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};
use tonic::Code;

use crate::{
    access::status,
    calls::{channel, event, token, watch},
    harness::{PATIENCE, Server, exposition::Exposition, http::get, soon, until_answered},
    shutdown::{create, unread},
};

/// Over HTTP/1.1 nothing but the unread bytes tells of it. The connection is not given up before it is counted, however short
/// the time is after which one is asked whether it lives.
#[tokio::test]
async fn regression_an_unread_stream_of_events_is_cut_as_a_stalled_one() {
    let server = Server::start_with(&[
        "--http-listen",
        "127.0.0.1:0",
        "--stream-stall-timeout",
        "4s",
        "--keepalive-interval",
        "1s",
        "--keepalive-timeout",
        "1s",
    ])
    .await;
    let mut config = signalbox::proto::v1::config_service_client::ConfigServiceClient::new(
        channel(server.address()).await,
    );
    for number in 0..160 {
        let name = format!("settings/large{number}");
        let request = create(&server.admin_token(), &name, Value::StringValue("x".repeat(60_000)));
        config.create_resource(request).await.unwrap();
    }
    let worker = token(&server, Role::Worker, "unread").await;
    let mut unread = TcpStream::connect(server.http_address()).await.unwrap();
    let head = format!("GET /v1:watch HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {worker}\r\n\r\n");
    unread.write_all(head.as_bytes()).await.unwrap();
    soon(async { while status(&server).await.watchers < 1 {} }).await;
    soon(async { while status(&server).await.watchers > 0 {} }).await;
    assert!(server.home().log().contains("leaves unread what it is sent"), "{}", server.home().log());
}

/// What it is sent fits into the kernel's buffers here, so that it is never stalled; it left without being counted.
#[tokio::test]
async fn regression_an_unread_stream_that_the_kernel_gives_up_is_counted() {
    let server = Server::start_with(&[
        "--http-listen",
        "127.0.0.1:0",
        "--stream-stall-timeout",
        "1s",
        "--keepalive-interval",
        "1s",
        "--keepalive-timeout",
        "1s",
    ])
    .await;
    let mut config = signalbox::proto::v1::config_service_client::ConfigServiceClient::new(
        channel(server.address()).await,
    );
    for number in 0..4 {
        let name = format!("settings/large{number}");
        let request = create(&server.admin_token(), &name, Value::StringValue("x".repeat(30_000)));
        config.create_resource(request).await.unwrap();
    }
    let worker = token(&server, Role::Worker, "unread").await;
    let socket = TcpSocket::new_v4().unwrap();
    // What it takes at all is little.
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut unread = socket.connect(server.http_address().parse().unwrap()).await.unwrap();
    let head = format!("GET /v1:watch HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {worker}\r\n\r\n");
    unread.write_all(head.as_bytes()).await.unwrap();
    let counted = async |name: &str, labels: &[(&str, &str)]| {
        let page = get(server.http_address(), "/metrics", &server.admin_token()).await;
        Exposition::parse(&page.body).value(name, labels)
    };
    until_answered(PATIENCE, "it is given up", async || {
        counted("signalbox_connections_given_up_total", &[]).await > 0.0
    })
    .await;
    assert_eq!(counted("signalbox_watch_cut_total", &[("reason", "stalled")]).await, 0.0);
    soon(async { while status(&server).await.watchers > 0 {} }).await;
}

/// Fault 15 of the reliability contract.
#[tokio::test]
async fn a_watcher_that_never_reads_is_cut_and_one_with_nothing_to_read_stays() {
    let server = Server::start_with(&["--stream-stall-timeout", "1s"]).await;
    let idle_token = token(&server, Role::Worker, "idle").await;
    let mut idle = watch(&channel(server.address()).await, &idle_token).await.unwrap();
    let stalled = unread(&server).await;
    for number in 0..4 {
        let next = event(&mut idle).await.unwrap();
        assert!(matches!(next, Some(Event::Changes(_))), "{number}: {next:?}");
    }
    soon(async { while status(&server).await.watchers > 1 {} }).await;
    assert!(server.home().log().contains("leaves unread what it is sent"), "{}", server.home().log());
    let mut stalled = stalled;
    let end = loop {
        match soon(stalled.message()).await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    // What had reached the client it may still read; then the connection is gone.
    assert!(matches!(&end, Err(status) if status.code() != Code::Ok), "{end:?}");
    let mut config = signalbox::proto::v1::config_service_client::ConfigServiceClient::new(
        channel(server.address()).await,
    );
    let request = create(&server.admin_token(), "settings/after", Value::BoolValue(true));
    config.create_resource(request).await.unwrap();
    let next = event(&mut idle).await.unwrap();
    assert!(matches!(next, Some(Event::Changes(_))), "{next:?}");
}
