//! States that the worker does not accept.

use super::*;

fn wary() -> ClientOptions {
    options().validate(|snapshot| match snapshot.setting_int("a") {
        Ok(Some(5 | 7)) => Err("a prime".to_owned()),
        Ok(Some(8)) => panic!("sk-canary"),
        _ => Ok(()),
    })
}

#[tokio::test(start_paused = true)]
async fn a_first_state_that_is_not_accepted_leaves_nothing_to_read() {
    let (client, mut server) = start(&wary());
    let (_, peer) = server.accept().await;
    peer.sync(5);
    let error = client.wait_ready(Duration::from_secs(1)).await.unwrap_err();
    assert!(
        error.to_string().contains("revision 5 is not accepted: a prime") && !error.is_fatal(),
        "{error}"
    );
    assert!(!client.status().loaded && client.setting_int("a").unwrap().is_none());
    peer.change("a", 6);
    client.wait_ready(LONG).await.unwrap();
    assert_eq!((client.setting_int("a").unwrap(), client.status().rejection), (Some(6), None));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_accepted_is_told_and_what_was_accepted_is_served_on() {
    let (client, mut server) = start(&wary());
    let (_, peer) = server.accept().await;
    peer.sync(6);
    client.wait_ready(LONG).await.unwrap();
    for (revision, reason) in [(7, "a prime"), (8, "the validation panicked")] {
        peer.change("a", revision);
        until(&client, |status| status.rejection.as_ref().is_some_and(|why| why.revision == revision)).await;
        let status = client.status();
        assert_eq!(status.rejection.unwrap().reason, reason);
        assert!(status.ready && status.revision == 6 && status.last_error.is_none());
        assert_eq!(client.setting_int("a").unwrap(), Some(6));
    }
    let refused = client.clear_cache(Duration::from_secs(1));
    let serve_anew = async {
        let (open, peer) = server.accept().await;
        assert_eq!(open.request.resume_token, "");
        peer.sync(7);
        peer
    };
    let (refused, peer) = tokio::join!(refused, serve_anew);
    assert!(refused.unwrap_err().to_string().contains("revision 7 is not accepted"));
    peer.change("a", 9);
    client.wait_revision(9, LONG).await.unwrap();
    assert_eq!(client.status().rejection, None);
}
