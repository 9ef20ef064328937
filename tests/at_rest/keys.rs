//! The encryption key: where it may come from, and that a store is never touched without the right one.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use crate::{
    api::{Api, secret_setting},
    forms::Forms,
    harness::{Home, Refused, Server},
    sqlite::{edit, everything},
};

const KEY: &str = "q83vEiM0RVZneImaq7zN3u_wAhM1V3mbvd_yBCZIaoA=";
const OTHER_KEY: &str = "Rgk8bX1Zs1n0qkWvJ0m6T3dQ5y2Lr7uEwB9hCx4aVno=";
const PASSWORD: &str = "a long enough pass phrase of ours 4711";
const OWN: &str = "sqlite://data/signalbox.db";
const SECRET: &str = "keys-secret~?>-16180339887";

/// A store with one secret, whose server has stopped.
async fn stored(home: &Arc<Home>) {
    let server = Server::start_in(home).await;
    Api::admin(&server).await.create("settings/pass", secret_setting(SECRET)).await;
    server.stop().await;
}

/// Whether a server on the store opens its secret.
async fn opens(home: &Arc<Home>) -> bool {
    let server = Server::start_in(home).await;
    let secrets = Api::worker(&server).await.secrets("settings/pass", true).await;
    server.stop().await;
    secrets[0].value() == SECRET
}

/// Every file of the data directory, byte for byte. SQLite's own index and an empty write-ahead log hold nothing, and
/// come and go with every look.
fn contents(home: &Home) -> BTreeMap<String, Vec<u8>> {
    let files =
        fs::read_dir(home.path("data")).expect("a directory").map(|file| file.expect("a file").path());
    let files = files.map(|path| (path.display().to_string(), fs::read(path).expect("a file")));
    files
        .filter(|(path, bytes)| !(path.ends_with("-shm") || path.ends_with("-wal") && bytes.is_empty()))
        .collect()
}

/// A start that is refused, and has changed nothing.
async fn refused_untouched(home: &Home) -> Refused {
    let before = contents(home);
    assert!(before.keys().any(|path| path.ends_with("signalbox.db")));
    let refused = home.refused().await;
    let after = contents(home);
    assert!(before.keys().eq(after.keys()), "{:?} {:?}: {}", before.keys(), after.keys(), refused.message);
    for (path, bytes) in &before {
        assert!(after[path] == *bytes, "{path} has changed: {}", refused.message);
    }
    refused
}

fn assert_says(refused: &Refused, words: &[&str]) {
    assert_eq!(refused.code, Some(1), "{}", refused.message);
    for word in words {
        assert!(refused.message.contains(word), "{word:?} is not in: {}", refused.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_refused_before_anything_is_written() {
    let home = Arc::new(Home::new().with("ENCRYPTION_KEY", KEY));
    stored(&home).await;
    assert!(!home.path("data/encryption.key").exists(), "one was given");
    let mut home = Arc::into_inner(home).expect("nobody else");
    home.set("ENCRYPTION_KEY", OTHER_KEY);
    let refused = refused_untouched(&home).await;
    assert_says(&refused, &["wrong one", "kek-", "restore the right key", "Nothing was changed"]);
    for key in [KEY, OTHER_KEY] {
        assert_eq!(Forms::of(key).found_in(refused.message.as_bytes()), None);
    }
    home.set("ENCRYPTION_PASSWORD", PASSWORD);
    home.unset("ENCRYPTION_KEY");
    assert_says(&refused_untouched(&home).await, &["wrong one", "restore the right key"]);
    home.unset("ENCRYPTION_PASSWORD");
    home.set("ENCRYPTION_KEY", KEY);
    assert!(opens(&Arc::new(home)).await, "and the right one still opens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_is_told_and_never_made_anew() {
    let home = Arc::new(Home::new());
    stored(&home).await;
    let (key, safe) = (home.path("data/encryption.key"), home.path("safe.key"));
    fs::rename(&key, &safe).unwrap();
    let refused = refused_untouched(&home).await;
    assert_says(&refused, &["no encryption key was given", "kek-", "ENCRYPTION_KEY_FILE", "restore it"]);
    assert!(!key.exists());
    let doctor = home.run(&["doctor", "--offline"]).await;
    let found = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(1), "{found}");
    assert!(found.contains("no encryption key was given"), "{found}");
    fs::rename(&safe, &key).unwrap();
    assert!(opens(&home).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_server_was_killed_is_as_safe_from_a_wrong_key() {
    let home = Arc::new(Home::new().with("ENCRYPTION_KEY", KEY));
    let server = Server::start_in(&home).await;
    Api::admin(&server).await.create("settings/pass", secret_setting(SECRET)).await;
    drop(server);
    let mut home = Arc::into_inner(home).expect("nobody else");
    home.set("ENCRYPTION_KEY", OTHER_KEY);
    assert!(contents(&home).keys().any(|path| path.ends_with("-wal")), "the write is in the write-ahead log");
    let before = everything(&home).await;
    // SQLite may fold its log into the database; what they hold together is the same.
    assert_says(&home.refused().await, &["wrong one"]);
    assert!(everything(&home).await == before);
    home.set("ENCRYPTION_KEY", KEY);
    assert!(opens(&Arc::new(home)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_come_from_a_file_the_environment_or_a_password() {
    for (name, value) in
        [("ENCRYPTION_KEY", KEY), ("ENCRYPTION_PASSWORD", PASSWORD), ("ENCRYPTION_KEY_FILE", "our.key")]
    {
        let home = Home::new().with(name, value);
        private(&home.path("our.key"), KEY);
        let home = Arc::new(home);
        stored(&home).await;
        assert!(opens(&home).await, "{name}");
        assert!(!home.path("data/encryption.key").exists(), "{name}: none is made");
        let mut home = Arc::into_inner(home).expect("nobody else");
        home.unset(name);
        assert_says(&refused_untouched(&home).await, &["no encryption key was given"]);
    }
}

/// A key that the server made is nothing that was given: what is given comes first, and the file is not read.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_made_is_ignored_once_one_is_given_and_opens_as_a_second() {
    let home = Arc::new(Home::new());
    stored(&home).await;
    let made = fs::read_to_string(home.path("data/encryption.key")).unwrap();
    let mut home = Arc::into_inner(home).expect("nobody else");
    for (name, value) in [("ENCRYPTION_KEY", KEY), ("ENCRYPTION_PASSWORD", PASSWORD)] {
        home.set(name, value);
        let refused = refused_untouched(&home).await;
        assert_says(
            &refused,
            &["wrong one", "data/encryption.key is ignored", "second key of ENCRYPTION_KEY"],
        );
        assert_eq!(Forms::of(made.trim()).found_in(refused.message.as_bytes()), None);
        home.unset(name);
    }
    home.set("ENCRYPTION_KEY", format!("{KEY},{}", made.trim()));
    let home = Arc::new(home);
    assert!(opens(&home).await);
    let log = fs::read_to_string(home.path("server.log")).unwrap();
    assert!(log.contains("data/encryption.key is ignored"), "{log}");
    // A fresh store beside such a file is sealed with what is given.
    let home = Home::new();
    fs::create_dir(home.path("data")).unwrap();
    private(&home.path("data/encryption.key"), OTHER_KEY);
    let home = Arc::new(home.with("ENCRYPTION_KEY", KEY));
    stored(&home).await;
    fs::remove_file(home.path("data/encryption.key")).unwrap();
    assert!(opens(&home).await);
}

/// A store moves from one key to another by being given both for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_key_still_opens() {
    let home = Arc::new(Home::new().with("ENCRYPTION_KEY", KEY));
    stored(&home).await;
    let mut home = Arc::into_inner(home).expect("nobody else");
    home.set("ENCRYPTION_KEY", format!("{OTHER_KEY},{KEY}"));
    let home = Arc::new(home);
    assert!(opens(&home).await);
    let mut home = Arc::into_inner(home).expect("nobody else");
    home.set("ENCRYPTION_KEY", OTHER_KEY);
    assert_says(&refused_untouched(&home).await, &["wrong one"]);
    // The old one in another source than the new one.
    private(&home.path("new.key"), OTHER_KEY);
    home.set("ENCRYPTION_KEY_FILE", "new.key");
    home.set("ENCRYPTION_KEY", KEY);
    let home = Arc::new(home);
    assert!(opens(&home).await);
    let log = fs::read_to_string(home.path("server.log")).unwrap();
    assert!(!log.contains("ignored"), "every key that is given opens: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_key_is_printed_alone_and_can_be_used() {
    let home = Home::new();
    let generated = async || {
        let output = home.run(&["keys", "generate"]).await;
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let key = text.strip_suffix('\n').expect("a line").to_owned();
        assert!(key.len() == 44 && key.ends_with('='), "Fernet's format: 32 bytes in URL-safe base64");
        key
    };
    let keys = [generated().await, generated().await];
    assert_ne!(keys[0], keys[1]);
    let home = Arc::new(home.with("ENCRYPTION_KEY", keys.join(",")));
    stored(&home).await;
    assert!(opens(&home).await);
}

#[tokio::test]
async fn keys_that_everybody_knows_are_refused() {
    let bad = [
        ("ENCRYPTION_KEY", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=", "everybody knows"),
        ("ENCRYPTION_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "repeats"),
        ("ENCRYPTION_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "readable text"),
        ("ENCRYPTION_KEY", "c2hvcnQ=", "32 bytes"),
        ("ENCRYPTION_KEY", "not base64 at all!", "base64"),
        ("ENCRYPTION_KEY", ",", "no encryption key"),
        ("ENCRYPTION_PASSWORD", "changeme123!", "everybody knows"),
        ("ENCRYPTION_PASSWORD", "josoor-llm-provider-key-2026", "everybody knows"),
        ("ENCRYPTION_PASSWORD", "short", "12 characters"),
        ("SIGNALBOX_JWT_SECRET", "your-256-bit-secret", "32 random bytes"),
        ("SIGNALBOX_JWT_SECRET", "a-string-secret-at-least-256-bits-long", "everybody knows"),
    ];
    for (name, value, said) in bad {
        let home = Home::new().with(name, value);
        let refused = home.refused().await;
        assert!(matches!(refused.code, Some(1 | 2)), "{name}={value}: {refused:?}");
        assert!(refused.message.contains(said), "{name}={value}: {}", refused.message);
        assert!(value.len() < 6 || !refused.message.contains(value), "{}", refused.message);
    }
}

#[tokio::test]
async fn a_key_is_never_made_over_a_file() {
    for file in ["encryption.key", "jwt.key", "admin.token"] {
        let home = Home::new();
        fs::create_dir(home.path("data")).unwrap();
        let path = home.path("data").join(file);
        private(&path, "somebody's own");
        let home = Arc::new(home);
        assert_eq!(home.refused().await.code, Some(1), "{file}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's own", "{file}");
    }
}

/// A database that was lost is not taken for a new one: that would empty the cache of every worker.
#[tokio::test(flavor = "multi_thread")]
async fn regression_a_lost_database_is_not_begun_anew() {
    let home = Arc::new(Home::new());
    stored(&home).await;
    for name in ["signalbox.db", "signalbox.db-wal", "signalbox.db-shm"] {
        let _ = fs::remove_file(home.path("data").join(name));
    }
    assert_says(&home.refused().await, &["database is empty or missing", "admin.token", "restore"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_keys_were_changed_by_hand_is_refused() {
    let home = Arc::new(Home::new());
    stored(&home).await;
    let database = home.path("data/signalbox.db");
    let untouched = fs::read(&database).unwrap();
    let cases = [
        ("UPDATE data_keys SET wrapped = (SELECT wrapped FROM data_keys WHERE id = 'log')", "altered"),
        (
            "UPDATE data_keys SET wrapped = substr(wrapped, 1, 60) || \
             CASE substr(wrapped, 61, 1) WHEN 'A' THEN 'B' ELSE 'A' END || substr(wrapped, 62)",
            "altered",
        ),
        ("UPDATE data_keys SET kek = 'kek-0000000000000000'", "wrong one"),
        ("UPDATE key_checks SET value = 'x'", "altered"),
        ("DROP TRIGGER identity_stays; UPDATE identity SET store_id = upper(store_id)", "altered"),
        ("DELETE FROM key_checks", "wrong one"),
        ("DELETE FROM data_keys WHERE id = 'log'", "altered"),
        ("DELETE FROM data_keys WHERE id <> 'log'", "altered"),
        ("DELETE FROM data_keys; DELETE FROM key_checks", "wrong one"),
    ];
    for (sql, said) in cases {
        fs::write(&database, &untouched).unwrap();
        edit(&home, sql).await;
        assert_says(&refused_untouched(&home).await, &[said, "Nothing was changed"]);
    }
    fs::write(&database, &untouched).unwrap();
    assert!(opens(&home).await);
}

/// A look at a store that no server has used yet is no first start.
#[tokio::test]
async fn regression_looking_at_an_empty_store_gives_it_no_keys() {
    let mut home = Home::new().with("ENCRYPTION_KEY", "no key");
    home.refused().await;
    home.set("ENCRYPTION_KEY", KEY);
    // SQLite may fold its log into the database; what they hold together is the same.
    let before = everything(&home).await;
    for line in [&["doctor", "--offline"][..], &["migrate", "--from", OWN, "--to", "sqlite://other.db"]] {
        let output = home.run(line).await;
        let told = [output.stdout, output.stderr].concat();
        assert!(!output.status.success());
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(told.contains("there is nothing in it yet") && !told.contains("unavailable"), "{told}");
        assert!(everything(&home).await == before, "{line:?}");
    }
    assert!(!home.path("other.db").exists());
    Server::start_in(&Arc::new(home)).await.stop().await;
}

/// Nothing is made on a store that is in use: neither the token that somebody took away, nor a key that would void all.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_start_makes_is_made_then_only() {
    let home = Arc::new(Home::new());
    Server::start_in(&home).await.stop().await;
    let (token, key) = (home.path("data/admin.token"), home.path("data/jwt.key"));
    fs::remove_file(&token).unwrap();
    // Nothing has been written to the store yet: it is as if this were the first.
    stored(&home).await;
    let safe = home.path("safe.token");
    fs::rename(&token, &safe).unwrap();
    Server::start_in(&home).await.stop().await;
    assert!(!token.exists(), "an administrator's token has come back");
    fs::rename(&key, home.path("safe.key")).unwrap();
    assert_says(
        &refused_untouched(&home).await,
        &["jwt.key does not exist", "restore it", "SIGNALBOX_JWT_SECRET_FILE"],
    );
    let local = home.run(&["token", "create", "--local", "--role", "admin", "--ttl", "1h"]).await;
    assert_eq!(local.status.code(), Some(1));
    assert!(!key.exists());
    fs::rename(home.path("safe.key"), &key).unwrap();
    fs::rename(&safe, &token).unwrap();
    assert!(opens(&home).await);
}

fn private(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).expect("a new file");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
}
