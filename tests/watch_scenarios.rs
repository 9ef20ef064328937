//! Old defects of others, by name: each is a line of watch.md's "What others got wrong" that one replica can show.

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod harness;
mod support;

use std::time::{Duration, Instant};

use harness::{PATIENCE, until_answered, within};
use signalbox::proto::v1::{
    ChangeType, CompactLogRequest, GetResourceRequest, ResetReason, RevokeTokenRequest, Role, Selector,
    watch_config_response::Event,
};
use support::{
    caller::{Caller, Rights},
    record::{Asked, End, revision_of},
    resources::{api_key, by_name, by_prefix, labelled, narrowed, provider, setting},
    server::Server,
    truth::Recorder,
    view::View,
    watcher::{Cursor, Open},
    writer::{Op, Writer},
};
use tonic::Code;
use tonic_types::StatusExt;

fn writer(server: &Server) -> Writer {
    Writer::new(server.admin(), Recorder::default())
}

/// Writes so much that neither the windows of a stream nor a ring of 1 MiB hold it.
async fn flood(writer: &mut Writer, name: &str) -> u64 {
    let mut last = 0;
    for round in 0..60 {
        let resource = setting(name, format!("{round}:{}", "x".repeat(40_000)));
        let op = Op::Update { resource, mask: vec!["*".to_owned()], allow_missing: true };
        last = writer.write(op).await.revision;
    }
    last
}

async fn compact(admin: &Caller, revision: u64) {
    let done = admin.admin().compact_log(CompactLogRequest { revision }).await.expect("the log is compacted");
    assert_eq!(done.get_ref().floor_revision, revision);
}

fn is_progress(at_least: u64) -> impl FnMut(&Event) -> bool {
    move |event| matches!(event, Event::Progress(progress) if progress.revision >= at_least)
}

fn is_synced(event: &Event) -> bool {
    matches!(event, Event::Synced(_))
}

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
    within(PATIENCE, "three heartbeats", writing).await;
    reading.await.expect("no heartbeat overtook");
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

/// etcd#12385: an expired token looked like a permission error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_ends_its_stream_as_unauthenticated_within_a_second() {
    let server = Server::start().await;
    let lifetime = async |seconds: i64| {
        let rights = Rights { ttl_seconds: seconds, ..Rights::viewer() };
        let caller = server.admin().colleague("short-lived", &rights).await;
        let expires = Instant::now() + Duration::from_secs(seconds.unsigned_abs());
        let mut stream = Open::fresh(&caller, &View::everything()).await;
        let (_, code, text) = stream.end().await;
        let late = Instant::now().saturating_duration_since(expires);
        assert_eq!(code, Code::Unauthenticated, "{text}");
        let refused = Open::ask(&caller, &View::everything(), Asked::Nothing, None).await;
        let status = refused.err().expect("it opens nothing any more");
        assert_eq!(status.code(), Code::Unauthenticated);
        late
    };
    let late = tokio::join!(lifetime(3), lifetime(4), lifetime(5));
    // A busy machine is late now and then, but not always.
    let least = late.0.min(late.1).min(late.2);
    assert!(least < Duration::from_secs(1), "{late:?} after they expired");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_ends_its_streams_within_five_seconds() {
    let server = Server::start().await;
    let admin = server.admin();
    let caller = admin.colleague("unwanted", &Rights::viewer()).await;
    let mut streams =
        [Open::fresh(&caller, &View::everything()).await, Open::fresh(&caller, &View::everything()).await];
    let begun = Instant::now();
    let request = RevokeTokenRequest { subject: "unwanted".to_owned(), ..RevokeTokenRequest::default() };
    admin.admin().revoke_token(request).await.expect("the token is revoked");
    for stream in &mut streams {
        let (_, code, text) = stream.end().await;
        assert_eq!(code, Code::Unauthenticated, "{text}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let request = GetResourceRequest { name: "settings/x".into(), ..Default::default() };
    let refused = caller.config().get_resource(request).await;
    let status = refused.expect_err("it opens nothing any more");
    assert_eq!(status.get_details_error_info().expect("ErrorInfo").reason, "TOKEN_REVOKED");
}

/// GHSA-xg4h-6gfc-h4m8: an open-ended watch went around the access rules.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_ended_watch_of_a_narrow_token_sees_only_what_is_granted() {
    let server = Server::start().await;
    let mut writer = writer(&server);
    let grants = vec![by_name("providers/groq"), by_prefix("providers/groq/")];
    let caller = server.admin().colleague("narrow", &Rights::worker(grants, true)).await;
    writer.write(Op::Create(provider("providers/groq"))).await;
    writer.write(Op::Create(provider("providers/groq2"))).await;
    let mut stream = Open::fresh(&caller, &View { secrets: true, ..View::everything() }).await;
    let Ok(Event::Snapshot(snapshot)) = stream.next().await else { panic!("a snapshot comes first") };
    assert_eq!(snapshot.resources.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["providers/groq"]);
    writer.write(Op::Create(api_key("providers/groq2/apiKeys/a", "not-for-you"))).await;
    writer.write(Op::Create(setting("settings/a", "not-for-you"))).await;
    let last = writer.write(Op::Create(api_key("providers/groq/apiKeys/a", "for-you"))).await.revision;
    let event = stream.wait_for("a change", |event| matches!(event, Event::Changes(_))).await;
    let Event::Changes(event) = event else { unreachable!("it was waited for") };
    assert_eq!((event.revision, &*event.changes[0].name), (last, "providers/groq/apiKeys/a"));

    for beyond in
        [by_prefix("providers/"), by_name("providers/groq2"), support::resources::by_kind("provider")]
    {
        let refused = Open::ask(&caller, &View::of(vec![beyond]), Asked::Nothing, None).await;
        let status = refused.err().expect("beyond the grants");
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(
            status.message().contains("providers/groq/*"),
            "it names what is granted: {}",
            status.message()
        );
    }
}

/// "Without a pattern it picks everything that the caller is granted", and labels only narrow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_selector_of_labels_alone_narrows_what_is_granted() {
    let server = Server::start().await;
    let mut writer = writer(&server);
    let caller =
        server.admin().colleague("narrow", &Rights::worker(vec![by_prefix("providers/")], false)).await;
    let red = |resource| labelled(resource, &[("team", "red")]);
    writer.write(Op::Create(red(provider("providers/a")))).await;
    writer.write(Op::Create(provider("providers/b"))).await;
    writer.write(Op::Create(red(setting("settings/c", "x")))).await;
    let view = View::of(vec![narrowed(Selector::default(), "team", "red")]);
    let mut stream = Open::fresh(&caller, &view).await;
    let Ok(Event::Snapshot(snapshot)) = stream.next().await else { panic!("a snapshot comes first") };
    assert_eq!(snapshot.resources.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["providers/a"]);
}

/// A resource that stops matching is DELETED without its new value; one that starts matching comes whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_move_resources_into_and_out_of_a_view() {
    let server = Server::start().await;
    let mut writer = writer(&server);
    writer.write(Op::Create(setting("settings/a", "first"))).await;
    let mut stream =
        Open::fresh(&server.admin(), &View::of(vec![narrowed(Selector::default(), "team", "red")])).await;
    stream.wait_for("synced", is_synced).await;
    writer.write(Op::update(labelled(setting("settings/a", "second"), &[("team", "red")]), &["*"])).await;
    writer.write(Op::update(labelled(setting("settings/a", "third"), &[("team", "red")]), &["*"])).await;
    writer.write(Op::update(setting("settings/a", "fourth"), &["*"])).await;
    writer.write(Op::delete("settings/a")).await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        if let Event::Changes(event) = stream.next().await.expect("the stream lives") {
            seen.extend(event.changes.into_iter().map(|change| (change.r#type(), change.resource.is_some())));
        }
    }
    assert_eq!(
        seen,
        [(ChangeType::Created, true), (ChangeType::Updated, true), (ChangeType::Deleted, false)]
    );
}

/// A batch that deletes a provider and has touched its key before leaves no orphan.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_updates_a_key_and_deletes_its_provider_leaves_no_orphan() {
    let server = Server::start().await;
    let mut writer = writer(&server);
    let key = |secret| api_key("providers/a/apiKeys/k", secret);
    writer.batch(vec![Op::Create(provider("providers/a")), Op::Create(key("one"))]).await;
    let job = support::writer::Job::batch(vec![
        Op::update(key("two"), &["api_key.secret"]),
        Op::delete("providers/a"),
    ]);
    let outcome = writer.carry_out(&job).await;
    let get = |name: &str| GetResourceRequest { name: name.to_owned(), ..GetResourceRequest::default() };
    let has_provider = server.admin().config().get_resource(get("providers/a")).await.is_ok();
    let has_key = server.admin().config().get_resource(get("providers/a/apiKeys/k")).await.is_ok();
    assert_eq!(has_provider, has_key, "a key lives and dies with its provider; the batch: {outcome:?}");
}

/// A revision that is larger than a message travels in several, and is still one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_revision_comes_in_chunks_of_which_the_last_says_so() {
    let server = Server::start().await;
    let mut writer = writer(&server);
    let mut stream = Open::fresh(&server.admin(), &View::everything()).await;
    stream.wait_for("synced", is_synced).await;
    let ops = (0..15).map(|index| Op::Create(setting(&format!("settings/s_{index:02}"), "x".repeat(60_000))));
    let revision = writer.batch(ops.collect()).await.revision;
    let (mut parts, mut names) = (0, Vec::new());
    loop {
        let event = match stream.next().await.expect("the stream lives") {
            Event::Changes(event) => event,
            // A heartbeat may come before it, but not into it.
            Event::Progress(_) if parts == 0 => continue,
            other => panic!("interrupted by {other:?}"),
        };
        assert_eq!((event.revision, event.last), (revision, !event.resume_token.is_empty()));
        parts += 1;
        names.extend(event.changes.into_iter().map(|change| change.name));
        if event.last {
            break;
        }
    }
    assert!(parts > 1, "it did not fit into one");
    assert_eq!(names.len(), 15);
}

/// hyper#4170: a shutdown hung on open streams.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_tells_every_stream_and_does_not_wait_for_those_that_do_not_read() {
    let mut server = Server::with(&[("log-ring-bytes", "1MiB"), ("shutdown-grace", "3s")]).await;
    let mut writer = writer(&server);
    let mut stuck = Open::fresh(&server.admin(), &View::everything()).await;
    stuck.wait_for("synced", is_synced).await;
    flood(&mut writer, "settings/big").await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = Open::fresh(&server.admin().reconnected(), &View::everything()).await;
        stream.wait_for("synced", is_synced).await;
        streams.push(tokio::spawn(async move { stream.end().await }));
    }
    let took = server.stop().await;
    assert!(took < Duration::from_secs(10), "the shutdown took {took:?}");
    let mut delays = Vec::new();
    for stream in streams {
        let (events, code, text) = within(PATIENCE, "a stream's end", stream).await.expect("no panic");
        let Some(Event::GoingAway(event)) = events.last() else {
            panic!("without a goodbye: {code:?} {text}")
        };
        assert_eq!(code, Code::Ok, "{text}");
        delays.push(event.reconnect_after.expect("a delay"));
    }
    delays.dedup();
    assert!(delays.len() > 10, "clients come back at moments of their own: {delays:?}");
    drop(stuck);
}

/// watch.md: `include_secrets` without the right is refused, not quietly masked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_without_the_right_are_refused() {
    let server = Server::start().await;
    let admin = server.admin();
    let worker = admin.colleague("worker", &Rights::worker(vec![by_prefix("providers/")], false)).await;
    let viewer = admin.colleague("viewer", &Rights { role: Role::Viewer, ..Rights::viewer() }).await;
    for caller in [admin, worker, viewer] {
        let view = View { secrets: true, ..View::everything() };
        let status = Open::ask(&caller, &view, Asked::Nothing, None).await.err().expect("refused");
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(status.get_details_error_info().expect("ErrorInfo").reason, "SECRETS_DENIED");
    }
}

/// A stream that its client leaves is given back, and costs nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_left_is_given_back() {
    let server = Server::with(&[("max-streams-per-identity", "3")]).await;
    let caller = server.admin().colleague("busy", &Rights::viewer()).await;
    for round in 0..10 {
        let mut streams = Vec::new();
        for _ in 0..3 {
            let mut stream = Open::fresh(&caller, &View::everything()).await;
            stream.wait_for("synced", is_synced).await;
            streams.push(stream);
        }
        let over = Open::ask(&caller, &View::everything(), Asked::Nothing, None).await;
        let status = over.err().unwrap_or_else(|| panic!("round {round}: a fourth stream is too many"));
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.get_details_retry_info().is_some(), "it says when to try again");
        streams.into_iter().for_each(|stream| drop(stream.record(End::Left)));
        let admin = server.admin();
        let what = format!("round {round}: the streams are given back");
        until_answered(PATIENCE, &what, async || admin.status().await.watchers == 0).await;
    }
}

/// security.md: expiry ends a stream within a second, also that of a client that has stopped reading.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_stream_is_freed_when_its_token_expires() {
    let server = Server::with(&[("log-ring-bytes", "1MiB")]).await;
    let (admin, mut writer) = (server.admin(), writer(&server));
    let caller = admin.colleague("stuck", &Rights { ttl_seconds: 4, ..Rights::viewer() }).await;
    let mut stuck = Open::fresh(&caller, &View::everything()).await;
    stuck.wait_for("synced", is_synced).await;
    flood(&mut writer, "settings/big").await;
    let limit = Duration::from_secs(20);
    until_answered(limit, "the token expires, and with it the stream", async || {
        admin.status().await.watchers == 0
    })
    .await;
    drop(stuck);
}
