//! Subscribers and callbacks, and how they end.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_is_told_and_resynced() {
    let (client, mut server) = start(&options().event_queue(4));
    let (_, peer) = server.accept().await;
    peer.sync(5);
    client.wait_ready(LONG).await.unwrap();
    let mut subscription = client.subscribe();
    for revision in 6..=30 {
        peer.change("a", revision);
    }
    client.wait_revision(30, LONG).await.unwrap();
    assert!(matches!(subscription.next().await, Some(Update::Lagged { missed: 21 })));
    let Some(Update::Resync(snapshot)) = subscription.next().await else { panic!("no resync") };
    assert_eq!(snapshot.revision(), 30);
    peer.change("a", 31);
    let Some(Update::Changes(set)) = subscription.next().await else { panic!("no changes") };
    assert_eq!(set.snapshot.revision(), 31, "what the resync holds does not come again");
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_or_lags_hears_what_follows() {
    let (client, mut server) = start(&options().event_queue(2));
    let (_, peer) = server.accept().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let values = Arc::new(Mutex::new(Vec::new()));
    let (counted, collected) = (calls.clone(), values.clone());
    client
        .on_change(Selector::all(), move |event| {
            assert_ne!(counted.fetch_add(1, Ordering::SeqCst), 0, "the first call panics");
            collected.lock().unwrap().push(event.revision);
        })
        .forever();
    let heard = |revision: u64| {
        let values = values.clone();
        async move {
            while values.lock().unwrap().last() != Some(&revision) {
                tokio::task::yield_now().await;
            }
        }
    };
    peer.sync(5);
    client.wait_ready(LONG).await.unwrap();
    peer.change("b", 6);
    heard(6).await;
    // The runtime has one thread, so that all of these are published before the callback's turn.
    for revision in 7..=40 {
        peer.change("b", revision);
    }
    heard(40).await;
    assert!(calls.load(Ordering::SeqCst) < 30, "a callback that lags is given differences");
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_ends_everything() {
    let (client, mut server, peer) = ready().await;
    let mut subscription = client.subscribe();
    let clone = client.clone();
    drop(client);
    peer.change("a", 6);
    assert!(subscription.next().await.is_some(), "a clone keeps it alive");
    drop(clone);
    assert!(subscription.next().await.is_none());
    assert!(server.opens.recv().await.is_none());
    assert!(peer.0.is_closed());
}
