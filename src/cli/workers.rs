//! `workers`: who runs what. And `--wait`: until workers run what was written.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use tokio::time::{Instant, sleep};

use super::{
    args::{Quorum, Target, Wait, Workers},
    connect::connect,
    failure::{Exit, Failure, Outcome},
    selector,
    session::{Session, canonical_all},
    table, text,
};
use crate::proto::v1::{
    Convergence, ListWorkersRequest, WaitForConvergenceRequest, WaitForConvergenceResponse, WaitOutcome,
    WorkerSelector, WorkerState, WorkerStatus, wait_for_convergence_request as wait_request,
};

/// Workers that are asked for at once.
const PAGE: i32 = 500;
/// Characters of labels and of reasons.
const CELL: usize = 48;
/// How long is waited, if nothing is said.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between attempts to reach a server again.
const PAUSE: Duration = Duration::from_millis(500);

/// Lists workers.
pub async fn workers(session: &mut Session<'_>, target: &Target, args: &Workers) -> Outcome {
    // Who never reports holds a rotation as those do that lack what was written.
    let behind =
        [WorkerState::Rejected, WorkerState::Pending, WorkerState::Disconnected, WorkerState::Silent];
    let states = if args.behind { behind.map(i32::from).to_vec() } else { Vec::new() };
    let mut request = ListWorkersRequest {
        workers: Some(WorkerSelector { ids: args.id.clone(), labels: selector::parse_labels(&args.label)? }),
        states,
        resources: selector::parse_all(&args.selectors, &[], &[])?,
        revision: args.revision,
        page_size: PAGE,
        ..ListWorkersRequest::default()
    };
    let mut connection = connect(session, target).await?;
    let mut all = Vec::new();
    let revision = loop {
        let page = connection.fleet.list_workers(request.clone()).await?.into_inner();
        all.extend(page.workers);
        if page.next_page_token.is_empty() {
            break page.revision;
        }
        request.page_token = page.next_page_token;
    };
    if session.documents(&canonical_all(&all)?)? {
        return Ok(());
    }
    if all.is_empty() {
        let what = if args.behind { "no worker is behind" } else { "there is no such worker" };
        session.remark(&format!("{what} at revision {revision}"));
        return Ok(());
    }
    let now = session.clock.now();
    session.line(&listed(&all, now))
}

/// Workers as a table.
fn listed(workers: &[WorkerStatus], now: DateTime<Utc>) -> String {
    let header =
        ["ID", "STATE", "REVISION", "LAG", "VERSION", "LABELS", "REPLICA", "SEEN", "SESSION", "REASON"];
    table::plain(&header, workers.iter().map(|worker| row(worker, now)).collect())
}

fn row(worker: &WorkerStatus, now: DateTime<Utc>) -> Vec<String> {
    let cell = |cell: &str| text::clipped(&text::printable(cell), CELL);
    let mut state = word(worker.state());
    if !worker.connected && worker.state() != WorkerState::Disconnected {
        state.push_str(", gone");
    }
    // What is not told is not zero.
    let silent = worker.state() == WorkerState::Silent;
    let of_reports = |number: u64| if silent { "-".to_owned() } else { number.to_string() };
    let reason = worker
        .rejection
        .as_ref()
        .map(|rejection| cell(&format!("{}: {}", rejection.revision, rejection.reason)));
    vec![
        cell(&worker.id),
        state,
        of_reports(worker.applied_revision),
        of_reports(worker.lag),
        cell(&worker.client_version),
        cell(&shown(&worker.labels)),
        cell(&worker.replica),
        worker.last_seen_time.as_ref().map(|then| text::relative(now, then)).unwrap_or_default(),
        worker.session.chars().take(8).collect(),
        reason.unwrap_or_default(),
    ]
}

fn shown(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// `WORKER_STATE_PENDING` is `pending`.
fn word(state: WorkerState) -> String {
    state.as_str_name().trim_start_matches("WORKER_STATE_").to_lowercase()
}

/// Waits until workers run what was written, if that is asked for.
pub async fn wait_for(
    session: &mut Session<'_>,
    target: &Target,
    wait: &Wait,
    (revision, token): (u64, &str),
) -> Outcome {
    let Some(quorum) = wait.wait else { return Ok(()) };
    let deadline = Instant::now() + wait.wait_timeout.unwrap_or(PATIENCE);
    let told = loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let request = WaitForConvergenceRequest {
            revision,
            min_revision_token: token.to_owned(),
            quorum: match quorum {
                Quorum::All => None,
                Quorum::Count(count) => Some(wait_request::Quorum::Count(count)),
                Quorum::Percent(percent) => Some(wait_request::Quorum::Percent(percent)),
            },
            timeout: prost_types::Duration::try_from(left).ok(),
            ..WaitForConvergenceRequest::default()
        };
        match follow(session, target, request).await {
            Ok(told) => break told,
            // The replica stops, or is gone: another one knows the same workers.
            Err(failure) if failure.exit() == Exit::Unavailable && Instant::now() < deadline => {
                session.remark(&format!("{failure}\nasking again"));
                sleep(PAUSE).await;
            }
            Err(failure) => return Err(failure.behind_what_is_done()),
        }
    };
    conclude(session, revision, &told)
}

/// Follows one wait to its outcome, and tells where it stands.
async fn follow(
    session: &mut Session<'_>,
    target: &Target,
    request: WaitForConvergenceRequest,
) -> Result<WaitForConvergenceResponse, Failure> {
    let mut connection = connect(session, target).await?;
    let mut stream = connection.fleet.wait_for_convergence(request).await?.into_inner();
    let mut last = None;
    while let Some(told) = stream.message().await? {
        if told.outcome() != WaitOutcome::Unspecified {
            return Ok(told);
        }
        let stands = stands(&told);
        if last.as_ref() != Some(&stands) {
            session.remark(&format!("waiting: {stands}"));
            last = Some(stands);
        }
    }
    Err(Failure::told(Exit::Unavailable, "the server ended the wait without an outcome"))
}

fn stands(told: &WaitForConvergenceResponse) -> String {
    let stand = told.convergence.clone().unwrap_or_default();
    let Convergence { revision, total, converged, rejected, silent, incomplete, .. } = stand;
    let mut text = format!("{converged} of {total} workers run revision {revision}");
    if told.needed != total {
        text.push_str(&format!(", {} are needed", told.needed));
    }
    if rejected > 0 {
        text.push_str(&format!(", {rejected} refuse it"));
    }
    if silent > 0 {
        text.push_str(&format!("; {silent} never report and are not counted"));
    }
    if incomplete {
        text.push_str("; there are more workers than the service counts");
    }
    text
}

/// Tells how it has ended, and names who lacks.
fn conclude(session: &mut Session<'_>, revision: u64, told: &WaitForConvergenceResponse) -> Outcome {
    let stands = stands(told);
    if told.outcome() == WaitOutcome::Reached {
        session.remark(&stands);
        return Ok(());
    }
    let stand = told.convergence.clone().unwrap_or_default();
    let lacking = stand.pending + stand.disconnected + stand.rejected;
    let mut text = match told.outcome() {
        WaitOutcome::Rejected => format!("workers refuse revision {revision}: {stands}"),
        _ => format!("the time is over: {stands}"),
    };
    if !stand.unconverged.is_empty() {
        text.push_str(&format!("\n{}", listed(&stand.unconverged, session.clock.now())));
    }
    let unnamed = (lacking as usize).saturating_sub(stand.unconverged.len());
    if unnamed > 0 {
        text.push_str(&format!("\nand {unnamed} more"));
    }
    text.push_str("\nhint: the write was made; `signalbox workers --behind` shows who lacks it");
    Err(Failure::told(Exit::Unconverged, text))
}
