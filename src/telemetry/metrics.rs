//! Metrics: what is counted as it happens, and the buckets and labels that all of them share.
//!
//! Whoever has something to count holds a clone of its part and knows nothing of the form that Prometheus reads. Values of
//! labels are static texts, so that nothing a caller sends, no resource and no secret becomes one. What a room counts for
//! itself, because it must not know this one, is read when somebody asks (`http::metrics`).

use prometheus_client::{metrics::histogram::Histogram, registry::Registry};

use super::{
    certificate::CertificateExpiry, connections::ConnectionsGivenUp, outbound_calls::OutboundCalls,
    process::Process, rpc::Rpcs, store_calls::StoreCalls, trace_spans::TraceSpans,
};

/// Names and values of the labels of one series.
pub type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Upper ends in seconds: from what memory answers to what is given up.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Everything that is counted as it happens. Clones count together.
#[derive(Clone, Default)]
pub struct Metrics {
    /// Calls of the API.
    pub rpcs: Rpcs,
    /// Calls of the store.
    pub store: StoreCalls,
    /// Calls to providers and databases.
    pub outbound: OutboundCalls,
    /// What became of spans.
    pub spans: TraceSpans,
    /// The end of the listeners' certificate.
    pub certificate: CertificateExpiry,
    /// Connections that the kernel has given up.
    pub given_up: ConnectionsGivenUp,
}

impl Metrics {
    /// Shows all of them in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let Self { rpcs, store, outbound, spans, certificate, given_up } = self;
        rpcs.register(registry);
        store.register(registry);
        outbound.register(registry);
        spans.register(registry);
        certificate.register(registry);
        given_up.register(registry);
        registry.register_collector(Box::new(Process));
    }
}

/// How long something took.
pub(super) fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}
