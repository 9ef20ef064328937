//! Tells the server what this process runs, so that operators see it and can wait for it.
//!
//! Owns when and how often is reported. A report is a state: one that is lost is made good by the next. Must not know streams.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::Code;

use super::{backoff::Random, connection::Authorized, validation::Rejection};
use crate::proto::v1::{self, AppliedReport, ReportAppliedRequest, fleet_service_client::FleetServiceClient};

/// Reports are at least so far apart.
const EVERY: Duration = Duration::from_secs(1);
/// What has not changed is told again: the replica that was told may be gone.
const AGAIN: Duration = Duration::from_secs(30);
/// Workers hear of a change together, and report it within this time.
const SPREAD: Duration = Duration::from_millis(100);
/// How long a report may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last one may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What is to be reported, and over which connection.
#[derive(Clone, Default)]
pub(super) struct Running {
    pub(super) over: Option<FleetServiceClient<Authorized>>,
    /// The session that the newest `Synced` has named.
    pub(super) session: String,
    /// The revision that is read in this session; 0 where all so far are refused.
    pub(super) revision: u64,
    /// What is refused since.
    pub(super) rejection: Option<Rejection>,
}

impl Running {
    fn report(&self) -> AppliedReport {
        let rejection = self.rejection.as_ref().map(|rejection| v1::Rejection {
            revision: rejection.revision,
            reason: rejection.reason.clone(),
            ..v1::Rejection::default()
        });
        AppliedReport {
            session_id: self.session.clone(),
            applied_revision: self.revision,
            rejection,
            ..AppliedReport::default()
        }
    }
}

/// Reports until the watcher is gone; then it says goodbye.
pub(super) async fn report(mut running: watch::Receiver<Running>, mut random: Random) {
    // A session that the server does not know, or an answer that no repetition changes.
    let mut refused: Option<String> = None;
    loop {
        let reports = running.borrow().over.is_some();
        tokio::select! {
            changed = running.changed() => if changed.is_err() { break },
            () = sleep(AGAIN), if reports => {}
        }
        sleep(SPREAD.mul_f64(random())).await;
        let now = running.borrow_and_update().clone();
        let request = ReportAppliedRequest { reports: vec![now.report()] };
        let Running { over: Some(mut client), session, .. } = now else { continue };
        if session.is_empty() || refused.as_ref() == Some(&session) {
            continue;
        }
        match timeout(PATIENCE, client.report_applied(request)).await {
            Ok(Ok(answer)) if answer.get_ref().unknown_reports.is_empty() => {}
            Ok(Ok(_)) => refused = Some(session),
            Ok(Err(status)) if is_final(status.code()) => {
                tracing::info!(%status, "what this process runs can't be reported");
                refused = Some(session);
            }
            Ok(Err(status)) => tracing::debug!(%status, "a report was lost; the next one makes it good"),
            Err(_) => tracing::debug!("a report was lost; the next one makes it good"),
        }
        sleep(EVERY).await;
    }
    let last = running.borrow().clone();
    leave(last, refused.as_deref()).await;
}

/// Whether the same report would be answered the same: an older server, or a token that is not a worker's.
fn is_final(code: Code) -> bool {
    matches!(code, Code::Unimplemented | Code::PermissionDenied | Code::InvalidArgument)
}

/// Nobody is to wait for a process that has ended. Where this is lost, the server finds it out by itself.
async fn leave(running: Running, refused: Option<&str>) {
    let report = AppliedReport { leaving: true, ..running.report() };
    let Running { over: Some(mut client), session, .. } = running else { return };
    if session.is_empty() || refused == Some(session.as_str()) {
        return;
    }
    let request = ReportAppliedRequest { reports: vec![report] };
    let _ = timeout(FAREWELL, client.report_applied(request)).await;
}
