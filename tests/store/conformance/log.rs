//! What the log tells, and how it is followed.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use signalbox::{
    domain::{ChangeType, KindName, PlannedChange, Revision, audit::AuditEvent},
    store::{AuditLog as _, Log as _, LogPage, Store as _},
};

use crate::fixture::{
    DEADLINE, Place, apply, create, log_after, name, noon, page_after, put, record, removal, update, write,
};

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

pub async fn pages_hold_whole_revisions(place: &impl Place) {
    let store = place.open().await;
    for (revision, size) in [(1, 1), (2, 5), (3, 1), (4, 1)] {
        let puts = (0..size).map(|index| format!("settings/r{revision}i{index}"));
        apply(&*store, write(puts.map(|at| PlannedChange::Put(Box::new(put(&at, 1, "x")))).collect())).await;
    }
    let sizes = async |after, limit| match page_after(&*store, after, limit).await {
        LogPage::Batches(page) => page.iter().map(|batch| batch.changes.len()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(sizes(0, 1).await, [1]);
    assert_eq!(sizes(0, 2).await, [1, 5], "a revision is never cut");
    assert_eq!(sizes(1, 1).await, [5], "nor left out for its size");
    assert_eq!(sizes(0, 7).await, [1, 5, 1]);
    assert_eq!(sizes(0, 0).await, [1], "never nothing");
    assert_eq!(sizes(4, 9).await, [0; 0]);
}

pub async fn changes_of_a_kind_are_found_between_revisions(place: &impl Place) {
    let store = place.open().await;
    for revision in 1..=6 {
        let settings = (0..2)
            .map(|index| PlannedChange::Put(Box::new(put(&format!("settings/r{revision}i{index}"), 1, "x"))));
        apply(&*store, write(settings.collect())).await;
    }
    let found = async |kind, after, through, limit| {
        let found =
            store.changes_of(KindName(kind), Revision(after), Revision(through), limit).await.unwrap();
        found.into_iter().map(|(revision, change)| format!("{revision} {}", change.name)).collect::<Vec<_>>()
    };
    let two = ["3 settings/r3i0", "3 settings/r3i1", "4 settings/r4i0", "4 settings/r4i1"];
    assert_eq!(found("setting", 2, 4, 9).await, two);
    assert_eq!(found("setting", 2, 4, 3).await, two, "whole revisions");
    assert_eq!(found("setting", 2, 6, 2).await, two[..2], "a page of them");
    assert_eq!(found("setting", 6, 9, 9).await, [""; 0]);
    assert_eq!(found("api_key", 0, 6, 9).await, [""; 0]);
}

pub async fn state_survives_reopening(place: &impl Place) {
    let store = place.open().await;
    let token = apply(&*store, create("settings/a", "one")).await;
    let before = store.snapshot().await.unwrap();
    let id = store.store_id().clone();
    store.close(DEADLINE).await;
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
