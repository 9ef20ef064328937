//! Who runs what, through several replicas: a worker's stream is on one, its reports come to another, and somebody waits on
//! a third.

use std::time::{Duration, Instant};

use signalbox::client::{Client, ClientOptions, TokenSource};
use signalbox::proto::v1::{
    AppliedReport, Convergence, GetConvergenceRequest, ListWorkersRequest, Selector,
    WaitForConvergenceRequest, WaitForConvergenceResponse, WaitOutcome, WatchConfigRequest, WorkerSelector,
    WorkerState, wait_for_convergence_request::Quorum,
};
use tonic::{Code, Streaming};

use crate::{
    cluster::{Cluster, Member, agree, create},
    harness::{Home, PATIENCE, calls::refusal, soon, until_answered},
    support::{
        caller::{Caller, Rights},
        fleet::{Simulated, report, worker},
        resources::{by_prefix, setting},
    },
};

/// Far more than a report takes to be known everywhere: it is written once a second.
const KNOWN: Duration = Duration::from_secs(10);

/// Two replicas, with an administrator and a worker's token on each.
pub struct Pair {
    pub cluster: Cluster,
    pub members: [Member; 2],
    pub admins: [Caller; 2],
    pub workers: [Caller; 2],
}

impl Pair {
    pub async fn new() -> Self {
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
    pub async fn write(&self, name: &str) -> u64 {
        let revision = create(&self.admins[0], setting(name, "1")).await;
        agree(&self.admins, revision).await.revision
    }
}

/// How a wait ended, if it has.
pub fn outcome(told: &WaitForConvergenceResponse) -> WaitOutcome {
    told.outcome()
}

/// Begins to wait.
pub async fn wait(
    caller: &Caller,
    request: WaitForConvergenceRequest,
) -> Streaming<WaitForConvergenceResponse> {
    soon(caller.fleet().wait_for_convergence(request)).await.expect("it waits").into_inner()
}

/// The end of a wait, with what was told before.
pub async fn end(mut stream: Streaming<WaitForConvergenceResponse>) -> WaitForConvergenceResponse {
    loop {
        let told = soon(stream.message()).await.expect("it goes on").expect("it has an outcome");
        if outcome(&told) != WaitOutcome::Unspecified {
            assert!(soon(stream.message()).await.expect("it ends well").is_none(), "the outcome is the last");
            return told;
        }
        assert!(told.convergence.expect("it tells").unconverged.is_empty(), "names come at the end");
    }
}

/// A wait for all workers, a minute at most.
pub fn to(revision: u64) -> WaitForConvergenceRequest {
    let timeout = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    WaitForConvergenceRequest { revision, timeout, ..WaitForConvergenceRequest::default() }
}

/// How the workers stand, as a replica sees it.
pub async fn stand(caller: &Caller, revision: u64) -> Convergence {
    let request = GetConvergenceRequest { revision, ..GetConvergenceRequest::default() };
    let answer = caller.fleet().get_convergence(request).await.expect("it tells").into_inner();
    answer.convergence.expect("how it stands")
}

/// Waits until a replica sees the workers so.
pub async fn until_stands(caller: &Caller, revision: u64, what: &str, holds: impl Fn(&Convergence) -> bool) {
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
    let home = Home::new().with("SIGNALBOX_URL", there);
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
