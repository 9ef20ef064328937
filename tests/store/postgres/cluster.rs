//! Replicas that share a database beside its log: who lives, who holds a lease, what all of them support.

use std::time::Duration;

use signalbox::{
    domain::{Clock as _, FeatureLevel, ReplicaId, Revision, SystemClock},
    store::{
        Cluster as _, Fleet as _, HOUSEKEEPING, Heartbeat, Log as _, MOST_REPLICAS, Store as _, StoreError,
    },
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::Database;
use crate::{
    conformance::heartbeat,
    fixture::{DEADLINE, Place as _, apply, create},
};

fn ids(living: &[signalbox::store::Replica]) -> Vec<&str> {
    living.iter().map(|replica| replica.heartbeat.id.0.as_str()).collect()
}

async fn sql(place: &Database, text: &str) -> u64 {
    let mut connection = PgConnection::connect(&place.0).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut connection).await.unwrap().rows_affected()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_know_of_each_other_until_they_leave_or_fall_silent() {
    let place = Database::new().await;
    let stores = [place.open().await, place.open().await, place.open().await];
    for (store, id) in stores.iter().zip(["a", "b", "c"]) {
        store.beat(&heartbeat(id, 1)).await.unwrap();
    }
    assert_eq!(ids(&stores[0].beat(&heartbeat("a", 1)).await.unwrap().replicas), ["a", "b", "c"]);
    stores[1].leave(&ReplicaId("b".into())).await.unwrap();
    assert_eq!(ids(&stores[2].beat(&heartbeat("c", 1)).await.unwrap().replicas), ["a", "c"]);
    assert_eq!(
        sql(&place, "UPDATE replicas SET seen = seen - interval '11 seconds' WHERE id = 'a'").await,
        1
    );
    assert_eq!(ids(&stores[2].beat(&heartbeat("c", 1)).await.unwrap().replicas), ["c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_level_is_raised_only_as_far_as_every_living_replica_supports() {
    let place = Database::new().await;
    let stores = [place.open().await, place.open().await];
    stores[0].beat(&heartbeat("new", 3)).await.unwrap();
    stores[1].beat(&heartbeat("old", 2)).await.unwrap();
    assert_eq!(stores[0].raise_feature_level(FeatureLevel(3)).await.unwrap(), FeatureLevel(2));
    stores[1].leave(&ReplicaId("old".into())).await.unwrap();
    // Whoever joins while the level is raised is either counted, or finds the new level.
    for round in 0..20_u32 {
        let (least, most) = (3 + round, 4 + round);
        stores[0].beat(&heartbeat("new", most)).await.unwrap();
        let old = heartbeat("old", least);
        let (joined, raised) =
            tokio::join!(stores[1].beat(&old), stores[0].raise_feature_level(FeatureLevel(most)));
        let level = raised.unwrap();
        match joined {
            // It was counted: the level does not go beyond what it supports.
            Ok(_) => assert!(level.0 <= least, "{level} beside {least}"),
            Err(StoreError::Unavailable(_)) => assert_eq!(level, FeatureLevel(most)),
            Err(other) => panic!("{other}"),
        }
        let now = stores[0].feature_level().await.unwrap();
        let living = stores[0].beat(&heartbeat("new", most)).await.unwrap().replicas;
        assert!(living.iter().all(|replica| replica.heartbeat.feature_level >= now), "{now} {living:?}");
        stores[1].leave(&old.id).await.unwrap();
        stores[0].raise_feature_level(FeatureLevel(most)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_has_one_holder_and_one_that_was_late_is_kept_out() {
    let place = Database::new().await;
    let stores = [place.open().await, place.open().await];
    let (one, other) = (ReplicaId("one".into()), ReplicaId("other".into()));
    for index in 0..5 {
        apply(&*stores[0], create(&format!("settings/k{index}"), "x")).await;
    }
    let held = stores[0].acquire(HOUSEKEEPING, &one, DEADLINE).await.unwrap().expect("it is free");
    assert_eq!(stores[1].acquire(HOUSEKEEPING, &other, DEADLINE).await.unwrap(), None);
    stores[0].compact_under(Some(held.clone()), Revision(1)).await.unwrap();
    // It stops, and its time runs out.
    assert_eq!(sql(&place, "UPDATE leases SET ends = now() - interval '1 second'").await, 1);
    let taken = stores[1].acquire(HOUSEKEEPING, &other, DEADLINE).await.unwrap().expect("it has run out");
    assert!(taken.fence > held.fence);
    let late = stores[0].compact_under(Some(held.clone()), Revision(3)).await;
    assert!(matches!(&late, Err(StoreError::Unavailable(why)) if why.contains("taken")), "{late:?}");
    assert_eq!(stores[0].head().await.unwrap().floor, Revision(1), "nothing was done");
    stores[0].release(&held).await.unwrap();
    assert_eq!(stores[0].acquire(HOUSEKEEPING, &one, DEADLINE).await.unwrap(), None, "it gave back nothing");
    stores[1].compact_under(Some(taken.clone()), Revision(3)).await.unwrap();
    stores[1].release(&taken).await.unwrap();
    assert!(stores[0].acquire(HOUSEKEEPING, &one, Duration::ZERO).await.unwrap().is_some());
}

/// Rows of before the constraints, or of whoever may change the schema.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_replica_whose_row_was_edited_takes_no_other_along() {
    let place = Database::new().await;
    let stores = [place.open().await, place.open().await];
    for (store, id) in stores.iter().zip(["a", "b"]) {
        store.beat(&heartbeat(id, 1)).await.unwrap();
    }
    let refused = "INSERT INTO replicas SELECT 'x', address, version, feature_level, epoch, revision, digest, \
        ARRAY[NULL]::text[], doorbell, watchers, seen FROM replicas WHERE id = 'a'";
    let mut connection = PgConnection::connect(&place.0).await.unwrap();
    sqlx::raw_sql(refused).execute(&mut connection).await.expect_err("the table takes no such row");
    sql(
        &place,
        "ALTER TABLE replicas DROP CONSTRAINT replicas_are_short, DROP CONSTRAINT replicas_have_keys; \
        UPDATE replicas SET key_ids = ARRAY[NULL]::text[] WHERE id = 'b'",
    )
    .await;
    assert_eq!(ids(&stores[0].beat(&heartbeat("a", 1)).await.unwrap().replicas), ["a"]);
    // It tells of itself anew, and is known again.
    stores[1].beat(&heartbeat("b", 1)).await.unwrap();
    let long = "UPDATE replicas SET address = repeat('x', 2000000), key_ids = ARRAY[repeat('y', 2000000)] WHERE id = 'b'";
    assert_eq!(sql(&place, long).await, 1);
    let living = stores[0].beat(&heartbeat("a", 1)).await.unwrap().replicas;
    assert_eq!(ids(&living), ["a", "b"]);
    assert_eq!((living[1].heartbeat.address.len(), living[1].heartbeat.key_ids[0].len()), (260, 64));
}

/// Whoever may write to the table needs no other right to make every replica read a gigabyte every two seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_forged_heartbeats_are_read_up_to_a_bound() {
    let place = Database::new().await;
    let stores = [place.open().await, place.open().await];
    for (store, id) in stores.iter().zip(["own", "other"]) {
        store.beat(&heartbeat(id, 1)).await.unwrap();
    }
    let forge = "INSERT INTO replicas (id, address, version, feature_level, epoch, revision, digest, key_ids, doorbell, \
        watchers, environment, verification, seen) SELECT 'forged' || i, address, version, feature_level, epoch, revision, \
        digest, key_ids, doorbell, watchers, environment, verification, now() \
        FROM replicas, generate_series(1, 2000) AS i WHERE id = 'other'";
    assert_eq!(sql(&place, forge).await, 2000);
    let living = stores[0].beat(&heartbeat("own", 1)).await.unwrap().replicas;
    assert_eq!(living.len(), MOST_REPLICAS);
    assert!(ids(&living).contains(&"own") && ids(&living).is_sorted(), "{:?}", ids(&living));
}

/// What is old is judged by it where a replica's own clock is ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_says_what_time_it_is() {
    let store = Database::new().await.open().await;
    let apart = store.clock().await.unwrap().expect("it has a clock") - SystemClock.now();
    assert!(apart.abs() < chrono::TimeDelta::minutes(1), "{apart}");
}

/// Whoever may write to the database stopped every replica for good with one number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_level_that_nobody_signed_keeps_nobody_out_and_is_raised_by_nobody() {
    let place = Database::new().await;
    let stores = [place.open().await, place.open().await];
    let raised = FeatureLevel(FeatureLevel::CURRENT.0 + 1);
    stores[0].beat(&heartbeat("a", raised.0)).await.unwrap();
    assert_eq!(stores[0].raise_feature_level(raised).await.unwrap(), raised);
    assert_eq!(stores[1].feature_level().await.unwrap(), raised);
    assert_eq!(sql(&place, "UPDATE feature_level SET level = 99").await, 1);
    let damaged = |found: Result<FeatureLevel, StoreError>| {
        let told = format!("says 99, which no signalbox wrote: {}", "find out who writes to the database");
        let back = format!("what it was ({raised})");
        matches!(found, Err(StoreError::Damaged(what)) if what.contains(&told) && what.contains(&back))
    };
    assert!(damaged(stores[1].feature_level().await));
    assert!(damaged(stores[1].raise_feature_level(FeatureLevel(100)).await));
    let told = stores[1].beat(&heartbeat("b", raised.0)).await.unwrap();
    assert_eq!(ids(&told.replicas), ["a", "b"], "they know of each other");
    let back = format!(
        "ALTER TABLE feature_level DISABLE TRIGGER USER; UPDATE feature_level SET level = {raised}; \
         ALTER TABLE feature_level ENABLE TRIGGER USER"
    );
    sql(&place, &back).await;
    assert_eq!(stores[1].feature_level().await.unwrap(), raised);
}

/// The row that tells a copy from its origin is one row, and was easily lost or taken away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_store_without_its_whereabouts_is_displaced() {
    let place = Database::new().await;
    let store = place.open().await;
    assert_eq!(sql(&place, "DELETE FROM whereabouts").await, 1);
    assert_eq!(store.displaced().await.unwrap(), None, "it has no past that could be lost");
    apply(&*store, create("settings/a", "x")).await;
    let epoch = store.head().await.unwrap().epoch;
    let found = store.displaced().await.unwrap().expect("nobody knows where it was");
    assert_eq!((found.epoch, found.served), (epoch, false));
    assert_ne!(store.begin_life(epoch).await.unwrap(), epoch);
    assert_eq!(store.displaced().await.unwrap(), None);
}

/// Its heartbeat had noted the new place before it found that commits are lost: if it died then, nobody ever did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_who_has_seen_more_than_the_database_holds_does_not_go_along() {
    let place = Database::new().await;
    let store = place.open().await;
    apply(&*store, create("settings/a", "x")).await;
    let head = store.head().await.unwrap();
    sql(&place, "UPDATE whereabouts SET place = 'another'").await;
    let seen = |epoch, revision| Heartbeat { epoch, revision, ..heartbeat("a", 1) };
    store.beat(&seen(head.epoch, head.revision.next())).await.unwrap();
    assert!(store.displaced().await.unwrap().is_some(), "commits are lost");
    store.beat(&seen(signalbox::domain::Epoch(head.epoch.0 ^ 1), head.revision)).await.unwrap();
    assert!(store.displaced().await.unwrap().is_some(), "it was in another life");
    store.beat(&seen(head.epoch, head.revision)).await.unwrap();
    assert_eq!(store.displaced().await.unwrap(), None);
}

/// Whoever brings a store up to date that was written before the table knows where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_the_upgrade_that_makes_whereabouts_notes_the_place() {
    let place = Database::new().await;
    let store = place.open().await;
    apply(&*store, create("settings/a", "x")).await;
    let back = "DROP TABLE whereabouts; DELETE FROM schema_steps WHERE version >= 10; \
        DELETE FROM signalbox_migrations WHERE version >= 10; ALTER TABLE log DROP COLUMN traceparent; \
        ALTER TABLE feature_level DROP COLUMN mac; ALTER TABLE worker_sessions DROP COLUMN orphaned; \
        DROP TABLE vanished; ALTER TABLE replicas DROP COLUMN began";
    sql(&place, back).await;
    let upgraded = place.open().await;
    assert_eq!(upgraded.displaced().await.unwrap(), None);
}

/// Names of workers are the callers' own: sorted to the front, forged ones had pushed out whoever works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_texts_of_edited_sessions_are_cut() {
    let place = Database::new().await;
    let store = place.open().await;
    let session = "INSERT INTO worker_sessions (id, replica, epoch, subject, worker, labels, client_version, view, secrets, \
        silent, began) VALUES ('long', 'a', '0000000000000007', repeat('s', 2000000), repeat('w', 2000000), '{}', \
        repeat('1', 2000000), '{}', false, false, now());";
    sql(&place, session).await;
    let members = store.fleet(&ReplicaId("a".into())).await.unwrap();
    let session = &members[0].session;
    assert_eq!([session.subject.len(), session.worker.len(), session.client_version.len()], [1024; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_lease_that_no_fence_follows_is_said_to_be_edited() {
    let place = Database::new().await;
    let store = place.open().await;
    let (one, other) = (ReplicaId("one".into()), ReplicaId("other".into()));
    store.acquire(HOUSEKEEPING, &one, Duration::ZERO).await.unwrap().expect("it is free");
    let edit =
        "ALTER TABLE leases DROP CONSTRAINT leases_have_room; UPDATE leases SET fence = 9223372036854775807";
    assert_eq!(sql(&place, edit).await, 1);
    let taken = store.acquire(HOUSEKEEPING, &other, DEADLINE).await;
    assert!(matches!(&taken, Err(StoreError::Unavailable(why)) if why.contains("edited")), "{taken:?}");
}

/// No age can be told of it, and it must not take the list of workers along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_session_that_began_at_no_time_is_left_out() {
    let place = Database::new().await;
    let store = place.open().await;
    let session = "INSERT INTO worker_sessions (id, replica, epoch, subject, worker, labels, client_version, view, secrets, \
        silent, began) VALUES ('good', 'a', '0000000000000007', 's', 'w', '{}', '1', '{}', false, false, now());";
    sql(&place, session).await;
    let edit = "ALTER TABLE worker_sessions DROP CONSTRAINT sessions_have_times; \
        INSERT INTO worker_sessions SELECT 'bad', replica, epoch, subject, worker, labels, client_version, view, secrets, \
        silent, '-infinity' FROM worker_sessions";
    sql(&place, edit).await;
    let members = store.fleet(&ReplicaId("a".into())).await.unwrap();
    let found: Vec<_> = members.iter().map(|member| member.session.id.0.as_str()).collect();
    assert_eq!(found, ["good"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_want_a_lease_at_once_one_gets_it() {
    let place = Database::new().await;
    let store = place.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..16 {
        let store = store.clone();
        tasks.spawn(async move {
            let holder = ReplicaId(format!("r{index}"));
            store.acquire(HOUSEKEEPING, &holder, DEADLINE).await.unwrap().is_some()
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|got| *got).count(), 1);
}
