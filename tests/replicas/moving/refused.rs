//! Moves that are refused: the reason is told, and nothing is changed, neither here nor there.

use std::{fs, process::Output, sync::Arc};

use super::{SECRET, SQLITE, beside, caller, contents, made_key, migrate, moved};
use crate::{
    cluster::create,
    harness::{Home, Server, forms::Forms, run},
    postgres,
    support::resources::{secret_setting, setting},
};

/// A folder with a small store of SQLite, whose server has stopped.
pub async fn stored() -> Arc<Home> {
    let home = Arc::new(Home::new());
    let server = Server::start_in(&home).await;
    let admin = caller(&server, &server.admin_token());
    create(&admin, secret_setting("settings/password", SECRET)).await;
    create(&admin, setting("settings/model", "groq")).await;
    server.stop().await;
    home
}

/// A folder whose servers have a store that was moved to PostgreSQL; its URL.
pub async fn on_postgres() -> (Home, String) {
    let first = stored().await;
    let url = postgres::shared().database().await;
    moved(&first, SQLITE, &url).await;
    let home = Home::new().with("SIGNALBOX_DATABASE_URL", &url).with("ENCRYPTION_KEY", made_key(&first));
    (home.with("ADMIN", first.admin_token()), url)
}

/// How many tables of ours a database of PostgreSQL has.
async fn tables(url: &str) -> i64 {
    postgres::count(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await
}

fn assert_says(output: &Output, code: i32, words: &[&str]) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert!(words.iter().all(|word| told.contains(word)), "{words:?} are not all in: {told}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert_eq!(Forms::of(SECRET).found_in(told.as_bytes()), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_served_is_not_moved() {
    let home = Arc::new(Home::new());
    let server = Server::start_in(&home).await;
    create(&caller(&server, &server.admin_token()), setting("settings/model", "groq")).await;
    let url = postgres::shared().database().await;
    let refused = migrate(&home, SQLITE, &url, &[]).await;
    assert_says(&refused, 6, &["source: ", "another process has", "signalbox.db.lock"]);
    server.stop().await;
    assert_eq!(tables(&url).await, 0, "the target was not touched");

    let (home, url) = on_postgres().await;
    let home = Arc::new(home);
    let server = Server::start_in(&home).await;
    let refused = migrate(&home, &url, "sqlite://new/signalbox.db", &[]).await;
    assert_says(&refused, 5, &["is being served", server.address(), "Stop every server"]);
    assert!(!home.path("new").exists(), "no file is left of it");
    server.stop().await;
    assert!(!home.path("data/jwt.key").exists());
    Server::start_in(&home).await.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_moved_is_told_and_nothing_is_changed() {
    let home = stored().await;
    let before = contents(&home);
    let url = postgres::shared().database().await;
    let mut other = Arc::into_inner(home).unwrap();
    other.set("ENCRYPTION_KEY", "Rgk8bX1Zs1n0qkWvJ0m6T3dQ5y2Lr7uEwB9hCx4aVno=");
    assert_says(&migrate(&other, SQLITE, &url, &[]).await, 1, &["wrong one", "Nothing was changed"]);
    other.unset("ENCRYPTION_KEY");
    assert_eq!(tables(&url).await, 0);
    assert!(contents(&other) == before);

    let nowhere = "postgres://u:hunter2hunter2@127.0.0.1:1/db";
    let refused = migrate(&other, SQLITE, nowhere, &[]).await;
    assert_says(&refused, 6, &["target: ", "can't be reached"]);
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("hunter2"));
    let plain = migrate(&other, SQLITE, "postgres://u:hunter2hunter2@db.example/db", &[]).await;
    assert_says(&plain, 2, &["--to: ", "sslmode=verify-full"]);
    assert_says(&migrate(&other, SQLITE, "sqlite://./data/signalbox.db", &[]).await, 5, &["the same"]);
    let missing = migrate(&other, "sqlite://data/none.db", &url, &[]).await;
    assert_says(&missing, 1, &["source: ", "there is no store at data/none.db"]);
    assert!(contents(&other) == before);

    // What the move itself refuses, its rehearsal refuses as well.
    let foreign = postgres::shared().database().await;
    postgres::run(&foreign, "CREATE TABLE resources (id INT)").await;
    for more in [&["--dry-run"][..], &[]] {
        let refused = migrate(&other, SQLITE, &foreign, more).await;
        assert_says(&refused, 6, &["target: ", "another program's tables are in the way"]);
        assert_eq!(tables(&foreign).await, 1, "the target was not touched");
    }
    assert!(contents(&other) == before);

    // A store, or something else, is there already.
    let (full, taken) = on_postgres().await;
    for more in [&["--dry-run"][..], &[]] {
        let refused = migrate(&other, SQLITE, &taken, more).await;
        assert_says(&refused, 5, &["there is a store at postgres at 127.0.0.1", "already"]);
    }
    assert!(contents(&other) == before);
    Server::start_in(&Arc::new(full)).await.stop().await;

    fs::rename(other.path("data/jwt.key"), other.path("jwt.key")).unwrap();
    assert_says(
        &migrate(&other, SQLITE, &url, &[]).await,
        1,
        &["jwt.key does not exist", "restore it", "--data-dir"],
    );
    fs::rename(other.path("jwt.key"), other.path("data/jwt.key")).unwrap();
    assert!(contents(&other) == before);
    Server::start_in(&Arc::new(other)).await.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_signing_key_is_not_overwritten() {
    let (home, url) = on_postgres().await;
    let other = stored().await;
    fs::create_dir(home.path("data")).unwrap();
    fs::copy(other.path("data/jwt.key"), home.path("data/jwt.key")).unwrap();
    let before = contents(&home);
    let refused = migrate(&home, &url, SQLITE, &[]).await;
    assert_says(&refused, 5, &["data/jwt.key is another key", "not overwritten", "--key-dir"]);
    assert!(contents(&home) == before);
    Server::start_in(&Arc::new(home)).await.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_at_the_target_leaves_the_source_to_be_served() {
    let (home, url) = on_postgres().await;
    // Into a folder of its own; the schema alone takes more than the first of these.
    for (round, kib) in [16, 150, 190, 220, 240, 260].into_iter().enumerate() {
        let target = format!("sqlite://full{round}/signalbox.db");
        let line = format!("ulimit -f {kib} && exec \"$0\" \"$@\"");
        let arguments =
            ["-c", &line, env!("CARGO_BIN_EXE_signalbox"), "migrate", "--from", &url, "--to", &target];
        let output = run(&mut beside(&home, "bash", &arguments)).await;
        if output.status.success() {
            assert!(round > 0, "the disk was not full");
            return;
        }
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("target: ") && told.contains("disk"), "{kib} KiB: {told}");
        assert_eq!(
            postgres::count(&url, "SELECT count(*) FROM moves WHERE state <> 'arrived'").await,
            0,
            "{told}"
        );
        eprintln!("{kib} KiB: {told}");
    }
    Server::start_in(&Arc::new(home)).await.stop().await;
}

/// The last thing that can fail: the target refuses its commit, after the source was fenced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_the_target_refuses_gives_the_source_back() {
    let home = stored().await;
    let url = postgres::shared().database().await;
    super::killed::at_commit(&url, "RAISE EXCEPTION 'the test refuses it'").await;
    let refused = migrate(&home, SQLITE, &url, &[]).await;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("target: "), "{told}");
    assert_eq!(postgres::count(&url, "SELECT count(*) FROM log").await, 0);
    Server::start_in(&home).await.stop().await;
    postgres::run(&url, "DROP TRIGGER at_commit ON moves").await;
    moved(&home, SQLITE, &url).await;
}
