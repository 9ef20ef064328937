//! What clients carry from one replica to another: tokens of revisions, of streams and of pages, ids of requests, and
//! rights that are taken back. A replica that is behind is waited for, and nobody is given an older answer.

use std::time::{Duration, Instant};

use signalbox::{
    domain::RevisionToken,
    proto::v1::{
        CreateResourceRequest, ListResourcesRequest, ResetReason, RevokeTokenRequest,
        watch_config_response::Event,
    },
};
use tonic::{Code, Status};

use crate::{
    cluster::{Cluster, Member, agree, create, insist, is_refused_for_now, read, request},
    harness::{Home, PATIENCE, calls::refusal, until_answered},
    pgbouncer::Pooler,
    postgres,
    proxy::{Fault, Proxy},
    support::{
        caller::{Caller, Rights},
        record::{Asked, token_of},
        resources::setting,
        view::View,
        watcher::{Cursor, Open},
    },
};

/// A revoked token ends its streams before this.
const REVOKED: Duration = Duration::from_secs(5);

/// Two replicas, of which the second hears of the first by the doorbell, or by polling.
struct Pair {
    cluster: Cluster,
    members: [Member; 2],
    callers: [Caller; 2],
    token: String,
    _pooler: Option<Pooler>,
}

impl Pair {
    async fn told() -> Self {
        let cluster = Cluster::new().await;
        let url = cluster.url().to_owned();
        Self::at(cluster, &url, None).await
    }

    /// The second one is behind a pooler, where no doorbell rings.
    async fn polling() -> Self {
        let cluster = Cluster::new().await;
        let port = postgres::port_of(cluster.url());
        let pooler = Pooler::before(port);
        let url = cluster.url().replace(&format!(":{port}/"), &format!(":{}/", pooler.port()));
        Self::at(cluster, &url, Some(pooler)).await
    }

    async fn at(cluster: Cluster, url: &str, _pooler: Option<Pooler>) -> Self {
        let members = [cluster.start().await, cluster.start_at(url).await];
        let token = cluster.first_token().await;
        let callers = members.each_ref().map(|member| member.caller(&token));
        Self { cluster, members, callers, token, _pooler }
    }
}

/// Writes on the one and reads on the other at once, many times; the longest that a read took.
async fn is_waited_for(pair: &Pair) -> Duration {
    let (here, there) = (&pair.callers[0], &pair.callers[1]);
    let mut longest = Duration::ZERO;
    for index in 0..8 {
        let name = format!("settings/k{index}");
        let written = insist(here, &request(setting(&name, "x"))).await;
        let begin = Instant::now();
        let answer = read(there, &name, &written.revision_token).await.expect("it is waited for");
        longest = longest.max(begin.elapsed());
        assert!(answer.revision >= written.revision && answer.resource == written.resource);
        let list = ListResourcesRequest {
            min_revision_token: written.revision_token.clone(),
            ..ListResourcesRequest::default()
        };
        let list = there.config().list_resources(list).await.expect("it is waited for").into_inner();
        assert!(list.revision >= written.revision && list.resources.len() == index + 1);
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_on_one_replica_is_read_on_another_at_once() {
    eprintln!("with the doorbell: at most {:?}", is_waited_for(&Pair::told().await).await);
    let pair = Pair::polling().await;
    assert!(pair.callers[1].status().await.doorbell.starts_with("polling: "));
    let longest = is_waited_for(&pair).await;
    // The token says that there is news: nothing is waited for but the read of it (`pooled.rs` has a bound for many).
    eprintln!("by polling: at most {longest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ahead_of_a_replica_that_is_cut_off_is_refused_for_now() {
    let cluster = Cluster::new().await;
    let port = postgres::port_of(cluster.url());
    let proxy = Proxy::before(port).await;
    let url = proxy.url(cluster.url(), port);
    let pair = Pair::at(cluster, &url, None).await;
    let (here, there) = (&pair.callers[0], &pair.callers[1]);
    let seen = create(here, setting("settings/seen", "x")).await;
    let seen = agree(&pair.callers, seen).await.revision_token;
    let mut stream = Open::fresh(here, &View::everything()).await;
    proxy.close(true);
    proxy.cut();
    let ahead = insist(here, &request(setting("settings/ahead", "x"))).await;
    stream.reach(ahead.revision).await;
    let cursor = stream.cursor.clone().expect("it is synced");

    is_refused_for_now("a read", read(there, "settings/seen", &ahead.revision_token)).await;
    is_refused_for_now("a stream", resume(there, &cursor)).await;
    let foreign = RevisionToken::parse(&ahead.revision_token).expect("a token");
    let foreign =
        RevisionToken { epoch: signalbox::domain::Epoch(foreign.epoch.0 ^ 1), ..foreign }.to_string();
    is_refused_for_now("a token that may be of a new life", read(there, "settings/seen", &foreign)).await;
    let foreign = Cursor { token: foreign, ..cursor };
    is_refused_for_now("a stream that may be of a new life", resume(there, &foreign)).await;
    // What it has seen, it answers from memory.
    assert_eq!(read(there, "settings/seen", &seen).await.expect("from memory").revision_token, seen);
    proxy.close(false);
    until_answered(PATIENCE, "it catches up", async || {
        read(there, "settings/ahead", &ahead.revision_token).await.is_ok()
    })
    .await;
}

/// The first event of a stream that goes on from a cursor.
async fn resume(caller: &Caller, cursor: &Cursor) -> Result<Event, Status> {
    Open::resumed(caller, &View::everything(), cursor).await.next_or_refusal().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_on_another_replica_exactly_where_it_was() {
    let pair = Pair::told().await;
    let mut at = create(&pair.callers[0], setting("settings/first", "x")).await;
    agree(&pair.callers, at).await;
    let mut stream = Open::fresh(&pair.callers[0], &View::everything()).await;
    stream.reach(at).await;
    for turn in 1..12 {
        let cursor = stream.cursor.clone().expect("it is synced");
        drop(stream);
        // Written on the one that it leaves, so that the other one is behind if anything.
        create(&pair.callers[(turn + 1) % 2], setting(&format!("settings/a{turn}"), "x")).await;
        create(&pair.callers[turn % 2], setting(&format!("settings/b{turn}"), "x")).await;
        stream = Open::resumed(&pair.callers[turn % 2], &View::everything(), &cursor).await;
        let first = stream.next().await.expect("an event");
        assert!(matches!(&first, Event::Synced(synced) if synced.revision == at), "{first:?}");
        for _ in 0..2 {
            at += 1;
            let next =
                stream.wait_for("a change", |event| token_of(event).is_some_and(|(now, _)| now >= at)).await;
            assert!(matches!(&next, Event::Changes(changes) if changes.revision == at), "{next:?} at {at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_the_database_has_lost_is_found_out_by_one_who_never_saw_it() {
    let mut database = postgres::Server::start(&["fsync=on"]);
    let cluster = Cluster::on(database.database().await).await;
    let mut member = cluster.start().await;
    let token = cluster.first_token().await;
    let caller = member.caller(&token);
    create(&caller, setting("settings/kept", "x")).await;
    member.stop().await;
    database.stop();
    database.save();
    database.run(&["fsync=on"]);
    member.start().await;
    let caller = caller.reconnected();
    let lost = create(&caller, setting("settings/lost", "x")).await;
    let mut stream = Open::fresh(&caller, &View::everything()).await;
    stream.reach(lost).await;
    let cursor = stream.cursor.clone().expect("it is synced");
    drop(stream);
    member.stop().await;
    database.stop();
    database.restore();
    database.run(&["fsync=on"]);
    member.start().await;
    let caller = caller.reconnected();
    let told = read(&caller, "settings/kept", &cursor.token).await;
    assert_eq!(refusal(told), (Code::FailedPrecondition, "OTHER_STORE".into()));
    let mut stream = Open::resumed(&caller, &View::everything(), &cursor).await;
    let first = stream.next().await.expect("an event");
    assert!(matches!(&first, Event::Reset(reset) if reset.reason() == ResetReason::Ahead), "{first:?}");
    // Written over, the revision is there again, and is another one.
    for (name, revision) in [("settings/other", lost), ("settings/another", lost + 1)] {
        assert_eq!(create(&caller, setting(name, "x")).await, revision);
        let told = read(&caller, "settings/kept", &cursor.token).await;
        assert_eq!(refusal(told), (Code::FailedPrecondition, "OTHER_STORE".into()), "at revision {revision}");
    }
    let mut stream = Open::resumed(&caller, &View::everything(), &cursor).await;
    let first = stream.next().await.expect("an event");
    assert!(matches!(&first, Event::Reset(reset) if reset.reason() == ResetReason::OtherStore), "{first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_is_answered_by_every_replica_as_the_first_time() {
    let cluster = Cluster::new().await;
    let port = postgres::port_of(cluster.url());
    let proxy = Proxy::before(port).await;
    let mut victim = cluster.start_at(&proxy.url(cluster.url(), port)).await;
    let url = cluster.url().to_owned();
    let pair = Pair::at(cluster, &url, None).await;
    let doomed = victim.caller(&pair.token);
    let at = create(&doomed, setting("settings/first", "x")).await;
    agree(&pair.callers, at).await;

    let request = request(setting("settings/once", "x"));
    proxy.break_next(Fault::Silence);
    let asking = tokio::spawn({
        let (doomed, request) = (doomed.clone(), request.clone());
        async move { doomed.config().create_resource(request).await }
    });
    // It is committed, and the answer never comes to the one that was asked; that one is killed.
    until_answered(PATIENCE, "the commit", async || pair.callers[0].status().await.revision > at).await;
    victim.kill().await;
    let told = asking.await.expect("the call ends");
    assert!(told.is_err(), "nobody was answered: {told:?}");

    let first = insist(&pair.callers[0], &request).await;
    assert_eq!(first.revision, at + 1);
    for caller in &pair.callers {
        assert_eq!(insist(caller, &request).await, first, "whoever is asked says the same");
    }
    let other = CreateResourceRequest { resource: Some(setting("settings/once", "y")), ..request };
    let told = pair.callers[1].config().create_resource(other).await;
    assert_eq!(told.expect_err("it is another request").code(), Code::InvalidArgument);
    agree(&pair.callers, at + 1).await;
    assert_eq!(pair.callers[0].status().await.revision, at + 1, "it was done once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_on_one_replica_ends_the_streams_on_another() {
    let pair = Pair::told().await;
    let (here, there) = (&pair.callers[0], &pair.callers[1]);
    let worker = there.colleague("worker", &Rights::viewer()).await;
    let other = there.colleague("other", &Rights::viewer()).await;
    let mut streams = Vec::new();
    for caller in [&worker, &worker, &other] {
        let mut stream = Open::fresh(caller, &View::everything()).await;
        stream.wait_for("the snapshot", |event| matches!(event, Event::Synced(_))).await;
        streams.push(stream);
    }
    let mut kept = streams.pop().expect("the other's");
    let begin = Instant::now();
    let revoke = RevokeTokenRequest { subject: "worker".to_owned(), ..RevokeTokenRequest::default() };
    let revision = here.admin().revoke_token(revoke).await.expect("it is revoked").into_inner().revision;
    for stream in &mut streams {
        let (_, code, _) = stream.end().await;
        assert_eq!(code, Code::Unauthenticated);
    }
    let took = begin.elapsed();
    eprintln!("from the revocation on one replica to the end of the streams on the other: {took:?}");
    assert!(took < REVOKED, "{took:?}");
    let told = Open::ask(&worker, &View::everything(), Asked::Nothing, None).await;
    assert_eq!(told.err().map(|status| status.code()), Some(Code::Unauthenticated));
    kept.reach(revision).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_go_on_on_another_replica_as_they_began() {
    pages_go_on(Pair::told().await).await;
    pages_go_on(Pair::polling().await).await;
}

async fn pages_go_on(pair: Pair) {
    let (here, there) = (&pair.callers[0], &pair.callers[1]);
    for index in 0..6 {
        create(here, setting(&format!("settings/k{index}"), "old")).await;
    }
    // Begun where the other one may not be yet.
    let mut list = ListResourcesRequest { page_size: 2, ..ListResourcesRequest::default() };
    let first = here.config().list_resources(list.clone()).await.expect("a page").into_inner();
    let (mut names, mut turn) = (first.resources.clone(), 1);
    list.page_token = first.next_page_token;
    create(here, setting("settings/k9", "new")).await;
    while !list.page_token.is_empty() {
        let caller = [here, there][turn % 2];
        let page = caller.config().list_resources(list.clone()).await.expect("a page").into_inner();
        assert_eq!((page.revision, &page.revision_token), (first.revision, &first.revision_token));
        names.extend(page.resources);
        list.page_token = page.next_page_token;
        turn += 1;
    }
    let names: Vec<&str> = names.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(names, ["k0", "k1", "k2", "k3", "k4", "k5"].map(|key| format!("settings/{key}")));
    drop((pair.cluster, pair.members));
}

/// Whoever makes the first token on another terminal has not the settings of the servers there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_local_token_without_the_servers_settings_says_what_to_set() {
    let cluster = Cluster::new().await;
    cluster.start().await.stop().await;
    let told = async |home: Home| {
        let made = home.run(&["token", "create", "--local", "--role", "admin"]).await;
        assert!(!made.status.success());
        String::from_utf8(made.stderr).unwrap()
    };
    let without_key = told(Home::new().with("SIGNALBOX_DATABASE_URL", cluster.url())).await;
    assert!(without_key.contains("set ENCRYPTION_KEY_FILE"), "{without_key}");
    let without_both = told(Home::new()).await;
    assert!(without_both.contains("SIGNALBOX_DATABASE_URL and ENCRYPTION_KEY_FILE"), "{without_both}");
}

/// Whoever runs a command in a script has to know whether it may help to try again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_commands_without_a_server_end_as_documented_where_the_database_is_not_there() {
    let cluster = Cluster::new().await;
    let run = async |url: &str, arguments: &[&str]| {
        let done = cluster.home().with("SIGNALBOX_DATABASE_URL", url).run(arguments).await;
        let told = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8(told).unwrap())
    };
    let create = ["token", "create", "--local", "--role", "admin"];
    let (code, told) = run("postgres://signalbox@127.0.0.1:1/signalbox", &create).await;
    assert!(code == Some(6) && told.contains("can't be reached"), "{code:?}: {told}");
    let nowhere = format!("{}_of_nobody", cluster.url());
    let (code, told) = run(&nowhere, &create).await;
    assert!(code == Some(1) && told.contains("no such database"), "{code:?}: {told}");
    let home = cluster.home();
    let done = home.run(&["migrate", "--from", &nowhere, "--to", "sqlite://data/new.db"]).await;
    let told = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.code() == Some(1) && told.contains("no such database"), "{told}");
    for url in [cluster.url(), &nowhere] {
        let (code, told) = run(url, &["doctor", "--offline"]).await;
        assert!(
            code == Some(1) && told.contains("a new store is made by `signalbox serve`"),
            "{code:?}: {told}"
        );
    }
}
