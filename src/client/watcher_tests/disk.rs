//! What lies on disk: whose it is, and what is taken away.

use std::path::Path;

use super::*;
use crate::client::{CacheOptions, SecretText, cache::Identity, clock::wall};

const KEY: &str = "a-secret-of-at-least-thirty-two-characters";

fn kept(path: &Path) -> ClientOptions {
    options().cache(CacheOptions::new(path, SecretText::new(KEY)))
}

/// The revision on disk for the subject of the stream of this number.
fn revision(options: &ClientOptions, path: &Path, stream: usize) -> Option<u64> {
    let identity: Identity = options.identity(&Subject { subject: "+".repeat(stream), ..Subject::default() });
    let cache = CacheOptions::new(path, SecretText::new(KEY)).open().unwrap();
    Some(cache.load(&identity, Arc::default(), wall()).ok()??.snapshot.revision())
}

async fn until_kept(options: &ClientOptions, path: &Path, stream: usize, wanted: Option<u64>) {
    while revision(options, path, stream) != wanted {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Once the token was rotated, what had come with the former one was sealed as the new subject's.
#[tokio::test(start_paused = true)]
async fn regression_what_is_kept_is_of_the_subject_whose_stream_brought_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let options = kept(&path);
    let (client, mut server) = start(&options);
    let (_, peer) = server.accept().await;
    peer.sync(5);
    until_kept(&options, &path, 1, Some(5)).await;
    drop(peer);
    let (_, peer) = server.accept().await;
    // The second stream has brought nothing yet: what is served is still of the first.
    peer.send(Event::Revoked(Revoked { names: vec!["settings/a".to_owned()], revision: 9 }));
    until(&client, |_| client.snapshot().sequence > 1).await;
    peer.change("b", 6);
    client.wait_revision(6, LONG).await.unwrap();
    until_kept(&options, &path, 1, Some(6)).await;
    peer.synced(6);
    until_kept(&options, &path, 2, Some(6)).await;
}

/// A worker that was started after its state had been refuted was ready with it.
#[tokio::test(start_paused = true)]
async fn regression_what_is_refuted_is_taken_away_until_a_whole_state_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let options = kept(&path);
    let (client, mut server) = start(&options);
    let (_, peer) = server.accept().await;
    peer.sync(5);
    until_kept(&options, &path, 1, Some(5)).await;
    peer.progress(5, vec![1; 16]);
    until(&client, |status| status.digest_mismatches == 1).await;
    until_kept(&options, &path, 1, None).await;
    let (open, peer) = server.accept().await;
    assert_eq!(open.request.resume_token, "");
    peer.send(Event::Revoked(Revoked { names: vec!["settings/a".to_owned()], revision: 9 }));
    until(&client, |_| client.snapshot().sequence > 1).await;
    tokio::time::sleep(LONG.min(Duration::from_secs(5))).await;
    assert!(!path.exists() && !client.status().ready, "a revocation is no whole state");
    peer.sync(4);
    until_kept(&options, &path, 2, Some(4)).await;
    assert!(client.status().ready);
    for (reason, goes) in [(ResetReason::Lagged, false), (ResetReason::OtherStore, true)] {
        let resets = client.status().resets;
        peer.send(Event::Reset(Reset { reason: reason.into(), ..Reset::default() }));
        until(&client, |status| status.resets > resets).await;
        until_kept(&options, &path, 2, (!goes).then_some(4)).await;
    }
    peer.sync(2);
    until_kept(&options, &path, 2, Some(2)).await;
}

/// A server that was never silent and never came to an end was followed for ever.
#[tokio::test(start_paused = true)]
async fn regression_a_state_that_never_becomes_whole_is_given_up() {
    let (_client, mut server) = start(&options());
    let (open, peer) = server.accept().await;
    for number in 0_u64.. {
        let part = Snapshot { revision: 5, resources: vec![resource(&format!("k{number}"), 5)], last: false };
        if peer.0.send(Ok(WatchConfigResponse { event: Some(Event::Snapshot(part)) })).is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let waited = open.at.elapsed();
    assert!(waited > WHOLE_DEADLINE && waited < WHOLE_DEADLINE * 2, "{waited:?}");
    let (open, _peer) = server.accept().await;
    assert_eq!(open.request.resume_token, "");
}
