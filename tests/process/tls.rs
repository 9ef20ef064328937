//! TLS, certificates of clients, and certificates that are replaced while the server runs.

use std::{fs, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use signalbox::{
    client::{ClientOptions, Connection, Error, TokenSource},
    proto::v1::{GetStatusRequest, admin_service_client::AdminServiceClient},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::{
    calls::with,
    command_line::said,
    harness::{Home, PATIENCE, Server, exposition::Exposition, http::over, run, soon, until, until_answered},
};

/// An authority, and what it signs.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this name with its key, both PEM.
    pub fn sign(&self, name: &str) -> (String, String) {
        self.sign_until(name, (4096, 1, 1))
    }

    /// One that expires at the beginning of a day.
    fn sign_until(&self, name: &str, (year, month, day): (i32, u8, u8)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, month, day);
        let issuer: &Issuer<'_, KeyPair> = &self.0;
        (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Puts a certificate and its key where the server looks, as a whole.
fn install(home: &Home, (certificate, key): &(String, String)) {
    for (name, text) in [("tls.crt", certificate), ("tls.key", key)] {
        let next = home.path(&format!("{name}.next"));
        fs::write(&next, text).unwrap();
        fs::rename(next, home.path(name)).unwrap();
    }
}

async fn start(home: &Arc<Home>, more: &[&str]) -> Server {
    let mut arguments = vec!["--tls-cert-file", "tls.crt", "--tls-key-file", "tls.key"];
    arguments.extend(more);
    Server::start_in_with(home, &arguments).await
}

/// A call with the admin's token, over TLS as told.
async fn call(server: &Server, tls: ClientTlsConfig) -> Result<(), String> {
    let (_, port) = server.address().rsplit_once(':').unwrap();
    let endpoint = Channel::from_shared(format!("https://localhost:{port}")).unwrap();
    let connecting = endpoint.tls_config(tls).unwrap();
    let channel = connecting.connect().await.map_err(|error| format!("{error:?}"))?;
    let mut admin = AdminServiceClient::new(channel);
    let answer = soon(admin.get_status(with(&server.admin_token(), GetStatusRequest {}))).await;
    answer.map(|_| ()).map_err(|status| status.to_string())
}

fn trusting(authority: &Authority) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()))
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_is_served_and_nothing_is_said_in_plaintext() {
    let (ours, other) = (Authority::new(), Authority::new());
    let home = Arc::new(Home::new());
    install(&home, &ours.sign("localhost"));
    // With TLS, beyond loopback needs no flag.
    let server = start(&home, &["--listen", "0.0.0.0:0"]).await;
    assert!(server.ready_line().contains("gRPC on https://"), "{}", server.ready_line());
    call(&server, trusting(&ours)).await.unwrap();
    assert!(call(&server, trusting(&other)).await.is_err(), "another authority signed it");
    let (_, port) = server.address().rsplit_once(':').unwrap();
    let mut plain = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut answer = Vec::new();
    let _ = soon(plain.read_to_end(&mut answer)).await;
    // At most a TLS alert (RFC 8446, section 6), never a frame of HTTP/2.
    assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    let ca_file = home.path("ca.pem");
    fs::write(&ca_file, ours.pem()).unwrap();
    let options = ClientOptions::new(format!("https://localhost:{port}"))
        .token(TokenSource::fixed(server.admin_token()))
        .ca_file(ca_file);
    let mut connection = Connection::open(&options).await.unwrap();
    connection.admin.get_status(GetStatusRequest {}).await.unwrap();
    for none in ["/no/such".into(), home.path("tls.key")] {
        let none = Connection::open(&options.clone().ca_file(none)).await;
        assert!(matches!(none, Err(Error::CaFile { .. })), "{none:?}");
    }
}

/// The page for probes over TLS, and what was agreed to speak.
async fn page(
    server: &Server,
    authority: &Authority,
    speaks: &[&str],
) -> std::io::Result<(u16, Option<Vec<u8>>)> {
    let stream = tls(server, authority, speaks).await?;
    let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    Ok((over(stream, "GET", "/livez", "").await.code, agreed))
}

/// The text of a page over TLS.
async fn page_of(server: &Server, authority: &Authority, path: &str, headers: &str) -> String {
    let stream = tls(server, authority, &["http/1.1"]).await.unwrap();
    over(stream, "GET", path, headers).await.body
}

/// A connection to the listener of HTTP.
async fn tls(
    server: &Server,
    authority: &Authority,
    speaks: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = speaks.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(server.http_address()).await?;
    let name = ServerName::try_from("localhost").unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

#[tokio::test]
async fn http_is_behind_the_same_certificate() {
    let (ours, other) = (Authority::new(), Authority::new());
    let home = Arc::new(Home::new());
    install(&home, &ours.sign("localhost"));
    let server = start(&home, &["--http-listen", "127.0.0.1:0"]).await;
    assert!(server.ready_line().contains("HTTP on https://"), "{}", server.ready_line());
    let spoken = Some(b"http/1.1".to_vec());
    assert_eq!(page(&server, &ours, &["http/1.1"]).await.unwrap(), (200, spoken));
    assert_eq!(page(&server, &ours, &[]).await.unwrap(), (200, None));
    assert!(page(&server, &other, &["http/1.1"]).await.is_err(), "another authority signed it");
    call(&server, trusting(&ours)).await.unwrap();
}

#[tokio::test]
async fn where_clients_need_a_certificate_none_is_served_without_one() {
    let (servers, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let home = Arc::new(Home::new());
    install(&home, &servers.sign("localhost"));
    fs::write(home.path("clients.pem"), clients.pem()).unwrap();
    let server = start(&home, &["--tls-client-ca-file", "clients.pem"]).await;
    let as_client = |authority: &Authority| {
        let (certificate, key) = authority.sign("worker");
        trusting(&servers).identity(Identity::from_pem(certificate, key))
    };
    call(&server, as_client(&clients)).await.unwrap();
    assert!(call(&server, trusting(&servers)).await.is_err(), "without a certificate");
    assert!(call(&server, as_client(&strangers)).await.is_err(), "with a stranger's");
    assert!(call(&server, as_client(&servers)).await.is_err(), "the server's own authority signs no clients");
}

/// Our own clients, and what they say where something is missing.
#[tokio::test]
async fn the_command_line_and_the_client_show_a_certificate() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let home = Arc::new(Home::new());
    install(&home, &servers.sign("localhost"));
    let path = |name: &str| home.path(name);
    fs::write(path("servers.pem"), servers.pem()).unwrap();
    fs::write(path("clients.pem"), clients.pem()).unwrap();
    let (certificate, key) = clients.sign("worker");
    fs::write(path("client.crt"), certificate).unwrap();
    fs::write(path("client.key"), key).unwrap();
    let server = start(&home, &["--tls-client-ca-file", "clients.pem"]).await;
    let (_, port) = server.address().rsplit_once(':').unwrap();
    let url = format!("https://localhost:{port}");

    let options =
        ClientOptions::new(&url).token(TokenSource::fixed(server.admin_token())).ca_file(path("servers.pem"));
    let shown = options.clone().identity_files(path("client.crt"), path("client.key"));
    Connection::open(&shown).await.unwrap().admin.get_status(GetStatusRequest {}).await.unwrap();
    let missing = Connection::open(&options.identity_files(path("client.crt"), "/no/such")).await;
    assert!(matches!(missing, Err(Error::IdentityFile { .. })), "{missing:?}");

    let status = |url: &str, flags: &str| {
        let flags = flags.split_whitespace();
        let mut command = home.signalbox(&["status", "--server", url]);
        command.args(flags);
        command
    };
    let all = "--ca-file servers.pem --cert-file client.crt --key-file client.key";
    let output = run(&mut status(&url, all)).await;
    assert!(output.status.success(), "{output:?}");
    let mut from_env = status(&url, "");
    from_env.env("SIGNALBOX_CA_FILE", "servers.pem").env("SIGNALBOX_CLIENT_CERT_FILE", "client.crt");
    let half = said(&run(&mut from_env).await, 2);
    assert!(half.contains("--key-file"), "{half}");
    let output = run(from_env.env("SIGNALBOX_CLIENT_KEY_FILE", "client.key")).await;
    assert!(output.status.success(), "{output:?}");

    let without = said(&run(&mut status(&url, "--ca-file servers.pem")).await, 6);
    assert!(without.contains("hint: ") && without.contains("--cert-file"), "{without}");
    let untrusted = said(&run(&mut status(&url, "")).await, 6);
    assert!(untrusted.contains("hint: ") && untrusted.contains("--ca-file"), "{untrusted}");
    let plain_url = url.replace("https", "http");
    let plain = said(&run(&mut status(&plain_url, "")).await, 6);
    assert!(plain.contains("hint: ") && plain.contains("https://"), "{plain}");
    let nowhere = said(&run(&mut status(&plain_url, all)).await, 2);
    assert!(nowhere.contains("--ca-file"), "{nowhere}");
}

/// As through `kubectl port-forward`: the certificate is for the service, the address is the loopback's.
#[tokio::test]
async fn a_forwarded_port_is_called_by_the_name_of_the_certificate() {
    let authority = Authority::new();
    let home = Arc::new(Home::new());
    install(&home, &authority.sign("signalbox.signalbox.svc"));
    fs::write(home.path("ca.crt"), authority.pem()).unwrap();
    let server = start(&home, &[]).await;
    let (_, port) = server.address().rsplit_once(':').unwrap();
    let url = format!("https://127.0.0.1:{port}");
    let status = async |flags: &[&str]| {
        let all = [&["status", "--server", &url, "--ca-file", "ca.crt"], flags].concat();
        run(&mut home.signalbox(&all)).await
    };
    let refused = said(&status(&[]).await, 6);
    assert!(refused.contains("hint: ") && refused.contains("--tls-server-name"), "{refused}");
    let named = status(&["--tls-server-name", "signalbox.signalbox.svc"]).await;
    assert!(named.status.success(), "{named:?}");
    let other = status(&["--tls-server-name", "elsewhere.example"]).await;
    assert_eq!(other.status.code(), Some(6), "{other:?}");
    let plaintext = ["status", "--server", "http://127.0.0.1:1", "--tls-server-name", "a"];
    let nowhere = run(&mut home.signalbox(&plaintext)).await;
    assert!(said(&nowhere, 2).contains("--tls-server-name"));
}

#[tokio::test]
async fn a_certificate_that_can_not_be_used_stops_the_start() {
    let authority = Authority::new();
    let (certificate, _) = authority.sign("localhost");
    let (_, other_key) = authority.sign("localhost");
    let home = Home::new();
    install(&home, &(certificate, other_key));
    let refused = async |key: &str| {
        let refused = home.refused_with(&["--tls-cert-file", "tls.crt", "--tls-key-file", key]).await;
        assert!(refused.code != Some(0) && refused.message.contains("TLS"), "{refused:?}");
        refused.message
    };
    refused("tls.key").await;
    fs::write(home.path("empty"), "").unwrap();
    let said = refused("empty").await;
    assert!(said.contains("empty"), "{said}");
}

/// Waits until a client that trusts only this authority is served.
async fn served_under(server: &Server, authority: &Authority) {
    let served = async || call(server, trusting(authority)).await.is_ok();
    until_answered(PATIENCE, "the certificate is taken up", served).await;
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_taken_up_and_a_broken_one_is_not() {
    let (old, new, newest) = (Authority::new(), Authority::new(), Authority::new());
    let home = Arc::new(Home::new());
    install(&home, &old.sign("localhost"));
    let server = start(&home, &[]).await;
    let (_, port) = server.address().rsplit_once(':').unwrap();
    let endpoint = Channel::from_shared(format!("https://localhost:{port}")).unwrap();
    let open = endpoint.tls_config(trusting(&old)).unwrap().connect().await.unwrap();
    install(&home, &new.sign("localhost"));
    served_under(&server, &new).await;
    assert!(call(&server, trusting(&old)).await.is_err(), "the old certificate is still shown");
    let mut still = AdminServiceClient::new(open);
    still.get_status(with(&server.admin_token(), GetStatusRequest {})).await.expect("open connections stay");
    // Half a replacement, as it looks for a moment or for ever: the last good one stays.
    fs::write(home.path("tls.crt"), "-----BEGIN CERTIFICATE-----\nbroken\n").unwrap();
    until(PATIENCE, "it is complained of", || home.log().contains("the old one stays")).await;
    call(&server, trusting(&new)).await.unwrap();
    install(&home, &newest.sign("localhost"));
    served_under(&server, &newest).await;
}

/// What `status` warns of over TLS.
async fn warnings(server: &Server, authority: &Authority) -> Option<Vec<String>> {
    let (_, port) = server.address().rsplit_once(':').unwrap();
    let endpoint = Channel::from_shared(format!("https://localhost:{port}")).unwrap();
    let channel = endpoint.tls_config(trusting(authority)).unwrap().connect().await.ok()?;
    let mut admin = AdminServiceClient::new(channel);
    let answer = admin.get_status(with(&server.admin_token(), GetStatusRequest {})).await.ok()?;
    Some(answer.into_inner().warnings)
}

#[tokio::test]
async fn the_end_of_the_certificate_is_a_metric_and_what_is_wrong_with_it_a_warning() {
    let authority = Authority::new();
    let home = Arc::new(Home::new());
    install(&home, &authority.sign_until("localhost", (2199, 1, 2)));
    let server = start(&home, &["--http-listen", "127.0.0.1:0"]).await;
    let expiry = async || {
        let head = format!("Authorization: Bearer {}\r\n", server.admin_token());
        let page = page_of(&server, &authority, "/metrics", &head).await;
        Exposition::parse(&page).find("signalbox_tls_certificate_not_after_timestamp_seconds", &[])
    };
    until_answered(PATIENCE, "2199-01-02", async || expiry().await == Some(7_226_668_800.0)).await;
    let warned = async |words: &str| {
        let found = warnings(&server, &authority).await.unwrap_or_default();
        found.iter().any(|warning| warning.contains(words))
    };
    assert!(!warned("tls.crt").await);
    // Half a replacement: the old certificate stays, and somebody has to know.
    fs::write(home.path("tls.crt"), "-----BEGIN CERTIFICATE-----\nbroken\n").unwrap();
    until_answered(PATIENCE, "the warning", async || warned("the old one stays").await).await;
    assert_eq!(expiry().await, Some(7_226_668_800.0));
    install(&home, &authority.sign_until("localhost", (2198, 1, 2)));
    until_answered(PATIENCE, "2198-01-02", async || expiry().await == Some(7_195_132_800.0)).await;
    until_answered(PATIENCE, "the warning is over", async || !warned("the old one stays").await).await;
}

/// Nobody can ask it any more: clients refuse it. So the log has to say why.
#[tokio::test]
async fn a_certificate_that_has_expired_is_told_in_the_log() {
    let home = Arc::new(Home::new());
    let expired = Authority::new().sign_until("localhost", (2020, 1, 2));
    install(&home, &expired);
    let _server = start(&home, &[]).await;
    until(PATIENCE, "the log says so", || home.log().contains("has expired on 2020-01-02")).await;
    // Once, and not at each look.
    install(&home, &expired);
    until(PATIENCE, "it is looked at again", || home.log().contains("was read again")).await;
    assert_eq!(home.log().matches("has expired on").count(), 1, "{}", home.log());
}
