//! Keys and passwords: none is made, none is told.

use std::time::{Duration, Instant};

use crate::{
    cluster::{Cluster, create, knows_of},
    harness::Home,
    postgres,
    support::resources::setting,
};

/// How a server on this database is refused.
async fn refused(home: &mut Home, url: &str) -> String {
    home.set("SIGNALBOX_DATABASE_URL", url);
    home.set("RUST_LOG", "trace");
    let begin = Instant::now();
    let message = home.refused().await.message;
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    assert!(!message.contains("hunter2"), "{message}");
    message
}

#[tokio::test]
async fn no_key_is_ever_made_and_no_password_is_told() {
    let url = postgres::shared().database().await.replace("signalbox@", "signalbox:hunter2hunter2@");
    let mut home = Home::new();
    let told = refused(&mut home, &url).await;
    assert!(told.contains("signalbox keys generate"), "{told}");
    assert!(!home.path("data/encryption.key").exists());
    let made = "SELECT count(*) FROM pg_class WHERE relname = 'signalbox_migrations'";
    assert_eq!(postgres::count(&url, made).await, 0, "the database is as it was");
    let (server, _) = url.rsplit_once('/').expect("the database's name is the last part");
    refused(&mut home, &format!("{server}/no_such_database")).await;
    let plain = refused(&mut home, "postgres://u:hunter2hunter2@db.example/db").await;
    assert!(plain.contains("sslmode=verify-full"), "{plain}");
}

/// A replica that made another one would refuse every token of the others, and say nothing.
#[tokio::test]
async fn regression_a_signing_key_that_is_gone_is_not_made_anew() {
    let cluster = Cluster::new().await;
    let mut first = cluster.start().await;
    create(&first.caller(&cluster.first_token().await), setting("settings/a", "x")).await;
    postgres::run(cluster.url(), "DELETE FROM service_secrets").await;
    let refused = cluster.home().refused().await;
    assert!(refused.message.contains("has no signing key"), "{refused:?}");
    assert!(refused.message.contains("SIGNALBOX_JWT_SECRET_FILE"), "it says what to do: {refused:?}");
    first.stop().await;
}

/// One forged row of a neighbour takes nobody's heartbeats away, and does not stay.
#[tokio::test]
async fn regression_a_forged_replica_disturbs_nobody() {
    let cluster = Cluster::new().await;
    let first = cluster.start().await;
    let caller = first.caller(&cluster.first_token().await);
    let forge = "INSERT INTO replicas VALUES ('forged', E'h\\nERROR forged', 'x', 2, 'zzzzzzzzzzzzzzzz', 1, \
                 '\\x00000000000000000000000000000000', '{}', 'notify', 0, now() + interval '100 years')";
    postgres::run(cluster.url(), forge).await;
    let second = cluster.start().await;
    let known = knows_of(&caller, 2).await;
    assert!(known.iter().all(|replica| replica.id != "forged"), "{known:?}");
    drop(second);
}
