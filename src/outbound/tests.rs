//! The guard against every way to an address that is not public, and the client against servers that misbehave. All servers
//! are on this machine; what the guard refuses is refused before anything is sent.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use rustls::{RootCertStore, ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    crypto::SecretText,
    proto::v1::HttpMethod,
    settings::{AllowedHost, HostPattern},
    wire::{Header, HeaderKind, HttpRequest},
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// Knows one answer for every name, and how often it was asked.
struct Table(Vec<IpAddr>, AtomicUsize);

#[async_trait]
impl Resolve for Table {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(self.0.clone())
    }
}

fn table(addresses: &[&str]) -> Arc<Table> {
    let addresses = addresses.iter().map(|address| address.parse().unwrap());
    Arc::new(Table(addresses.collect(), AtomicUsize::new(0)))
}

fn network(address: &str, prefix: u8, port: Option<u16>) -> AllowedHost {
    let address = address.parse().unwrap();
    AllowedHost { host: HostPattern::Network { address, prefix }, port }
}

fn name(name: &str, port: Option<u16>) -> AllowedHost {
    AllowedHost { host: HostPattern::Name(name.to_owned()), port }
}

/// A client that may call this machine.
fn local() -> Outbound {
    Outbound::new(vec![network("127.0.0.0", 8, None)], Arc::new(SystemResolver))
}

fn get(url: &str) -> HttpRequest {
    HttpRequest { method: HttpMethod::Get, url: url.to_owned(), headers: vec![], body: None }
}

async fn send(outbound: &Outbound, url: &str) -> Result<Answer, Fault> {
    send_within(outbound, url, Duration::from_secs(20)).await
}

async fn send_within(outbound: &Outbound, url: &str, time: Duration) -> Result<Answer, Fault> {
    outbound.send(&get(url), &Credentials::default(), Instant::now() + time).await
}

/// What a server was sent, one text a connection.
type Heard = Arc<Mutex<Vec<String>>>;

/// A server that answers every request with the same bytes, and then ends the connection, or leaves it as it is.
async fn server(answer: impl Into<Vec<u8>>, ends: bool) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Heard::default());
    let (answer, hearing) = (answer.into(), Arc::clone(&heard));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, hearing) = (answer.clone(), Arc::clone(&hearing));
            tokio::spawn(async move { answer_to(stream, &answer, ends, &hearing).await });
        }
    });
    (address, heard)
}

async fn answer_to(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &[u8],
    ends: bool,
    heard: &Heard,
) {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    let place = heard.lock().len();
    heard.lock().push(String::new());
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(read) if read > 0 => request.extend_from_slice(&piece[..read]),
            _ => return,
        }
    }
    heard.lock()[place] = String::from_utf8_lossy(&request).into_owned();
    let _ = stream.write_all(answer).await;
    if !ends {
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
async fn what_is_not_public_is_refused_however_it_is_written() {
    let (address, heard) = server(OK, true).await;
    let port = address.port();
    let strict = Outbound::new(vec![], Arc::new(SystemResolver));
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "localhost",
        "LOCALHOST",
    ] {
        for scheme in ["http", "https"] {
            let outcome = send(&strict, &format!("{scheme}://{host}:{port}/v1")).await;
            assert!(matches!(outcome, Err(Fault::EgressRefused(_))), "{scheme} {host}: {outcome:?}");
        }
    }
    assert!(heard.lock().is_empty(), "nothing was connected to");
}

#[tokio::test]
async fn names_are_judged_by_where_they_lead() {
    let (address, heard) = server(OK, true).await;
    for (addresses, word) in [
        (&["127.0.0.1"][..], "loopback"),
        (&["::1"], "loopback"),
        (&["::ffff:127.0.0.1"], "IPv4-mapped"),
        (&["0.0.0.0"], "unspecified"),
        (&["169.254.169.254"], "link-local"),
        (&["fd00:ec2::254"], "private"),
        (&["64:ff9b::7f00:1"], "NAT64"),
        (&["10.0.0.1", "127.0.0.1"], "private"),
    ] {
        let strict = Outbound::new(vec![], table(addresses));
        let outcome = send(&strict, &format!("https://looks.public.example:{}/", address.port())).await;
        assert_eq!(outcome, Err(Fault::EgressRefused(word)), "{addresses:?}");
    }
    assert_eq!(send(&Outbound::new(vec![], table(&[])), "https://x.example/").await, Err(Fault::NoSuchHost));
    // A public address by plain http would show the key to everybody on the way.
    let outcome = send(&Outbound::new(vec![], table(&["8.8.8.8"])), "http://x.example/").await;
    assert_eq!(outcome, Err(Fault::EgressRefused("unencrypted")));
    assert!(heard.lock().is_empty(), "nothing was connected to");
}

#[tokio::test]
async fn what_the_operator_allows_is_called_and_nothing_beside_it() {
    let (address, heard) = server(OK, true).await;
    let (port, url) = (address.port(), format!("http://ollama.internal:{}/x", address.port()));
    let leads_here = || table(&["127.0.0.1"]);
    for allowed in [
        name("ollama.internal", None),
        name("ollama.internal", Some(port)),
        network("127.0.0.1", 32, Some(port)),
        network("127.0.0.0", 8, None),
    ] {
        let outcome = send(&Outbound::new(vec![allowed.clone()], leads_here()), &url).await;
        assert!(outcome.is_ok(), "{allowed:?}: {outcome:?}");
    }
    let called = heard.lock().len();
    for allowed in [
        name("ollama.internal", Some(port ^ 1)),
        name("internal", None),
        name("other.internal", None),
        network("127.0.0.1", 32, Some(port ^ 1)),
        network("127.0.0.2", 32, None),
        network("10.0.0.0", 8, None),
        // A name that is allowed is no leave for its address under another one.
        name("127.0.0.1", None),
    ] {
        let outcome = send(&Outbound::new(vec![allowed.clone()], leads_here()), &url).await;
        assert_eq!(outcome, Err(Fault::EgressRefused("loopback")), "{allowed:?}");
    }
    assert_eq!(heard.lock().len(), called);
}

/// A name that leads elsewhere when it is asked for a second time has no second time.
#[tokio::test]
async fn a_name_is_resolved_once_and_only_what_was_judged_is_called() {
    let (address, heard) = server(OK, true).await;
    let resolver = table(&["10.255.255.1", "169.254.169.254", "127.0.0.1"]);
    let outbound = Outbound::new(vec![network("127.0.0.1", 32, None)], resolver.clone());
    let outcome = send(&outbound, &format!("http://rebinds.example:{}/", address.port())).await;
    assert_eq!(
        outcome.unwrap().status,
        200,
        "the address that may be called is called, and none of the others"
    );
    assert_eq!((resolver.1.load(Ordering::Relaxed), heard.lock().len()), (1, 1));
}

#[tokio::test]
async fn a_redirect_is_told_and_not_followed() {
    let (elsewhere, heard) = server(OK, true).await;
    for status in ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"] {
        let redirect =
            format!("HTTP/1.1 {status}\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n");
        let (address, _) = server(redirect, true).await;
        assert_eq!(send(&local(), &format!("http://{address}/")).await, Err(Fault::Redirected), "{status}");
    }
    assert!(heard.lock().is_empty());
}

#[tokio::test]
async fn an_answer_has_its_bounds() {
    let large = vec![b'x'; 2 << 20];
    let told =
        [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", large.len()).as_bytes(), &large].concat();
    let untold = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &large].concat();
    let mut chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..40 {
        chunked.extend(b"10000\r\n");
        chunked.extend(&large[..1 << 16]);
        chunked.extend(b"\r\n");
    }
    for (what, answer) in [("told", told), ("untold", untold), ("chunked", chunked)] {
        let (address, _) = server(answer, true).await;
        assert_eq!(send(&local(), &format!("http://{address}/")).await, Err(Fault::TooLarge), "{what}");
    }
    let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let (address, _) = server(head, true).await;
    let outcome = send(&local(), &format!("http://{address}/")).await;
    assert!(matches!(outcome, Err(Fault::TooLarge | Fault::BadAnswer | Fault::Unreachable)), "{outcome:?}");
    let exact = vec![b'x'; 1 << 20];
    let whole =
        [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", exact.len()).as_bytes(), &exact].concat();
    let (address, _) = server(whole, true).await;
    assert_eq!(send(&local(), &format!("http://{address}/")).await.unwrap().body.len(), 1 << 20);
}

#[tokio::test]
async fn a_server_that_takes_its_time_is_left_at_the_deadline() {
    for begun in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"] {
        let (address, _) = server(begun, false).await;
        let time = Duration::from_millis(200);
        let outcome = send_within(&local(), &format!("http://{address}/"), time).await;
        assert_eq!(outcome, Err(Fault::Timeout), "{begun:?}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_told() {
    let (address, _) = server("SSH-2.0-OpenSSH\r\n\r\n", true).await;
    assert_eq!(send(&local(), &format!("http://{address}/")).await, Err(Fault::BadAnswer));
    let (address, _) = server("", true).await;
    assert_eq!(send(&local(), &format!("http://{address}/")).await, Err(Fault::Unreachable));
    let (address, _) = server("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx", true).await;
    assert_eq!(send(&local(), &format!("http://{address}/")).await, Err(Fault::Unreachable), "cut short");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(send(&local(), &format!("http://{address}/")).await, Err(Fault::ConnectionRefused));
}

/// A server with a certificate for `localhost` by an authority of its own.
async fn tls_server() -> (SocketAddr, Heard, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (address, heard) = (listener.local_addr().unwrap(), Heard::default());
    let hearing = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer_to(stream, OK.as_bytes(), true, &hearing).await;
            }
        }
    });
    (address, heard, roots)
}

#[tokio::test]
async fn a_certificate_has_to_be_trusted_before_anything_is_sent() {
    let (address, heard, roots) = tls_server().await;
    let url = |host: &str| format!("https://{host}:{}/", address.port());
    let outcome = send(&local(), &url("localhost")).await;
    assert!(matches!(outcome, Err(Fault::Tls(why)) if why.contains("not trusted")), "{outcome:?}");
    let trusting = || local().trusting(roots.clone());
    let outcome = send(&trusting(), &url("127.0.0.1")).await;
    assert!(matches!(outcome, Err(Fault::Tls(why)) if why.contains("another host")), "{outcome:?}");
    assert!(heard.lock().is_empty());
    assert_eq!(send(&trusting(), &url("localhost")).await.unwrap().status, 200);
    // One that speaks first, and no TLS.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = plain.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let outcome = send(&trusting(), &format!("https://localhost:{port}/")).await;
    assert!(matches!(outcome, Err(Fault::Tls(_))), "{outcome:?}");
}

#[tokio::test]
async fn credentials_stand_in_their_headers_and_the_host_is_the_one_that_is_called() {
    let (address, heard) = server(OK, true).await;
    let header = |name: &str, value: &str, kind| Header { name: name.into(), value: value.into(), kind };
    let request = HttpRequest {
        method: HttpMethod::Post,
        url: format!("http://{address}/v1/%2E%2E/chat?a=1"),
        headers: vec![
            header("Authorization", "Bearer {api_key}", HeaderKind::ApiKey),
            header("Host", "elsewhere.example", HeaderKind::Plain),
            header("X-Team", "{secret}", HeaderKind::Secret),
        ],
        body: Some(serde_json::json!({"a": 1})),
    };
    let mut credentials =
        Credentials { api_key: Some(SecretText::from("sk-1{secret}")), ..Default::default() };
    let deadline = Instant::now() + DEADLINE;
    let outcome = local().send(&request, &credentials, deadline).await;
    assert_eq!(outcome, Err(Fault::Unsendable), "a header without its secret");
    assert!(heard.lock().is_empty());
    credentials.headers.insert("X-Team".to_owned(), SecretText::from("blue-team-7"));
    local().send(&request, &credentials, deadline).await.unwrap();
    let told = heard.lock()[0].to_ascii_lowercase();
    assert!(told.starts_with("post /v1/%2e%2e/chat?a=1 http/1.1\r\n"), "{told}");
    assert!(
        told.contains("authorization: bearer sk-1{secret}\r\n") && told.contains("x-team: blue-team-7\r\n")
    );
    assert!(told.contains(&format!("host: {address}\r\n")) && !told.contains("elsewhere"), "{told}");
    // Another line can't be smuggled in.
    credentials.headers.insert("X-Team".to_owned(), SecretText::from("a\r\nx: y"));
    assert_eq!(local().send(&request, &credentials, deadline).await, Err(Fault::Unsendable));
}

#[test]
fn no_part_of_a_credential_comes_back() {
    let credentials = Credentials {
        api_key: Some(SecretText::from("xai-Abc123def456ghi789")),
        headers: [("X-Team".to_owned(), SecretText::from("blue-team-7"))].into(),
    };
    for (text, shown) in [
        ("Incorrect API key provided: xa***89.", "Incorrect API key provided: [removed]"),
        ("no team blue-team-7 here", "no team [removed] here"),
        ("key Abc123def is bad", "key [removed] is bad"),
        ("all is well", "all is well"),
    ] {
        assert_eq!(credentials.scrubbed(text), shown);
    }
    assert!(
        credentials.are_shown_by("model-xai-Abc123def456ghi789") && credentials.are_shown_by("blue-team-7")
    );
    assert!(!credentials.are_shown_by("llama-3.3-70b"));
    assert_eq!(Credentials::default().scrubbed(&"x ".repeat(999)).chars().count(), 500);
}
