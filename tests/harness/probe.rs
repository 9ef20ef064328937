//! The health service as a kubelet asks it: a connection for each probe, one question, an answer in time.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// What the manifests in `deploy/kubernetes` give a probe, and more than a busy machine needs.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// What came of a probe. Only the first is a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    Serving,
    NotServing,
    /// The service is not known.
    Unknown,
    /// Nobody listens, or the connection was cut.
    Refused,
    TimedOut,
}

/// Asks once.
pub async fn probe(address: &str, service: &str) -> Probed {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
    let asked = async {
        let channel = endpoint.connect().await.ok()?;
        let request = HealthCheckRequest { service: service.to_owned() };
        Some(HealthClient::new(channel).check(request).await)
    };
    match timeout(PROBE_TIMEOUT, asked).await {
        Err(_) => Probed::TimedOut,
        Ok(Some(Ok(answer))) if answer.get_ref().status() == ServingStatus::Serving => Probed::Serving,
        Ok(Some(Ok(_))) => Probed::NotServing,
        Ok(Some(Err(status))) if status.code() == Code::NotFound => Probed::Unknown,
        Ok(_) => Probed::Refused,
    }
}
