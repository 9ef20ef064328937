//! Replicas that vanished, and what another one at their address proves of their workers.

use signalbox::{
    domain::ReplicaId,
    store::{Cluster as _, Fleet as _, Heartbeat, Keep, Living, postgres::PostgresStore},
};
use sqlx::{Connection as _, PgConnection};

use super::Database;
use crate::{
    conformance::heartbeat,
    fixture::{DEADLINE, Place as _},
};

async fn sql(place: &Database, text: &'static str) {
    let mut connection = PgConnection::connect(&place.0).await.unwrap();
    sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
}

fn at(id: &str, address: &str) -> Heartbeat {
    Heartbeat { address: address.into(), ..heartbeat(id, 1) }
}

fn ids(living: &Living) -> Vec<&str> {
    living.vanished.iter().map(|vanished| vanished.id.0.as_str()).collect()
}

/// Whether the only session there is is an orphan, after somebody has tidied.
async fn is_orphan(store: &PostgresStore) -> bool {
    let own = ReplicaId("looks".into());
    store.tidy_fleet(&own, Keep { ended: DEADLINE, orphaned: DEADLINE }).await.unwrap();
    let members = store.fleet(&own).await.unwrap();
    assert!(matches!(&members[..], [member] if member.ended.is_some()), "{members:?}");
    members[0].orphaned
}

const SESSION: &str = "INSERT INTO worker_sessions (id, replica, epoch, subject, worker, labels, client_version, view, secrets, \
    silent, began) VALUES ('s', 'gone', '0000000000000007', 's', 'w', '{}', '1', '{}', true, false, now())";
const FALLS_SILENT: &str = "UPDATE replicas SET began = began - interval '1 minute'; \
    UPDATE replicas SET seen = seen - interval '11 seconds' WHERE id = 'gone'";

/// A replica at an address vanishes with a worker, maybe while another one tells the same address; then a new one begins there.
/// Whether the worker is still waited for as one whose stream may be open.
async fn waits_on(address: &str, beside: bool) -> bool {
    let place = Database::new().await;
    let [gone, other, looks, next] =
        [place.open().await, place.open().await, place.open().await, place.open().await];
    gone.beat(&at("gone", address)).await.unwrap();
    if beside {
        other.beat(&at("other", address)).await.unwrap();
    }
    sql(&place, SESSION).await;
    sql(&place, FALLS_SILENT).await;
    for _ in 0..2 {
        let told = looks.beat(&heartbeat("looks", 1)).await.unwrap();
        assert_eq!(ids(&told), ["gone"], "also who did not take its row away");
    }
    assert!(is_orphan(&looks).await);
    if beside {
        other.leave(&ReplicaId("other".into())).await.unwrap();
    }
    next.beat(&at("next", address)).await.unwrap();
    let waits = is_orphan(&looks).await;
    let told = looks.beat(&heartbeat("looks", 1)).await.unwrap();
    assert_eq!(ids(&told).is_empty(), !waits);
    waits
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_begins_where_one_vanished_proves_that_it_is_gone() {
    assert!(!waits_on("one.example:50051", false).await);
    assert!(!waits_on("127.0.0.1:50051", false).await, "nobody else told it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_several_replicas_proves_nothing() {
    assert!(waits_on("service.example:50051", true).await);
    assert!(waits_on("0.0.0.0:50051", false).await);
    assert!(waits_on("[::]:50051", false).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_back_has_not_vanished_and_ends_its_workers_when_it_says_goodbye() {
    let place = Database::new().await;
    let [gone, looks] = [place.open().await, place.open().await];
    gone.beat(&at("gone", "one.example:50051")).await.unwrap();
    sql(&place, SESSION).await;
    sql(&place, FALLS_SILENT).await;
    assert_eq!(ids(&looks.beat(&heartbeat("looks", 1)).await.unwrap()), ["gone"]);
    assert!(is_orphan(&looks).await);
    let told = gone.beat(&at("gone", "one.example:50051")).await.unwrap();
    assert!(!ids(&looks.beat(&heartbeat("looks", 1)).await.unwrap()).contains(&"gone"), "{told:?}");
    assert!(is_orphan(&looks).await, "its process has yet to say how its streams stand");
    gone.leave(&ReplicaId("gone".into())).await.unwrap();
    assert!(!is_orphan(&looks).await);
}
