//! Workers that are only simulated: a stream each, and what they report.

use std::collections::BTreeMap;

use signalbox::proto::v1::{
    AppliedReport, Rejection, ReportAppliedRequest, ReportAppliedResponse, WatchConfigRequest,
    WatchConfigResponse, Worker, watch_config_response::Event,
};
use tonic::{Status, Streaming};

use super::caller::Caller;
use crate::harness::soon;

/// A worker.
pub struct Simulated {
    pub stream: Streaming<WatchConfigResponse>,
    /// Name of its session.
    pub session: String,
    /// The revision that its stream has come to.
    pub revision: u64,
}

impl Simulated {
    /// A worker of this id, whose stream shows all that is granted.
    pub async fn open(caller: &Caller, id: &str) -> Self {
        Self::open_with(caller, WatchConfigRequest { worker: Some(worker(id)), ..Default::default() }).await
    }

    /// One with a stream of its own.
    pub async fn open_with(caller: &Caller, request: WatchConfigRequest) -> Self {
        let opened = soon(caller.config().watch_config(request)).await;
        let mut worker = Self {
            stream: opened.expect("the stream opens").into_inner(),
            session: String::new(),
            revision: 0,
        };
        worker.follow(|worker| !worker.session.is_empty()).await;
        worker
    }

    /// Reads on until a condition holds.
    pub async fn follow(&mut self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            let message = soon(self.stream.message()).await.expect("the stream goes on").expect("it goes on");
            match message.event {
                Some(Event::Synced(synced)) => {
                    (self.session, self.revision) = (synced.session_id, synced.revision);
                }
                Some(Event::Changes(changes)) => self.revision = changes.revision,
                Some(Event::Progress(progress)) => self.revision = progress.revision,
                _ => {}
            }
        }
    }

    /// That it runs a revision.
    pub fn runs(&self, revision: u64) -> AppliedReport {
        AppliedReport {
            session_id: self.session.clone(),
            applied_revision: revision,
            ..AppliedReport::default()
        }
    }

    /// That it has refused a revision, and runs an earlier one.
    pub fn refuses(&self, revision: u64, runs: u64, reason: &str) -> AppliedReport {
        let rejection =
            Rejection { revision, reason: reason.to_owned(), names: vec!["settings/s".to_owned()] };
        AppliedReport { rejection: Some(rejection), ..self.runs(runs) }
    }
}

/// What a worker says of itself.
pub fn worker(id: &str) -> Worker {
    let labels = BTreeMap::from([("zone".to_owned(), if id.ends_with('0') { "a" } else { "b" }.to_owned())]);
    Worker { id: id.to_owned(), labels, client_version: "simulated/1".to_owned(), silent: false }
}

/// Reports, as whoever calls.
pub async fn report(caller: &Caller, reports: Vec<AppliedReport>) -> Result<ReportAppliedResponse, Status> {
    caller.fleet().report_applied(ReportAppliedRequest { reports }).await.map(tonic::Response::into_inner)
}
