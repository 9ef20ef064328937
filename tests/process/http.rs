//! The HTTP listener: its pages, its gate, its bounds, and how it stops.

use std::{
    convert::Infallible,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use serde_json::json;
use signalbox::proto::v1::Role;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    calls::token,
    harness::{
        Home, PATIENCE, Refused, Server,
        http::{ask, get},
        soon, until_answered, within,
    },
    shutdown::{LONG_GRACE, ORDERLY, unread},
};

const ON: [&str; 2] = ["--http-listen", "127.0.0.1:0"];

#[tokio::test]
async fn probes_are_answered_without_a_token_and_told_nothing_of_what_is_inside() {
    let server = Server::start_with(&ON).await;
    let live = get(server.http_address(), "/livez", "").await;
    assert_eq!((live.code, live.json()), (200, json!({ "live": true, "degraded": [] })));
    let ready = get(server.http_address(), "/readyz", "").await;
    assert_eq!((ready.code, ready.json()), (200, json!({ "ready": true, "degraded": [] })));
    assert_eq!(ready.headers["cache-control"], "no-store");
    // A token that is no good does not matter where none is needed.
    assert_eq!(get(server.http_address(), "/readyz", "nonsense").await.code, 200);
}

#[tokio::test]
async fn metrics_are_shown_to_admins_and_viewers_only() {
    let server = Server::start_with(&ON).await;
    let page = async |token: &str| get(server.http_address(), "/metrics", token).await;
    let nobody = page("").await;
    assert_eq!(nobody.refusal(), (401, "TOKEN_MISSING".to_owned()));
    assert_eq!(nobody.headers["www-authenticate"], "Bearer");
    assert_eq!(page("nonsense").await.refusal(), (401, "TOKEN_INVALID".to_owned()));
    let worker = token(&server, Role::Worker, "w").await;
    assert_eq!(page(&worker).await.refusal(), (403, "ROLE_DENIED".to_owned()));
    let viewer = token(&server, Role::Viewer, "v").await;
    for token in [&viewer, &server.admin_token()] {
        let shown = page(token).await;
        assert_eq!(shown.code, 200, "{shown:?}");
        assert_eq!(shown.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        assert!(shown.body.contains("# TYPE signalbox_rpcs_total counter\n"), "{}", shown.body);
    }
}

#[tokio::test]
async fn diagnostics_show_the_status_as_far_as_the_caller_may_see_it() {
    let server = Server::start_with(&ON).await;
    let page = async |token: &str| get(server.http_address(), "/diagnostics", token).await;
    assert_eq!(page("").await.refusal(), (401, "TOKEN_MISSING".to_owned()));
    assert_eq!(page("nonsense").await.refusal(), (401, "TOKEN_INVALID".to_owned()));
    let shown = page(&server.admin_token()).await;
    assert_eq!(shown.code, 200, "{shown:?}");
    assert_eq!(shown.headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(shown.headers["cache-control"], "no-store");
    assert!(shown.headers["content-security-policy"].starts_with("default-src 'none'"), "{shown:?}");
    let status = get(server.http_address(), "/v1/status", &server.admin_token()).await.json();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let told = [
        text(&status["revisionToken"]),
        text(&status["storeId"]),
        text(&status["keyIds"][0]),
        text(&status["replicas"][0]["address"]),
        text(&status["replicas"][0]["id"]),
    ];
    for value in &told {
        assert!(shown.body.contains(value), "{value} is not in {}", shown.body);
    }
    for never in ["<script", "<style", "<link", "<img", "http://", "https://", "style=", "onload"] {
        assert!(!shown.body.contains(never), "{never}: {}", shown.body);
    }
    // As GetStatus: who is no admin is told nothing of keys, replicas and warnings.
    let worker = page(&token(&server, Role::Worker, "w").await).await;
    assert_eq!(worker.code, 200, "{worker:?}");
    assert!(worker.body.contains(&told[1]));
    assert!(told[2..].iter().all(|value| !worker.body.contains(value)), "{}", worker.body);
    assert!(!worker.body.contains("Replicas") && !worker.body.contains("What to look at"), "{}", worker.body);
}

#[tokio::test]
async fn metrics_are_for_everybody_where_the_settings_say_so_and_nothing_else_is() {
    let server = Server::start_with(&[&ON[..], &["--metrics-anonymous"]].concat()).await;
    assert_eq!(get(server.http_address(), "/metrics", "").await.code, 200);
    assert_eq!(get(server.http_address(), "/metrics/", "").await.code, 404);
}

#[tokio::test]
async fn every_other_path_is_unknown_whoever_asks() {
    let server = Server::start_with(&ON).await;
    let admin = server.admin_token();
    let rpc = "/signalbox.v1.AdminService/GetStatus";
    for path in ["/", "//metrics", "/metrics/", "/METRICS", "/%6detrics", "/livez/../metrics", "/v1/x", rpc] {
        for token in ["", admin.as_str()] {
            let answer = get(server.http_address(), path, token).await;
            assert_eq!(answer.refusal(), (404, "PATH_UNKNOWN".to_owned()), "{path}");
            assert_eq!(answer.json()["code"], 5, "NOT_FOUND");
        }
    }
    let post = ask(server.http_address(), "POST", "/readyz", "Content-Length: 0\r\n").await;
    assert_eq!(post.refusal(), (405, "METHOD_NOT_ALLOWED".to_owned()));
    // The gate comes first: who may not read does not learn what there is to write.
    let post = ask(server.http_address(), "POST", "/metrics", "Content-Length: 0\r\n").await;
    assert_eq!(post.refusal(), (401, "TOKEN_MISSING".to_owned()));
    let head = ask(server.http_address(), "HEAD", "/readyz", "").await;
    assert_eq!((head.code, head.body.as_str()), (200, ""));
}

/// RFC 9112, 3.2: of two hosts a proxy in front may have meant the other one.
#[tokio::test]
async fn regression_a_request_of_http_1_1_names_its_host_once() {
    let server = Server::start_with(&ON).await;
    for (version, hosts, code) in [
        ("1.1", "", "400"),
        ("1.1", "Host: a\r\nHost: b\r\n", "400"),
        ("1.1", "Host: a\r\n", "200"),
        ("1.0", "", "200"),
        ("1.0", "Host: a\r\nHost: b\r\n", "400"),
        ("1.1", "Host: a b\r\n", "400"),
        ("1.1", "Host: [::1]:8080\r\n", "200"),
    ] {
        let request = format!("GET /livez HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n");
        let answer = raw(server.http_address(), &request).await;
        assert_eq!(answer.split(' ').nth(1), Some(code), "{request:?}: {answer}");
        assert_eq!(answer.contains("HOST_MISSING"), code == "400", "{answer}");
    }
}

/// The listener of gRPC has the same rule: gRPC-Web comes to it by HTTP/1.1.
#[tokio::test]
async fn regression_a_call_of_grpc_web_names_its_host_once() {
    let server = Server::start().await;
    let token = server.admin_token();
    for (hosts, code) in
        [("", "400"), ("Host: a\r\nHost: b\r\n", "400"), ("Host: a b\r\n", "400"), ("Host: a\r\n", "200")]
    {
        let request = format!(
            "POST /signalbox.v1.AdminService/GetStatus HTTP/1.1\r\n{hosts}Authorization: Bearer {token}\r\n\
             Content-Type: application/grpc-web+proto\r\nContent-Length: 5\r\nConnection: close\r\n\r\n\0\0\0\0\0"
        );
        let answer = raw(server.address(), &request).await;
        assert_eq!(answer.split(' ').nth(1), Some(code), "{hosts:?}: {answer}");
        assert_eq!(answer.contains("the header `Host`"), code == "400", "{answer}");
    }
}

/// curl 7.88 showed the cut and neither code nor message; on the port of gRPC too, where a stranger's REST goes.
#[tokio::test]
async fn regression_a_refusal_over_http_2_comes_after_the_body() {
    let server = Server::start_with(&ON).await;
    for (address, code) in [(server.http_address(), 401), (server.address(), 415)] {
        let (sent, pause) = (Arc::new(AtomicBool::new(false)), Duration::from_millis(300));
        let late = {
            let sent = Arc::clone(&sent);
            stream::once(async move {
                tokio::time::sleep(pause).await;
                sent.store(true, Ordering::SeqCst);
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"{}")))
            })
        };
        assert_eq!(over_http_2(address, StreamBody::new(late).boxed_unsync()).await, code);
        assert!(sent.load(Ordering::SeqCst), "{code}: the answer came first");
        // Who never ends is answered all the same.
        let endless = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        assert_eq!(over_http_2(address, endless.boxed_unsync()).await, code);
    }
}

/// The code that a write without a token is answered with, over a connection of its own.
async fn over_http_2(address: &str, body: UnsyncBoxBody<Bytes, Infallible>) -> u16 {
    let stream = TcpStream::connect(address).await.unwrap();
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.unwrap();
    let _driven = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = http::Request::post(format!("http://{address}/v1/settings"))
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    soon(sender.send_request(request)).await.unwrap().status().as_u16()
}

/// What is answered to these very bytes.
async fn raw(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A balancer has to see that the server is about to stop, while the last streams still are there.
#[tokio::test]
async fn a_draining_server_is_not_ready_but_alive_and_still_measured() {
    let mut server = Server::start_with(&[&ON[..], &LONG_GRACE].concat()).await;
    let (admin, address) = (server.admin_token(), server.http_address().to_owned());
    let stream = unread(&server).await;
    server.signal(Signal::TERM);
    let mut why = None;
    until_answered(PATIENCE, "it is not ready any more", async || {
        let ready = get(&address, "/readyz", "").await;
        assert!([200, 503].contains(&ready.code), "{ready:?}");
        why = (ready.code == 503).then(|| ready.json()["why"]["reason"].clone());
        why.is_some()
    })
    .await;
    assert_eq!(why, Some("DRAINING".into()));
    assert_eq!(get(&address, "/livez", "").await.code, 200);
    assert_eq!(get(&address, "/metrics", &admin).await.code, 200);
    // A connection that says nothing does not hold the stop.
    let silent = TcpStream::connect(&address).await.unwrap();
    drop(stream);
    assert_eq!(server.wait(ORDERLY).await.code(), Some(0));
    drop(silent);
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_the_setting_to_change() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    for (flag, variable) in [
        ("--listen", "SIGNALBOX_LISTEN"),
        ("--http-listen", "SIGNALBOX_HTTP_LISTEN"),
        ("--health-listen", "SIGNALBOX_HEALTH_LISTEN"),
    ] {
        let Refused { code, message } = Home::new().refused_with(&[flag, &address]).await;
        assert_eq!(code, Some(1), "{message}");
        assert!([flag, variable, &address].iter().all(|part| message.contains(part)), "{flag}: {message}");
    }
}

#[tokio::test]
async fn plaintext_beyond_loopback_is_refused_as_it_is_for_grpc() {
    let Refused { code, message } = Home::new().refused_with(&["--http-listen", "0.0.0.0:0"]).await;
    assert_eq!(code, Some(2), "{message}");
    assert!(message.contains("SIGNALBOX_HTTP_LISTEN") && message.contains("--allow-plaintext"), "{message}");
    let server = Server::start_with(&["--http-listen", "0.0.0.0:0", "--allow-plaintext"]).await;
    let address = server.http_address().replace("0.0.0.0", "127.0.0.1");
    assert_eq!(get(&address, "/livez", "").await.code, 200);
}

#[tokio::test]
async fn what_one_connection_may_take_is_bounded() {
    let server = Server::start_with(&[&ON[..], &["--handshake-timeout", "1s"]].concat()).await;
    let address = server.http_address();
    let giant = format!("X-Giant: {}\r\n", "x".repeat(1 << 20));
    assert_eq!(ask(address, "GET", "/livez", &giant).await.code, 431);
    // Never says what it wants, says it by halves, or says it once and stays: each is sent away.
    for said in [
        "",
        "GET /livez HTTP/1.1\r\nHost: signalbox\r\nX-Slow: ",
        "GET /livez HTTP/1.1\r\nHost: signalbox\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = soon(stream.read_to_end(&mut rest)).await;
    }
}

#[tokio::test]
async fn connections_have_a_bound_and_their_places_come_back() {
    let flags = ["--handshake-timeout", "60s", "--max-connections", "4"];
    let server = Server::start_with(&[&ON[..], &flags].concat()).await;
    let address = server.http_address();
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(TcpStream::connect(address).await.unwrap());
    }
    // Closed at once: waiting would hide it.
    let mut more = TcpStream::connect(address).await.unwrap();
    let closed = async { more.read(&mut [0]).await.map_or(true, |read| read == 0) };
    assert!(within(PATIENCE / 4, "one too many is closed", closed).await);
    assert!(!answers(address).await);
    drop(open);
    until_answered(PATIENCE, "the places come back", async || answers(address).await).await;
}

/// Whether a page is answered, by a server that may have no place just now.
async fn answers(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let request = b"GET /livez HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n";
    let mut answer = Vec::new();
    let _ = stream.write_all(request).await;
    let _ = soon(stream.read_to_end(&mut answer)).await;
    answer.starts_with(b"HTTP/1.1 200 ")
}

#[tokio::test]
async fn off_is_off() {
    let home = Arc::new(Home::new());
    let server = Server::start_in_with(&home, &["--http-listen", "off"]).await;
    assert!(!server.ready_line().contains("HTTP on"), "{}", server.ready_line());
    server.stop().await;
}
