//! What happens when someone edits the database with `psql`: it is found, named, and never believed.

use signalbox::{
    domain::{ApplyError, Revision},
    store::{Log as _, LogPage, Store as _, StoreError},
};

use super::{Database, server};
use crate::{
    fixture::{DEADLINE, Place as _, apply, create, name, position, record, update},
    tampering::{Edited, filled, finds},
};

/// As a superuser does it, who needs no trigger's leave, and has dropped the checks.
const PAST_EVERYTHING: &str = "SET session_replication_role = replica; DO $$ DECLARE it record; BEGIN \
    FOR it IN SELECT conrelid::regclass AS of, conname FROM pg_constraint \
        WHERE contype = 'c' AND connamespace = 'public'::regnamespace LOOP \
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', it.of, it.conname); \
    END LOOP; END $$;";

impl Edited for Database {
    async fn edit(&self, sql: &str) {
        server::run(&self.0, &format!("{PAST_EVERYTHING} {sql}")).await;
    }
}

finds! { Database::new().await;
    an_edited_spec: 0, "UPDATE log SET spec = replace(spec, 'two', 'six') WHERE revision = 2"
        => ["log_row_edited 2 settings/a"];
    an_edited_actor: 0, "UPDATE log SET actor = 'mallory' WHERE revision = 4" => ["log_row_edited 4 settings/b"];
    an_edited_newest_row: 0, "UPDATE log SET time = '2020-01-01T00:00:00.000000Z' WHERE revision = 7"
        => ["log_row_edited 7 revocations/x"];
    an_edited_hash: 0, "UPDATE log SET hash = decode(repeat('00', 32), 'hex') WHERE revision = 2"
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
    edited_state: 0, "UPDATE resources SET spec_text = replace(spec_text, 'three', 'six') WHERE name = 'settings/a'"
        => ["state_edited 6 settings/a"];
    an_edited_digest: 0, "UPDATE resources SET digest = decode(repeat('00', 16), 'hex') WHERE name = 'settings/a'"
        => ["state_edited 6 settings/a"];
    removed_state: 0, "DELETE FROM resources WHERE name = 'settings/d'" => ["state_missing settings/d"];
    a_removed_revocation: 0, "DELETE FROM resources WHERE kind = 'revocation'" => ["state_missing revocations/x"];
    a_deletion_undone: 0, "INSERT INTO resources SELECT 'settings/b', kind, uid, labels_text, version, create_revision,
        create_time, update_revision, update_time, updated_by, spec_text, secrets_text, digest FROM resources WHERE name = 'settings/c'"
        => ["state_edited 5 settings/b"];
    state_put_in: 0, "INSERT INTO resources SELECT 'settings/z', kind, uid, labels_text, version, create_revision,
        create_time, update_revision, update_time, updated_by, spec_text, secrets_text, digest FROM resources WHERE name = 'settings/c'"
        => ["state_edited 5 settings/z"];
    a_rolled_back_resource: 0, "UPDATE resources SET (version, update_revision, spec_text) =
        (SELECT version, revision, spec FROM log WHERE revision = 2) WHERE name = 'settings/a'"
        => ["state_edited 2 settings/a"];
    a_head_set_back: 0, "UPDATE head SET revision = 6, hash = (SELECT hash FROM log WHERE revision = 6)"
        => ["head_edited 6"];
    a_head_set_forward: 0, "UPDATE head SET revision = 8" => ["log_row_missing 8"];
    an_edited_head_hash: 0, "UPDATE head SET hash = decode(repeat('00', 32), 'hex')" => ["head_edited 7"];
    an_edited_head_digest: 0, "UPDATE head SET digest = decode(repeat('00', 16), 'hex')" => ["head_edited 7"];
    a_head_that_is_none: 0, "UPDATE head SET hash = '\\x00', revision = -5" => ["head_edited"];
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_head_row_is_noticed_and_not_written_over() {
    let place = Database::new().await;
    let store = filled(&place).await;
    place.edit("UPDATE head SET revision = 6, hash = (SELECT hash FROM log WHERE revision = 6)").await;
    let epoch = store.head().await.unwrap().epoch;
    for _ in 0..2 {
        let refused = store.apply(create("settings/new", "x")).await;
        assert!(matches!(refused, Err(ApplyError::Damaged { .. })), "{refused:?}");
        assert!(matches!(store.begin_life(epoch).await, Err(StoreError::Damaged(_))));
    }
    assert_eq!(store.head().await.unwrap().revision, Revision(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_log_is_not_followed_and_begins_no_life() {
    for sql in [
        "UPDATE log SET spec = replace(spec, 'two', 'six') WHERE revision = 2",
        "DELETE FROM log WHERE revision = 4",
        "DELETE FROM log WHERE revision = 5 AND ordinal = 2",
        "DELETE FROM log WHERE revision = 7",
        "UPDATE log SET hash = decode(repeat('00', 32), 'hex') WHERE revision = 3",
    ] {
        let place = Database::new().await;
        drop(filled(&place).await);
        // Another replica: who wrote the log remembers its newest revisions.
        let store = place.open().await;
        let mut at = position(&*store, Revision(1)).await;
        place.edit(sql).await;
        let stopped = loop {
            match store.changes_after(&at, 1).await {
                Ok(LogPage::Batches(page)) => {
                    let last = page.last().expect(sql);
                    at = signalbox::domain::RevisionToken::new(at.epoch, last.revision, &last.hash);
                }
                other => break other,
            }
        };
        assert!(matches!(stopped, Err(StoreError::Damaged(_))), "{sql}: {stopped:?}");
        assert!(at.revision < Revision(7), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edited_state_is_served_with_an_alarm() {
    let place = Database::new().await;
    let store = filled(&place).await;
    place.edit("UPDATE resources SET spec_text = '[]' WHERE name = 'settings/a'").await;
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.records.len(), 3, "the others are there");
    let defect = snapshot.defect.unwrap();
    assert!(defect.contains("settings/a") && defect.contains("behind the log's back"), "{defect}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_past_is_not_read() {
    let place = Database::new().await;
    let store = filled(&place).await;
    place.edit("UPDATE log SET actor = 'mallory' WHERE revision = 2").await;
    let a = name("settings/a");
    for at in [2, 5] {
        assert!(matches!(store.record_at(&a, Revision(at)).await, Err(StoreError::Damaged(_))));
        assert!(matches!(store.records_at(Revision(at)).await, Err(StoreError::Damaged(_))));
    }
    assert!(matches!(store.record_at(&a, Revision(6)).await, Ok(Some(_))));
    store.close(DEADLINE).await;
}

/// What one replica may have read is checked by what it read, not by what the database says it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_set_back_as_a_whole_is_a_new_life() {
    let place = Database::new().await;
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    place
        .edit("CREATE TABLE old AS SELECT * FROM resources; CREATE TABLE before AS SELECT * FROM head")
        .await;
    apply(&*store, update(&record(&*store, "settings/a").await, "two")).await;
    let at = position(&*store, Revision(2)).await;
    place
        .edit(
            "DELETE FROM log WHERE revision = 2; UPDATE resources SET spec_text = old.spec_text, \
             version = old.version, update_revision = old.update_revision, digest = old.digest FROM old; \
             UPDATE head SET revision = before.revision, hash = before.hash, digest = before.digest FROM before",
        )
        .await;
    let page = store.changes_after(&at, 9).await.unwrap();
    assert!(matches!(page, LogPage::Diverged { revision: Revision(1) }), "{page:?}");
    assert_eq!(store.snapshot().await.unwrap().defect, None, "nothing in it tells");
    let refused = store.apply(create("settings/b", "x")).await;
    assert!(matches!(refused, Err(ApplyError::Unavailable { .. })), "{refused:?}");
    let token = apply(&*store, create("settings/b", "x")).await;
    assert_ne!(token.epoch, at.epoch, "the writer saw it too");
}

/// A row of the requests is an acknowledgement: what it says of the log has to be the log's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_forged_row_of_a_request_acknowledges_nothing() {
    for forged in [
        "UPDATE requests SET revision = 99",
        "UPDATE requests SET revision = -1",
        "UPDATE requests SET revision = 2",
        "UPDATE requests SET hash = decode(repeat('00', 32), 'hex')",
        "UPDATE requests SET hash = '\\x00'",
        "UPDATE requests SET time = 'garbage'",
    ] {
        let place = Database::new().await;
        let store = place.open().await;
        let first = create("settings/a", "one");
        apply(&*store, first.clone()).await;
        apply(&*store, create("settings/b", "two")).await;
        place.edit(&format!("{forged} WHERE request_id = '{}'", first.request.id)).await;
        let replayed = store.replay(&first.request.principal, &first.request.id, &first.request.mac).await;
        assert!(matches!(replayed, Err(ApplyError::Damaged { .. })), "{forged}: {replayed:?}");
        let again = store.apply(first).await;
        assert!(matches!(again, Err(ApplyError::Damaged { .. })), "{forged}: {again:?}");
    }
}

/// Whoever had left the log so met the row only as a conflict; whoever had not took the head for edited.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_forged_row_above_the_head_is_the_same_damage_for_every_replica() {
    let place = Database::new().await;
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    let other = place.open().await;
    for above in [1, 1_000_000] {
        let columns = "change_type, action, name, kind, uid, labels, version, create_revision, create_time, spec, secrets, \
            previous_labels, previous_revision, actor, time, reason, request_id, digest, previous_hash, hash, traceparent";
        let forge = format!(
            "INSERT INTO log (revision, ordinal, {columns}) SELECT revision + {above}, ordinal, {columns} FROM log \
             WHERE revision = (SELECT revision FROM head)"
        );
        place.edit(&forge).await;
        for store in [&store, &other] {
            let refused = store.apply(create("settings/b", "two")).await;
            let Err(ApplyError::Damaged { what }) = refused else { panic!("{refused:?}") };
            assert!(what.contains("above its head"), "{what}");
            assert!(store.refuses_writes().is_some());
        }
        place.edit("DELETE FROM log WHERE revision > (SELECT revision FROM head)").await;
        let name = format!("settings/after_{above}");
        apply(&*other, create(&name, "x")).await;
        apply(&*store, create(&format!("{name}_too"), "x")).await;
        assert_eq!(store.refuses_writes(), None);
    }
}
