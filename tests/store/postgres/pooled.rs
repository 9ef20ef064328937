//! Behind a pooler in transaction mode: everything works, but for the doorbell, and that is known.

use std::{sync::Arc, time::Duration};

use signalbox::{
    domain::{Revision, RevisionBatch},
    store::{DoorbellState, Log as _, Store as _},
    view::{Publish, State, View, follow},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Database, open,
    pooler::Pooler,
    server::{port_of, shared},
};
use crate::fixture::{Place, apply, create, log_after};

/// A database that is reached through the pooler.
struct Pooled {
    _pooler: Pooler,
    url: String,
}

impl Place for Pooled {
    type Store = signalbox::store::postgres::PostgresStore;

    async fn open(&self) -> Arc<Self::Store> {
        open(&self.url).await
    }
}

async fn pooled() -> Pooled {
    let direct = shared().database().await;
    let port = port_of(&direct);
    let pooler = Pooler::before(port);
    let url = direct.replace(&format!(":{port}/"), &format!(":{}/", pooler.port()));
    Pooled { _pooler: pooler, url }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_in_transaction_mode_is_found_out_and_polled_through() {
    let place = pooled().await;
    let stores = [place.open().await, place.open().await, place.open().await];
    for store in &stores {
        let state = store.doorbell_state();
        assert!(matches!(state, DoorbellState::Polling { reason } if reason.contains("pooler")), "{state:?}");
    }
    let mut tasks = JoinSet::new();
    for writer in 0..48 {
        let store = stores[writer % 3].clone();
        tasks.spawn(async move {
            for index in 0..5 {
                apply(&*store, create(&format!("settings/w{writer}i{index}"), "x")).await;
                store.snapshot().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(log_after(&*stores[0], Revision::ZERO).await.len(), 240);
    assert_eq!(stores[1].verify(None).await.unwrap().defects, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_holds_through_a_pooler() {
    let place = pooled().await;
    tokio::time::timeout(Duration::from_secs(120), crate::model::run(&place, 7)).await.unwrap();
}

/// No ring arrives; the view looks by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_behind_a_pooler_is_a_second_behind_at_most() {
    let place = pooled().await;
    let (writes, reads) = (place.open().await, place.open().await);
    let view = Arc::new(View::new(State::from_snapshot(reads.snapshot().await.unwrap())));
    let stop = CancellationToken::new();
    let following = tokio::spawn(follow(reads, view.clone(), Nobody, stop.clone()));
    for index in 0..3 {
        let token = apply(&*writes, create(&format!("settings/k{index}"), "x")).await;
        assert!(
            view.reached(token.revision, Duration::from_millis(1500)).await,
            "{:?}",
            view.state().revision
        );
    }
    stop.cancel();
    following.await.unwrap();
}

/// Is told, and tells nobody.
struct Nobody;

impl Publish for Nobody {
    fn batch(&self, _: RevisionBatch, _: &Arc<State>) {}
    fn rebuilt(&self, _: &Arc<State>) {}
}

/// A view from a replica that is told directly, of writes that came through the pooler.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_through_a_pooler_ring_for_those_who_listen() {
    let place = pooled().await;
    let direct = Database(place.url.replace(&port_of(&place.url).to_string(), &shared().port().to_string()));
    if shared().port() == 0 {
        return;
    }
    let (through, beside) = (place.open().await, direct.open().await);
    let mut bell = beside.doorbell();
    apply(&*through, create("settings/a", "x")).await;
    tokio::time::timeout(Duration::from_secs(5), bell.changed()).await.unwrap().unwrap();
}
