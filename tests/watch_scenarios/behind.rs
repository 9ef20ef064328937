//! Readers that fall behind: past the ring, past a compaction, or for good.

use std::time::{Duration, Instant};

use signalbox::proto::v1::{ChangeType, CompactLogRequest, ResetReason, watch_config_response::Event};
use tonic::Code;

use crate::{
    compact, flood,
    harness::{PATIENCE, within},
    is_synced,
    support::{
        record::revision_of,
        resources::setting,
        server::Server,
        view::View,
        watcher::{Cursor, Open},
        writer::Op,
    },
    writer,
};

/// etcd#17529, kubernetes#123072: events past a compaction were skipped without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_watcher_past_a_compaction_is_reset() {
    let server = Server::with(&[("log-ring-bytes", "1MiB")]).await;
    let (admin, mut writer) = (server.admin(), writer(&server));
    let mut slow = Open::fresh(&admin.reconnected(), &View::everything()).await;
    slow.wait_for("synced", is_synced).await;
    let last = flood(&mut writer, "settings/big").await;
    compact(&admin, last).await;
    let (mut before, mut reset) = (0, None);
    loop {
        match slow.next().await.expect("the stream lives on") {
            Event::Changes(event) => before = event.revision,
            Event::Reset(event) => reset = Some(event),
            Event::Synced(event) => break assert_eq!(event.revision, last),
            _ => {}
        }
    }
    let reset = reset.expect("it is told that it lost something");
    assert_eq!((reset.reason(), reset.floor_revision), (ResetReason::Lagged, last));
    assert!(before < last, "the scenario is one only if the reader was behind");
}

/// grafana#130332: what had fallen out of the ring was dropped silently, though the log still had it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_watcher_past_the_ring_reads_on_in_the_log() {
    let server = Server::with(&[("log-ring-bytes", "1MiB")]).await;
    let mut writer = writer(&server);
    let mut slow = Open::fresh(&server.admin(), &View::everything()).await;
    slow.wait_for("synced", is_synced).await;
    let last = flood(&mut writer, "settings/big").await;
    let mut revisions = Vec::new();
    while revisions.last() != Some(&last) {
        match slow.next().await.expect("the stream lives on") {
            Event::Changes(event) => revisions.push(event.revision),
            Event::Progress(_) => {}
            other => panic!("only changes are due, not {other:?}"),
        }
    }
    assert_eq!(revisions, (last - 59..=last).collect::<Vec<_>>());
}

/// etcd#18109, kine#614, etcd#20242: a reader that does not read slowed the writes, or its neighbours on the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_read_slows_nobody() {
    let server = Server::with(&[("log-ring-bytes", "1MiB")]).await;
    let (admin, mut writer) = (server.admin(), writer(&server));
    let mut stuck = Vec::new();
    for _ in 0..20 {
        stuck.push(Open::fresh(&admin, &View::everything()).await);
    }
    let mut neighbour = Open::fresh(&admin, &View::everything()).await;
    neighbour.wait_for("synced", is_synced).await;
    let mut slowest = Duration::ZERO;
    for round in 0..60 {
        let begun = Instant::now();
        let resource = setting("settings/big", format!("{round}:{}", "x".repeat(40_000)));
        let op = Op::Update { resource, mask: vec!["*".to_owned()], allow_missing: true };
        let revision = writer.write(op).await.revision;
        neighbour.reach(revision).await;
        slowest = slowest.max(begun.elapsed());
    }
    // Who waits for a reader that never reads waits for far longer, or for ever.
    assert!(slowest < Duration::from_secs(10), "from a write to the neighbour's event: {slowest:?}");
}

/// etcd#18089, #19179: a delete was lost at a compaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_is_not_lost_at_a_compaction() {
    let mut server = Server::start().await;
    let (admin, mut writer) = (server.admin(), writer(&server));
    writer.write(Op::Create(setting("settings/doomed", "x"))).await;
    let mut stream = Open::fresh(&admin, &View::everything()).await;
    stream.wait_for("synced", is_synced).await;
    let kept: Cursor = stream.cursor.clone().expect("a cursor");
    drop(stream);
    let deleted = writer.write(Op::delete("settings/doomed")).await.revision;
    writer.write(Op::Create(setting("settings/later", "x"))).await;
    // Up to the revision before the delete: the tombstone is still owed.
    compact(&admin, deleted - 1).await;
    let mut resumed = Open::resumed(&admin, &View::everything(), &kept).await;
    let event = resumed.wait_for("the delete", |event| revision_of(event) == Some(deleted)).await;
    let Event::Changes(event) = event else { panic!("not {event:?}") };
    assert_eq!(
        (event.changes[0].r#type(), &*event.changes[0].name),
        (ChangeType::Deleted, "settings/doomed")
    );
    // Past it: the reader is told, and what it builds anew has no ghost.
    compact(&admin, deleted).await;
    // The ring may serve what the log has forgotten, exactly; after a restart it can't.
    server.restart().await;
    let admin = server.admin();
    let mut reset = Open::resumed(&admin, &View::everything(), &kept).await;
    let first = reset.next().await.expect("a reset");
    assert!(matches!(&first, Event::Reset(event) if event.reason() == ResetReason::Compacted), "{first:?}");
    let Ok(Event::Snapshot(snapshot)) = reset.next().await else { panic!("a snapshot follows") };
    let names: Vec<&str> = snapshot.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(names, ["settings/later"]);
}

/// A compaction that reaches a revision which this server is just taking in costs nobody his stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_at_the_very_head_resets_nobody() {
    let server = Server::start().await;
    let mut writer = writer(&server);
    let mut stream = Open::fresh(&server.admin(), &View::everything()).await;
    stream.wait_for("synced", is_synced).await;
    let admin = server.admin().reconnected();
    let compacting = tokio::spawn(async move {
        let mut next = 1;
        while next <= 300 {
            match admin.admin().compact_log(CompactLogRequest { revision: next }).await {
                Ok(done) => next = done.get_ref().floor_revision + 1,
                Err(status) => assert_eq!(status.code(), Code::OutOfRange, "{status:?}"),
            }
        }
    });
    let mut last = 0;
    for round in 0..300 {
        let resource = setting("settings/busy", round.to_string());
        let op = Op::Update { resource, mask: vec!["*".to_owned()], allow_missing: true };
        last = writer.write(op).await.revision;
    }
    let mut next = 1;
    while next <= last {
        match stream.next().await.expect("the stream lives") {
            Event::Changes(event) => {
                assert_eq!(event.revision, next);
                next += 1;
            }
            Event::Progress(_) => {}
            other => panic!("only changes are due, not {other:?}"),
        }
    }
    within(PATIENCE, "the compactions", compacting).await.expect("no compaction fails");
}
