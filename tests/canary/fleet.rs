//! What is sent to the methods around workers and what they run.

use signalbox::proto::v1::{
    AppliedReport, GetConvergenceRequest, ListWorkersRequest, Rejection, ReportAppliedRequest,
    WaitForConvergenceRequest, WorkerSelector,
};

use crate::cases::{Case, case};

/// The cases of a method of `FleetService`.
pub fn of(method: &str) -> Vec<Case> {
    let workers = |canary: &str| Some(WorkerSelector { ids: vec![canary.into()], ..Default::default() });
    let soon = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
    match method.rsplit('.').next() {
        // Only workers report.
        Some("ReportApplied") => vec![
            case("a secret for a session", false, |canary, _| {
                report(AppliedReport { session_id: canary.into(), applied_revision: 1, ..Default::default() })
            }),
            case("a secret as a name", false, |canary, _| {
                report(AppliedReport {
                    session_id: "s".into(),
                    rejection: Some(Rejection {
                        revision: 1,
                        reason: canary.into(),
                        names: vec![canary.into()],
                    }),
                    ..Default::default()
                })
            }),
        ],
        Some("ListWorkers") => vec![
            case("all", true, |_, _| ListWorkersRequest::default()),
            case("of an id", true, move |canary, _| ListWorkersRequest {
                workers: workers(canary),
                ..Default::default()
            }),
            case("page", false, |canary, _| ListWorkersRequest {
                page_token: canary.into(),
                ..Default::default()
            }),
        ],
        Some("GetConvergence") => vec![
            case("all", true, |_, _| GetConvergenceRequest::default()),
            case("minimum", false, |canary, _| GetConvergenceRequest {
                min_revision_token: canary.into(),
                ..Default::default()
            }),
        ],
        Some("WaitForConvergence") => vec![
            case("all", true, move |_, _| WaitForConvergenceRequest { timeout: soon, ..Default::default() }),
            case("of an id", true, move |canary, _| WaitForConvergenceRequest {
                workers: workers(canary),
                timeout: soon,
                ..Default::default()
            }),
            case("minimum", false, |canary, _| WaitForConvergenceRequest {
                min_revision_token: canary.into(),
                ..Default::default()
            }),
        ],
        _ => panic!("{method} has no canary case"),
    }
}

fn report(report: AppliedReport) -> ReportAppliedRequest {
    ReportAppliedRequest { reports: vec![report] }
}
