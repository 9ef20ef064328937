//! TLS to the database: what the URL asks for is what there is.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use signalbox::store::{StoreError, postgres::PostgresDatabase};

use super::{open, server::Server};
use crate::fixture::{apply, create};

/// An authority, and a certificate of its for this machine: authority, certificate, key.
fn certificates() -> [String; 3] {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    [authority.pem(), certificate.pem(), key.serialize_pem()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_of_the_database_is_verified_where_that_is_asked_for() {
    let mut server = Server::start(&[]);
    let url = server.database().await;
    let plain = refusal(&format!("{url}?sslmode=require")).await;
    assert!(plain.contains("offers no TLS"), "a server without: {plain}");
    let [authority, certificate, key] = certificates();
    let [stranger, _, _] = certificates();
    let (certificate, key) = (server.give("server.crt", &certificate), server.give("server.key", &key));
    server.stop();
    server.run(&["ssl=on", &format!("ssl_cert_file={certificate}"), &format!("ssl_key_file={key}")]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let (authority, stranger) = (file("ca.pem", &authority), file("other.pem", &stranger));
    let named = url.replace("127.0.0.1", "localhost");

    let store = open(&format!("{named}?sslmode=verify-full&sslrootcert={authority}")).await;
    apply(&*store, create("settings/a", "x")).await;
    let mut admin = super::server::connect(&url).await;
    let (all, encrypted): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE application_name = 'signalbox'",
    )
    .fetch_one(&mut admin)
    .await
    .unwrap();
    assert!(all > 0 && all == encrypted, "{encrypted} of {all}");
    for (refused, why) in [
        (format!("{named}?sslmode=verify-full&sslrootcert={stranger}"), "signed by nobody who is trusted"),
        (format!("{url}?sslmode=verify-full&sslrootcert={authority}"), "not for the host that the URL names"),
    ] {
        let told = refusal(&refused).await;
        assert!(told.contains(why), "{refused}: {told}");
    }
    assert!(PostgresDatabase::open(&format!("{url}?sslmode=require"), true).await.is_ok());
}

async fn refusal(url: &str) -> String {
    match PostgresDatabase::open(url, true).await {
        Ok(_) => panic!("{url} was opened"),
        Err(StoreError::Unavailable(told)) => told,
        Err(other) => panic!("{url}: {other:?}"),
    }
}
