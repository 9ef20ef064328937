//! What is forgotten, and what never is.

use signalbox::{
    domain::{PlannedChange, Revision},
    store::{Log as _, LogPage, Store as _},
};

use crate::fixture::{
    DEADLINE, Place, apply, create, log_after, page_after, put, record, removal, update, with_secret, write,
};

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
    assert!(matches!(page_after(&*store, 4, 9).await, LogPage::Compacted { floor: Revision(5) }));
    assert_eq!(log_after(&*store, Revision(5)).await.len(), 1);
    assert_eq!(store.snapshot().await.unwrap().defect, None);
    assert_eq!(store.verify(hash.map(|hash| (Revision(5), hash.half()))).await.unwrap().defects, []);

    apply(&*store, create("settings/new", "x")).await;
    store.compact(Revision(7)).await.unwrap();
    store.close(DEADLINE).await;
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
