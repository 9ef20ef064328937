//! Keys and passwords: none is made, none is told.

use std::time::{Duration, Instant};

use crate::{harness::Home, postgres};

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
    let nowhere = refused(&mut home, "postgres://u:hunter2hunter2@127.0.0.1:1/db").await;
    assert!(nowhere.contains("can't be read or written"), "{nowhere}");
    let plain = refused(&mut home, "postgres://u:hunter2hunter2@db.example/db").await;
    assert!(plain.contains("sslmode=verify-full"), "{plain}");
}
