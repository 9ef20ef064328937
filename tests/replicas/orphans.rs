//! Workers whose replica has gone: it stopped, it died, or it is cut off from the database alone.

use std::time::{Duration, Instant};

use signalbox::proto::v1::{
    AppliedReport, RotateApiKeyRequest, WaitForConvergenceRequest, WaitOutcome, WatchConfigRequest,
    WorkerState,
};

use crate::{
    cluster::{Cluster, agree, create},
    fleet::{Pair, end, outcome, stand, to, until_stands, wait},
    harness::{Home, PATIENCE, until, until_answered},
    postgres,
    proxy::Proxy,
    support::{
        caller::Rights,
        fleet::{Simulated, report, worker},
        resources::{api_key, by_prefix, given, provider},
    },
};

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
    let back = Simulated::open(&pair.workers[0], "back").await;
    let _lost = Simulated::open(&pair.workers[0], "lost").await;
    until_stands(&there, revision, "they are known", |stand| stand.pending == 2).await;
    pair.members[0].kill().await;
    let request = WatchConfigRequest {
        previous_session_id: back.session.clone(),
        worker: Some(worker("back")),
        ..WatchConfigRequest::default()
    };
    let back = Simulated::open_with(&pair.workers[1], request).await;
    report(&pair.workers[1], vec![back.runs(revision)]).await.expect("taken");
    until_stands(&there, revision, "only one is missing", |stand| {
        (stand.converged, stand.disconnected) == (1, 1)
    })
    .await;
    let named = stand(&there, revision).await.unconverged;
    assert_eq!(named.iter().map(|worker| worker.id.as_str()).collect::<Vec<_>>(), ["lost"]);
    let url = pair.cluster.url();
    let orphan = "SELECT count(*) FROM worker_sessions WHERE orphaned AND worker = 'lost'";
    until_answered(PATIENCE, "somebody tidied", async || postgres::count(url, orphan).await == 1).await;
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
    let home = Home::new().with("SIGNALBOX_TOKEN", here.token()).with("NEXT_KEY", "sk-next");
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
