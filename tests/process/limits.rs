//! How much of the server one caller and all together may take, and that what was taken comes back.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use signalbox::proto::v1::{
    GetResourceRequest, GetStatusRequest, ListResourcesRequest, Resource, Role, Secret,
    UpdateResourceRequest, admin_service_client::AdminServiceClient,
    config_service_client::ConfigServiceClient, setting_spec::Value,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    access::status,
    calls::{channel, refusal, token, token_with, watch, with},
    harness::{PATIENCE, Server, http, soon, until_answered},
    shutdown::create,
};

fn assert_full(status: &Status) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    assert_eq!((status.code(), reason), (Code::ResourceExhausted, Some("TOO_MANY_STREAMS")), "{status}");
    let delay = details.retry_info().and_then(|retry| retry.retry_delay);
    assert!(delay.is_some_and(|delay| delay > Duration::ZERO), "{status}");
}

/// Waits until the server counts so many streams.
async fn watchers(server: &Server, count: u64) {
    let what = format!("{count} streams");
    until_answered(PATIENCE, &what, async || status(server).await.watchers == count).await;
}

#[tokio::test]
async fn streams_of_one_subject_are_counted_over_all_its_connections_and_tokens() {
    let server = Server::start_with(&["--max-streams-per-identity", "2"]).await;
    let tokens = [token(&server, Role::Worker, "a").await, token(&server, Role::Worker, "a").await];
    let first = channel(server.address()).await;
    let second = channel(server.address()).await;
    let kept = watch(&first, &tokens[0]).await.unwrap();
    let dropped = watch(&second, &tokens[1]).await.unwrap();
    assert_full(&watch(&first, &tokens[1]).await.unwrap_err());
    let other = token(&server, Role::Worker, "b").await;
    let others = watch(&first, &other).await.expect("another subject has places of its own");
    watchers(&server, 3).await;
    drop(dropped);
    watchers(&server, 2).await;
    let again = watch(&first, &tokens[1]).await.expect("the place is free again");
    assert_full(&watch(&second, &tokens[0]).await.unwrap_err());
    drop((kept, again, others));
    watchers(&server, 0).await;
}

#[tokio::test]
async fn streams_in_all_have_a_bound_and_a_lost_connection_gives_its_places_back() {
    let server = Server::start_with(&["--max-streams", "3"]).await;
    let [a, b] = [token(&server, Role::Worker, "a").await, token(&server, Role::Worker, "b").await];
    let lost = channel(server.address()).await;
    let stays = channel(server.address()).await;
    let streams = (watch(&lost, &a).await.unwrap(), watch(&lost, &b).await.unwrap());
    let kept = watch(&stays, &a).await.unwrap();
    assert_full(&watch(&stays, &b).await.unwrap_err());
    drop((streams, lost));
    watchers(&server, 1).await;
    let again = (watch(&stays, &b).await.unwrap(), watch(&stays, &b).await.unwrap());
    assert_full(&watch(&stays, &a).await.unwrap_err());
    drop((kept, again));
}

/// The setting was read, checked, and then not used.
#[tokio::test]
async fn regression_requests_are_as_large_as_the_settings_say() {
    // Violations are told only of what was read: anything but REQUEST_TOO_LARGE.
    let request = |bytes: usize| UpdateResourceRequest {
        resource: Some(Resource { name: "x".repeat(bytes), ..Resource::default() }),
        ..UpdateResourceRequest::default()
    };
    let refused = async |server: &Server, bytes: usize| {
        let mut config = ConfigServiceClient::new(channel(server.address()).await);
        refusal(config.update_resource(with(&server.admin_token(), request(bytes))).await)
    };
    let too_large = (Code::ResourceExhausted, "REQUEST_TOO_LARGE".to_owned());
    let usual = Server::start().await;
    assert_eq!(refused(&usual, 3 << 19).await, too_large);
    assert_eq!(refused(&usual, 3 << 18).await.0, Code::InvalidArgument);
    let small = Server::start_with(&["--max-request-bytes", "512KiB"]).await;
    assert_eq!(refused(&small, 3 << 18).await, too_large);
    let large = Server::start_with(&["--max-request-bytes", "2MiB"]).await;
    assert_eq!(refused(&large, 3 << 19).await.0, Code::InvalidArgument);
}

/// How a connection that says nothing ends: after how long the server closes it, if it does so in time.
async fn closed_by_server(stream: &mut TcpStream, within: Duration) -> Result<Duration, String> {
    let begun = Instant::now();
    // Closed or reset: either will do.
    let closed = timeout(within, stream.read_to_end(&mut Vec::new())).await;
    closed.map(|_| begun.elapsed()).map_err(|_| "it stays open".to_owned())
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once_and_a_place_comes_back() {
    // So long that nobody is closed for having said nothing.
    let server = Server::start_with(&["--max-connections", "2", "--handshake-timeout", "300s"]).await;
    let admin = server.admin_token();
    let call = async |address: &str| {
        let endpoint = tonic::transport::Channel::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
        let answer =
            AdminServiceClient::new(channel.clone()).get_status(with(&admin, GetStatusRequest {})).await;
        answer.map(|_| channel).map_err(|status| status.to_string())
    };
    let first = call(server.address()).await.unwrap();
    let second = call(server.address()).await.unwrap();
    let mut third = TcpStream::connect(server.address()).await.unwrap();
    closed_by_server(&mut third, PATIENCE).await.unwrap();
    assert!(call(server.address()).await.is_err());
    let alive = AdminServiceClient::new(first.clone()).get_status(with(&admin, GetStatusRequest {})).await;
    assert_eq!(refusal(alive).0, Code::Ok, "those inside are not disturbed");
    drop(second);
    let again = async || call(server.address()).await.is_ok();
    until_answered(PATIENCE, "the place comes back", again).await;
}

/// The preface of HTTP/2 and an empty SETTINGS frame.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const SHORT: [&str; 6] =
    ["--keepalive-interval", "1s", "--keepalive-timeout", "1s", "--handshake-timeout", "1s"];
/// Far more than the short times, and less than those that hold otherwise.
const FREED: Duration = Duration::from_secs(9);

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_freed() {
    let server = Server::start_with(&SHORT).await;
    let mut peer = TcpStream::connect(server.address()).await.unwrap();
    peer.write_all(HELLO).await.unwrap();
    let closed = closed_by_server(&mut peer, FREED).await.unwrap();
    assert!(closed >= Duration::from_millis(900), "it was given no time: {closed:?}");
}

/// Keepalive begins only after the preface: who never sent it held a connection for ever.
#[tokio::test]
async fn regression_a_peer_that_never_speaks_is_freed() {
    let server = Server::start_with(&SHORT).await;
    for said in [&HELLO[..0], &HELLO[..1], &HELLO[..23]] {
        let mut peer = TcpStream::connect(server.address()).await.unwrap();
        peer.write_all(said).await.unwrap();
        let closed = closed_by_server(&mut peer, FREED).await;
        assert!(closed.is_ok(), "after {} bytes {closed:?}", said.len());
    }
}

/// As slowly as can be, and never silent.
#[tokio::test]
async fn regression_a_peer_that_drips_its_preface_is_freed() {
    let server = Server::start_with(&SHORT).await;
    let mut peer = TcpStream::connect(server.address()).await.unwrap();
    peer.set_nodelay(true).unwrap();
    let begun = Instant::now();
    for byte in &HELLO[..23] {
        let sent = peer.write_all(&[*byte]).await;
        if sent.is_err() || closed_by_server(&mut peer, Duration::from_millis(400)).await.is_ok() {
            let stayed = begun.elapsed();
            assert!(stayed >= Duration::from_millis(900), "it was given no time: {stayed:?}");
            return;
        }
    }
    panic!("it was still there after {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_quiet_client_that_answers_pings_stays() {
    // A busy machine may be late with an answer, but not by so much. The two heartbeats take twice as long.
    let server = Server::start_with(&["--keepalive-interval", "1s", "--keepalive-timeout", "4s"]).await;
    let token = token(&server, Role::Worker, "w").await;
    let channel = channel(server.address()).await;
    let mut stream = watch(&channel, &token).await.unwrap();
    // Between two heartbeats lie several pings.
    for _ in 0..2 {
        let heartbeat = crate::calls::event(&mut stream).await.unwrap();
        assert!(heartbeat.is_some(), "the stream ended");
    }
}

/// The signal that tells of the limit ended the process. What can't be written is refused as on a full disk, and so is
/// the reading of a secret that can't be written down.
#[tokio::test]
async fn regression_a_file_size_limit_refuses_writes_and_ends_nothing() {
    let server = Server::start_with_file_limit(2000).await;
    let admin = server.admin_token();
    let worker = token_with(&server, Role::Worker, "w", true, Duration::from_secs(3_600)).await;
    let mut config = ConfigServiceClient::new(channel(server.address()).await);
    let secret = Secret { value: Some("limits-secret".to_owned()), ..Secret::default() };
    let pass = create(&admin, "settings/pass", Value::SecretValue(secret));
    config.create_resource(pass).await.unwrap();
    let refused = (Code::Unavailable, "STORE_UNAVAILABLE".to_owned());

    let mut acknowledged = 0_u64;
    let outcome = loop {
        let value = Value::StringValue("x".repeat(20 << 10));
        let request = create(&admin, &format!("settings/s{acknowledged}"), value);
        let outcome = refusal(soon(config.create_resource(request)).await);
        if outcome.0 != Code::Ok {
            break outcome;
        }
        acknowledged += 1;
        assert!(acknowledged < 1_000, "the limit does not hold");
    };
    assert_eq!(outcome, refused, "after {acknowledged}");
    assert!(acknowledged > 0);
    // It is seen without a write of one's own, and nothing is restarted for it.
    let ready = http::get(server.http_address(), "/readyz", "").await;
    assert_eq!((ready.code, &ready.json()["degraded"][0]["reason"]), (200, &"WRITES_REFUSED".into()));
    let told = status(&server).await.warnings;
    assert!(told.iter().any(|warning| warning.contains("did not take the last write: the disk")), "{told:?}");

    let mut get = async |name: &str, include_secrets| {
        let name = name.to_owned();
        let request = GetResourceRequest { name, include_secrets, ..GetResourceRequest::default() };
        refusal(soon(config.get_resource(with(&worker, request))).await)
    };
    let served = (Code::Ok, String::new());
    assert_eq!(get("settings/s0", false).await, served);
    let mut opened = 0;
    // An event is small, and some may still fit in.
    let outcome = loop {
        let outcome = get("settings/pass", true).await;
        if outcome.0 != Code::Ok {
            break outcome;
        }
        opened += 1;
        assert!(opened < 2_000, "secrets are read, and where is that written?");
    };
    assert_eq!(outcome, refused, "a secret that nobody writes down stays closed");
    assert_eq!(get("settings/pass", false).await, served, "what is masked does not");
    assert_eq!(status(&server).await.resources, acknowledged + 1);

    let home = Arc::clone(server.home());
    server.kill().await;
    let server = Server::start_in(&home).await;
    assert_eq!(status(&server).await.resources, acknowledged + 1, "what was acknowledged, and nothing else");
}

/// Connections on which nobody says who he is: one peer has at most half of the places, on each listener.
#[tokio::test]
async fn regression_one_peer_without_a_token_keeps_nobody_out() {
    let server = Server::start_with(&["--health-listen", "127.0.0.1:0", "--max-connections", "8"]).await;
    let from = |last| {
        async move |address: String| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
            let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
            let mut first = [0; 9];
            let answered = timeout(Duration::from_secs(5), stream.read_exact(&mut first)).await;
            (answered.is_ok_and(|read| read.is_ok()), stream)
        }
    };
    for (address, places) in [(server.address(), 8), (server.health_address(), 64)] {
        let mut held = Vec::new();
        for place in 0..places / 2 {
            let (taken, stream) = from(2)(address.to_owned()).await;
            assert!(taken, "place {place} of {places}");
            held.push(stream);
        }
        assert!(!from(2)(address.to_owned()).await.0, "half of {places} is all that it has");
        assert!(from(3)(address.to_owned()).await.0, "another peer comes in");
    }
    // Who has a token is not counted.
    let admin = server.admin_token();
    let mut held = Vec::new();
    for _ in 0..3 {
        let channel = channel(server.address()).await;
        let mut config = ConfigServiceClient::new(channel.clone());
        config.list_resources(with(&admin, ListResourcesRequest::default())).await.unwrap();
        held.push(channel);
    }
}
