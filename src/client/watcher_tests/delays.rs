//! When the next stream is opened after one that has failed or ended.

use super::*;

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
