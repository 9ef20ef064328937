//! What the service says of itself: logs, traces, and metrics that are counted as things happen.
//!
//! Events are for the log, which goes to standard error, so that standard output stays for what was asked for. Spans are for
//! traces, which go to a collector if one is named; but for the span of a request, which gives the log's lines their ids.
//! It must not know what is logged or traced; secrets have types that can't be.

mod certificate;
mod collector;
mod connections;
mod exporter;
mod logs;
mod metrics;
mod outbound_calls;
mod process;
mod refused_spans;
mod repeats;
mod requests;
mod rpc;
mod spans;
mod store_calls;
mod trace_spans;
mod traces;

use std::time::{Duration, Instant};

use tracing_subscriber::{Layer as _, layer::SubscriberExt, util::SubscriberInitExt};

pub use certificate::CertificateExpiry;
pub use connections::ConnectionsGivenUp;
pub use metrics::Metrics;
pub use outbound_calls::OutboundCalls;
pub use requests::{HttpCall, REQUEST_ID, Unproven, request_id};
pub use spans::{context, join};
pub use store_calls::StoreCalls;

use self::repeats::Repeats;
use crate::{
    domain::ReplicaId,
    settings::{Log, Traces},
};

/// What was begun, and has to be ended.
pub struct Telemetry {
    repeats: Repeats,
    traces: Option<traces::Provider>,
}

/// Begins to log, and to make traces, whose spans are counted in `metrics`, as the settings say. A second call begins nothing. Has to be called on the runtime.
///
/// # Errors
/// When the collector can't be used as the settings name it; whether it is there shows later.
pub fn init(
    log: &Log,
    traces: Option<&Traces>,
    replica: &ReplicaId,
    metrics: &Metrics,
) -> Result<Telemetry, String> {
    let traces = traces.map(|traces| traces::begin(traces, replica, &metrics.spans)).transpose()?;
    let layer = traces.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(traces::tracer(provider))
            // Where in the sources a span stands is nobody's attribute, and costs one each.
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            // Nor is how long somebody worked on it: what that is called is the library's own invention.
            .with_tracked_inactivity(false)
            .with_filter(spans::of_traces())
    });
    let refusals = traces
        .is_some()
        .then(|| refused_spans::Refusals(metrics.spans.clone()).with_filter(refused_spans::told()));
    let repeats = Repeats::default();
    if tracing_subscriber::registry()
        .with(layer)
        .with(refusals)
        .with(logs::layer(log, repeats.clone()))
        .try_init()
        .is_err()
    {
        tracing::debug!("logging had begun already");
    }
    // Ends with the runtime: whatever it has not told by then, `end` tells.
    tokio::spawn(repeats.clone().keep_telling());
    Ok(Telemetry { repeats, traces })
}

impl Telemetry {
    /// Logs and sends what is still to be told, for as long as `patience` lasts.
    pub async fn end(self, patience: Duration) {
        self.repeats.tell(Duration::ZERO);
        let Some(provider) = self.traces else { return };
        let begun = Instant::now();
        // It waits without giving way.
        let sent = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(patience));
        match sent.await {
            Ok(Ok(())) => {}
            _ if begun.elapsed() >= patience => {
                tracing::warn!(?patience, "the collector did not answer in time; the last traces are lost");
            }
            _ => tracing::warn!("the last traces could not be sent"),
        }
    }
}
