//! What every store must do, whatever database it stands on. Each function is one rule, given a fresh [`Place`].

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use signalbox::{
    domain::{
        Applied, ApplyError, ChangeType, PlannedChange, Read, Revision, audit::AuditEvent, write::RequestKey,
    },
    store::{Log as _, LogPage, Store as _},
};
use tokio::task::JoinSet;

use crate::fixture::{
    Place, apply, create, delete, labels, log_after, name, noon, put, record, removal, revocation, unique,
    update, with_secret, write,
};

/// Makes a test of every rule, each on a place of its own.
macro_rules! conformance {
    ($place:expr) => {
        $crate::conformance::conformance!($place;
            an_empty_store_stands_at_zero
            a_write_is_state_and_log
            updates_and_deletions_tell_what_was_before
            a_batch_is_one_revision
            reads_that_no_longer_hold_are_stale
            creations_beneath_a_prefix_are_seen
            changes_beneath_a_prefix_are_seen
            a_request_is_done_once
            requests_survive_reopening_and_expire
            a_write_that_changes_nothing_is_remembered
            a_write_that_breaks_the_rules_is_a_defect_and_leaves_no_trace
            one_bad_write_does_not_take_the_others_along
            a_caller_that_goes_away_does_not_stop_its_write
            revocations_are_no_resources
            pages_hold_whole_revisions
            sixty_four_writers_leave_no_gap
            writers_of_one_resource_conflict
            the_doorbell_rings
            state_survives_reopening
            the_past_can_be_read
            revisions_are_found_by_time
            compaction_keeps_what_the_floor_needs
            compaction_forgets_secrets_that_nothing_refers_to
            compaction_and_writes_go_together
            an_untouched_store_verifies
            anchors_tell_a_rolled_back_store
            a_closed_store_takes_nothing
            random_histories_match_a_model
        );
    };
    ($place:expr; $($rule:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $rule() {
            $crate::conformance::$rule(&$place).await;
        })*
    };
}
pub(crate) use conformance;

pub async fn an_empty_store_stands_at_zero(place: &impl Place) {
    let store = place.open().await;
    let head = store.head().await.unwrap();
    assert_eq!((head.revision, head.floor), (Revision::ZERO, Revision::ZERO));
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.head, head);
    assert!(snapshot.records.is_empty() && snapshot.sealed.is_empty() && snapshot.defect.is_none());
    assert!(log_after(&*store, Revision::ZERO).await.is_empty());
    assert_eq!(store.hash_at(Revision::ZERO).await.unwrap(), Some(head.hash));
    assert_eq!(store.hash_at(Revision(1)).await.unwrap(), None);
}

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

pub async fn a_request_is_done_once(place: &impl Place) {
    let store = place.open().await;
    let first = create("settings/a", "one");
    let RequestKey { principal, id, mac, outcome } = first.request.clone();
    assert_eq!(store.replay(&principal, &id, &mac).await, Ok(None));
    let Applied::Committed { token, time } = store.apply(first.clone()).await.unwrap() else { panic!() };
    assert_eq!(time, noon());
    apply(&*store, create("settings/b", "two")).await;
    // Its reads do not hold any more, and that does not matter.
    let replayed = Applied::Replayed { token, time, outcome };
    assert_eq!(store.apply(first.clone()).await, Ok(replayed.clone()));
    assert_eq!(store.replay(&principal, &id, &mac).await, Ok(Some(replayed.clone())));
    assert_eq!(store.replay(&principal, &id, &[8; 32]).await, Err(ApplyError::RequestMismatch));
    assert_eq!(store.replay("bob", &id, &mac).await, Ok(None));
    let mut other_body = create("settings/c", "three");
    other_body.request = RequestKey { mac: [8; 32], ..first.request.clone() };
    assert_eq!(store.apply(other_body.clone()).await, Err(ApplyError::RequestMismatch));
    other_body.request.principal = "bob".into();
    assert_eq!(apply(&*store, other_body).await.revision, Revision(3));
    // Many at once, in one group or several: one is written, the others hear of it.
    let same = create("settings/d", "four");
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let (store, same) = (store.clone(), same.clone());
        tasks.spawn(async move { store.apply(same).await.unwrap() });
    }
    let answers = tasks.join_all().await;
    let written = answers.iter().filter(|answer| matches!(answer, Applied::Committed { .. })).count();
    assert_eq!((written, store.head().await.unwrap().revision), (1, Revision(4)));
}

pub async fn requests_survive_reopening_and_expire(place: &impl Place) {
    let store = place.open().await;
    let first = create("settings/a", "one");
    let token = apply(&*store, first.clone()).await;
    store.close(crate::fixture::DEADLINE).await;
    let store = place.open().await;
    store.expire(noon() + TimeDelta::hours(23)).await.unwrap();
    let Applied::Replayed { token: again, .. } = store.apply(first.clone()).await.unwrap() else { panic!() };
    assert_eq!(again, token);
    store.expire(noon() + TimeDelta::hours(25)).await.unwrap();
    assert_eq!(store.apply(first).await, Err(ApplyError::Stale { at: Revision(1) }));
}

pub async fn a_write_that_changes_nothing_is_remembered(place: &impl Place) {
    let store = place.open().await;
    let token = apply(&*store, create("settings/a", "one")).await;
    let nothing = write(vec![]);
    assert_eq!(apply(&*store, nothing.clone()).await, token);
    apply(&*store, create("settings/b", "two")).await;
    let Applied::Replayed { token: again, outcome, .. } = store.apply(nothing.clone()).await.unwrap() else {
        panic!()
    };
    assert_eq!((again, outcome), (token, nothing.request.outcome));
    assert_eq!(store.head().await.unwrap().revision, Revision(2));
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
        write(vec![put_of("settings/b", 2)]),
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

pub async fn a_caller_that_goes_away_does_not_stop_its_write(place: &impl Place) {
    let store = place.open().await;
    let mut bell = store.doorbell();
    let first = create("settings/a", "one");
    {
        // Polled once, so that the write is with the writer; then dropped.
        let call = store.apply(first.clone());
        tokio::select! { biased; _ = call => {}, () = std::future::ready(()) => {} }
    }
    bell.changed().await.unwrap();
    assert!(matches!(store.apply(first).await, Ok(Applied::Replayed { .. })));
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

pub async fn pages_hold_whole_revisions(place: &impl Place) {
    let store = place.open().await;
    for (revision, size) in [(1, 1), (2, 5), (3, 1), (4, 1)] {
        let puts = (0..size).map(|index| format!("settings/r{revision}i{index}"));
        apply(&*store, write(puts.map(|at| PlannedChange::Put(Box::new(put(&at, 1, "x")))).collect())).await;
    }
    let sizes = async |after, limit| match store.changes_after(Revision(after), limit).await.unwrap() {
        LogPage::Batches(page) => page.iter().map(|batch| batch.changes.len()).collect::<Vec<_>>(),
        LogPage::Compacted { floor } => panic!("{floor}"),
    };
    assert_eq!(sizes(0, 1).await, [1]);
    assert_eq!(sizes(0, 2).await, [1, 5], "a revision is never cut");
    assert_eq!(sizes(1, 1).await, [5], "nor left out for its size");
    assert_eq!(sizes(0, 7).await, [1, 5, 1]);
    assert_eq!(sizes(0, 0).await, [1], "never nothing");
    assert_eq!(sizes(4, 9).await, [0; 0]);
    assert!(store.changes_after(Revision(5), 9).await.is_err(), "ahead of the log");
}

pub async fn sixty_four_writers_leave_no_gap(place: &impl Place) {
    const EACH: usize = 10;
    let store = place.open().await;
    // A reader that follows all the while must see every revision, in order, and never one that is not there later.
    let follower = tokio::spawn({
        let store = store.clone();
        async move {
            let (mut bell, mut seen) = (store.doorbell(), vec![]);
            while seen.len() < 64 * EACH {
                bell.changed().await.unwrap();
                let after = Revision(seen.len() as u64);
                seen.extend(
                    log_after(&*store, after).await.into_iter().map(|batch| (batch.revision, batch.hash)),
                );
            }
            seen
        }
    });
    let mut tasks = JoinSet::new();
    for writer in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut tokens = vec![];
            for index in 0..EACH {
                tokens.push(apply(&*store, create(&format!("settings/w{writer}i{index}"), "x")).await);
            }
            assert!(tokens.is_sorted_by(|left, right| left.revision < right.revision));
            tokens
        });
    }
    let mut tokens: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    tokens.sort_by_key(|token| token.revision);
    let seen = follower.await.unwrap();
    assert_eq!(seen.len(), 64 * EACH);
    for (index, (token, (revision, hash))) in tokens.iter().zip(&seen).enumerate() {
        assert_eq!((token.revision, revision.0), (*revision, index as u64 + 1));
        assert_eq!(token.hash, hash.half());
    }
    assert_eq!(store.snapshot().await.unwrap().defect, None);
    assert_eq!(store.verify(None).await.unwrap().defects, []);
}

pub async fn writers_of_one_resource_conflict(place: &impl Place) {
    let store = place.open().await;
    apply(&*store, create("settings/a", "one")).await;
    let old = record(&*store, "settings/a").await;
    let mut tasks = JoinSet::new();
    for index in 0..32 {
        let (store, write) = (store.clone(), update(&old, &index.to_string()));
        tasks.spawn(async move { store.apply(write).await });
    }
    let answers = tasks.join_all().await;
    let written = answers.iter().filter(|answer| answer.is_ok()).count();
    let stale =
        answers.iter().filter(|answer| **answer == Err(ApplyError::Stale { at: Revision(2) })).count();
    assert_eq!((written, stale), (1, 31), "{answers:?}");
    assert_eq!(record(&*store, "settings/a").await.version, 2);
}

pub async fn the_doorbell_rings(place: &impl Place) {
    let store = place.open().await;
    let mut bell = store.doorbell();
    assert!(!bell.has_changed().unwrap());
    apply(&*store, create("settings/a", "one")).await;
    assert!(bell.has_changed().unwrap(), "before the writer was answered");
    bell.mark_unchanged();
    let refused = store.apply(create("settings/a", "one")).await;
    assert!(refused.is_err() && !bell.has_changed().unwrap(), "nothing was written");
    apply(&*store, create("settings/b", "one")).await;
    assert!(bell.has_changed().unwrap());
}

pub async fn state_survives_reopening(place: &impl Place) {
    let store = place.open().await;
    let token = apply(&*store, create("settings/a", "one")).await;
    let before = store.snapshot().await.unwrap();
    let id = store.store_id().clone();
    store.close(crate::fixture::DEADLINE).await;
    let store = place.open().await;
    let after = store.snapshot().await.unwrap();
    assert_eq!((before.head, before.records), (after.head, after.records));
    assert_eq!((after.defect, store.store_id()), (None, &id));
    assert_eq!(store.hash_at(Revision(1)).await.unwrap().map(|hash| hash.half()), Some(token.hash));
    apply(&*store, create("settings/b", "two")).await;
    assert_eq!(store.verify(Some((Revision(1), token.hash))).await.unwrap().defects, []);
}

pub async fn the_past_can_be_read(place: &impl Place) {
    let store = place.open().await;
    let mut states = vec![BTreeMap::new()];
    let snapshot = async || {
        let records = store.snapshot().await.unwrap().records;
        records.into_iter().map(|record| (record.name.clone(), record)).collect::<BTreeMap<_, _>>()
    };
    apply(&*store, create("settings/a", "one")).await;
    states.push(snapshot().await);
    apply(&*store, create("settings/b", "one")).await;
    states.push(snapshot().await);
    apply(&*store, update(&states[2][&name("settings/a")], "two")).await;
    states.push(snapshot().await);
    apply(&*store, removal(&states[3][&name("settings/b")])).await;
    states.push(snapshot().await);
    for (revision, state) in (0..).map(Revision).zip(&states) {
        let then = store.records_at(revision).await.unwrap();
        assert_eq!(then, state.values().cloned().collect::<Vec<_>>(), "at {revision}");
        for at in ["settings/a", "settings/b", "settings/never"].map(name) {
            let change = store.record_at(&at, revision).await.unwrap();
            let found = change.and_then(|change| change.record);
            assert_eq!(found.as_deref(), state.get(&at), "{at} at {revision}");
        }
    }
    let gone = store.record_at(&name("settings/b"), Revision(9)).await.unwrap().unwrap();
    assert_eq!(gone.change_type, ChangeType::Deleted);
    assert!(store.records_at(Revision(5)).await.is_err(), "ahead of the log");
}

pub async fn revisions_are_found_by_time(place: &impl Place) {
    let store = place.open().await;
    assert_eq!(store.revision_before(noon()).await.unwrap(), Revision::ZERO);
    // The third writer's clock was an hour behind.
    for (index, minutes) in [0, 10, -50, 20].into_iter().enumerate() {
        let mut write = create(&format!("settings/k{index}"), "x");
        write.time = noon() + TimeDelta::minutes(minutes);
        apply(&*store, write).await;
    }
    let found = async |minutes| store.revision_before(noon() + TimeDelta::minutes(minutes)).await.unwrap().0;
    assert_eq!(found(0).await, 0, "not the time itself");
    assert_eq!(found(1).await, 1);
    assert_eq!(found(10).await, 1, "nothing that is younger is ever taken along");
    assert_eq!(found(11).await, 3);
    assert_eq!(found(60).await, 4);
}

pub async fn compaction_keeps_what_the_floor_needs(place: &impl Place) {
    let store = place.open().await;
    apply(&*store, create("settings/kept", "one")).await;
    apply(&*store, create("settings/gone", "one")).await;
    apply(&*store, create("settings/moved", "one")).await;
    let moved = record(&*store, "settings/moved").await;
    apply(&*store, removal(&record(&*store, "settings/gone").await)).await;
    apply(&*store, update(&moved, "two")).await;
    let at_five = store.records_at(Revision(5)).await.unwrap();
    apply(&*store, update(&record(&*store, "settings/moved").await, "three")).await;
    let (now, hash) =
        (store.records_at(Revision(6)).await.unwrap(), store.hash_at(Revision(5)).await.unwrap());

    assert!(store.compact(Revision(7)).await.is_err(), "beyond the head");
    // Both rows of what is gone, and the first of what moved.
    assert_eq!(store.compact(Revision(5)).await.unwrap(), (Revision(5), 3));
    assert_eq!(store.compact(Revision(3)).await.unwrap(), (Revision(5), 0), "the floor never goes back");
    assert_eq!(store.head().await.unwrap().floor, Revision(5));
    assert_eq!(store.records_at(Revision(5)).await.unwrap(), at_five);
    assert_eq!(store.records_at(Revision(6)).await.unwrap(), now);
    assert!(store.records_at(Revision(4)).await.is_err());
    assert_eq!(store.hash_at(Revision(5)).await.unwrap(), hash);
    assert_eq!(store.hash_at(Revision(4)).await.unwrap(), None);
    assert!(matches!(
        store.changes_after(Revision(4), 9).await.unwrap(),
        LogPage::Compacted { floor: Revision(5) }
    ));
    assert_eq!(log_after(&*store, Revision(5)).await.len(), 1);
    assert_eq!(store.snapshot().await.unwrap().defect, None);
    assert_eq!(store.verify(hash.map(|hash| (Revision(5), hash.half()))).await.unwrap().defects, []);

    apply(&*store, create("settings/new", "x")).await;
    store.compact(Revision(7)).await.unwrap();
    store.close(crate::fixture::DEADLINE).await;
    let store = place.open().await;
    assert_eq!(store.head().await.unwrap().floor, Revision(7));
    assert!(log_after(&*store, Revision(7)).await.is_empty());
    assert_eq!(store.verify(None).await.unwrap().defects, []);
    apply(&*store, create("settings/newer", "x")).await;
    assert_eq!(log_after(&*store, Revision(7)).await.len(), 1);
    assert_eq!(store.verify(None).await.unwrap().defects, []);
}

pub async fn compaction_forgets_secrets_that_nothing_refers_to(place: &impl Place) {
    let store = place.open().await;
    for (version, secret) in [(1, "first"), (2, "second"), (3, "third")] {
        let mut planned = put("settings/a", version, "x");
        let sealed = with_secret(&mut planned, secret);
        let mut write = write(vec![PlannedChange::Put(Box::new(planned))]);
        write.sealed.push(sealed);
        apply(&*store, write).await;
    }
    // The second value is taken back: its id lives on in a newer row.
    let mut back = put("settings/a", 4, "x");
    with_secret(&mut back, "second");
    apply(&*store, write(vec![PlannedChange::Put(Box::new(back))])).await;
    let secrets = async |after| {
        let log = log_after(&*store, Revision(after)).await;
        let ids = log.into_iter().flat_map(|batch| batch.changes).flat_map(|change| change.sealed);
        ids.map(|sealed| sealed.id.0).collect::<Vec<_>>()
    };
    assert_eq!(secrets(0).await, ["first", "second", "third", "second"]);
    store.compact(Revision(2)).await.unwrap();
    assert_eq!(secrets(2).await, ["third", "second"]);
    assert_eq!(store.compact(Revision(4)).await.unwrap(), (Revision(4), 2));
    let sealed = store.snapshot().await.unwrap().sealed;
    assert_eq!(sealed.iter().map(|one| one.id.0.as_str()).collect::<Vec<_>>(), ["second"]);
    // What was forgotten is really gone: the id can be taken anew.
    let mut planned = put("settings/b", 1, "x");
    let sealed = with_secret(&mut planned, "third");
    let mut anew = write(vec![PlannedChange::Put(Box::new(planned))]);
    anew.sealed.push(sealed);
    apply(&*store, anew).await;
}

pub async fn compaction_and_writes_go_together(place: &impl Place) {
    let store = place.open().await;
    let changes = |round: u64| {
        let puts = (0..500).map(move |index| put(&format!("settings/k{index}"), round, &round.to_string()));
        write(puts.map(|put| PlannedChange::Put(Box::new(put))).collect())
    };
    for round in 1..=12 {
        apply(&*store, changes(round)).await;
    }
    let compaction = tokio::spawn({
        let store = store.clone();
        async move { store.compact(Revision(11)).await.unwrap() }
    });
    for index in 0..30 {
        apply(&*store, create(&format!("settings/new{index}"), "x")).await;
    }
    assert_eq!(compaction.await.unwrap(), (Revision(11), 5000));
    assert_eq!(log_after(&*store, Revision(11)).await.len(), 31);
    assert_eq!(store.verify(None).await.unwrap().defects, []);
}

pub async fn an_untouched_store_verifies(place: &impl Place) {
    let store = place.open().await;
    assert_eq!(store.verify(None).await.unwrap().checked_rows, 0);
    apply(&*store, create("settings/a", "one")).await;
    apply(&*store, update(&record(&*store, "settings/a").await, "two")).await;
    let found = store.verify(None).await.unwrap();
    assert_eq!((found.checked_rows, found.revision, found.defects), (2, Revision(2), vec![]));
    let event = AuditEvent { time: noon(), actor: "alice".into(), event: "secret_read", detail: "x".into() };
    store.audit(vec![event; 70]).await.unwrap();
    store.expire(noon()).await.unwrap();
}

pub async fn anchors_tell_a_rolled_back_store(place: &impl Place) {
    let store = place.open().await;
    let token = apply(&*store, create("settings/a", "one")).await;
    let reasons = async |anchor| {
        let found = store.verify(Some(anchor)).await.unwrap();
        found.defects.iter().map(|defect| defect.reason).collect::<Vec<_>>()
    };
    assert_eq!(reasons((Revision(1), token.hash)).await, [""; 0]);
    assert_eq!(reasons((Revision(0), [0; 16])).await, [""; 0]);
    assert_eq!(reasons((Revision(1), [9; 16])).await, ["rolled_back"]);
    assert_eq!(reasons((Revision(2), token.hash)).await, ["rolled_back"]);
}

pub async fn a_closed_store_takes_nothing(place: &impl Place) {
    let store = place.open().await;
    let mut tasks = JoinSet::new();
    for index in 0..20 {
        let (store, write) = (store.clone(), create(&format!("settings/k{index}"), "x"));
        tasks.spawn(async move { store.apply(write).await });
    }
    store.close(crate::fixture::DEADLINE).await;
    let written = tasks.join_all().await.iter().filter(|answer| answer.is_ok()).count();
    let refused = store.apply(create("settings/late", "x")).await;
    assert!(matches!(refused, Err(ApplyError::Unavailable { .. })), "{refused:?}");
    assert!(store.head().await.is_err());
    let store = place.open().await;
    assert_eq!(
        store.head().await.unwrap().revision.0,
        written as u64,
        "what was answered is there, and no more"
    );
}

/// Random writes, replays, compactions and reopenings, against a map and a list.
pub async fn random_histories_match_a_model(place: &impl Place) {
    for seed in 0..4 {
        crate::model::run(place, seed).await;
    }
}
