//! Servers that misbehave, and what goes to whom. All are on this machine; PostgreSQL itself is tried in the
//! tests of the API.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rustls::{RootCertStore, ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    outbound::{Resolve, SystemResolver},
    settings::{AllowedHost, HostPattern},
};

pub(super) const PASSWORD: &str = "canary-pass-1234";

pub(super) fn local() -> Outbound {
    let host = HostPattern::Network { address: "127.0.0.0".parse().unwrap(), prefix: 8 };
    Outbound::new(vec![AllowedHost { host, port: None }], Arc::new(SystemResolver))
}

pub(super) fn spec(kind: DatabaseType, host: &str, port: u16, tls_mode: DatabaseTlsMode) -> DatabaseSpec {
    DatabaseSpec {
        r#type: kind.into(),
        host: host.into(),
        port: port.into(),
        user: "me".into(),
        tls_mode: tls_mode.into(),
        ..DatabaseSpec::default()
    }
}

async fn try_within(outbound: &Outbound, spec: &DatabaseSpec, time: Duration) -> Found {
    let password = SecretText::from(PASSWORD);
    let login = Login { spec, password: Some(&password) };
    let found = outbound.try_database(&login, Instant::now() + time).await;
    assert!(!format!("{found:?}").contains("canary"), "{found:?}");
    found
}

pub(super) async fn attempt(outbound: &Outbound, spec: &DatabaseSpec) -> Found {
    try_within(outbound, spec, Duration::from_secs(20)).await
}

/// What a server was sent.
type Heard = Arc<Mutex<Vec<u8>>>;

/// A server that says each of these once it has been sent anything more, the first of them at once if it `greets`.
async fn server(greets: bool, says: &[&[u8]]) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Heard::default());
    let (says, hearing) = (says.iter().map(|text| text.to_vec()).collect::<Vec<_>>(), Arc::clone(&heard));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (says, hearing) = (says.clone(), Arc::clone(&hearing));
            tokio::spawn(async move { talk(stream, greets, says, hearing).await });
        }
    });
    (address, heard)
}

async fn talk(mut stream: TcpStream, mut greets: bool, says: Vec<Vec<u8>>, heard: Heard) {
    let mut piece = [0; 4096];
    for text in says {
        if !std::mem::take(&mut greets) {
            match stream.read(&mut piece).await {
                Ok(read) if read > 0 => heard.lock().extend_from_slice(&piece[..read]),
                _ => return,
            }
        }
        if stream.write_all(&text).await.is_err() {
            return;
        }
    }
    while let Ok(read) = stream.read(&mut piece).await
        && read > 0
    {
        heard.lock().extend_from_slice(&piece[..read]);
    }
}

fn heard_password(heard: &Heard) -> bool {
    String::from_utf8_lossy(&heard.lock()).contains(PASSWORD)
}

const TESTED: [DatabaseType; 3] = [DatabaseType::Postgresql, DatabaseType::Redis, DatabaseType::Mysql];

#[tokio::test]
async fn what_is_not_public_or_may_go_in_the_clear_is_not_connected_to() {
    struct Public;
    #[async_trait::async_trait]
    impl Resolve for Public {
        async fn resolve(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
            Ok(vec!["8.8.8.8".parse().unwrap()])
        }
    }
    let (address, heard) = server(true, &[b"hello"]).await;
    let strict = Outbound::new(vec![], Arc::new(Public));
    for kind in TESTED {
        for host in ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254"] {
            let found =
                attempt(&strict, &spec(kind, host, address.port(), DatabaseTlsMode::VerifyFull)).await;
            let refused = matches!(found.trouble, Some(Trouble::Fault(Fault::EgressRefused(_))));
            assert!(refused, "{kind:?} {host}: {found:?}");
        }
        for mode in [DatabaseTlsMode::Disabled, DatabaseTlsMode::Preferred] {
            let found = attempt(&strict, &spec(kind, "db.example.com", 1, mode)).await;
            assert_eq!(found.trouble, Some(Fault::EgressRefused("unencrypted").into()), "{kind:?} {mode:?}");
        }
    }
    assert!(heard.lock().is_empty());
}

#[tokio::test]
async fn types_that_cannot_be_tried_say_so_and_nothing_is_sent() {
    let (address, heard) = server(true, &[b"hello"]).await;
    for kind in [DatabaseType::Sqlite, DatabaseType::Mongodb, DatabaseType::Other] {
        let found =
            attempt(&local(), &spec(kind, "127.0.0.1", address.port(), DatabaseTlsMode::Disabled)).await;
        assert!(matches!(found.trouble, Some(Trouble::Unsupported(_))), "{kind:?}");
    }
    assert!(heard.lock().is_empty());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_at_the_deadline() {
    let (address, _) = server(false, &[]).await;
    for kind in TESTED {
        let spec = spec(kind, "127.0.0.1", address.port(), DatabaseTlsMode::Disabled);
        let found = try_within(&local(), &spec, Duration::from_millis(200)).await;
        assert_eq!(found.trouble, Some(Fault::Timeout.into()), "{kind:?}");
    }
}

#[tokio::test]
async fn what_is_no_database_is_told_and_what_never_ends_is_left() {
    let http = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    for kind in TESTED {
        let (address, heard) = server(kind == DatabaseType::Mysql, &[http]).await;
        let spec = spec(kind, "127.0.0.1", address.port(), DatabaseTlsMode::Disabled);
        let found = attempt(&local(), &spec).await;
        let told = matches!(found.trouble, Some(Trouble::Fault(Fault::BadAnswer | Fault::TooLarge)));
        assert!(told, "{kind:?}: {found:?}");
        assert_eq!(
            heard_password(&heard),
            kind == DatabaseType::Redis,
            "{kind:?}: only Redis is sent it first"
        );
    }
    let notices = b"N\0\0\0\x0cSNOTICE\0".repeat(100_000);
    let lengthy = b"R\xff\xff\xff\xff";
    let short = b"R\0\0\0\x03";
    let line = vec![b'+'; 1 << 20];
    let greeting = b"\xff\xff\xff\x00".repeat(1 << 18);
    for (kind, says) in [
        (DatabaseType::Postgresql, &notices[..]),
        (DatabaseType::Postgresql, lengthy),
        (DatabaseType::Postgresql, short),
        (DatabaseType::Redis, &line),
        (DatabaseType::Mysql, &greeting),
    ] {
        let (address, _) = server(kind == DatabaseType::Mysql, &[says]).await;
        let spec = spec(kind, "127.0.0.1", address.port(), DatabaseTlsMode::Disabled);
        let found = attempt(&local(), &spec).await;
        let bounded = matches!(found.trouble, Some(Trouble::Fault(Fault::BadAnswer | Fault::TooLarge)));
        assert!(bounded, "{kind:?}: {found:?}");
    }
    // Rounds of hashing that would take an hour.
    let sasl = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
    let (address, _) = server(false, &[sasl, b"R\0\0\0\x1f\0\0\0\x0br=x,s=YQ==,i=4294967295"]).await;
    let spec = spec(DatabaseType::Postgresql, "127.0.0.1", address.port(), DatabaseTlsMode::Disabled);
    assert_eq!(attempt(&local(), &spec).await.trouble, Some(Fault::BadAnswer.into()));
}

#[tokio::test]
async fn a_password_is_not_sent_before_tls_is_agreed_on() {
    for (kind, says, greets) in [
        (DatabaseType::Postgresql, &b"N"[..], false),
        // A greeting of a server that offers no TLS.
        (DatabaseType::Mysql, b"\x19\0\0\0\x0a8.4\0\x01\0\0\0nonce678\0\0\0\x21\0\0\0\0", true),
    ] {
        let (address, heard) = server(greets, &[says]).await;
        for mode in [DatabaseTlsMode::Required, DatabaseTlsMode::VerifyCa, DatabaseTlsMode::VerifyFull] {
            let found = attempt(&local(), &spec(kind, "127.0.0.1", address.port(), mode)).await;
            assert_eq!(found.trouble, Some(Fault::Tls("it offers none").into()), "{kind:?} {mode:?}");
            assert!(!heard_password(&heard));
        }
    }
}

#[tokio::test]
async fn a_version_that_repeats_the_password_is_not_told() {
    let greeting = |version: &str| {
        let rest = b"\0\x01\0\0\0nonce678\0\0\0\x21\0\0\0\0";
        let packet = [&b"\x0a"[..], version.as_bytes(), rest].concat();
        [&[u8::try_from(packet.len()).unwrap(), 0, 0, 0], &packet[..]].concat()
    };
    for (version, told) in [("8.4.2-x", "8.4.2-x"), (PASSWORD, ""), ("8\u{1b}[2J", "82J")] {
        let (address, _) = server(true, &[&greeting(version)]).await;
        let spec = spec(DatabaseType::Mysql, "127.0.0.1", address.port(), DatabaseTlsMode::Disabled);
        let found = attempt(&local(), &spec).await;
        assert!(matches!(found.trouble, Some(Trouble::Unsupported(_))), "it is too old: {found:?}");
        assert_eq!(found.version, told);
    }
    let (address, _) = server(true, &[b"\x17\0\0\0\xff\x10\x04Too many connections"]).await;
    let spec = spec(DatabaseType::Mysql, "127.0.0.1", address.port(), DatabaseTlsMode::Disabled);
    let refused = Trouble::Refused { how: Refusal::Unavailable, code: "1040".into() };
    assert_eq!(attempt(&local(), &spec).await.trouble, Some(refused));
}

#[tokio::test]
async fn redis_is_signed_in_to_selected_and_asked() {
    let (address, heard) = server(false, &[b"+OK\r\n", b"+OK\r\n", b"+PONG\r\n"]).await;
    let mut redis = spec(DatabaseType::Redis, "127.0.0.1", address.port(), DatabaseTlsMode::Disabled);
    redis.database = "3".into();
    assert_eq!(attempt(&local(), &redis).await, Found::default());
    let said = String::from_utf8(heard.lock().clone()).unwrap();
    let auth = format!("*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n${}\r\n{PASSWORD}\r\n", PASSWORD.len());
    assert_eq!(said, format!("{auth}*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*1\r\n$4\r\nPING\r\n"));
    let refused = |how, code: &str| Some(Trouble::Refused { how, code: code.to_owned() });
    for (says, trouble) in [
        (
            &[&b"-WRONGPASS canary-pass-1234 is wrong\r\n"[..]][..],
            refused(Refusal::Authentication, "WRONGPASS"),
        ),
        (&[b"-ERR Client sent AUTH, but no password is set\r\n"], refused(Refusal::Authentication, "ERR")),
        (&[b"-LOADING Redis is loading\r\n"], refused(Refusal::Unavailable, "LOADING")),
        (&[b"-ERR max number of clients reached\r\n"], refused(Refusal::Unavailable, "ERR")),
        (&[b"+OK\r\n", b"-ERR DB index is out of range\r\n"], refused(Refusal::DatabaseMissing, "ERR")),
        (&[b"+OK\r\n", b"+OK\r\n", b"-NOPERM no\r\n"], refused(Refusal::Permission, "NOPERM")),
        (&[b"+OK\r\n", b"+OK\r\n", b"-NOAUTH\r\n"], Some(Trouble::Lacks("password"))),
        (&[b"-canary-pass-1234\r\n"], refused(Refusal::Authentication, "")),
        (&[b":1\r\n"], Some(Fault::BadAnswer.into())),
    ] {
        let (address, _) = server(false, says).await;
        redis.port = address.port().into();
        assert_eq!(attempt(&local(), &redis).await.trouble, trouble);
    }
}

/// What agrees on TLS with a certificate for `localhost`, and who vouches for that.
pub(super) fn authority() -> (TlsAcceptor, RootCertStore) {
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
    (TlsAcceptor::from(Arc::new(config)), roots)
}

/// Redis behind TLS, with an authority of its own.
async fn encrypted() -> (SocketAddr, RootCertStore) {
    let (acceptor, roots) = authority();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut piece = [0; 4096];
            for answer in [b"+OK\r\n".as_slice(), b"+PONG\r\n"] {
                if stream.read(&mut piece).await.unwrap_or(0) > 0 {
                    let _ = stream.write_all(answer).await;
                }
            }
        }
    });
    (address, roots)
}

#[tokio::test]
async fn a_certificate_is_checked_as_the_mode_says() {
    let (address, roots) = encrypted().await;
    let (plain, _) = server(false, &[b"+OK\r\n", b"+PONG\r\n"]).await;
    let trusting = local().trusting(roots);
    let stranger = local().trusting(encrypted().await.1);
    use DatabaseTlsMode as Mode;
    for (outbound, host, mode, trouble) in [
        (&trusting, "localhost", Mode::VerifyFull, None),
        (&trusting, "127.0.0.1", Mode::VerifyFull, Some("another host")),
        (&trusting, "127.0.0.1", Mode::VerifyCa, None),
        (&stranger, "localhost", Mode::VerifyCa, Some("can't be used")),
        (&stranger, "localhost", Mode::VerifyFull, Some("can't be used")),
        (&stranger, "localhost", Mode::Required, None),
        (&stranger, "localhost", Mode::Preferred, None),
    ] {
        let found = attempt(outbound, &spec(DatabaseType::Redis, host, address.port(), mode)).await;
        match (trouble, &found.trouble) {
            (None, None) => assert!(found.encrypted),
            (Some(part), Some(Trouble::Fault(Fault::Tls(why)))) if why.contains(part) => {}
            _ => panic!("{host} {mode:?}: {found:?}"),
        }
    }
    // Where it is only preferred, a server without it will do.
    let found =
        attempt(&trusting, &spec(DatabaseType::Redis, "127.0.0.1", plain.port(), Mode::Preferred)).await;
    assert_eq!(found, Found::default());
}

#[tokio::test]
async fn regression_a_code_is_told_only_if_it_is_one() {
    for (says, code) in [("28P01", "28P01"), ("s3cretword", ""), ("28p01", ""), ("PASS1", ""), ("28P0", "")] {
        let body = format!("C{says}\0\0");
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        let (address, _) = server(false, &[&[&b"E"[..], &length[..], body.as_bytes()].concat()]).await;
        let spec = spec(DatabaseType::Postgresql, "127.0.0.1", address.port(), DatabaseTlsMode::Disabled);
        let password = SecretText::from("xpass1y");
        let login = Login { spec: &spec, password: Some(&password) };
        let found = local().try_database(&login, Instant::now() + Duration::from_secs(20)).await;
        let Some(Trouble::Refused { code: told, .. }) = found.trouble else { panic!("{found:?}") };
        assert_eq!(told, code, "{says}");
    }
}
