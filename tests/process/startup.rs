//! How a server starts, and when it refuses to.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Stdio,
    sync::Arc,
    time::Instant,
};

use rustix::fs::Mode;
use signalbox::proto::v1::{GetStatusRequest, admin_service_client::AdminServiceClient};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::{
    calls::{channel, refusal, with},
    harness::{Home, PATIENCE, Refused, Server, end, soon},
};

/// The code that reflection is answered with.
async fn reflection(address: &str) -> Code {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel(address).await);
    match soon(client.server_reflection_info(tokio_stream::iter([request]))).await {
        Ok(stream) => match soon(stream.into_inner().message()).await {
            Ok(_) => Code::Ok,
            Err(status) => status.code(),
        },
        Err(status) => status.code(),
    }
}

#[tokio::test]
async fn the_ready_line_names_the_addresses_and_then_everything_is_served() {
    let server =
        Server::start_with(&["--http-listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"]).await;
    let addresses = [server.address(), server.http_address(), server.health_address()];
    let [grpc, http, health] = addresses;
    assert_eq!(
        server.ready_line(),
        format!("signalbox is ready: gRPC on http://{grpc}, HTTP on http://{http}, health on {health}")
    );
    let ports: BTreeSet<&str> = addresses.map(|address| address.rsplit_once(':').unwrap().1).into();
    assert!(ports.len() == 3 && !ports.contains("0") && !ports.contains("50051"), "{ports:?}");
    // At once, without a second try.
    let readiness = HealthCheckRequest { service: "readiness".to_owned() };
    let answer = HealthClient::new(channel(server.address()).await).check(readiness).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    let status = AdminServiceClient::new(channel(server.address()).await)
        .get_status(with(&server.admin_token(), GetStatusRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((status.resources, status.stale), (0, false));
    assert_eq!(reflection(server.address()).await, Code::Ok);
}

/// A log that machines read has no line among its own that they can't.
#[tokio::test]
async fn regression_the_ready_line_is_json_where_the_log_is() {
    let server = Server::start_with(&["--log-format", "json", "--http-listen", "127.0.0.1:0"]).await;
    let line: serde_json::Value = serde_json::from_str(server.ready_line()).unwrap();
    assert_eq!((&line["level"], &line["fields"]["message"]), (&"INFO".into(), &"signalbox is ready".into()));
    let url = line["fields"]["grpc"].as_str().unwrap();
    assert!(TcpStream::connect(url.strip_prefix("http://").unwrap()).is_ok(), "{line}");
    server.stop().await;
}

/// The settings come from a pipe that has no writer yet, so that the start stands still.
#[test]
fn nothing_listens_before_the_settings_are_read() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let home = Home::new();
    let pipe = home.path("settings");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    let mut child = home
        .serve(&["--listen", &address.to_string(), "--config", "settings"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Opens once the server reads at the other end.
    let mut writer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    assert!(TcpStream::connect(address).is_err(), "it listens before it knows its settings");
    writer.write_all(b"# nothing\n").unwrap();
    drop(writer);
    let mut output = child.stdout.take().unwrap();
    let mut first = [0];
    output.read_exact(&mut first).unwrap();
    TcpStream::connect(address).expect("a server that says it is ready is there");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A store that can't be opened: whatever is wrong must be found before anybody can connect.
#[tokio::test]
async fn a_start_that_fails_never_listens_and_names_what_is_wrong() {
    let first = Server::start().await;
    let home = Arc::clone(first.home());
    let taken = first.address().to_owned();
    first.stop().await;
    let key = home.path("data/encryption.key");
    fs::remove_file(&key).unwrap();
    let mut child =
        home.serve(&["--listen", &taken]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (deadline, mut connected) = (Instant::now() + PATIENCE, false);
    // Without a pause: it may listen for a moment only.
    while child.try_wait().unwrap().is_none() {
        connected |= TcpStream::connect(&taken).is_ok();
        assert!(Instant::now() < deadline, "it neither refuses nor ends");
    }
    let output = end(child).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!connected, "it listened although its key is lost");
    assert!(!output.status.success() && output.stdout.is_empty(), "{said}");
    assert!(said.contains("ENCRYPTION_KEY_FILE"), "{said}");
    assert!(!key.exists(), "a key must never be made for a store that has another");
}

/// The soft limit is 0 in many places anyway; the hard one only where somebody has set it, and nobody raises it again.
#[tokio::test]
async fn the_process_leaves_no_core() {
    let server = Server::start().await;
    let limits = server.kernel_limits();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let numbers: Vec<&str> = core.expect("the kernel tells it").split_whitespace().take(2).collect();
    assert_eq!(numbers, ["0", "0"], "{limits}");
}

#[tokio::test]
async fn plaintext_beyond_loopback_is_refused_without_the_flag() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let Refused { code, message } = Home::new().refused_with(&["--listen", address]).await;
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains("--allow-plaintext") && message.contains("SIGNALBOX_LISTEN"), "{message}");
    }
}

#[tokio::test]
async fn plaintext_beyond_loopback_is_allowed_with_the_flag_and_shows_no_reflection() {
    let server = Server::start_with(&["--listen", "0.0.0.0:0", "--allow-plaintext"]).await;
    let address = server.address().replace("0.0.0.0", "127.0.0.1");
    assert_eq!(reflection(&address).await, Code::Unimplemented);
    let mut admin = AdminServiceClient::new(channel(&address).await);
    let answer =
        admin.get_status(with(&server.admin_token(), GetStatusRequest {})).await.unwrap().into_inner();
    assert!(answer.warnings.iter().any(|warning| warning.contains("without TLS")), "{:?}", answer.warnings);
    assert_eq!(refusal(admin.get_status(GetStatusRequest {}).await).0, Code::Unauthenticated);
    drop(server);
    let asked =
        Server::start_with(&["--listen", "0.0.0.0:0", "--allow-plaintext", "--reflection", "on"]).await;
    assert_eq!(reflection(&asked.address().replace("0.0.0.0", "127.0.0.1")).await, Code::Ok);
    let off = Server::start_with(&["--reflection", "off"]).await;
    assert_eq!(reflection(off.address()).await, Code::Unimplemented);
}
