//! Who runs what, through several replicas: a worker's stream is on one, its reports come to another, and somebody waits on
//! a third.

use std::time::{Duration, Instant};

use signalbox::client::{Client, ClientOptions, TokenSource};
use signalbox::proto::v1::{
    AppliedReport, Convergence, GetConvergenceRequest, ListWorkersRequest, RotateApiKeyRequest, Selector,
    WaitForConvergenceRequest, WaitForConvergenceResponse, WaitOutcome, WatchConfigRequest, WorkerSelector,
    WorkerState, wait_for_convergence_request::Quorum,
};
use tonic::{Code, Streaming};

use crate::{
    cluster::{Cluster, Member, agree, create},
    harness::{PATIENCE, calls::refusal, soon, until, until_answered},
    postgres,
    proxy::Proxy,
    support::{
        caller::{Caller, Rights},
        fleet::{Simulated, report, worker},
        resources::{api_key, by_prefix, given, provider, setting},
    },
};

/// Far more than a report takes to be known everywhere: it is written once a second.
const KNOWN: Duration = Duration::from_secs(10);

struct Pair {
    cluster: Cluster,
    members: [Member; 2],
    admins: [Caller; 2],
    workers: [Caller; 2],
}

impl Pair {
    async fn new() -> Self {
        let cluster = Cluster::new().await.with("SIGNALBOX_MAX_STREAMS_PER_IDENTITY", "2000");
        let cluster = cluster.with("SIGNALBOX_MAX_STREAMS_PER_CONNECTION", "2000");
        let members = [cluster.start().await, cluster.start().await];
        let token = cluster.first_token().await;
        let admins = members.each_ref().map(|member| member.caller(&token));
        let rights = Rights::worker(vec![Selector::default()], false);
        let token = admins[0].token_for("fleet", &rights).await;
        let workers = members.each_ref().map(|member| member.caller(&token));
        Self { cluster, members, admins, workers }
    }

    /// Writes on the first replica; the revision, which both have seen.
    async fn write(&self, name: &str) -> u64 {
        let revision = create(&self.admins[0], setting(name, "1")).await;
        agree(&self.admins, revision).await.revision
    }
}

fn outcome(told: &WaitForConvergenceResponse) -> WaitOutcome {
    told.outcome()
}

async fn wait(caller: &Caller, request: WaitForConvergenceRequest) -> Streaming<WaitForConvergenceResponse> {
    soon(caller.fleet().wait_for_convergence(request)).await.expect("it waits").into_inner()
}

/// The end of a wait, with what was told before.
async fn end(mut stream: Streaming<WaitForConvergenceResponse>) -> WaitForConvergenceResponse {
    loop {
        let told = soon(stream.message()).await.expect("it goes on").expect("it has an outcome");
        if outcome(&told) != WaitOutcome::Unspecified {
            assert!(soon(stream.message()).await.expect("it ends well").is_none(), "the outcome is the last");
            return told;
        }
        assert!(told.convergence.expect("it tells").unconverged.is_empty(), "names come at the end");
    }
}

fn to(revision: u64) -> WaitForConvergenceRequest {
    let timeout = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    WaitForConvergenceRequest { revision, timeout, ..WaitForConvergenceRequest::default() }
}

async fn stand(caller: &Caller, revision: u64) -> Convergence {
    let request = GetConvergenceRequest { revision, ..GetConvergenceRequest::default() };
    let answer = caller.fleet().get_convergence(request).await.expect("it tells").into_inner();
    answer.convergence.expect("how it stands")
}

/// Waits until a replica sees the workers so.
async fn until_stands(caller: &Caller, revision: u64, what: &str, holds: impl Fn(&Convergence) -> bool) {
    let mut last = Convergence::default();
    until_answered(PATIENCE, what, async || {
        last = stand(caller, revision).await;
        holds(&last)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_workers_are_waited_for_and_who_lacks_is_named() {
    const WORKERS: usize = 1000;
    let pair = Pair::new().await;
    let before = pair.write("settings/s").await;
    let mut workers = Vec::new();
    for index in 0..WORKERS {
        workers.push(Simulated::open(&pair.workers[index % 2], &format!("w{index:04}")).await);
    }
    let revision = pair.write("settings/t").await;
    for member in &pair.admins {
        until_stands(member, before, "all are known", |stand| stand.total as usize == WORKERS).await;
    }
    let most = to(revision);
    let most = WaitForConvergenceRequest { quorum: Some(Quorum::Count(998)), ..most };
    let waiting = [wait(&pair.admins[0], most.clone()).await, wait(&pair.admins[1], most).await];
    // One stays silent, one refuses, and all the others report to the first replica.
    let reports: Vec<AppliedReport> = workers[2..].iter().map(|worker| worker.runs(revision)).collect();
    for part in reports.chunks(100) {
        assert!(report(&pair.workers[0], part.to_vec()).await.expect("taken").unknown_reports.is_empty());
    }
    let last = Instant::now();
    let [here, there] = waiting;
    let here = end(here).await;
    let took_here = last.elapsed();
    let there = end(there).await;
    let took_there = last.elapsed();
    eprintln!(
        "998 of 1,000 workers: {took_here:?} on the replica that was told, {took_there:?} on the other"
    );
    assert!(took_here < Duration::from_secs(1), "{took_here:?}");
    assert!(took_there < Duration::from_secs(2), "{took_there:?}");
    for told in [here, there] {
        let stand = told.convergence.expect("how it stands");
        assert_eq!((told.outcome, told.needed), (WaitOutcome::Reached.into(), 998));
        let ids: Vec<_> = stand.unconverged.iter().map(|worker| worker.id.as_str()).collect();
        assert_eq!((stand.converged, ids), (998, vec!["w0000", "w0001"]));
    }
    report(&pair.workers[0], vec![workers[1].refuses(revision, before, "no good")]).await.expect("taken");
    let told = end(wait(&pair.admins[1], to(revision)).await).await;
    let stand = told.convergence.clone().expect("how it stands");
    assert_eq!(outcome(&told), WaitOutcome::Rejected, "all can't be reached any more: {stand:?}");
    let named: Vec<_> = stand
        .unconverged
        .iter()
        .map(|worker| {
            (worker.id.as_str(), worker.state(), worker.rejection.as_ref().map(|why| why.reason.as_str()))
        })
        .collect();
    let rejected = ("w0001", WorkerState::Rejected, Some("no good"));
    assert_eq!(named, [rejected, ("w0000", WorkerState::Pending, None)]);
    // The next revision brings both up to date.
    let next = pair.write("settings/u").await;
    let waiting = wait(&pair.admins[1], to(next)).await;
    let reports: Vec<AppliedReport> = workers.iter().map(|worker| worker.runs(next)).collect();
    report(&pair.workers[0], reports).await.expect("taken");
    let told = end(waiting).await;
    assert_eq!((outcome(&told), told.needed), (WaitOutcome::Reached, 1000));
    drop(pair);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_does_not_see_is_not_waited_for() {
    let pair = Pair::new().await;
    pair.write("settings/a").await;
    let narrow = WatchConfigRequest {
        selectors: vec![by_prefix("providers/")],
        worker: Some(worker("narrow")),
        progress_interval: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..WatchConfigRequest::default()
    };
    let narrow = Simulated::open_with(&pair.workers[0], narrow).await;
    let wide = Simulated::open(&pair.workers[0], "wide").await;
    report(&pair.workers[1], vec![narrow.runs(narrow.revision), wide.runs(wide.revision)])
        .await
        .expect("taken");
    let revision = pair.write("settings/b").await;
    for admin in &pair.admins {
        until_stands(admin, 0, "both are known", |stand| stand.total == 2 && stand.revision == revision)
            .await;
        until_stands(admin, 0, "what it sees has not changed", |stand| stand.converged == 1).await;
        let stand = stand(admin, revision).await;
        let [lacking] = &stand.unconverged[..] else { panic!("{stand:?}") };
        assert_eq!((lacking.id.as_str(), lacking.lag), ("wide", 1));
        let request = GetConvergenceRequest {
            resources: vec![by_prefix("providers/")],
            workers: Some(WorkerSelector { ids: vec!["narrow".into(), "wide".into()], ..Default::default() }),
            ..GetConvergenceRequest::default()
        };
        let answer = admin.fleet().get_convergence(request).await.unwrap().into_inner().convergence.unwrap();
        assert_eq!(answer.total, 2, "both see providers");
        let request = GetConvergenceRequest {
            resources: vec![by_prefix("settings/")],
            ..GetConvergenceRequest::default()
        };
        let answer = admin.fleet().get_convergence(request).await.unwrap().into_inner().convergence.unwrap();
        assert_eq!(answer.total, 1, "one sees settings");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_its_subject_s_on_every_replica() {
    let pair = Pair::new().await;
    let own = Simulated::open(&pair.workers[0], "own").await;
    let rights = Rights::worker(vec![Selector::default()], false);
    let other = pair.admins[1].colleague("another", &rights).await;
    let refused = report(&other, vec![own.runs(1)]).await;
    assert_eq!(refusal(refused), (Code::PermissionDenied, "FOREIGN_SESSION".to_owned()));
    let mut forged = own.runs(1);
    forged.session_id.replace_range(0..1, if forged.session_id.starts_with('0') { "1" } else { "0" });
    let unknown = [forged, AppliedReport { session_id: "none".into(), ..AppliedReport::default() }];
    let reports = [&unknown[..], &[own.runs(0)]].concat();
    // At once, before the other replica can have heard of the session.
    let told = report(&pair.workers[1], reports).await.expect("the rest is taken");
    assert_eq!(told.unknown_reports, [0, 1]);
    until_stands(&pair.admins[1], 0, "it has reported", |stand| stand.converged == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_to_another_replica_takes_the_place_of_who_was_there() {
    let mut pair = Pair::new().await;
    let revision = pair.write("settings/s").await;
    let there = &pair.admins[1];
    let lost = Simulated::open(&pair.workers[0], "w").await;
    until_stands(there, revision, "it is known", |stand| stand.pending == 1).await;
    pair.members[0].kill().await;
    until_stands(there, revision, "its replica is gone", |stand| stand.disconnected == 1).await;
    let request = WatchConfigRequest {
        previous_session_id: lost.session.clone(),
        worker: Some(worker("w")),
        ..WatchConfigRequest::default()
    };
    let again = Simulated::open_with(&pair.workers[1], request).await;
    let found = stand(there, revision).await;
    assert_eq!((found.total, found.pending), (1, 1), "it is one worker: {found:?}");
    report(&pair.workers[1], vec![again.runs(revision)]).await.expect("taken");
    assert_eq!(stand(there, revision).await.converged, 1);
    let leaving = AppliedReport { leaving: true, ..again.runs(revision) };
    report(&pair.workers[1], vec![leaving]).await.expect("taken");
    assert_eq!(stand(there, revision).await.total, 1, "who says so and stays is there");
    drop(again);
    until_stands(there, revision, "it has left", |stand| stand.total == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_ends_with_its_replica_and_is_taken_up_on_another() {
    let mut pair = Pair::new().await;
    let revision = pair.write("settings/s").await;
    let worker = Simulated::open(&pair.workers[0], "w").await;
    until_stands(&pair.admins[1], revision, "it is known", |stand| stand.total == 1).await;
    let mut waiting = wait(&pair.admins[1], to(revision)).await;
    soon(waiting.message()).await.expect("it waits").expect("it tells where it stands");
    let stopped = tokio::join!(pair.members[1].stop(), async {
        loop {
            match soon(waiting.message()).await {
                Ok(Some(told)) => assert_eq!(outcome(&told), WaitOutcome::Unspecified),
                Ok(None) => panic!("it ended without an outcome"),
                Err(status) => break refusal::<()>(Err(status)),
            }
        }
    });
    assert_eq!(stopped.1, (Code::Unavailable, "SHUTTING_DOWN".to_owned()));
    assert!(stopped.0 < KNOWN, "nothing waits for who waits: {:?}", stopped.0);
    let waiting = wait(&pair.admins[0], to(revision)).await;
    report(&pair.workers[0], vec![worker.runs(revision)]).await.expect("taken");
    assert_eq!(outcome(&end(waiting).await), WaitOutcome::Reached);
    let list = ListWorkersRequest { states: vec![WorkerState::Converged.into()], ..Default::default() };
    let list = pair.admins[0].fleet().list_workers(list).await.unwrap().into_inner().workers;
    assert_eq!(list.len(), 1);
    assert!(list[0].connected && list[0].subject == "fleet" && !list[0].replica.is_empty(), "{list:?}");
}

/// A worker in Rust reports by itself, and the command line waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_waits_and_names_who_lacks() {
    let pair = Pair::new().await;
    let url = format!("http://{}", pair.members[0].site.address());
    let token = pair.workers[0].token();
    let options = ClientOptions::new(&url).token(TokenSource::fixed(token)).worker_id("in-rust");
    let client = Client::connect(options).expect("good options");
    client.wait_ready(PATIENCE).await.expect("it is ready");
    let there = format!("http://{}", pair.members[1].site.address());
    let home = crate::harness::Home::new().with("SIGNALBOX_URL", there);
    let home = home.with("SIGNALBOX_TOKEN", pair.admins[0].token());
    until_stands(&pair.admins[1], 0, "it is known there", |stand| stand.total == 1).await;
    let run = async |arguments: &[&str]| {
        let output = home.run(arguments).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let begun = Instant::now();
    let (code, _, told) = run(&["set", "settings/x", "--value", "1", "--wait"]).await;
    eprintln!("set --wait on the other replica: {:?}", begun.elapsed());
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("1 of 1 workers run revision 1"), "{told}");
    let stuck = Simulated::open(&pair.workers[1], "stuck").await;
    let (code, _, told) =
        run(&["set", "settings/x", "--value", "2", "--wait=all", "--wait-timeout", "3s"]).await;
    assert_eq!(code, Some(7), "{told}");
    assert!(told.contains("1 of 2 workers run revision 2") && told.contains("stuck"), "{told}");
    assert!(!told.contains("in-rust"), "{told}");
    report(&pair.workers[0], vec![stuck.refuses(2, 0, "not this")]).await.expect("taken");
    let (code, _, told) = run(&["set", "settings/x", "--value", "2", "--wait=100%"]).await;
    assert_eq!(code, Some(7), "{told}");
    assert!(told.contains("refuse") && told.contains("2: not this"), "{told}");
    let (code, shown, _) = run(&["workers", "--behind"]).await;
    assert_eq!(code, Some(0));
    assert!(shown.contains("stuck") && shown.contains("rejected") && !shown.contains("in-rust"), "{shown}");
    let (_, shown, _) = run(&["workers", "settings/*", "-o", "json"]).await;
    assert!(shown.contains("in-rust") && shown.contains("WORKER_STATE_CONVERGED"), "{shown}");
    drop(client);
    until_stands(&pair.admins[1], 0, "it has said goodbye", |stand| stand.total == 1).await;
}

/// What lies ahead of the store would count for whatever is written next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_report_ahead_of_the_store_is_not_believed() {
    let pair = Pair::new().await;
    let before = pair.write("settings/s").await;
    let worker = Simulated::open(&pair.workers[0], "w").await;
    let ahead = before + 1_000;
    let wrong = [
        (worker.runs(ahead), "reports[1].applied_revision"),
        (worker.refuses(ahead, before, "no"), "reports[1].rejection.revision"),
    ];
    for (told, field) in wrong {
        let status = report(&pair.workers[1], vec![worker.runs(0), told]).await.expect_err("it is refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let details = tonic_types::StatusExt::get_error_details(&status);
        let violations = &details.bad_request().expect("violations").field_violations;
        assert_eq!(violations[0].field, field, "{violations:?}");
    }
    let revision = pair.write("settings/t").await;
    until_stands(&pair.admins[1], revision, "it is known", |stand| stand.total == 1).await;
    assert_eq!(stand(&pair.admins[1], revision).await.converged, 0);
    report(&pair.workers[1], vec![worker.runs(revision)]).await.expect("taken");
    until_stands(&pair.admins[0], revision, "it runs it", |stand| stand.converged == 1).await;
}

/// A replica that lags knows less than the one that a worker hears from: it takes what the store has come to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_of_what_was_written_just_now_is_taken_by_every_replica() {
    let pair = Pair::new().await;
    let worker = Simulated::open(&pair.workers[0], "w").await;
    for index in 0..10 {
        let revision = create(&pair.admins[0], setting(&format!("settings/s{index}"), "1")).await;
        report(&pair.workers[1], vec![worker.runs(revision)]).await.expect("taken");
    }
}

/// Found by an attack: rows that were too many to be read were not tidied away either, and so were too many for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_workers_that_cannot_be_read_are_tidied_away_all_the_same() {
    let cluster = Cluster::new().await;
    let _member = cluster.start().await;
    let orphan = "INSERT INTO worker_sessions (id, replica, epoch, subject, worker, labels, client_version, view, secrets, \
        silent, began) VALUES ('orphan', 'gone', '0000000000000007', 's', 'w', '{}', '', '{}', false, false, now()); \
        ALTER TABLE worker_sessions RENAME COLUMN client_version TO taken_away";
    postgres::run(cluster.url(), orphan).await;
    let ended = "SELECT count(*) FROM worker_sessions WHERE id = 'orphan' AND ended IS NOT NULL";
    until_answered(PATIENCE, "it is ended", async || postgres::count(cluster.url(), ended).await == 1).await;
}

/// Found by an attack: a minute after a replica was cut off from the database its workers were forgotten, and the value before was
/// let go of as if they had the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_rotation_is_not_ended_while_workers_of_a_lost_replica_may_live() {
    const KEY: &str = "providers/a/apiKeys/k";
    let cluster = Cluster::new().await;
    let port = postgres::port_of(cluster.url());
    let proxy = Proxy::before(port).await;
    let (mut near, lost) = (cluster.start().await, cluster.start_at(&proxy.url(cluster.url(), port)).await);
    let here = near.caller(&cluster.first_token().await);
    create(&here, provider("providers/a")).await;
    let revision = create(&here, api_key(KEY, "sk-first")).await;
    let rights = Rights::worker(vec![by_prefix("providers/")], true);
    let there = lost.caller(&here.token_for("worker", &rights).await);
    until_answered(PATIENCE, "it has the key", async || there.status().await.revision >= revision).await;
    let request = WatchConfigRequest {
        worker: Some(worker("w")),
        include_secrets: true,
        ..WatchConfigRequest::default()
    };
    let mut behind = Simulated::open_with(&there, request).await;
    until_answered(PATIENCE, "it is known", async || stand(&here, 0).await.total == 1).await;
    proxy.close(true);
    proxy.cut();
    let rotate = RotateApiKeyRequest {
        name: KEY.into(),
        secret: Some(given("sk-next")),
        ..RotateApiKeyRequest::default()
    };
    let rotated = here.api_key().rotate_api_key(rotate).await.expect("it is rotated").into_inner().revision;
    let missed = async || {
        here.status()
            .await
            .warnings
            .iter()
            .any(|warning| warning.contains("fell silent and did not say goodbye"))
    };
    until_answered(PATIENCE, "it is missed", missed).await;
    // As it is long after the minute for which others are remembered; and nobody is left who has seen it vanish.
    let long_ago = "UPDATE worker_sessions SET ended = now() - interval '10 minutes' WHERE ended IS NOT NULL";
    postgres::run(cluster.url(), long_ago).await;
    let next = cluster.start().await;
    near.stop().await;
    let here = next.caller(here.token());
    let waits = Some(prost_types::Duration { seconds: 6, nanos: 0 });
    let told = end(wait(&here, WaitForConvergenceRequest { timeout: waits, ..to(rotated) }).await).await;
    assert_eq!(outcome(&told), WaitOutcome::TimedOut, "nobody knows that it runs it: {told:?}");
    let missing = told.convergence.expect("how it stands").unconverged;
    assert_eq!(
        missing.iter().map(|it| (it.id.as_str(), it.state())).collect::<Vec<_>>(),
        [("w", WorkerState::Disconnected)]
    );
    assert_eq!(here.status().await.revision, rotated, "the value before is kept");
    // It comes back, and tells that it runs the new value.
    proxy.close(false);
    behind.follow(|behind| behind.revision >= rotated).await;
    until_answered(PATIENCE, "its report is taken", async || {
        report(&there, vec![behind.runs(rotated)]).await.is_ok()
    })
    .await;
    until_answered(PATIENCE, "the value before goes", async || here.status().await.revision > rotated).await;
}

/// Nobody is waited for who came back to another replica; and whoever is gone for good with his, not for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_a_replica_that_vanished_are_known_until_they_come_back_or_for_an_hour() {
    let mut pair = Pair::new().await;
    let revision = pair.write("settings/s").await;
    let there = pair.admins[1].clone();
    let gone =
        [Simulated::open(&pair.workers[0], "back").await, Simulated::open(&pair.workers[0], "lost").await];
    until_stands(&there, revision, "they are known", |stand| stand.pending == 2).await;
    pair.members[0].kill().await;
    drop(gone);
    // It has lost the name of its session, as one that was started anew has.
    let back = Simulated::open(&pair.workers[1], "back").await;
    report(&pair.workers[1], vec![back.runs(revision)]).await.expect("taken");
    until_stands(&there, revision, "only one is missing", |stand| {
        (stand.converged, stand.disconnected) == (1, 1)
    })
    .await;
    let named = stand(&there, revision).await.unconverged;
    assert_eq!(named.iter().map(|worker| worker.id.as_str()).collect::<Vec<_>>(), ["lost"]);
    let url = pair.cluster.url();
    let orphans = "SELECT count(*) FROM worker_sessions WHERE orphaned AND ended IS NOT NULL";
    assert_eq!(postgres::count(url, orphans).await, 1);
    postgres::run(url, "UPDATE worker_sessions SET ended = now() - interval '50 minutes' WHERE orphaned")
        .await;
    let asked = Instant::now();
    until(PATIENCE, "it is tidied", || asked.elapsed() > Duration::from_secs(6)).await;
    assert_eq!(stand(&there, revision).await.disconnected, 1);
    postgres::run(url, "UPDATE worker_sessions SET ended = now() - interval '61 minutes' WHERE orphaned")
        .await;
    until_stands(&there, revision, "it is forgotten", |stand| {
        (stand.converged, stand.disconnected) == (1, 0)
    })
    .await;
}

/// Who says goodbye has ended his workers' streams.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_a_replica_that_stops_are_remembered_for_a_minute() {
    let mut pair = Pair::new().await;
    let revision = pair.write("settings/s").await;
    let _stays = Simulated::open(&pair.workers[0], "w").await;
    until_stands(&pair.admins[1], revision, "it is known", |stand| stand.pending == 1).await;
    pair.members[0].stop().await;
    until_stands(&pair.admins[1], revision, "it is gone", |stand| stand.disconnected == 1).await;
    let url = pair.cluster.url();
    let orphans = "SELECT count(*) FROM worker_sessions WHERE orphaned";
    assert_eq!(postgres::count(url, orphans).await, 0);
    postgres::run(url, "UPDATE worker_sessions SET ended = now() - interval '61 seconds'").await;
    until_stands(&pair.admins[1], revision, "it is forgotten", |stand| stand.total == 0).await;
}

/// Found by an attack: it ended well where nobody could say who ran the new value, and said nothing of whom it waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_rotation_whose_time_ran_out_while_a_replica_was_missing_is_told_as_that() {
    let mut pair = Pair::new().await;
    let here = pair.admins[1].clone();
    create(&here, provider("providers/a")).await;
    let revision = create(&here, api_key("providers/a/apiKeys/k", "sk-first")).await;
    agree(&pair.admins, revision).await;
    let rights = Rights::worker(vec![by_prefix("providers/")], true);
    let token = here.token_for("worker", &rights).await;
    let request = WatchConfigRequest {
        worker: Some(worker("behind")),
        include_secrets: true,
        ..WatchConfigRequest::default()
    };
    let _behind = Simulated::open_with(&pair.members[0].caller(&token), request).await;
    until_answered(PATIENCE, "it is known", async || stand(&here, 0).await.total == 1).await;
    pair.members[0].kill().await;
    let missed = async || here.status().await.warnings.iter().any(|warning| warning.contains("fell silent"));
    until_answered(PATIENCE, "it is missed", missed).await;
    let home = crate::harness::Home::new().with("SIGNALBOX_TOKEN", here.token()).with("NEXT_KEY", "sk-next");
    let home = home.with("SIGNALBOX_URL", format!("http://{}", pair.members[1].site.address()));
    let rotate =
        ["keys", "rotate", "providers/a/apiKeys/k", "--secret", "env:NEXT_KEY", "--timeout", "12s", "--wait"];
    let output = home.run(&rotate).await;
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{told}");
    assert!(
        told.contains("1 of 1 workers have not said yet that they run the new value: behind (disconnected)"),
        "{told}"
    );
    assert!(told.contains("its time is over; 1 of 1 workers"), "{told}");
}
