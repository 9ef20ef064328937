//! What every store must do, whatever database it stands on. Each function is one rule, given a fresh [`Place`].

use std::sync::Arc;

use signalbox::{
    domain::{Applied, ApplyError, ChangeType, PlannedChange, Read, Revision, WriteSet},
    store::{Log as _, LogPage, Store as _},
};

use crate::fixture::{
    Place, apply, committed, create, delete, labels, log_after, name, noon, put, record, removal, revocation,
    update, with_secret, write,
};

/// Makes a test of every rule, each on a place of its own.
macro_rules! conformance {
    ($place:expr) => {
        $crate::conformance::conformance!($place;
            an_empty_store_stands_at_zero
            a_write_is_state_and_log
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
    assert_eq!(snapshot.sealed, [sealed.clone()]);
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
