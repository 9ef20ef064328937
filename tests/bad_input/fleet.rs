//! Reports that can't be right, questions about workers that can't be answered, and what is shown to whom.

use prost_types::Duration;
use signalbox::proto::v1::{
    AppliedReport, GetConvergenceRequest, ListWorkersRequest, Rejection, ReportAppliedRequest,
    WaitForConvergenceRequest, WorkerSelector, WorkerState, wait_for_convergence_request::Quorum,
};
use support::{
    caller::Rights,
    fleet::{Simulated, report, worker},
};

use super::*;
use crate::harness::until_answered;

const REPORT: &str = "/signalbox.v1.FleetService/ReportApplied";
const LIST: &str = "/signalbox.v1.FleetService/ListWorkers";
const STAND: &str = "/signalbox.v1.FleetService/GetConvergence";
const WAIT: &str = "/signalbox.v1.FleetService/WaitForConvergence";

fn raw(path: &'static str, message: &impl Message) -> Call {
    Call::Raw(path, message.encode_to_vec())
}

fn reported(report: AppliedReport) -> Call {
    raw(REPORT, &ReportAppliedRequest { reports: vec![AppliedReport::default(), report] })
}

fn rejected(rejection: Rejection) -> Call {
    reported(AppliedReport { session_id: "s".into(), rejection: Some(rejection), ..Default::default() })
}

#[tokio::test]
async fn reports_that_cannot_be_right() {
    let server = furnished().await;
    let rights = Rights::worker(vec![Selector::default()], false);
    let worker = server.admin().colleague("w", &rights).await;
    let many = ReportAppliedRequest { reports: vec![AppliedReport::default(); 1001] };
    let named = |names: Vec<String>| rejected(Rejection { revision: 1, reason: "r".into(), names });
    let because =
        |revision, reason: &str| rejected(Rejection { revision, reason: reason.into(), names: vec![] });
    let cases = vec![
        ("nothing", raw(REPORT, &ReportAppliedRequest::default()), INVALID, "OUT_OF_RANGE", "reports"),
        ("too many", raw(REPORT, &many), INVALID, "OUT_OF_RANGE", "reports"),
        (
            "a session that is too long",
            reported(AppliedReport { session_id: "s".repeat(129), ..Default::default() }),
            INVALID,
            "REQUIRED",
            "reports[1].session_id",
        ),
        (
            "a revision of no store",
            reported(AppliedReport {
                session_id: "s".into(),
                applied_revision: 1 << 63,
                ..Default::default()
            }),
            INVALID,
            "REQUIRED",
            "reports[1].applied_revision",
        ),
        ("no revision", because(0, "r"), INVALID, "REQUIRED", "reports[1].rejection.revision"),
        ("no reason", because(1, ""), INVALID, "REQUIRED", "reports[1].rejection.reason"),
        ("a long reason", because(1, &"r".repeat(513)), INVALID, "REQUIRED", "reports[1].rejection.reason"),
        ("a NUL", because(1, "a\0"), INVALID, "REQUIRED", "reports[1].rejection.reason"),
        ("no name", named(vec!["x".into()]), INVALID, "REQUIRED", "reports[1].rejection.names[0]"),
        (
            "many names",
            named(vec!["settings/s".into(); 65]),
            INVALID,
            "REQUIRED",
            "reports[1].rejection.names",
        ),
    ];
    refused_to(&worker, &server, cases).await;
    let by_admin = vec![("not a worker", raw(REPORT, &many), Code::PermissionDenied, "ROLE_DENIED", "")];
    refused(&server, by_admin).await;
}

#[tokio::test]
async fn questions_that_cannot_be_answered() {
    let server = furnished().await;
    let wait = |request: WaitForConvergenceRequest| raw(WAIT, &request);
    let workers = |ids: Vec<String>| Some(WorkerSelector { ids, labels: [("-".into(), "x".into())].into() });
    let cases = vec![
        (
            "ids and labels",
            raw(STAND, &GetConvergenceRequest { workers: workers(vec!["a\n".into()]), ..Default::default() }),
            INVALID,
            "FORBIDDEN_CHARACTER",
            "workers.labels.-",
        ),
        (
            "too many ids",
            raw(LIST, &ListWorkersRequest { workers: workers(vec!["a".into(); 101]), ..Default::default() }),
            INVALID,
            "TOO_MANY",
            "workers.ids",
        ),
        (
            "a selector",
            raw(LIST, &ListWorkersRequest { resources: vec![by_prefix("x")], ..Default::default() }),
            INVALID,
            "INVALID_NAME",
            "resources[0].prefix",
        ),
        (
            "a state that is none",
            raw(LIST, &ListWorkersRequest { states: vec![1, 77], ..Default::default() }),
            INVALID,
            "UNKNOWN_VALUE",
            "states[1]",
        ),
        (
            "a page of nothing",
            raw(LIST, &ListWorkersRequest { page_token: "x".into(), page_size: -1, ..Default::default() }),
            INVALID,
            "OUT_OF_RANGE",
            "page_token",
        ),
        (
            "the future",
            raw(STAND, &GetConvergenceRequest { revision: 1 << 40, ..Default::default() }),
            Code::OutOfRange,
            "AHEAD",
            "",
        ),
        (
            "no worker is enough",
            wait(WaitForConvergenceRequest { quorum: Some(Quorum::Count(0)), ..Default::default() }),
            INVALID,
            "OUT_OF_RANGE",
            "count",
        ),
        (
            "more than all",
            wait(WaitForConvergenceRequest { quorum: Some(Quorum::Percent(101)), ..Default::default() }),
            INVALID,
            "OUT_OF_RANGE",
            "percent",
        ),
        (
            "for ever",
            wait(WaitForConvergenceRequest {
                timeout: Some(Duration { seconds: 3601, nanos: 0 }),
                ..Default::default()
            }),
            INVALID,
            "OUT_OF_RANGE",
            "timeout",
        ),
    ];
    refused(&server, cases).await;
    let rights = Rights::worker(vec![Selector::default()], false);
    let worker = server.admin().colleague("w", &rights).await;
    let all = [LIST, STAND, WAIT].map(|path| {
        ("a worker asks", Call::Raw(path, Vec::new()), Code::PermissionDenied, "ROLE_DENIED", "")
    });
    refused_to(&worker, &server, all.into()).await;
}

#[tokio::test]
async fn of_workers_is_shown_what_the_caller_reaches() {
    let server = furnished().await;
    let admin = server.admin();
    let grants = vec![by_prefix("providers/"), by_prefix("users/alice/")];
    let caller = admin.colleague("w", &Rights::worker(grants, false)).await;
    let of_alice = Simulated::open(&caller, "one").await;
    let request = WatchConfigRequest {
        selectors: vec![by_prefix("users/alice/")],
        worker: Some(worker("two")),
        ..Default::default()
    };
    let hidden = Simulated::open_with(&caller, request).await;
    let mut refusal = of_alice.refuses(3, 0, "alice's secret plan");
    refusal.rejection.as_mut().unwrap().names = vec!["users/alice/settings/plan".into()];
    report(&caller, vec![refusal, hidden.runs(3)]).await.unwrap();
    let narrow = Rights { grants: vec![by_prefix("providers/")], ..Rights::viewer() };
    let viewer = admin.colleague("v", &narrow).await;
    let list = async |caller: &Caller, request: ListWorkersRequest| {
        caller.fleet().list_workers(request).await.unwrap().into_inner()
    };
    let seen = list(&viewer, ListWorkersRequest::default()).await.workers;
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].id.as_str(), seen[0].state()), ("one", WorkerState::Rejected));
    assert_eq!((seen[0].subject.as_str(), seen[0].replica.as_str(), &seen[0].rejection), ("", "", &None));
    assert_eq!(seen[0].selectors, [by_prefix("providers/")]);
    let all = list(&admin, ListWorkersRequest::default()).await.workers;
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].subject.as_str(), all[0].rejection.is_some(), all[0].selectors.len()), ("w", true, 2));
    // Pages, states and ids.
    let first = list(&admin, ListWorkersRequest { page_size: 1, ..Default::default() }).await;
    assert_eq!((first.workers.len(), first.workers[0].id.as_str()), (1, "one"));
    let next = ListWorkersRequest { page_size: 1, page_token: first.next_page_token, ..Default::default() };
    let second = list(&admin, next).await;
    assert_eq!((second.workers[0].id.as_str(), second.next_page_token.as_str()), ("two", ""));
    let states = vec![WorkerState::Converged.into()];
    let converged = list(&admin, ListWorkersRequest { states, ..Default::default() }).await.workers;
    assert_eq!(converged.iter().map(|worker| worker.id.as_str()).collect::<Vec<_>>(), ["two"]);
    // Who never reports is listed, and waited for by nobody.
    let silent = Worker { silent: true, ..worker("quiet") };
    let request = WatchConfigRequest { worker: Some(silent), ..Default::default() };
    let _quiet = Simulated::open_with(&caller, request).await;
    let stand = admin.fleet().get_convergence(GetConvergenceRequest::default()).await.unwrap().into_inner();
    let stand = stand.convergence.unwrap();
    assert_eq!((stand.total, stand.silent, stand.rejected, stand.converged), (2, 1, 1, 1));
    // A stream that has ended counts for as long as what it ran is not enough.
    drop(of_alice);
    drop(hidden);
    until_answered(harness::PATIENCE, "the streams have ended", async || {
        let stand =
            admin.fleet().get_convergence(GetConvergenceRequest::default()).await.unwrap().into_inner();
        let stand = stand.convergence.unwrap();
        (stand.total, stand.converged) == (1, 0)
    })
    .await;
}

/// Fault: whoever may ask could take every place of those who wait, and nobody else could wait for workers.
#[tokio::test]
async fn regression_nobody_takes_every_wait() {
    let server = furnished().await;
    let admin = server.admin();
    let viewer = admin.colleague("v", &Rights::viewer()).await;
    let never = WaitForConvergenceRequest { quorum: Some(Quorum::Count(1_000)), ..Default::default() };
    let begin = async |caller: &Caller| {
        let mut stream = caller.fleet().wait_for_convergence(never.clone()).await?.into_inner();
        // Where it stands is told at once, and then it waits.
        stream.message().await?;
        Ok::<_, Status>(stream)
    };
    let mut waits = Vec::new();
    for _ in 0..8 {
        waits.push(begin(&viewer).await.expect("it may wait"));
    }
    let status = begin(&viewer).await.unwrap_err();
    let info = status.get_error_details().error_info().expect("a reason").clone();
    assert_eq!(
        (status.code(), info.reason.as_str()),
        (Code::ResourceExhausted, "TOO_MANY_WAITS"),
        "{status:?}"
    );
    assert!(begin(&admin).await.is_ok(), "somebody else may");
    waits.pop();
    until_answered(harness::PATIENCE, "its place is free again", async || begin(&viewer).await.is_ok()).await;
}

/// Fault: by asking who sees a resource one found out the labels of what one may not read.
#[tokio::test]
async fn regression_who_sees_a_resource_beyond_the_grants_tells_nothing_of_it() {
    let server = furnished().await;
    let admin = server.admin();
    let secret = labelled(setting("settings/plan", "x"), &[("team", "red")]);
    let create = CreateResourceRequest { resource: Some(secret), ..Default::default() };
    admin.config().create_resource(create).await.unwrap();
    let grants = vec![by_prefix("providers/"), by_prefix("settings/")];
    let caller = admin.colleague("w", &Rights::worker(grants, false)).await;
    let mut workers = Vec::new();
    for team in ["blue", "red"] {
        let selectors = vec![by_prefix("providers/"), narrowed(by_prefix("settings/"), "team", team)];
        let request = WatchConfigRequest { selectors, worker: Some(worker(team)), ..Default::default() };
        workers.push(Simulated::open_with(&caller, request).await);
    }
    let narrow = Rights { grants: vec![by_prefix("providers/")], ..Rights::viewer() };
    let viewer = admin.colleague("v", &narrow).await;
    let see = async |caller: &Caller, name: &str| {
        let request = ListWorkersRequest { resources: vec![by_name(name)], ..Default::default() };
        let workers = caller.fleet().list_workers(request).await.unwrap().into_inner().workers;
        workers.into_iter().map(|worker| worker.id).collect::<Vec<_>>()
    };
    assert_eq!(see(&admin, "settings/plan").await, ["red"], "who reaches it is told by its labels");
    let unknown = see(&viewer, "settings/none").await;
    assert_eq!(unknown, ["blue", "red"]);
    assert_eq!(see(&viewer, "settings/plan").await, unknown, "as of one that there is not");
}

/// Fault: workers of a restarted server were forgotten, so that nobody waited for those that had not come back yet.
#[tokio::test]
async fn workers_of_before_a_restart_are_waited_for() {
    let mut server = furnished().await;
    let rights = Rights::worker(vec![Selector::default()], false);
    let caller = server.admin().colleague("w", &rights).await;
    let _worker = Simulated::open(&caller, "one").await;
    server.restart().await;
    let stand = server.admin().fleet().get_convergence(GetConvergenceRequest::default()).await.unwrap();
    let stand = stand.into_inner().convergence.unwrap();
    assert_eq!((stand.total, stand.disconnected), (1, 1), "{stand:?}");
}
