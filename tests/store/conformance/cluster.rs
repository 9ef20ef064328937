//! What replicas share beside the log.

use std::time::Duration;

use signalbox::{
    domain::{Epoch, FeatureLevel, ReplicaId, Revision, SealedSecret, SecretId},
    store::{Cluster as _, HOUSEKEEPING, Heartbeat, Store as _, StoreError},
};

use crate::fixture::{DATA_KEY, DEADLINE, Place};

/// What a replica tells of itself.
pub fn heartbeat(id: &str, level: u32) -> Heartbeat {
    Heartbeat {
        id: ReplicaId(id.to_owned()),
        address: format!("{id}.local:50051"),
        version: "1.2.3".to_owned(),
        feature_level: FeatureLevel(level),
        epoch: Epoch(7),
        revision: Revision(9),
        digest: [3; 16],
        key_ids: vec!["new".to_owned(), "old".to_owned()],
        doorbell: "notify".to_owned(),
        watchers: 12,
        environment: vec![],
        verification: vec![],
    }
}

fn sealed(id: &str) -> SealedSecret {
    SealedSecret { id: SecretId(id.to_owned()), data_key: DATA_KEY.to_owned(), token: format!("token-{id}") }
}

pub async fn a_replica_is_told_of_as_it_told(place: &impl Place) {
    let store = place.open().await;
    let mut own = heartbeat("a", 1);
    store.beat(&own).await.unwrap();
    own.revision = Revision(10);
    let living = store.beat(&own).await.unwrap().replicas;
    assert_eq!(living.len(), 1, "once, however often it tells");
    assert_eq!(living[0].heartbeat, own);
    assert!(living[0].age < DEADLINE, "{:?}", living[0].age);
    store.leave(&own.id).await.unwrap();
}

pub async fn a_binary_below_the_level_is_refused_and_the_level_never_falls(place: &impl Place) {
    let store = place.open().await;
    assert_eq!(store.feature_level().await.unwrap(), FeatureLevel(1));
    store.beat(&heartbeat("a", 3)).await.unwrap();
    assert_eq!(store.raise_feature_level(FeatureLevel(3)).await.unwrap(), FeatureLevel(3));
    assert_eq!(store.raise_feature_level(FeatureLevel(2)).await.unwrap(), FeatureLevel(3));
    store.leave(&ReplicaId("a".into())).await.unwrap();
    let Err(StoreError::Unavailable(told)) = store.beat(&heartbeat("b", 2)).await else {
        panic!("an older binary is let in")
    };
    assert!(told.contains("feature level 3") && told.contains("supports only 2"), "{told}");
    store.close(DEADLINE).await;
    let again = place.open().await;
    assert_eq!(again.feature_level().await.unwrap(), FeatureLevel(3), "it lasts");
}

pub async fn a_lease_is_renewed_by_its_holder(place: &impl Place) {
    let store = place.open().await;
    let holder = ReplicaId("a".into());
    let first = store.acquire(HOUSEKEEPING, &holder, DEADLINE).await.unwrap().expect("it is free");
    let again = store.acquire(HOUSEKEEPING, &holder, DEADLINE).await.unwrap().expect("it is its own");
    assert_eq!(first, again);
    store.release(&again).await.unwrap();
    assert!(store.acquire(HOUSEKEEPING, &holder, Duration::ZERO).await.unwrap().is_some());
}

pub async fn the_first_secret_that_is_offered_is_everybody_s(place: &impl Place) {
    let store = place.open().await;
    assert_eq!(store.share_secret("signing_key", None).await.unwrap(), None);
    let one = store.share_secret("signing_key", Some(sealed("one"))).await.unwrap();
    assert_eq!(one, Some(sealed("one")));
    let two = store.share_secret("signing_key", Some(sealed("two"))).await.unwrap();
    assert_eq!(two, Some(sealed("one")));
    assert_eq!(store.share_secret("another", None).await.unwrap(), None);
}
