//! `health`: asks the health service, as a kubelet does, for whoever has nothing else to ask it with.

use serde::Serialize;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    args::{Health, Target},
    connect::connect,
    failure::{Exit, Failure, Outcome},
    session::Session,
};

/// What was told.
#[derive(Serialize)]
struct Told<'a> {
    service: &'a str,
    status: &'static str,
}

/// Asks; whoever does not serve is no success.
pub async fn health(session: &mut Session<'_>, target: &Target, args: &Health) -> Outcome {
    let connection = connect(session, target).await?;
    let request = HealthCheckRequest { service: args.service.clone() };
    let answer = HealthClient::new(connection.channel()).check(request).await?.into_inner();
    let (service, status) = (args.service.as_str(), answer.status());
    if status != ServingStatus::Serving {
        return Err(Failure::told(Exit::Unavailable, format!("{service}: {}", status.as_str_name())));
    }
    if session.document(&Told { service, status: status.as_str_name() })? {
        return Ok(());
    }
    session.line(&format!("{service}: {}", status.as_str_name()))
}
