//! Traces by OTLP: what is recorded, as what, and how it leaves.
//!
//! Finished spans wait in a queue of bounded length, which a thread of its own empties every few seconds. What finds it full
//! is dropped and counted: nobody waits for a collector.

use std::time::Duration;

use opentelemetry::{Key, KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler as SdkSampler, SdkTracerProvider, Tracer},
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::{
    exporter::Told,
    trace_spans::{Bounded, TraceSpans},
};
use crate::{
    domain::ReplicaId,
    settings::{Sampler, Traces},
};

/// What makes spans, and sends them.
pub(super) type Provider = SdkTracerProvider;

/// How long a collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Attributes of a span at most, and links to others.
const MOST_PARTS: u32 = 64;

/// Begins to make traces. Nothing is sent yet. Has to be called on the runtime that sends.
pub(super) fn begin(settings: &Traces, replica: &ReplicaId, spans: &TraceSpans) -> Result<Provider, String> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_channel(channel(settings)?)
        .with_timeout(TIMEOUT)
        .build()
        .map_err(|error| format!("traces: {error}"))?;
    let told = Told::new(exporter, spans.clone());
    let config = BatchConfigBuilder::default().with_max_queue_size(settings.queue_size).build();
    let batches = BatchSpanProcessor::builder(told).with_batch_config(config).build();
    Ok(SdkTracerProvider::builder()
        .with_span_processor(Bounded::new(batches, settings.queue_size, spans.clone()))
        .with_sampler(sampler(settings))
        .with_resource(resource(settings, replica))
        .with_max_attributes_per_span(MOST_PARTS)
        .with_max_links_per_span(MOST_PARTS)
        .build())
}

/// What the layer makes spans with.
pub(super) fn tracer(provider: &Provider) -> Tracer {
    provider.tracer("signalbox")
}

/// Opened when there is something to send.
fn channel(settings: &Traces) -> Result<Channel, String> {
    let Traces { endpoint, ca_file, .. } = settings;
    let wrong = |error: &dyn std::fmt::Display| format!("traces: {endpoint}: {error}");
    let target = Endpoint::from_shared(endpoint.clone()).map_err(|error| wrong(&error))?;
    let target = target.timeout(TIMEOUT).connect_timeout(TIMEOUT).tcp_nodelay(true);
    if !endpoint.starts_with("https://") {
        return Ok(target.connect_lazy());
    }
    let tls = match ca_file {
        None => ClientTlsConfig::new().with_native_roots(),
        Some(path) => {
            let pem = std::fs::read(path)
                .map_err(|error| format!("traces: {} can't be read: {error}", path.display()))?;
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
        }
    };
    Ok(target.tls_config(tls).map_err(|error| wrong(&error))?.connect_lazy())
}

fn sampler(settings: &Traces) -> SdkSampler {
    let own = match settings.sampler {
        Sampler::All => SdkSampler::AlwaysOn,
        Sampler::None => SdkSampler::AlwaysOff,
        Sampler::Share => SdkSampler::TraceIdRatioBased(f64::from(settings.per_million) / 1e6),
    };
    match settings.parent_decides {
        true => SdkSampler::ParentBased(Box::new(own)),
        false => own,
    }
}

/// Who this process is, in traces. What the operator says goes before what we know.
fn resource(settings: &Traces, replica: &ReplicaId) -> Resource {
    let attribute = |key: &'static str, value: String| KeyValue::new(Key::from_static_str(key), value);
    let known = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes([
            attribute("service.name", "signalbox".to_owned()),
            attribute("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            attribute("service.instance.id", replica.to_string()),
        ])
        .with_detector(Box::new(EnvResourceDetector::new()));
    match &settings.service_name {
        Some(name) => known.with_service_name(name.clone()).build(),
        None => known.build(),
    }
}
