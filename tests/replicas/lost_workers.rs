//! Workers of replicas that vanished: who proves which of them is back, or gone.

use std::time::Duration;

use signalbox::{
    client::{Client, ClientOptions, TokenSource},
    proto::v1::{
        ListWorkersRequest, RotateApiKeyRequest, WaitForConvergenceRequest, WaitOutcome, WatchConfigRequest,
        WorkerState,
    },
};

use crate::{
    cluster::{Cluster, Member, agree, create, knows_of},
    fleet::{Pair, end, outcome, stand, to, until_stands, wait},
    harness::{PATIENCE, until_answered},
    postgres,
    support::{
        caller::{Caller, Rights},
        fleet::{Simulated, report, worker},
        resources::{api_key, by_prefix, given, provider},
    },
};

const KEY: &str = "providers/a/apiKeys/k";
const ORPHANS: &str = "SELECT count(*) FROM worker_sessions WHERE orphaned";

/// A worker that reads secrets, in the place of a session before.
async fn reader(caller: &Caller, id: &str, previous: &str) -> Simulated {
    let request = WatchConfigRequest {
        worker: Some(worker(id)),
        include_secrets: true,
        previous_session_id: previous.to_owned(),
        ..WatchConfigRequest::default()
    };
    Simulated::open_with(caller, request).await
}

/// Who lacks a revision when a wait for it has run out.
async fn lacking(caller: &Caller, revision: u64) -> Vec<(String, WorkerState)> {
    let timeout = Some(prost_types::Duration { seconds: 8, nanos: 0 });
    let told = end(wait(caller, WaitForConvergenceRequest { timeout, ..to(revision) }).await).await;
    assert_eq!(outcome(&told), WaitOutcome::TimedOut, "{told:?}");
    let stand = told.convergence.expect("how it stands");
    stand.unconverged.iter().map(|worker| (worker.id.clone(), worker.state())).collect()
}

/// Found by an attack: one worker that came back took all lost ones of its id along, and the value before was let go of as if these
/// ran the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_who_comes_back_answers_for_himself_and_not_for_others_of_his_id() {
    let mut pair = Pair::new().await;
    let here = pair.admins[1].clone();
    create(&here, provider("providers/a")).await;
    let revision = create(&here, api_key(KEY, "sk-first")).await;
    agree(&pair.admins, revision).await;
    let token = here.token_for("pods", &Rights::worker(vec![by_prefix("providers/")], true)).await;
    let [gone, near] = pair.members.each_ref().map(|member| member.caller(&token));
    let (one, two) = (reader(&gone, "pod", "").await, reader(&gone, "pod", "").await);
    until_stands(&here, revision, "both are known", |stand| stand.total == 2).await;
    let rotate = RotateApiKeyRequest {
        name: KEY.into(),
        secret: Some(given("sk-next")),
        ..RotateApiKeyRequest::default()
    };
    let rotated = here.api_key().rotate_api_key(rotate).await.expect("it is rotated").into_inner().revision;
    pair.members[0].kill().await;
    let url = pair.cluster.url();
    until_answered(PATIENCE, "they are lost", async || postgres::count(url, ORPHANS).await == 2).await;
    // One is back, and one is new that never was on the replica that is gone.
    let back = [reader(&near, "pod", &one.session).await, reader(&near, "pod", "").await];
    report(&near, back.iter().map(|worker| worker.runs(rotated)).collect()).await.expect("taken");
    let lost = ("pod".to_owned(), WorkerState::Disconnected);
    assert_eq!(lacking(&here, rotated).await, [lost], "nobody knows what the other one runs");
    assert_eq!(here.status().await.revision, rotated, "the value before is kept");
    let last = reader(&near, "pod", &two.session).await;
    report(&near, vec![last.runs(rotated)]).await.expect("taken");
    until_answered(PATIENCE, "the value before goes", async || here.status().await.revision > rotated).await;
}

/// A client that goes on to another replica says which session it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_replica_died_is_waited_for_once() {
    let mut pair = Pair::new().await;
    let revision = pair.write("settings/s").await;
    let there = pair.admins[1].clone();
    let urls = pair.members.each_ref().map(|member| format!("http://{}", member.site.address()));
    let options = ClientOptions::new("").endpoints(urls.to_vec()).worker_id("in-rust");
    let client =
        Client::connect(options.token(TokenSource::fixed(pair.workers[0].token()))).expect("options");
    client.wait_ready(PATIENCE).await.expect("it is ready");
    until_stands(&there, revision, "it is known", |stand| stand.converged == 1).await;
    let workers = there.fleet().list_workers(ListWorkersRequest::default()).await.expect("it is listed");
    let dies = usize::from(pair.members[1].site.address() == workers.into_inner().workers[0].replica);
    pair.members[dies].kill().await;
    let there = pair.admins[1 - dies].clone();
    knows_of(&there, 1).await;
    until_stands(&there, revision, "it is one worker", |stand| (stand.total, stand.converged) == (1, 1))
        .await;
    assert_eq!(lost(&pair.cluster).await, 0, "nobody waits for the session before");
    drop(client);
}

/// Workers of whom nobody knows whether they are gone.
async fn lost(cluster: &Cluster) -> i64 {
    let lost = "SELECT count(*) FROM worker_sessions LEFT JOIN worker_reports ON session = id \
        WHERE orphaned AND has_left IS NOT TRUE";
    postgres::count(cluster.url(), lost).await
}

/// Found by an attack: a replica that died was back at its address, and its workers that had died with it were waited for for an
/// hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_workers_end_with_a_replica_whose_place_another_process_takes() {
    let cluster = Cluster::new().await;
    let near = cluster.start().await;
    let home = cluster.home().with("SIGNALBOX_ADVERTISE", "one.example:50051");
    let mut died = Member::start_in(home).await;
    let here = near.caller(&cluster.first_token().await);
    let token = here.token_for("fleet", &Rights::worker(vec![by_prefix("settings/")], false)).await;
    let gone = Simulated::open(&died.caller(&token), "w").await;
    until_answered(PATIENCE, "it is known", async || stand(&here, 0).await.total == 1).await;
    died.kill().await;
    drop(gone);
    let url = cluster.url();
    until_answered(PATIENCE, "it is lost", async || postgres::count(url, ORPHANS).await == 1).await;
    // Whoever starts now was not there when it vanished.
    let next = cluster.start().await;
    let tells = async || {
        let warnings = next.caller(here.token()).status().await.warnings;
        warnings.iter().any(|warning| warning.contains("at one.example:50051 fell silent"))
    };
    until_answered(PATIENCE, "it is told of", tells).await;
    died.start().await;
    until_answered(PATIENCE, "it is as any that ended", async || postgres::count(url, ORPHANS).await == 0)
        .await;
    assert_eq!(stand(&here, 0).await.disconnected, 1, "for a minute");
    postgres::run(url, "UPDATE worker_sessions SET ended = now() - interval '61 seconds'").await;
    until_stands(&here, 0, "it is forgotten", |stand| stand.total == 0).await;
    until_answered(PATIENCE, "nothing is told any more", async || !tells().await).await;
}

/// One that is started anew within seconds is there before anybody has missed the one that died.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_a_replica_that_is_restarted_at_once_are_remembered_for_a_minute() {
    let cluster = Cluster::new().await;
    let near = cluster.start().await;
    let mut died = Member::start_in(cluster.home().with("SIGNALBOX_ADVERTISE", "one.example:50051")).await;
    let here = near.caller(&cluster.first_token().await);
    let token = here.token_for("fleet", &Rights::worker(vec![by_prefix("settings/")], false)).await;
    let _gone = Simulated::open(&died.caller(&token), "w").await;
    until_answered(PATIENCE, "it is known", async || stand(&here, 0).await.total == 1).await;
    died.kill().await;
    died.start().await;
    let ended =
        "SELECT count(*) FROM worker_sessions WHERE ended > now() - interval '1 minute' AND NOT orphaned";
    let url = cluster.url();
    until_answered(Duration::from_secs(40), "it has ended", async || postgres::count(url, ended).await == 1)
        .await;
}
