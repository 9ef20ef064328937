//! What a write does and what it is refused for.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use signalbox::{
    domain::{Applied, ApplyError, ChangeType, PlannedChange, Read, Revision},
    store::{Log as _, Store as _},
};
use tokio::task::JoinSet;

use crate::fixture::{
    Place, apply, create, delete, labels, log_after, name, noon, put, record, removal, revocation, unique,
    update, with_secret, write,
};

pub async fn a_write_is_state_and_log(place: &impl Place) {
    let store = place.open().await;
    let mut planned = put("settings/a", 1, "one");
    planned.labels = labels(&[("team", "red")]);
    let sealed = with_secret(&mut planned, "secret-1");
    let mut first = write(vec![PlannedChange::Put(Box::new(planned.clone()))]);
    first.reads.push(Read::Absent { name: name("settings/a") });
    first.sealed.push(sealed.clone());
    let token = apply(&*store, first).await;
    assert_eq!(token.revision, Revision(1));

    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.defect, None);
    assert_eq!(snapshot.head.hash.half(), token.hash);
    assert_eq!(snapshot.sealed, std::slice::from_ref(&sealed));
    let [stored] = &snapshot.records[..] else { panic!("{:?}", snapshot.records) };
    assert_eq!((&stored.name, stored.kind, &stored.uid), (&planned.name, planned.kind, &planned.uid));
    assert_eq!((&stored.labels, &stored.spec_json), (&planned.labels, &planned.spec_json));
    assert_eq!((stored.version, &stored.secrets), (1, &planned.secrets));
    assert_eq!((stored.create_revision, stored.update_revision), (Revision(1), Revision(1)));
    assert_eq!((stored.create_time, stored.update_time), (noon(), noon()));
    assert_eq!(stored.updated_by, "alice");

    let log = log_after(&*store, Revision::ZERO).await;
    let [batch] = &log[..] else { panic!("{log:?}") };
    assert_eq!((batch.revision, batch.hash, batch.time), (Revision(1), snapshot.head.hash, noon()));
    let [change] = &batch.changes[..] else { panic!("{batch:?}") };
    assert_eq!((change.change_type, change.action.as_str()), (ChangeType::Created, "created"));
    assert_eq!((change.actor.as_str(), &change.previous), ("alice", &None));
    assert_eq!(change.record.as_deref(), Some(stored));
    assert_eq!(change.sealed, [sealed]);
}

pub async fn updates_and_deletions_tell_what_was_before(place: &impl Place) {
    let store = place.open().await;
    let mut first = put("settings/a", 1, "one");
    first.labels = labels(&[("team", "red")]);
    apply(&*store, write(vec![PlannedChange::Put(Box::new(first))])).await;
    let created = record(&*store, "settings/a").await;
    let mut second = update(&created, "two");
    (second.actor, second.time) = ("bob".into(), noon() + TimeDelta::microseconds(1_500_001));
    apply(&*store, second).await;
    let updated = record(&*store, "settings/a").await;
    assert_eq!(
        (updated.version, updated.create_revision, updated.update_revision),
        (2, Revision(1), Revision(2))
    );
    assert_eq!(
        (updated.create_time, updated.update_time),
        (noon(), noon() + TimeDelta::microseconds(1_500_001))
    );
    assert_eq!(updated.updated_by, "bob");
    apply(&*store, removal(&updated)).await;
    assert!(store.snapshot().await.unwrap().records.is_empty());

    let log = log_after(&*store, Revision(1)).await;
    let [change] = &log[0].changes[..] else { panic!("{log:?}") };
    let previous = change.previous.clone().unwrap();
    assert_eq!((change.change_type, previous.update_revision), (ChangeType::Updated, Revision(1)));
    assert_eq!(previous.labels, labels(&[("team", "red")]));
    let [change] = &log[1].changes[..] else { panic!("{log:?}") };
    assert_eq!((change.change_type, &change.record), (ChangeType::Deleted, &None));
    let previous = change.previous.clone().unwrap();
    assert_eq!((previous.update_revision, previous.labels.len()), (Revision(2), 0));
}

pub async fn a_batch_is_one_revision(place: &impl Place) {
    let store = place.open().await;
    apply(&*store, create("settings/old", "x")).await;
    let names: Vec<_> = (0..150).map(|index| format!("settings/k{index}")).collect();
    let mut changes: Vec<_> = names.iter().map(|at| PlannedChange::Put(Box::new(put(at, 1, at)))).collect();
    changes.push(delete("settings/old"));
    let token = apply(&*store, write(changes)).await;
    assert_eq!(token.revision, Revision(2));
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!((snapshot.records.len(), snapshot.head.revision), (150, Revision(2)));
    assert!(snapshot.records.is_sorted_by(|left, right| left.name < right.name));
    let log = log_after(&*store, Revision(1)).await;
    let changed: Vec<_> = log[0].changes.iter().map(|change| change.name.as_str().to_owned()).collect();
    assert_eq!(log.len(), 1);
    assert_eq!(changed[..150], names, "in the order in which they were written");
    assert_eq!(changed[150], "settings/old");
}

pub async fn reads_that_no_longer_hold_are_stale(place: &impl Place) {
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    let old = record(&*store, "settings/a").await;
    apply(&*store, update(&old, "two")).await;
    let stale = Err(ApplyError::Stale { at: Revision(2) });
    assert_eq!(store.apply(update(&old, "three")).await, stale);
    assert_eq!(store.apply(removal(&old)).await, stale);
    assert_eq!(store.apply(create("settings/a", "again")).await, stale);
    // What a write reads need not be what it writes.
    let mut other = create("settings/b", "x");
    other.reads.push(Read::Unchanged { name: old.name.clone(), revision: Revision(1) });
    assert_eq!(store.apply(other.clone()).await, stale);
    other.reads.pop();
    other.reads.push(Read::Unchanged { name: name("settings/never"), revision: Revision(1) });
    assert_eq!(store.apply(other.clone()).await, stale);
    other.reads.pop();
    other.reads.push(Read::Unchanged { name: old.name.clone(), revision: Revision(2) });
    assert_eq!(apply(&*store, other).await.revision, Revision(3));
    assert_eq!(log_after(&*store, Revision::ZERO).await.len(), 3);
}

pub async fn creations_beneath_a_prefix_are_seen(place: &impl Place) {
    let store = place.open().await;
    apply(&*store, create("users/a/settings/x", "one")).await;
    apply(&*store, create("users/a2/settings/x", "one")).await;
    let guarded = |prefix: &str, revision: u64| {
        let mut guarded = create(&format!("settings/n{}", unique()), "x");
        guarded.reads.push(Read::NoneCreatedAfter { prefix: prefix.into(), revision: Revision(revision) });
        guarded
    };
    assert_eq!(store.apply(guarded("users/a/", 0)).await, Err(ApplyError::Stale { at: Revision(2) }));
    assert_eq!(store.apply(guarded("users/", 1)).await, Err(ApplyError::Stale { at: Revision(2) }));
    apply(&*store, guarded("users/a/", 1)).await;
    apply(&*store, guarded("users/b/", 0)).await;
    // An update creates nothing.
    let child = record(&*store, "users/a/settings/x").await;
    apply(&*store, update(&child, "two")).await;
    apply(&*store, guarded("users/a/", 1)).await;
}

pub async fn changes_beneath_a_prefix_are_seen(place: &impl Place) {
    let store = place.open().await;
    apply(&*store, create("users/a/settings/x", "one")).await;
    apply(&*store, create("users/a2/settings/x", "one")).await;
    let guarded = |prefix: &str, revision: u64| {
        let mut guarded = create(&format!("settings/n{}", unique()), "x");
        guarded.reads.push(Read::NoneChangedAfter { prefix: prefix.into(), revision: Revision(revision) });
        guarded
    };
    assert_eq!(store.apply(guarded("users/a/", 0)).await, Err(ApplyError::Stale { at: Revision(2) }));
    apply(&*store, guarded("users/a/", 1)).await;
    apply(&*store, guarded("users/b/", 0)).await;
    // An update is a change, and a deletion leaves nothing that could have changed.
    let child = record(&*store, "users/a/settings/x").await;
    apply(&*store, update(&child, "two")).await;
    assert_eq!(store.apply(guarded("users/a/", 4)).await, Err(ApplyError::Stale { at: Revision(5) }));
    apply(&*store, guarded("users/a/", 5)).await;
    let child = record(&*store, "users/a/settings/x").await;
    apply(&*store, removal(&child)).await;
    apply(&*store, guarded("users/a/", 0)).await;
}

pub async fn whatever_was_written_is_seen(place: &impl Place) {
    let store = place.open().await;
    let guarded = |at: &str, revision: u64| {
        let mut guarded = create(at, "x");
        guarded.reads.push(Read::NothingAfter { revision: Revision(revision) });
        guarded
    };
    // Two at once that both found nothing: one of them is right.
    let (one, other) =
        tokio::join!(store.apply(guarded("settings/a", 0)), store.apply(guarded("settings/b", 0)));
    let stale = Err(ApplyError::Stale { at: Revision(1) });
    assert!(one == stale || other == stale, "{one:?}, {other:?}");
    assert!(one.is_ok() || other.is_ok(), "{one:?}, {other:?}");
    assert_eq!(store.apply(guarded("settings/c", 0)).await, stale);
    apply(&*store, guarded("settings/c", 1)).await;
    // A deletion is a write as well, and so it stays one.
    apply(&*store, removal(&record(&*store, "settings/c").await)).await;
    assert_eq!(store.apply(guarded("settings/d", 0)).await, Err(ApplyError::Stale { at: Revision(3) }));
    assert_eq!(store.apply(guarded("settings/d", 2)).await, Err(ApplyError::Stale { at: Revision(3) }));
}

pub async fn what_was_read_of_the_past_has_to_be_there_still(place: &impl Place) {
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    apply(&*store, update(&record(&*store, "settings/a").await, "two")).await;
    apply(&*store, update(&record(&*store, "settings/a").await, "three")).await;
    store.compact(Revision(2)).await.unwrap();
    let relying_on = |at: &str, revision: u64| {
        let mut relying = create(at, "x");
        relying.reads.push(Read::Held { revision: Revision(revision) });
        relying
    };
    assert_eq!(store.apply(relying_on("settings/b", 1)).await, Err(ApplyError::Stale { at: Revision(3) }));
    apply(&*store, relying_on("settings/b", 2)).await;
}

pub async fn what_comes_back_goes_on_counting(place: &impl Place) {
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    apply(&*store, removal(&record(&*store, "settings/a").await)).await;
    apply(&*store, write(vec![PlannedChange::Put(Box::new(put("settings/a", 2, "one")))])).await;
    let back = record(&*store, "settings/a").await;
    assert_eq!((back.version, back.create_revision, back.update_revision), (2, Revision(3), Revision(3)));
    assert!(store.verify(None).await.unwrap().defects.is_empty());
}

pub async fn a_write_that_breaks_the_rules_is_a_defect_and_leaves_no_trace(place: &impl Place) {
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    let put_of = |at: &str, version| PlannedChange::Put(Box::new(put(at, version, "x")));
    let mut other_uid = put("settings/a", 2, "x");
    other_uid.uid.0 = "another".into();
    let mut unknown_key = put("settings/s", 1, "x");
    let mut sealed = with_secret(&mut unknown_key, "secret-of-no-key");
    sealed.data_key = "no such key".into();
    let mut with_unknown_key = write(vec![PlannedChange::Put(Box::new(unknown_key))]);
    with_unknown_key.sealed.push(sealed);
    let before = store.head().await.unwrap();
    for bad in [
        write(vec![put_of("settings/b", 1), put_of("settings/b", 1)]),
        write(vec![put_of("settings/b", 1), delete("settings/never")]),
        write(vec![put_of("settings/b", 0)]),
        write(vec![put_of("settings/a", 1)]),
        write(vec![put_of("settings/a", 3)]),
        write(vec![PlannedChange::Put(Box::new(other_uid))]),
        with_unknown_key,
    ] {
        let answer = store.apply(bad.clone()).await;
        assert!(matches!(answer, Err(ApplyError::Internal { .. })), "{answer:?} for {bad:?}");
    }
    assert_eq!(store.head().await.unwrap(), before);
    assert_eq!(store.snapshot().await.unwrap().defect, None);
    assert_eq!(apply(&*store, create("settings/b", "fine")).await.revision, Revision(2));
}

pub async fn one_bad_write_does_not_take_the_others_along(place: &impl Place) {
    let store = place.open().await;
    let mut tasks = JoinSet::new();
    for index in 0..60 {
        let mut planned = put(&format!("settings/k{index}"), 1, "x");
        let mut sealed = with_secret(&mut planned, &format!("secret-{index}"));
        if index % 10 == 0 {
            sealed.data_key = "no such key".into();
        }
        let mut write = write(vec![PlannedChange::Put(Box::new(planned))]);
        write.sealed.push(sealed);
        let store = store.clone();
        tasks.spawn(async move { (index % 10 == 0, store.apply(write).await) });
    }
    for (bad, answer) in tasks.join_all().await {
        assert_eq!(bad, matches!(answer, Err(ApplyError::Internal { .. })), "{answer:?}");
        assert_eq!(!bad, matches!(answer, Ok(Applied::Committed { .. })), "{answer:?}");
    }
    assert_eq!(store.head().await.unwrap().revision, Revision(54));
    assert_eq!(store.verify(None).await.unwrap().defects, []);
}

pub async fn revocations_are_no_resources(place: &impl Place) {
    let store = place.open().await;
    let mut both = create("settings/a", "one");
    both.revocation = Some(revocation("token-1"));
    apply(&*store, both).await;
    let mut alone = write(vec![]);
    alone.revocation = Some(revocation("token-2"));
    apply(&*store, alone).await;
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!((snapshot.records.len(), &snapshot.defect), (1, &None));
    let revoked: BTreeSet<_> = snapshot.revocations.iter().map(|one| format!("{one:?}")).collect();
    let expected = ["token-1", "token-2"].map(|id| format!("{:?}", revocation(id)));
    assert_eq!(revoked, BTreeSet::from(expected));
    let log = log_after(&*store, Revision::ZERO).await;
    let told: Vec<_> = log.iter().map(|batch| (batch.changes.len(), batch.revocations.clone())).collect();
    assert_eq!(told, [(1, vec![revocation("token-1")]), (0, vec![revocation("token-2")])]);
    assert_eq!(store.records_at(Revision(2)).await.unwrap().len(), 1);
    store.compact(Revision(2)).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().revocations.len(), 2);
    assert_eq!(store.verify(None).await.unwrap().defects, []);
}
