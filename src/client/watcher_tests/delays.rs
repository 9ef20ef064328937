//! When the next stream is opened after one that has failed or ended.

use super::*;

/// Half of the staleness bound.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(15);

#[tokio::test(start_paused = true)]
async fn a_server_that_went_away_early_is_not_asked_before_its_time() {
    let (_client, mut server, peer) = ready().await;
    let began = Instant::now();
    peer.go_away(8);
    peer.fail(Status::unavailable("bye"));
    let (open, _peer) = server.accept().await;
    assert!(open.at - began >= Duration::from_secs(8));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_always_goes_away_is_not_asked_in_a_tight_loop() {
    let (_client, mut server) = start(&options());
    let began = Instant::now();
    for _ in 0..40 {
        let (_, peer) = server.accept().await;
        peer.go_away(0);
    }
    assert!(Instant::now() - began > Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn no_delay_is_longer_than_the_ceiling_and_a_stream_that_lived_resets_it() {
    let (_client, mut server) = start(&options());
    let mut last = server.refuse(Error::Ended).await.at;
    for failures in 0_u32..40 {
        let open = server.refuse(Error::Ended).await;
        let cap = (BACKOFF_FLOOR * 2_u32.saturating_pow(failures.min(10))).min(BACKOFF_CEILING);
        assert!(open.at - last <= cap + Duration::from_millis(2), "{:?}", open.at - last);
        last = open.at;
    }
    let (_, peer) = server.accept().await;
    peer.sync(5);
    tokio::time::sleep(BACKOFF_CEILING).await;
    let began = Instant::now();
    drop(peer);
    let open = server.refuse(Error::Ended).await;
    assert!(open.at - began <= BACKOFF_FLOOR + Duration::from_millis(2));
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_is_told_at_once_and_tried_again_slowly() {
    for status in [Status::permission_denied("no"), Status::invalid_argument("what")] {
        let (client, mut server) = start(&options());
        let first = server.refuse(status).await;
        let error = client.wait_ready(LONG).await.unwrap_err();
        assert!(error.is_fatal());
        assert!(client.status().last_error.unwrap().is_fatal());
        let (open, peer) = server.accept().await;
        let waited = open.at - first.at;
        assert!(
            waited >= FATAL_DELAY && waited <= FATAL_DELAY + FATAL_DELAY / 10 + BACKOFF_FLOOR,
            "{waited:?}"
        );
        peer.sync(5);
        until(&client, |status| status.ready).await;
        assert!(client.status().last_error.is_none());
        client.wait_ready(LONG).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_not_fatal() {
    let (client, mut server, peer) = ready().await;
    peer.fail(Status::unauthenticated("expired"));
    let began = Instant::now();
    let open = server.refuse(Status::unauthenticated("expired")).await;
    assert!(open.at - began < Duration::from_secs(1));
    assert_eq!(open.request.resume_token, "token-5");
    let (_, peer) = server.accept().await;
    peer.synced(5);
    until(&client, |status| status.last_error.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_delay_that_the_server_asks_for_is_kept() {
    let (client, mut server) = start(&options());
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
    let status = Status::with_error_details(Code::ResourceExhausted, "full", details);
    let first = server.refuse(status).await;
    let second = server.refuse(Error::Ended).await;
    assert!(second.at - first.at >= Duration::from_secs(7));
    let error = client.wait_ready(Duration::from_millis(1)).await.unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }) && !error.is_fatal());
}

#[tokio::test(start_paused = true)]
async fn no_server_sends_a_client_away_for_long() {
    let (_client, mut server, peer) = ready().await;
    let began = Instant::now();
    peer.go_away(315_360_000_000);
    let open = server.opens.recv().await.unwrap();
    let waited = open.at - began;
    assert!(waited >= MAX_REQUESTED_DELAY && waited < MAX_REQUESTED_DELAY * 2, "{waited:?}");
}

/// However long each of the streams has lived.
#[tokio::test(start_paused = true)]
async fn a_cache_that_drifts_again_and_again_is_built_anew_ever_more_rarely() {
    let (_client, mut server, mut peer) = ready().await;
    for _ in 0..6 {
        tokio::time::sleep(BACKOFF_CEILING).await;
        peer.progress(6, vec![1; 16]);
        (_, peer) = server.accept().await;
        peer.sync(6);
    }
    tokio::time::sleep(BACKOFF_CEILING).await;
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        let began = Instant::now();
        peer.progress(6, vec![1; 16]);
        let open = server.opens.recv().await.unwrap();
        longest = longest.max(open.at - began);
        let (sender, receiver) = mpsc::unbounded_channel();
        server.answers.send(Ok(Box::pin(UnboundedReceiverStream::new(receiver)))).unwrap();
        peer = Peer(sender);
        peer.sync(6);
        tokio::time::sleep(BACKOFF_CEILING).await;
    }
    assert!(longest > BACKOFF_FLOOR * 32, "{longest:?}");
}

/// Has something said again and again until another stream is opened: that one, and after how long.
async fn until_left(server: &mut Server, every: Duration, mut say: impl FnMut()) -> (Open, Duration) {
    let began = Instant::now();
    loop {
        say();
        tokio::select! {
            open = server.opens.recv() => {
                let open = open.unwrap();
                let waited = open.at - began;
                return (open, waited);
            }
            () = tokio::time::sleep(every) => {}
        }
        assert!(began.elapsed() < WHOLE_DEADLINE * 2, "listened to for ever");
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn heartbeat(age: i64) -> Event {
    let confirmed_age = Some(prost_types::Duration { seconds: age, nanos: 0 });
    Event::Progress(Progress { revision: 5, confirmed_age, ..Progress::default() })
}

/// What a server can say for ever without having heard of the store.
fn tells_nothing() -> [(&'static str, Option<Event>); 3] {
    [
        ("events of a newer server", None),
        ("heartbeats that are too old", Some(heartbeat(31))),
        ("revocations", Some(Event::Revoked(Revoked { names: vec!["settings/a".to_owned()], revision: 9 }))),
    ]
}

#[tokio::test(start_paused = true)]
async fn regression_a_stream_that_confirms_nothing_is_left() {
    for (what, event) in tells_nothing() {
        let (client, mut server, peer) = ready().await;
        let (open, waited) = until_left(&mut server, SECOND, || {
            // The stream is over where this fails.
            let _ = peer.0.send(Ok(WatchConfigResponse { event: event.clone() }));
        })
        .await;
        assert!(waited >= CONFIRM_DEADLINE && waited < Duration::from_secs(32), "{what}: {waited:?}");
        assert_eq!(open.endpoint, 1, "{what}: another is asked");
        let error = client.status().last_error.unwrap();
        assert!(matches!(*error, Error::Unconfirmed(CONFIRM_DEADLINE)), "{what}: {error}");
        assert_eq!(client.setting_int("a").unwrap(), Some(5), "{what}: served on");
    }
}

/// Only being in sync began the time: who never was in sync was listened to for ever.
#[tokio::test(start_paused = true)]
async fn regression_a_resumed_stream_that_never_comes_in_sync_is_left() {
    for (what, event) in tells_nothing() {
        let (client, mut server, peer) = ready().await;
        drop(peer);
        let (open, peer) = server.accept().await;
        assert_eq!(open.request.resume_token, "token-5", "{what}: resumed");
        let (open, waited) = until_left(&mut server, SECOND, || {
            let _ = peer.0.send(Ok(WatchConfigResponse { event: event.clone() }));
        })
        .await;
        assert!(waited >= CONFIRM_DEADLINE && waited < Duration::from_secs(32), "{what}: {waited:?}");
        assert_eq!(open.endpoint, 2, "{what}: another is asked");
        let error = client.status().last_error.unwrap();
        assert!(matches!(*error, Error::Unconfirmed(CONFIRM_DEADLINE)), "{what}: {error}");
    }
}

/// The time begins anew with it, so that what was missed can come.
#[tokio::test(start_paused = true)]
async fn a_resumed_stream_that_comes_in_sync_late_is_given_its_time() {
    let (client, mut server, peer) = ready().await;
    drop(peer);
    let (_, peer) = server.accept().await;
    for second in 0..25 {
        if second == 12 {
            peer.synced(5);
        }
        peer.send(Event::Revoked(Revoked::default()));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    peer.send(heartbeat(0));
    until(&client, |status| status.ready).await;
    assert!(server.opens.try_recv().is_err(), "still the same stream");
}

/// Heartbeats come behind what is queued. A worker that was far behind was cut off from its changes again and again.
#[tokio::test(start_paused = true)]
async fn regression_a_stream_that_brings_changes_without_end_is_given_ten_minutes() {
    let (client, mut server, peer) = ready().await;
    let mut revision = 5;
    let (_, waited) = until_left(&mut server, SECOND * 5, || {
        revision += 1;
        if !peer.0.is_closed() {
            peer.change("a", revision);
        }
    })
    .await;
    assert!(waited >= WHOLE_DEADLINE && waited < WHOLE_DEADLINE + Duration::from_secs(6), "{waited:?}");
    assert!(matches!(client.status().last_error.as_deref(), Some(Error::Unconfirmed(_))));
}

/// It was waited for, connected to nothing, for as long as it had asked for last.
#[tokio::test(start_paused = true)]
async fn regression_a_server_that_goes_away_again_and_again_and_confirms_nothing_is_left() {
    let (client, mut server, peer) = ready().await;
    let (_, waited) = until_left(&mut server, SECOND, || {
        if !peer.0.is_closed() {
            peer.go_away(60);
        }
    })
    .await;
    assert!(waited >= CONFIRM_DEADLINE && waited < Duration::from_secs(32), "{waited:?}");
    assert!(matches!(client.status().last_error.as_deref(), Some(Error::Unconfirmed(_))));
    // And who confirms is left at the first time that was told.
    let (_, peer) = server.accept().await;
    peer.synced(5);
    let (_, waited) = until_left(&mut server, SECOND, || {
        if !peer.0.is_closed() {
            peer.send(heartbeat(0));
            peer.go_away(40);
        }
    })
    .await;
    assert!(waited >= Duration::from_secs(40) && waited < Duration::from_secs(41), "{waited:?}");
}

/// Whichever stream it opens, a server that is cut off from the store is asked ever more rarely, and is told of.
#[tokio::test(start_paused = true)]
async fn regression_a_server_without_its_store_is_not_asked_in_a_tight_loop() {
    let (client, mut server, peer) = ready().await;
    let mut peer = peer;
    for round in 0_u32..6 {
        let lived = Instant::now();
        while !peer.0.is_closed() {
            let _ = peer.0.send(Ok(WatchConfigResponse { event: Some(heartbeat(40)) }));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(lived.elapsed() >= CONFIRM_DEADLINE, "round {round}");
        let error = client.status().last_error;
        assert!(matches!(error.as_deref(), Some(Error::Unconfirmed(_))), "round {round}: {error:?}");
        (_, peer) = server.accept().await;
        peer.synced(5);
    }
    // Six failures in a row, and no stream that would have made up for them.
    drop(peer);
    let mut last = server.refuse(Error::Ended).await.at;
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        let open = server.refuse(Error::Ended).await;
        longest = longest.max(open.at - last);
        last = open.at;
    }
    assert!(longest > BACKOFF_FLOOR * 32, "{longest:?}");
    let (_, peer) = server.accept().await;
    peer.synced(5);
    peer.send(heartbeat(0));
    until(&client, |status| status.last_error.is_none() && status.ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_state_on_its_way_may_take_longer_than_the_store_may_be_silent() {
    let (client, mut server, peer) = ready().await;
    peer.send(Event::Reset(Reset::default()));
    for key in ["b", "c", "d", "e", "f"] {
        let resources = vec![resource(key, 8)];
        peer.send(Event::Snapshot(Snapshot { revision: 8, resources, last: key == "f" }));
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    peer.synced(8);
    client.wait_revision(8, LONG).await.unwrap();
    assert!(server.opens.try_recv().is_err(), "no second stream");
}
