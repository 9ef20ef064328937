//! What happens when someone edits the file behind the store's back: it is found, named, and never believed.

use std::{sync::Arc, time::Duration};

use signalbox::{
    domain::{ApplyError, FeatureLevel, PlannedChange, Revision, RevisionToken},
    store::{Cluster as _, Log as _, LogPage, Store as _, StoreError},
};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

use crate::{
    conformance::heartbeat,
    fixture::{
        DEADLINE, Place, apply, create, name, position, put, record, removal, revocation, update,
        with_secret, write,
    },
    sqlite::Directory,
};

/// A place whose database somebody else has a hand in.
pub trait Edited: Place {
    /// Runs SQL past triggers and checks.
    fn edit(&self, sql: &str) -> impl Future<Output = ()> + Send;
}

impl Edited for Directory {
    async fn edit(&self, sql: &str) {
        edit(self, sql).await;
    }
}

/// Runs SQL on the file as someone with `sqlite3` would, past triggers and checks.
pub async fn edit(place: &Directory, sql: &str) {
    let options = SqliteConnectOptions::new().filename(place.path()).foreign_keys(false);
    let mut connection = options.pragma("ignore_check_constraints", "ON").connect().await.unwrap();
    let sql = format!(
        "DROP TRIGGER IF EXISTS log_is_written_once; DROP TRIGGER IF EXISTS head_stays; \
         DROP TRIGGER IF EXISTS secrets_are_written_once; {sql}"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Seven revisions: a at 1, 2 and 6; b at 3 and gone at 4; a batch at 5; a revocation at 7.
pub async fn filled<P: Place>(place: &P) -> Arc<P::Store> {
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    apply(&*store, update(&record(&*store, "settings/a").await, "two")).await;
    apply(&*store, create("settings/b", "one")).await;
    apply(&*store, removal(&record(&*store, "settings/b").await)).await;
    let batch =
        ["settings/c", "settings/d", "settings/e"].map(|at| PlannedChange::Put(Box::new(put(at, 1, at))));
    apply(&*store, write(batch.into())).await;
    apply(&*store, update(&record(&*store, "settings/a").await, "three")).await;
    let mut revoke = write(vec![]);
    revoke.revocation = Some(revocation("token-1"));
    apply(&*store, revoke).await;
    store
}

/// What `verify` says after an edit: reasons with revisions and names, the first ones first.
pub async fn found(place: &impl Edited, floor: u64, sql: &str) -> Vec<String> {
    let store = filled(place).await;
    if floor > 0 {
        store.compact(Revision(floor)).await.unwrap();
    }
    assert_eq!(store.verify(None).await.unwrap().defects, []);
    let start = position(&*store, Revision(floor)).await;
    place.edit(sql).await;
    let found = store.verify(None).await.unwrap();
    let told = found.defects.into_iter().map(|defect| {
        let revision = defect.revision.map_or(String::new(), |revision| format!(" {revision}"));
        let name = defect.name.map_or(String::new(), |name| format!(" {name}"));
        // The name of a revocation is random.
        let name = if name.starts_with(" revocations/") { " revocations/x" } else { &name };
        format!("{}{revision}{name}", defect.reason)
    });
    let told = told.collect();
    // Nothing else may panic on it, whatever it answers.
    let _ = store.snapshot().await;
    let _ = store.changes_after(&start, 100).await;
    let _ = store.records_at(Revision(7)).await;
    let _ = store.record_at(&name("settings/a"), Revision(7)).await;
    let _ = store.apply(create("settings/new", "x")).await;
    let _ = store.compact(Revision(6)).await;
    store.close(DEADLINE).await;
    told
}

/// Makes a test of every edit: the floor before it, the SQL, and what is found.
macro_rules! finds {
    ($place:expr; $($test:ident: $floor:literal, $sql:expr => [$($found:literal),*];)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let place = $place;
            assert_eq!($crate::tampering::found(&place, $floor, $sql).await, [$($found),*] as [&str; _]);
        })*
    };
}
pub(crate) use finds;

finds! { Directory::new();
    an_edited_spec: 0, "UPDATE log SET spec = replace(spec, 'two', 'six') WHERE revision = 2"
        => ["log_row_edited 2 settings/a"];
    an_edited_actor: 0, "UPDATE log SET actor = 'mallory' WHERE revision = 4" => ["log_row_edited 4 settings/b"];
    an_edited_newest_row: 0, "UPDATE log SET time = '2020-01-01T00:00:00.000000Z' WHERE revision = 7"
        => ["log_row_edited 7 revocations/x"];
    an_edited_hash: 0, "UPDATE log SET hash = zeroblob(32) WHERE revision = 2"
        => ["log_row_edited 2 settings/a", "log_row_misplaced 3 settings/b"];
    a_removed_revision: 0, "DELETE FROM log WHERE revision = 3" => ["log_row_missing 3"];
    a_removed_row_of_a_batch: 0, "DELETE FROM log WHERE revision = 5 AND ordinal = 1" => ["log_row_missing 5"];
    a_removed_end_of_a_batch: 0, "DELETE FROM log WHERE revision = 5 AND ordinal = 2"
        => ["log_row_misplaced 6 settings/a"];
    a_cut_tail: 0, "DELETE FROM log WHERE revision > 5" => ["log_row_missing 6"];
    an_emptied_log: 0, "DELETE FROM log" => ["log_row_missing 1"];
    a_cut_tail_and_edited_state: 0, "DELETE FROM log WHERE revision > 5; UPDATE resources SET uid = 'other' WHERE kind = 'setting'
        AND name = 'settings/c'; DELETE FROM resources WHERE name = 'settings/d'" => [
        "log_row_missing 6", "state_edited 7 revocations/x", "state_edited 6 settings/a", "state_edited 5 settings/c",
        "state_missing settings/d"
    ];
    exchanged_rows: 0, "UPDATE log SET ordinal = ordinal + 10 WHERE revision = 5 AND ordinal < 2;
        UPDATE log SET ordinal = 11 - ordinal WHERE revision = 5 AND ordinal >= 10"
        => ["log_row_edited 5 settings/d", "log_row_edited 5 settings/c", "log_row_misplaced 5 settings/e"];
    edited_state: 0, "UPDATE resources SET spec = replace(spec, 'three', 'six') WHERE name = 'settings/a'"
        => ["state_edited 6 settings/a"];
    an_edited_digest: 0, "UPDATE resources SET digest = zeroblob(16) WHERE name = 'settings/a'"
        => ["state_edited 6 settings/a"];
    removed_state: 0, "DELETE FROM resources WHERE name = 'settings/d'" => ["state_missing settings/d"];
    a_removed_revocation: 0, "DELETE FROM resources WHERE kind = 'revocation'" => ["state_missing revocations/x"];
    a_deletion_undone: 0, "INSERT INTO resources SELECT 'settings/b', kind, uid, labels, version, create_revision,
        create_time, update_revision, update_time, updated_by, spec, secrets, digest FROM resources WHERE name = 'settings/c'"
        => ["state_edited 5 settings/b"];
    state_put_in: 0, "INSERT INTO resources SELECT 'settings/z', kind, uid, labels, version, create_revision,
        create_time, update_revision, update_time, updated_by, spec, secrets, digest FROM resources WHERE name = 'settings/c'"
        => ["state_edited 5 settings/z"];
    a_rolled_back_resource: 0, "UPDATE resources SET (version, update_revision, spec) =
        (SELECT version, revision, spec FROM log WHERE revision = 2) WHERE name = 'settings/a'"
        => ["state_edited 2 settings/a"];
    a_head_set_back: 0, "UPDATE head SET revision = 6, hash = (SELECT hash FROM log WHERE revision = 6)"
        => ["head_edited 6"];
    a_head_set_forward: 0, "UPDATE head SET revision = 8" => ["log_row_missing 8"];
    an_edited_head_hash: 0, "UPDATE head SET hash = zeroblob(32)" => ["head_edited 7"];
    an_edited_head_digest: 0, "UPDATE head SET digest = zeroblob(16)" => ["head_edited 7"];
    a_head_that_is_none: 0, "UPDATE head SET hash = x'00', revision = -5" => ["head_edited"];
    a_head_without_an_epoch: 0, "UPDATE head SET epoch = 'garbage'" => ["head_edited"];
    a_missing_head: 0, "DELETE FROM head" => ["head_edited"];
    a_raised_floor: 0, "UPDATE head SET floor = 5" => ["checkpoint_edited 5", "log_row_misplaced 6 settings/a"];
    a_kept_row_edited: 5, "UPDATE log SET reason = 'none' WHERE name = 'settings/c'" => ["log_row_edited 5 settings/c"];
    a_kept_row_removed: 5, "DELETE FROM log WHERE name = 'settings/d'" => ["log_row_missing 5"];
    a_checkpoint_edited: 5, "UPDATE checkpoints SET time = '2020-01-01T00:00:00.000000Z'" => ["checkpoint_edited 5"];
    a_checkpoint_removed: 5, "DELETE FROM checkpoints" => ["checkpoint_edited 5"];
    a_lowered_floor: 5, "UPDATE head SET floor = 2" => ["checkpoint_edited 2", "log_row_missing 3"];
    numbers_beyond_all_bounds: 0, "UPDATE log SET ordinal = 9223372036854775807, version = -9223372036854775808,
        previous_revision = -1 WHERE revision = 6; UPDATE log SET revision = 9223372036854775807 WHERE revision = 7;
        UPDATE resources SET version = 9223372036854775807, update_revision = -1 WHERE name = 'settings/a'"
        => [
        "log_row_edited 6 settings/a", "log_row_missing 6", "log_row_edited 9223372036854775807 revocations/x",
        "log_row_missing 7", "head_edited 7", "state_edited 7 revocations/x", "state_edited settings/a"
    ];
    text_that_is_none: 0, "UPDATE log SET spec = cast(x'fffe' AS TEXT) WHERE revision = 2;
        UPDATE resources SET labels = cast(x'c328' AS TEXT) WHERE name = 'settings/a'"
        => ["log_row_edited 2", "log_row_missing 2", "state_edited", "state_missing settings/a"];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_head_row_is_noticed_and_not_written_over() {
    let place = Directory::new();
    let store = filled(&place).await;
    edit(&place, "UPDATE head SET revision = 6, hash = (SELECT hash FROM log WHERE revision = 6)").await;
    for _ in 0..2 {
        let refused = store.apply(create("settings/new", "x")).await;
        assert!(matches!(refused, Err(ApplyError::Damaged { .. })), "{refused:?}");
    }
    assert_eq!(store.head().await.unwrap().revision, Revision(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edited_state_is_served_with_an_alarm() {
    let place = Directory::new();
    let store = filled(&place).await;
    edit(&place, "UPDATE resources SET spec = 'garbage' WHERE name = 'settings/a'").await;
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.records.len(), 3, "the others are there");
    let defect = snapshot.defect.unwrap();
    assert!(defect.contains("settings/a") && defect.contains("behind the log's back"), "{defect}");
}

/// The database holds each row's digest in the clear, so whoever writes it can move the head row's along. Only the log
/// says which digest the state had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_row_that_is_rolled_back_with_the_head_rows_digest_is_found() {
    let place = Directory::new();
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    edit(
        &place,
        "CREATE TABLE old AS SELECT * FROM resources; CREATE TABLE before AS SELECT digest FROM head",
    )
    .await;
    let first = store.snapshot().await.unwrap().records.remove(0);
    apply(&*store, update(&first, "two")).await;
    store.close(Duration::from_secs(5)).await;
    // The state held nothing else, so the digest of before is that of the old row.
    edit(
        &place,
        "DELETE FROM resources; INSERT INTO resources SELECT * FROM old; \
         UPDATE head SET digest = (SELECT digest FROM before); DROP TABLE old; DROP TABLE before",
    )
    .await;
    let defect = place.open().await.snapshot().await.unwrap().defect.expect("a defect");
    assert!(defect.contains("not the one that the log was written with"), "{defect}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_log_is_not_followed() {
    for sql in [
        "UPDATE log SET spec = replace(spec, 'two', 'six') WHERE revision = 2",
        "DELETE FROM log WHERE revision = 4",
        "DELETE FROM log WHERE revision = 5 AND ordinal = 2",
        "DELETE FROM log WHERE revision = 7",
    ] {
        let place = Directory::new();
        let store = filled(&place).await;
        let mut at = position(&*store, Revision(1)).await;
        assert!(store.changes_after(&at, 100).await.is_ok());
        store.close(Duration::from_secs(5)).await;
        edit(&place, sql).await;
        // What this process wrote it knows by itself; a new one has only the file.
        let store = place.open().await;
        // What comes before the edit may be served; then it stops.
        let stopped = loop {
            match store.changes_after(&at, 1).await {
                Ok(LogPage::Batches(page)) => {
                    let last = page.last().expect(sql);
                    at = RevisionToken::new(at.epoch, last.revision, &last.hash);
                }
                other => break other,
            }
        };
        assert!(matches!(stopped, Err(StoreError::Damaged(_))), "{sql}: {stopped:?}");
        assert!(at.revision < Revision(7), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_past_is_not_read() {
    for sql in [
        "UPDATE log SET spec = replace(spec, 'two', 'six') WHERE revision = 2",
        "UPDATE log SET actor = 'mallory' WHERE revision = 2",
        "UPDATE log SET hash = zeroblob(32) WHERE revision = 2",
    ] {
        let place = Directory::new();
        let store = filled(&place).await;
        let a = name("settings/a");
        assert!(store.record_at(&a, Revision(2)).await.unwrap().is_some(), "it is there before");
        edit(&place, sql).await;
        for at in [2, 5] {
            let one = store.record_at(&a, Revision(at)).await;
            assert!(matches!(one, Err(StoreError::Damaged(_))), "{sql}: at {at} {one:?}");
            let all = store.records_at(Revision(at)).await;
            assert!(matches!(all, Err(StoreError::Damaged(_))), "{sql}: at {at} {all:?}");
        }
        for at in [1, 6] {
            let one = store.record_at(&a, Revision(at)).await;
            assert!(matches!(one, Ok(Some(_))), "{sql}: what was not edited is read, at {at}: {one:?}");
            assert!(store.records_at(Revision(at)).await.is_ok(), "{sql}: at {at}");
        }
        store.close(DEADLINE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_never_takes_a_secret_that_the_state_needs() {
    let place = Directory::new();
    let store = place.open().await;
    let mut planned = put("settings/a", 1, "x");
    let sealed = with_secret(&mut planned, "needed");
    let mut first = write(vec![PlannedChange::Put(Box::new(planned))]);
    first.sealed.push(sealed.clone());
    apply(&*store, first).await;
    apply(&*store, create("settings/b", "one")).await;
    apply(&*store, update(&record(&*store, "settings/b").await, "two")).await;
    // The log forgot, by another's hand, that the state refers to it.
    edit(&place, "DELETE FROM log WHERE name = 'settings/a'").await;
    assert_eq!(store.compact(Revision(3)).await.unwrap(), (Revision(3), 1));
    assert_eq!(store.snapshot().await.unwrap().sealed, [sealed]);
}

/// On the next start, or by the next heartbeat, one number had ended the server for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_level_that_nobody_signed_is_damage_and_keeps_nobody_out() {
    let place = Directory::new();
    let store = place.open().await;
    let raised = FeatureLevel(FeatureLevel::CURRENT.0 + 1);
    assert_eq!(store.raise_feature_level(raised).await.unwrap(), raised);
    edit(&place, "UPDATE feature_level SET level = 99").await;
    let found = store.feature_level().await;
    let told = format!("what it was ({raised})");
    assert!(matches!(&found, Err(StoreError::Damaged(what)) if what.contains(&told)), "{found:?}");
    assert!(matches!(store.raise_feature_level(FeatureLevel(100)).await, Err(StoreError::Damaged(_))));
    store.beat(&heartbeat("a", raised.0)).await.expect("it tells of itself");
    let back = format!("DROP TRIGGER feature_level_only_grows; UPDATE feature_level SET level = {raised}");
    edit(&place, &back).await;
    assert_eq!(store.feature_level().await.unwrap(), raised);
}
