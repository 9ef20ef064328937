//! Progress: that it comes, when it comes, and what it may say.

use std::time::{Duration, Instant};

use signalbox::proto::v1::watch_config_response::Event;

use crate::{
    compact,
    harness::{PATIENCE, within},
    is_progress, is_synced,
    support::{
        resources::{by_name, setting},
        server::Server,
        view::View,
        watcher::Open,
        writer::Op,
    },
    writer,
};

/// etcd#15220, #17507: no progress when the filter matched nothing; progress that overtook events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_comes_though_the_filter_matches_nothing() {
    let server = Server::start().await;
    let mut writer = writer(&server);
    let mut idle =
        Open::fresh(&server.admin(), &View::of(vec![by_name("settings/nobody_writes_this")])).await;
    idle.wait_for("synced", is_synced).await;
    let revision = writer.write(Op::Create(setting("settings/other", "x"))).await.revision;
    let event = idle.wait_for("progress", is_progress(revision)).await;
    let Event::Progress(progress) = event else { unreachable!("it was waited for") };
    assert_eq!(progress.digest, [0; 16], "the digest of nothing");
    let cursor = idle.cursor.clone().expect("a cursor");
    assert_eq!(cursor.revision, progress.revision, "progress moves the cursor");
    // With everything up to it compacted, the cursor still is one: the floor itself can be resumed from.
    compact(&server.admin(), progress.revision).await;
    let view = View::of(vec![by_name("settings/nobody_writes_this")]);
    let first = Open::resumed(&server.admin(), &view, &cursor).await.next().await;
    assert!(matches!(first, Ok(Event::Synced(_))), "{first:?}");
}

/// The default is five times the second that is asked for here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_come_at_the_interval_that_was_asked_for() {
    let server = Server::start().await;
    let mut idle = Open::fresh(&server.admin(), &View::everything()).await;
    idle.wait_for("synced", is_synced).await;
    let mut gaps = Vec::new();
    // A busy machine is late now and then, but not always.
    while gaps.iter().all(|gap| *gap > Duration::from_secs(2)) {
        assert!(gaps.len() < 5, "the interval is a second: {gaps:?}");
        let begun = Instant::now();
        idle.wait_for("progress", is_progress(0)).await;
        gaps.push(begun.elapsed());
    }
}

/// A busy stream had no heartbeat, so that its client took itself to be stale for as long as something was written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_stream_has_heartbeats() {
    let server = Server::start().await;
    let mut writer = writer(&server);
    let mut busy = Open::fresh(&server.admin(), &View::everything()).await;
    busy.wait_for("synced", is_synced).await;
    let reading = tokio::spawn(async move {
        let (mut heartbeats, mut changes) = (0, 0);
        while heartbeats < 3 {
            match busy.next().await.expect("the stream lives") {
                Event::Changes(_) => changes += 1,
                Event::Progress(_) => heartbeats += 1,
                _ => {}
            }
        }
        changes
    });
    let writing = async {
        let mut round = 0;
        while !reading.is_finished() {
            round += 1;
            let resource = setting("settings/busy", round.to_string());
            writer.write(Op::Update { resource, mask: vec!["*".to_owned()], allow_missing: true }).await;
        }
    };
    within(PATIENCE, "three heartbeats between changes", Box::pin(writing)).await;
    assert!(reading.await.expect("it is read to its end") > 3, "it was busy");
}

/// etcd#15220, under load: every heartbeat is behind everything that it covers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_never_overtakes() {
    let server = Server::start().await;
    let mut writer = writer(&server);
    let mut stream = Open::fresh(&server.admin(), &View::of(vec![by_name("settings/seen")])).await;
    let reading = tokio::spawn(async move {
        let (mut bookmark, mut heartbeats, mut last) = (0, 0, 0);
        while heartbeats < 3 {
            match stream.next().await.expect("the stream lives") {
                Event::Changes(event) => {
                    assert!(
                        event.revision > bookmark,
                        "revision {} after a bookmark at {bookmark}",
                        event.revision
                    );
                    last = event.revision;
                }
                Event::Progress(event) => {
                    assert_eq!(event.revision, last.max(event.revision), "progress goes back");
                    (bookmark, heartbeats) = (event.revision, heartbeats + 1);
                }
                _ => {}
            }
        }
    });
    let writing = async {
        let (mut next, mut round) = (Instant::now(), 0);
        while !reading.is_finished() {
            round += 1;
            // What the stream sees is written just when its heartbeat falls due, and all the time what it does not see.
            let seen = Instant::now() >= next;
            let resource = setting(if seen { "settings/seen" } else { "settings/busy" }, round.to_string());
            writer.write(Op::Update { resource, mask: vec!["*".to_owned()], allow_missing: true }).await;
            if seen {
                next = Instant::now() + Duration::from_millis(rand::random_range(980..1_040));
            }
        }
    };
    within(PATIENCE, "three heartbeats", Box::pin(writing)).await;
    reading.await.expect("no heartbeat overtook");
}
