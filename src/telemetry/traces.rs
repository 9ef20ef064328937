//! Traces by OTLP: what is recorded, as what, and how it leaves.
//!
//! Finished spans wait in a queue of bounded length, which a thread of its own empties every few seconds. What finds it full
//! is dropped and counted: nobody waits for a collector.

use opentelemetry::{Key, KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
    WithTonicConfig as _,
};
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler as SdkSampler, SdkTracerProvider, Tracer},
};

use super::{
    collector::{self, HttpCollector, TIMEOUT, Trouble},
    exporter::Told,
    trace_spans::{Bounded, TraceSpans},
};
use crate::{
    domain::ReplicaId,
    settings::{Sampler, Traces, TracesProtocol},
};

/// What makes spans, and sends them.
pub(super) type Provider = SdkTracerProvider;

/// Attributes of a span at most, and links to others.
const MOST_PARTS: u32 = 64;

/// Begins to make traces. Nothing is sent yet. Has to be called on the runtime that sends.
pub(super) fn begin(settings: &Traces, replica: &ReplicaId, spans: &TraceSpans) -> Result<Provider, String> {
    let trouble = Trouble::default();
    let told = Told::new(exporter(settings, &trouble)?, spans.clone(), trouble);
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

/// What sends them; `trouble` is told why something can't be sent where the exporter's own error does not say it.
fn exporter(settings: &Traces, trouble: &Trouble) -> Result<SpanExporter, String> {
    let wrong = |error: ExporterBuildError| format!("traces: {error}");
    match settings.protocol {
        TracesProtocol::Grpc => {
            let grpc = SpanExporter::builder().with_tonic().with_channel(collector::channel(settings)?);
            grpc.with_timeout(TIMEOUT).build().map_err(wrong)
        }
        TracesProtocol::Http => {
            let http = SpanExporter::builder().with_http();
            let http = http.with_http_client(HttpCollector::new(settings, trouble.clone())?);
            let http = http.with_endpoint(&settings.endpoint).with_protocol(Protocol::HttpBinary);
            http.with_timeout(TIMEOUT).build().map_err(wrong)
        }
    }
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
