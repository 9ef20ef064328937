//! What a token lets its holder see, and that its end is the end of its streams.

use std::time::{Duration, Instant};

use signalbox::proto::v1::{
    GetResourceRequest, RevokeTokenRequest, Role, Selector, watch_config_response::Event,
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    flood,
    harness::until_answered,
    is_synced,
    support::{
        caller::Rights,
        record::Asked,
        resources::{api_key, by_kind, by_name, by_prefix, labelled, narrowed, provider, setting},
        server::Server,
        view::View,
        watcher::Open,
        writer::Op,
    },
    writer,
};

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

/// Expiry also ends the stream of a client that has stopped reading and answers every ping: its connection is cut.
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

    for beyond in [by_prefix("providers/"), by_name("providers/groq2"), by_kind("provider")] {
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
