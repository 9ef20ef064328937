//! The health service, as the protocol of gRPC's health checks says: what is told follows from the phase of the process.
//!
//! `liveness` serves for as long as the process answers; everything else serves while it takes calls. A watch ends only
//! when its listener does, and is told the last news first. It must not know what the process does.

use std::pin::Pin;

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{self, HealthServer},
};

use super::SERVICES;
use crate::lifecycle::{Phase, Standing};

/// Serves for as long as the process answers.
const LIVENESS: &str = "liveness";
/// Serves while calls should be sent here. The empty name is the server as a whole.
const READINESS: [&str; 2] = ["", "readiness"];

/// The health service of one listener.
#[derive(Debug)]
pub struct Health {
    standing: Standing,
    end: CancellationToken,
}

/// The health service of a listener that closes at `end`: watches would hold it up.
#[must_use]
pub fn health(standing: &Standing, end: CancellationToken) -> HealthServer<Health> {
    HealthServer::new(Health { standing: standing.clone(), end })
}

/// What is told of a service in a phase; `None` for one that there is not.
fn status(service: &str, phase: Phase) -> Option<ServingStatus> {
    match service {
        LIVENESS => Some(ServingStatus::Serving),
        known if READINESS.contains(&known) || SERVICES.contains(&known) => Some(match phase {
            Phase::Serving => ServingStatus::Serving,
            Phase::Starting | Phase::StoreAway | Phase::Draining => ServingStatus::NotServing,
        }),
        _ => None,
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let told = status(&request.get_ref().service, self.standing.phase());
        told.map(|status| Response::new(answer(status)))
            .ok_or_else(|| Status::not_found("there is no such service here"))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watched = Watched {
            service: request.into_inner().service,
            phases: self.standing.follow(),
            told: None,
            end: self.end.clone(),
        };
        let news = stream::unfold(watched, |mut watched| async move {
            let status = watched.next().await?;
            Some((Ok(answer(status)), watched))
        });
        Ok(Response::new(Box::pin(news)))
    }
}

/// A watch that is open.
struct Watched {
    service: String,
    phases: watch::Receiver<Phase>,
    told: Option<ServingStatus>,
    end: CancellationToken,
}

impl Watched {
    /// The next status that differs from the one before; `None` at the end.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            tokio::select! {
                // What has changed is told before the end.
                biased;
                changed = self.phases.changed() => changed.ok()?,
                () = self.end.cancelled() => return None,
            }
            let phase = *self.phases.borrow_and_update();
            let status = status(&self.service, phase).unwrap_or(ServingStatus::ServiceUnknown);
            if self.told.replace(status) != Some(status) {
                return Some(status);
            }
        }
    }
}
