//! What the metrics hook is told.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_happens_is_told_to_the_metrics_hook_and_its_panics_are_borne() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let (client, mut server) = start(&options().metrics(move |metric| {
        heard.lock().unwrap().push(metric);
        assert!(metric != Metric::Changes(1), "the hook panics");
    }));
    let (_, peer) = server.accept().await;
    peer.sync(5);
    client.wait_ready(LONG).await.unwrap();
    for _ in 0..3 {
        client.setting_int("a").unwrap();
    }
    let _ = (client.snapshot(), client.status());
    peer.change("a", 6);
    peer.send(Event::Revoked(Revoked { names: vec!["settings/a".to_owned()], revision: 9 }));
    peer.send(Event::Reset(Reset::default()));
    until(&client, |status| status.resets == 1).await;
    peer.sync(9);
    peer.progress(9, vec![1; 16]);
    let (_, _peer) = server.accept().await;
    assert_eq!(client.setting_int("a").unwrap(), Some(9));
    let told = told.lock().unwrap();
    for metric in [
        Metric::Revision(6),
        Metric::Changes(1),
        Metric::Revoked,
        Metric::Resets(1),
        Metric::Reconnects(0),
        Metric::DigestMismatches(1),
        // Snapshots are reads, and a status is none.
        Metric::Reads(4),
    ] {
        assert!(told.contains(&metric), "{metric:?} in {told:?}");
    }
    assert!(told.iter().any(|metric| matches!(metric, Metric::ConfirmedAge(_))), "{told:?}");
    let loads = told.iter().filter(|metric| matches!(metric, Metric::Load(_)));
    assert_eq!(loads.count(), 1, "after a reset nothing was asked for anew: {told:?}");
}

/// A gauge of the age stood still as long as the service was away, and so did the counter of reads.
#[tokio::test(start_paused = true)]
async fn regression_an_outage_is_told_while_it_lasts() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let (client, mut server) = start(&options().metrics(move |metric| heard.lock().unwrap().push(metric)));
    let (_, peer) = server.accept().await;
    peer.sync(5);
    client.wait_ready(LONG).await.unwrap();
    drop(peer);
    server.refuse(Error::Ended).await;
    client.setting_int("a").unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    while server.refuse(Error::Ended).await.at.elapsed() > BACKOFF_CEILING {}
    let told = told.lock().unwrap();
    let old =
        |metric: &&Metric| matches!(metric, Metric::ConfirmedAge(age) if *age >= Duration::from_secs(60));
    assert!(told.iter().any(|metric| old(&metric)) && told.contains(&Metric::Reads(1)), "{told:?}");
}
