//! A written-out server: what it says, what it is told, and what it is not.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rustls::RootCertStore;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    crypto::SecretText,
    outbound::database::tests::{PASSWORD, attempt, authority, local, spec},
    proto::v1::{DatabaseSpec, DatabaseType},
};

const NONCE: &[u8; 20] = b"abcdefghijklmnopqrst";
const OTHER_NONCE: &[u8; 20] = b"ABCDEFGHIJKLMNOPQRST";
const DONE: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
/// A column, its end, a row with `1`, its end.
const ROWS: [&[u8]; 5] = [&[1], b"\x03def\0\0\0\x011", &[0xfe, 0, 0, 2, 0], b"\x011", &[0xfe, 0, 0, 2, 0]];

/// What a stand-in was told: the packets, without their heads.
type Told = Arc<Mutex<Vec<Vec<u8>>>>;

fn greeting(way: &str, capabilities: u32) -> Vec<u8> {
    let [low, high] = [capabilities as u16, (capabilities >> 16) as u16].map(u16::to_le_bytes);
    [
        b"\x0a8.4.6\0\x01\0\0\0",
        &NONCE[..8],
        b"\0",
        &low,
        b"\x2d\x02\0",
        &high,
        b"\x15\0\0\0\0\0\0\0\0\0\0",
        &NONCE[8..],
        b"\0",
        way.as_bytes(),
        b"\0",
    ]
    .concat()
}

fn switch(way: &str) -> Vec<u8> {
    [&[SWITCH], way.as_bytes(), b"\0", OTHER_NONCE, b"\0"].concat()
}

fn error(code: u16) -> Vec<u8> {
    [&[ERROR][..], &code.to_le_bytes(), b"#28000no"].concat()
}

/// A server that greets so, and answers each packet of the sign-in with the next of these, and then a query.
async fn server(greeting: Vec<u8>, says: &[&[u8]], tls: Option<TlsAcceptor>) -> (SocketAddr, Told) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, told) = (listener.local_addr().unwrap(), Told::default());
    let (says, hearing) = (says.iter().map(|said| said.to_vec()).collect::<Vec<_>>(), Arc::clone(&told));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            say(&mut stream, 0, &greeting).await;
            match &tls {
                None => answer(stream, &says, &hearing).await,
                Some(tls) => {
                    hear(&mut stream).await;
                    if let Ok(stream) = tls.accept(stream).await {
                        answer(stream, &says, &hearing).await;
                    }
                }
            }
        }
    });
    (address, told)
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, says: &[Vec<u8>], told: &Told) {
    for said in says {
        let Some((sequence, packet)) = hear(&mut stream).await else { return };
        told.lock().push(packet);
        say(&mut stream, sequence + 1, said).await;
        // A hash that is right is followed by the end at once.
        if said == &[MORE, 3] {
            say(&mut stream, sequence + 2, DONE).await;
        }
    }
    let Some((_, packet)) = hear(&mut stream).await else { return };
    told.lock().push(packet);
    for (sequence, row) in (1..).zip(ROWS) {
        say(&mut stream, sequence, row).await;
    }
    hear(&mut stream).await;
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), sequence: u8, packet: &[u8]) {
    let head = [u8::try_from(packet.len()).unwrap(), 0, 0, sequence];
    let _ = stream.write_all(&[&head[..], packet].concat()).await;
}

async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.ok()?;
    let mut packet = vec![0; usize::from(head[0])];
    stream.read_exact(&mut packet).await.ok()?;
    Some((head[3], packet))
}

fn mysql(host: &str, address: SocketAddr, mode: DatabaseTlsMode) -> DatabaseSpec {
    DatabaseSpec { database: "app".into(), ..spec(DatabaseType::Mysql, host, address.port(), mode) }
}

/// What is tried over a connection in the clear to this machine, and what the server was told.
async fn in_the_clear(way: &str, says: &[&[u8]]) -> (Found, Vec<Vec<u8>>) {
    let (address, told) = server(greeting(way, NEEDED), says, None).await;
    let found = attempt(&local(), &mysql("127.0.0.1", address, DatabaseTlsMode::Disabled)).await;
    let told = told.lock().clone();
    (found, told)
}

/// The same within TLS by an authority that is trusted.
async fn within_tls(mode: DatabaseTlsMode, says: &[&[u8]]) -> (Found, Vec<Vec<u8>>) {
    let (acceptor, roots): (_, RootCertStore) = authority();
    let greeting = greeting("caching_sha2_password", NEEDED | SSL);
    let (address, told) = server(greeting, says, Some(acceptor)).await;
    let found = attempt(&local().trusting(roots), &mysql("localhost", address, mode)).await;
    let told = told.lock().clone();
    (found, told)
}

fn holds(packet: &[u8], part: &[u8]) -> bool {
    packet.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn a_user_is_signed_in_by_a_hash_and_a_query_is_asked() {
    for (way, says) in [("caching_sha2_password", &[&[MORE, 3][..]][..]), ("mysql_native_password", &[DONE])]
    {
        let (found, told) = in_the_clear(way, says).await;
        assert_eq!((found.trouble, found.version.as_str()), (None, "8.4.6"), "{way}");
        let [response, query] = &told[..] else { panic!("{told:?}") };
        let (known, _) = Way::named(way.as_bytes()).unwrap();
        let proof = known.answer(PASSWORD, NONCE);
        let end = [&[proof.len() as u8][..], &proof, b"app\0", way.as_bytes(), b"\0"].concat();
        assert!(response.ends_with(&[b"me\0", &end[..]].concat()), "{way}: {response:?}");
        assert_eq!(query, QUERY);
    }
}

#[tokio::test]
async fn an_account_may_have_another_way_than_the_server() {
    let (found, told) =
        in_the_clear("caching_sha2_password", &[&switch("mysql_native_password"), DONE]).await;
    assert_eq!(found.trouble, None);
    assert_eq!(told[1], *Way::Native.answer(PASSWORD, OTHER_NONCE), "what is made up anew counts");
    // A server whose default would be the password itself is asked to switch.
    let (found, told) =
        in_the_clear("sha256_password", &[&switch("caching_sha2_password"), &[MORE, 3]]).await;
    assert_eq!(found.trouble, None);
    assert!(!holds(&told[0], PASSWORD.as_bytes()));
    for way in ["client_ed25519", "authentication_kerberos"] {
        let (found, _) = in_the_clear(way, &[&switch(way)]).await;
        assert_eq!(found.trouble, Some(UNKNOWN_WAY), "{way}");
    }
}

/// What a server without a remembered hash asks for, what accounts of LDAP and PAM have, and what was there before.
#[tokio::test]
async fn the_password_itself_is_said_within_tls_only() {
    let clear = [switch("mysql_clear_password"), switch("sha256_password")];
    for asks in [&[MORE, 4][..], &clear[0], &clear[1]] {
        let (found, told) = in_the_clear("caching_sha2_password", &[asks, DONE]).await;
        assert_eq!(found.trouble, Some(NO_TLS), "{asks:?}");
        let Some(Trouble::Fault(Fault::Tls(advice))) = found.trouble else { panic!() };
        assert!(advice.contains("DATABASE_TLS_MODE_REQUIRED"), "{advice}");
        assert!(told.iter().all(|packet| !holds(packet, PASSWORD.as_bytes())), "{told:?}");

        let (found, told) = within_tls(DatabaseTlsMode::VerifyFull, &[asks, DONE]).await;
        assert_eq!((found.trouble, found.encrypted), (None, true), "{asks:?}");
        assert_eq!(told[1], [PASSWORD.as_bytes(), b"\0"].concat());
    }
}

#[tokio::test]
async fn a_wrong_password_and_what_is_missing_are_told() {
    let refused = |how, code: &str| Some(Trouble::Refused { how, code: code.to_owned() });
    for (code, trouble) in [
        (1045, refused(Refusal::Authentication, "1045")),
        (1049, refused(Refusal::DatabaseMissing, "1049")),
        (1044, refused(Refusal::Permission, "1044")),
        (1040, refused(Refusal::Unavailable, "1040")),
        (3159, refused(Refusal::Other, "3159")),
    ] {
        let (found, _) = in_the_clear("caching_sha2_password", &[&error(code)]).await;
        assert_eq!(found.trouble, trouble);
    }
    let (address, told) = server(greeting("mysql_native_password", NEEDED), &[&error(1045)], None).await;
    let mut spec = mysql("127.0.0.1", address, DatabaseTlsMode::Disabled);
    for (user, lacks) in [("me", "password"), ("", "user")] {
        spec.user = user.into();
        let login = Login { spec: &spec, password: None };
        let found = local().try_database(&login, Instant::now() + Duration::from_secs(20)).await;
        assert_eq!(found.trouble, Some(Trouble::Lacks(lacks)));
    }
    assert_eq!(told.lock().len(), 1, "nothing is said for nobody");
}

/// A server that nobody vouches for would learn what it takes to guess the password.
#[tokio::test]
async fn a_server_that_has_proven_nothing_is_only_heard() {
    let (acceptor, roots) = authority();
    let greeting = greeting("caching_sha2_password", NEEDED | SSL);
    let (address, told) = server(greeting, &[DONE], Some(acceptor)).await;
    let (outbound, password) = (local().trusting(roots), SecretText::from(PASSWORD));
    for mode in [
        DatabaseTlsMode::Required,
        DatabaseTlsMode::Preferred,
        DatabaseTlsMode::VerifyCa,
        DatabaseTlsMode::Disabled,
    ] {
        let spec = mysql("localhost", address, mode);
        let login = Login { spec: &spec, password: Some(&password) };
        let mut channel = outbound.channel(&login).await.unwrap().elsewhere();
        let mut found = Found::default();
        assert_eq!(sign_in(&mut channel, &login, &mut found).await, Err(Trouble::NotTried), "{mode:?}");
        assert_eq!(found.encrypted, mode != DatabaseTlsMode::Disabled);
        assert!(told.lock().is_empty(), "{mode:?}");
    }
    // What goes to this machine is known to arrive.
    let found = attempt(&outbound, &mysql("localhost", address, DatabaseTlsMode::Required)).await;
    assert_eq!((found.trouble, told.lock().len()), (None, 2));
}

/// What the advice leads to: a server's own certificate proves nothing, and on this machine nothing has to be proven.
#[tokio::test]
async fn regression_a_local_server_with_a_certificate_of_its_own_is_signed_in_to() {
    let (acceptor, _) = authority();
    let greeting = greeting("caching_sha2_password", NEEDED | SSL);
    let (address, told) = server(greeting, &[&[MORE, 4], DONE], Some(acceptor)).await;
    let found = attempt(&local(), &mysql("127.0.0.1", address, DatabaseTlsMode::Required)).await;
    assert_eq!((found.trouble, found.encrypted), (None, true));
    assert_eq!(told.lock()[1], [PASSWORD.as_bytes(), b"\0"].concat());
}

#[tokio::test]
async fn what_is_no_conversation_is_left() {
    for says in [
        &[&[9, 9][..]][..],
        &[&[MORE, 9]],
        &[&[SWITCH]],
        &[&[SWITCH, b'x']],
        &[&[MORE, 3], &[MORE, 3], &[MORE, 3]],
    ] {
        let (found, _) = in_the_clear("mysql_native_password", says).await;
        assert!(found.trouble.is_some(), "{says:?}");
    }
    let many = vec![&[MORE, 4][..]; 64];
    let (found, _) = within_tls(DatabaseTlsMode::VerifyFull, &many).await;
    assert_eq!(found.trouble, Some(Fault::TooLarge.into()), "the password is not said for ever");
}
