//! What streams carry: resources that move through a view, revisions of many; and how they end.

use std::time::Duration;

use signalbox::proto::v1::{ChangeType, GetResourceRequest, Selector, watch_config_response::Event};
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    flood,
    harness::{PATIENCE, until_answered, within},
    is_synced,
    support::{
        caller::Rights,
        record::{Asked, End},
        resources::{api_key, labelled, narrowed, provider, setting},
        server::Server,
        view::View,
        watcher::Open,
        writer::{Job, Op},
    },
    writer,
};

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
    let job = Job::batch(vec![Op::update(key("two"), &["api_key.secret"]), Op::delete("providers/a")]);
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
