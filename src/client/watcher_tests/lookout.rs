//! What becomes of a stream whose server does not hear of the store.

use super::*;

/// A heartbeat of a server that has not heard of its store for so long.
fn heartbeat(age: Duration) -> Event {
    let confirmed_age = age.try_into().ok();
    let resume_token = "token-5".to_owned();
    Event::Progress(Progress { revision: 5, resume_token, confirmed_age, ..Progress::default() })
}

/// Heartbeats while the store is away, until the stream is left or the time is over; gives what is opened then.
async fn away(server: &mut Server, peer: &Peer, limit: Duration, since: Instant) -> Option<Open> {
    while since.elapsed() < limit {
        if !peer.0.is_closed() {
            peer.send(heartbeat(since.elapsed()));
        }
        tokio::select! {
            open = server.opens.recv() => return open,
            () = tokio::time::sleep(Duration::from_secs(5)) => {}
        }
    }
    None
}

/// The store was away for all, and every worker with secrets left a stream that it could not open again.
#[tokio::test(start_paused = true)]
async fn regression_a_stream_is_not_given_up_for_a_server_that_is_no_better() {
    let (client, mut server, peer) = ready().await;
    server.better.send_replace(false);
    let began = Instant::now();
    assert!(away(&mut server, &peer, Duration::from_secs(300), began).await.is_none());
    assert!(matches!(client.status().last_error.as_deref(), Some(Error::Unconfirmed(_))));
    assert!(!client.status().ready && client.status().reconnects == 0);
    peer.send(heartbeat(Duration::ZERO));
    until(&client, |status| status.ready && status.last_error.is_none()).await;
    server.better.send_replace(true);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(server.opens.try_recv().is_err(), "nobody looks any more");
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_another_server_is_looked_for_is_served() {
    let (client, mut server, peer) = ready().await;
    server.better.send_replace(false);
    let began = Instant::now();
    assert!(away(&mut server, &peer, Duration::from_secs(60), began).await.is_none());
    peer.change("a", 6);
    client.wait_revision(6, LONG).await.unwrap();
    assert!(client.status().reconnects == 0 && server.opens.try_recv().is_err());
}

/// The replica of a worker was cut off from the store, and the worker was not ready for half a minute beside a healthy one.
#[tokio::test(start_paused = true)]
async fn regression_a_worker_stays_ready_where_another_server_hears_of_the_store() {
    let (client, mut server, peer) = ready().await;
    let began = Instant::now();
    let open = away(&mut server, &peer, Duration::from_secs(60), began).await.unwrap();
    let waited = open.at - began;
    assert!(waited >= Duration::from_secs(15) && waited <= Duration::from_millis(20_200), "{waited:?}");
    assert!(client.status().ready);
    let (sender, receiver) = mpsc::unbounded_channel();
    server.answers.send(Ok(Box::pin(UnboundedReceiverStream::new(receiver)))).unwrap();
    let peer = Peer(sender);
    peer.synced(5);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(client.status().ready);
    peer.send(heartbeat(Duration::ZERO));
    until(&client, |status| status.last_error.is_none()).await;
    assert!(client.status().ready);
}

/// Two servers that both lag would be taken in turn.
#[tokio::test(start_paused = true)]
async fn who_lags_a_little_is_followed_on() {
    let (client, mut server, peer) = ready().await;
    for _ in 0..30 {
        peer.send(heartbeat(Duration::from_secs(9)));
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(server.opens.try_recv().is_err() && client.status().ready);
}
