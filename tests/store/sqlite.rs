//! SQLite: the conformance suite, and what only a file can suffer.

use std::{
    fs,
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signalbox::{
    domain::{
        ApplyError, Revision, SystemClock,
        keys::{FirstKeys, KeyCheck, LogKey, WrappedKey},
    },
    store::{
        Log as _, Store as _, StoreError,
        sqlite::{SqliteDatabase, SqliteStore},
    },
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    fixture::{DATA_KEY, DEADLINE, Place, apply, create, log_after, record, update},
    tampering::edit,
};

/// A database in a directory of its own.
pub struct Directory(TempDir);

impl Directory {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("data/signalbox.db")
    }

    async fn database(&self) -> SqliteDatabase {
        let mut database = SqliteDatabase::open(&self.path(), true).await.unwrap();
        if database.identity().fresh {
            database.initialise(first_keys()).await.unwrap();
        }
        database
    }
}

fn first_keys() -> FirstKeys {
    let key = |id: &str| WrappedKey { id: id.into(), kek: "kek1".into(), wrapped: format!("wrapped-{id}") };
    FirstKeys {
        check: KeyCheck { kek: "kek1".into(), value: "check".into() },
        keys: vec![key(DATA_KEY), key(WrappedKey::LOG)],
    }
}

fn unlock(database: SqliteDatabase) -> Arc<SqliteStore> {
    Arc::new(database.into_store(&LogKey([3; 32]), Arc::new(SystemClock)).unwrap())
}

impl Place for Directory {
    type Store = SqliteStore;

    async fn open(&self) -> Arc<SqliteStore> {
        unlock(self.database().await)
    }
}

mod conforms {
    use super::Directory;

    crate::conformance::conformance!(Directory::new());
}

/// Why opening fails.
async fn refusal(path: &Path, create: bool) -> StoreError {
    match SqliteDatabase::open(path, create).await {
        Ok(database) => panic!("opened {}", database.identity().store_id.0),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_new_store_is_for_its_owner_only() {
    let place = Directory::new();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    assert_eq!(mode(place.path().parent().unwrap()), 0o700);
    for file in ["signalbox.db", "signalbox.db-wal", "signalbox.db-shm", "signalbox.db.lock"] {
        assert_eq!(mode(&place.path().with_file_name(file)), 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_store_is_made_only_if_that_is_asked_for() {
    let place = Directory::new();
    let error = refusal(&place.path(), false).await.to_string();
    assert!(error.contains("there is no store at") && error.contains("signalbox.db"), "{error}");
    assert!(!place.path().parent().unwrap().exists());
}

#[tokio::test]
async fn a_second_opener_is_refused_until_the_first_is_gone() {
    let place = Directory::new();
    let store = place.open().await;
    let error = refusal(&place.path(), true).await;
    assert!(matches!(error, StoreError::Unavailable(_)));
    assert!(error.to_string().contains("signalbox.db.lock"), "{error}");
    store.close(DEADLINE).await;
    SqliteDatabase::open(&place.path(), false).await.unwrap().close().await;
}

#[tokio::test]
async fn identity_is_made_once_and_keys_are_given_once() {
    let place = Directory::new();
    let mut database = SqliteDatabase::open(&place.path(), true).await.unwrap();
    let first = database.identity().clone();
    assert!(first.fresh && first.keys.is_empty() && first.key_checks.is_empty());
    assert_eq!(first.store_id.0.len(), 36);
    database.initialise(first_keys()).await.unwrap();
    assert!(database.initialise(first_keys()).await.is_err());
    let keyed = database.identity().clone();
    assert_eq!(
        (keyed.fresh, keyed.keys, keyed.key_checks),
        (false, first_keys().keys, vec![first_keys().check])
    );
    database.close().await;

    let mut database = SqliteDatabase::open(&place.path(), false).await.unwrap();
    let again = database.identity();
    assert_eq!((&again.store_id, again.password_salt), (&first.store_id, first.password_salt));
    assert!(database.initialise(first_keys()).await.is_err());
    let other = Directory::new().database().await;
    assert_ne!(
        (&other.identity().store_id, other.identity().password_salt),
        (&first.store_id, first.password_salt)
    );
}

#[tokio::test]
async fn a_store_that_was_written_to_is_never_fresh() {
    let place = Directory::new();
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    store.close(DEADLINE).await;
    edit(&place, "DELETE FROM key_checks; DELETE FROM secrets; DELETE FROM data_keys").await;
    let mut database = SqliteDatabase::open(&place.path(), false).await.unwrap();
    assert!(!database.identity().fresh);
    assert!(database.initialise(first_keys()).await.is_err());
}

#[tokio::test]
async fn what_is_no_store_is_refused_and_left_alone() {
    let place = Directory::new();
    fs::create_dir(place.path().parent().unwrap()).unwrap();
    // The last one is a database, but another program's.
    let mut foreign = b"SQLite format 3\0".to_vec();
    foreign.resize(4096, 0);
    for content in [&b"x"[..], &[b'x'; 200], &foreign] {
        fs::write(place.path(), content).unwrap();
        let error = refusal(&place.path(), true).await;
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
        assert!(error.to_string().contains("is not a store of Signalbox"), "{error}");
        assert_eq!(fs::read(place.path()).unwrap(), content);
    }
    fs::write(place.path(), b"").unwrap();
    assert!(matches!(refusal(&place.path(), false).await, StoreError::Absent(_)));
    place.open().await.close(DEADLINE).await;
}

#[tokio::test]
async fn a_cut_file_is_refused() {
    let place = Directory::new();
    let store = place.open().await;
    for index in 0..50 {
        apply(&*store, create(&format!("settings/k{index}"), &"x".repeat(2000))).await;
    }
    store.close(DEADLINE).await;
    let whole = fs::read(place.path()).unwrap();
    for keep in [4096, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        fs::write(place.path(), &whole[..keep]).unwrap();
        let error = refusal(&place.path(), false).await;
        assert!(matches!(error, StoreError::Damaged(_)), "{keep}: {error}");
    }
    fs::write(place.path(), &whole).unwrap();
    assert_eq!(place.open().await.head().await.unwrap().revision, Revision(50));
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let place = Directory::new();
    place.open().await.close(DEADLINE).await;
    let row = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)";
    edit(&place, &format!("{row} VALUES (70, 'to come', 1, x'00', 0)")).await;
    let error = refusal(&place.path(), true).await.to_string();
    assert!(error.contains("newer signalbox: its schema is 70, this one knows"), "{error}");
    edit(
        &place,
        "DELETE FROM _sqlx_migrations WHERE version = 70; UPDATE _sqlx_migrations SET checksum = x'00'",
    )
    .await;
    assert!(matches!(refusal(&place.path(), true).await, StoreError::Damaged(_)));
}

/// As after a power cut: files as they lie while the store is open.
fn copy(from: &Directory, with_log: bool) -> Directory {
    let to = Directory::new();
    fs::create_dir(to.path().parent().unwrap()).unwrap();
    fs::copy(from.path(), to.path()).unwrap();
    if with_log {
        let wal = |place: &Directory| place.path().with_file_name("signalbox.db-wal");
        fs::copy(wal(from), wal(&to)).unwrap();
    }
    to
}

#[tokio::test]
async fn what_was_answered_survives_a_kill_and_a_lost_log_leaves_a_prefix() {
    let place = Directory::new();
    let store = place.open().await;
    for index in 0..30 {
        let token = apply(&*store, create(&format!("settings/k{index}"), "x")).await;
        let lying = copy(&place, true);
        let killed = lying.open().await;
        let head = killed.head().await.unwrap();
        assert_eq!((head.revision, head.hash.half()), (token.revision, token.hash));
        assert_eq!(killed.verify(None).await.unwrap().defects, []);
    }
    store.close(DEADLINE).await;
    let store = place.open().await;
    apply(&*store, create("settings/last", "x")).await;
    let lying = copy(&place, false);
    let without_log = lying.open().await;
    assert_eq!(without_log.head().await.unwrap().revision, Revision(30));
    let anchor = (Revision(31), store.head().await.unwrap().hash.half());
    assert_eq!(without_log.verify(None).await.unwrap().defects, []);
    assert_eq!(without_log.verify(Some(anchor)).await.unwrap().defects[0].reason, "rolled_back");
}

#[tokio::test]
async fn a_flipped_byte_is_never_served_as_if_it_were_right() {
    let place = Directory::new();
    let store = place.open().await;
    for index in 0..20 {
        apply(&*store, create(&format!("settings/k{index}"), &"x".repeat(500))).await;
    }
    let right = store.snapshot().await.unwrap().records;
    store.close(DEADLINE).await;
    let length = fs::metadata(place.path()).unwrap().len();
    let mut noticed = 0;
    for step in 0..200 {
        let damaged = copy(&place, false);
        let at = step * length / 200 + step % 7;
        let file = fs::File::options().read(true).write(true).open(damaged.path()).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        let Ok(database) = SqliteDatabase::open(&damaged.path(), false).await else {
            noticed += 1;
            continue;
        };
        let store = unlock(database);
        let found = store.verify(None).await;
        match store.snapshot().await {
            Ok(snapshot) if snapshot.defect.is_none() => assert!(snapshot.records == right, "byte {at}"),
            _ => noticed += 1,
        }
        drop(found);
        store.close(DEADLINE).await;
    }
    assert!(noticed > 20, "the bytes that were flipped did not matter: {noticed}");
}

#[tokio::test]
async fn a_full_store_refuses_writes_serves_reads_and_heals() {
    let place = Directory::new();
    let mut database = place.database().await;
    database.bound_pages(120).await.unwrap();
    let store = unlock(database);
    apply(&*store, create("settings/a", "first")).await;
    let refused = loop {
        let update = update(&record(&*store, "settings/a").await, &"x".repeat(3000));
        if let Err(error) = store.apply(update).await {
            break error;
        }
    };
    assert_eq!(refused, ApplyError::Unavailable { reason: "the disk is full".into() });
    let head = store.head().await.unwrap();
    // A write of more than fits fails whole, with all that were in its group.
    let mut tasks = JoinSet::new();
    for index in 0..20 {
        let (store, write) = (store.clone(), create(&format!("settings/k{index}"), &"x".repeat(4000)));
        tasks.spawn(async move { store.apply(write).await });
    }
    for answer in tasks.join_all().await {
        assert!(matches!(answer, Err(ApplyError::Unavailable { .. })), "{answer:?}");
    }
    assert_eq!(store.head().await.unwrap(), head);
    assert_eq!(store.snapshot().await.unwrap().records.len(), 1);
    assert_eq!(store.verify(None).await.unwrap().defects, []);
    store.compact(head.revision).await.unwrap();
    let token = apply(&*store, create("settings/b", &"x".repeat(3000))).await;
    assert_eq!(token.revision, head.revision.next());
    assert_eq!(store.verify(None).await.unwrap().defects, []);
}

#[tokio::test]
async fn another_process_that_holds_the_lock_is_waited_for_but_not_for_ever() {
    let place = Directory::new();
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    let mut other: sqlx::SqliteConnection = <sqlx::SqliteConnection as sqlx::Connection>::connect(&format!(
        "sqlite://{}",
        place.path().display()
    ))
    .await
    .unwrap();
    let run =
        async |other: &mut sqlx::SqliteConnection, sql| sqlx::raw_sql(sql).execute(other).await.unwrap();
    run(&mut other, "BEGIN IMMEDIATE").await;
    let refused = tokio::time::timeout(DEADLINE, store.apply(create("settings/b", "one"))).await.unwrap();
    assert_eq!(refused, Err(ApplyError::Unavailable { reason: "another process holds the database".into() }));
    assert_eq!(store.snapshot().await.unwrap().records.len(), 1, "reads go on");
    run(&mut other, "ROLLBACK").await;
    assert_eq!(apply(&*store, create("settings/b", "one")).await.revision, Revision(2));
}

/// The commit itself fails: the disk takes no more bytes, as with `ulimit -f`. In a process of its own, because the limit
/// is the process's, and begun by a shell, because only what is ignored at its start does not kill it.
#[test]
fn a_commit_that_fails_is_not_believed() {
    let me = std::env::current_exe().unwrap();
    let name = "sqlite::a_commit_that_fails_is_not_believed_in_its_own_process";
    let command = format!("trap '' XFSZ; exec '{}' --exact --ignored {name} --nocapture", me.display());
    let output = Command::new("sh").arg("-c").arg(command).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by a_commit_that_fails_is_not_believed"]
async fn a_commit_that_fails_is_not_believed_in_its_own_process() {
    let place = Directory::new();
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    let head = store.head().await.unwrap();
    let unlimited = getrlimit(Resource::Fsize);
    for round in 0..3 {
        let length = fs::metadata(place.path().with_file_name("signalbox.db-wal")).unwrap().len();
        setrlimit(Resource::Fsize, Rlimit { current: Some(length + 5000), maximum: unlimited.maximum })
            .unwrap();
        let mut tasks = JoinSet::new();
        for index in 0..30 {
            let (store, write) =
                (store.clone(), create(&format!("settings/r{round}k{index}"), &"x".repeat(4000)));
            tasks.spawn(async move { store.apply(write).await });
        }
        for answer in tasks.join_all().await {
            let reason = "the disk does not read or write".into();
            assert_eq!(answer, Err(ApplyError::Unavailable { reason }));
        }
        assert_eq!(store.head().await.unwrap().revision.0, head.revision.0 + round);
        assert_eq!(store.snapshot().await.unwrap().records.len() as u64, 1 + round, "reads go on");
        setrlimit(Resource::Fsize, unlimited).unwrap();
        apply(&*store, create(&format!("settings/after{round}"), "x")).await;
        assert_eq!(store.verify(None).await.unwrap().defects, []);
    }
    assert_eq!(log_after(&*store, Revision::ZERO).await.len(), 4);
}

#[tokio::test]
async fn people_read_the_file_without_secrets() {
    let place = Directory::new();
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    let shell = |sql: &str| {
        let output = Command::new("sqlite3").arg("-readonly").arg(place.path()).arg(sql).output();
        output.map(|output| String::from_utf8(output.stdout).unwrap())
    };
    // Not every machine has the shell; where it is, the views must work in it.
    if let Ok(text) = shell("SELECT * FROM configuration; SELECT * FROM history") {
        let state = r#"settings/a|setting|1|{"setting":{"stringValue":"one"}}|{}|1|2026-11-21T12:00:00.000000Z|alice"#;
        let (first, second) = text.split_once('\n').unwrap();
        assert_eq!(first, state);
        assert!(
            second.starts_with("1|2026-11-21T12:00:00.000000Z|alice|created|settings/a|1|because|"),
            "{second}"
        );
    }
}
