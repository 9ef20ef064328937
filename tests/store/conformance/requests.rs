//! Requests that come twice, and callers that go away.

use chrono::TimeDelta;
use signalbox::{
    domain::{Applied, ApplyError, Revision, write::RequestKey},
    store::{Log as _, Store as _},
};
use tokio::task::JoinSet;

use crate::fixture::{DEADLINE, Place, apply, create, noon, write};

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
    store.close(DEADLINE).await;
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

pub async fn a_closed_store_takes_nothing(place: &impl Place) {
    let store = place.open().await;
    let mut tasks = JoinSet::new();
    for index in 0..20 {
        let (store, write) = (store.clone(), create(&format!("settings/k{index}"), "x"));
        tasks.spawn(async move { store.apply(write).await });
    }
    store.close(DEADLINE).await;
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
