//! Learns how much a collector has refused of a batch that it took otherwise: the exporter tells the log alone. It must not know
//! what was in the batch.

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::{FilterFn, LevelFilter, filter_fn},
    layer::Context,
};

use super::trace_spans::TraceSpans;

/// The line of the exporter's log, by gRPC and by HTTP, and the number in it.
const LOG: &str = "opentelemetry-otlp";
const LINES: [&str; 2] = ["TonicTracesClient.PartialSuccess", "HttpTraceClient.PartialSuccess"];
const NUMBER: &str = "rejected_spans";

/// A layer that hears that line.
pub(super) struct Refusals(pub TraceSpans);

/// Nothing else comes to it.
pub(super) fn told() -> FilterFn {
    let of_refusals: fn(&Metadata<'_>) -> bool = |line| line.target() == LOG && LINES.contains(&line.name());
    filter_fn(of_refusals).with_max_level_hint(LevelFilter::WARN)
}

impl<S: Subscriber> Layer<S> for Refusals {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Number(&self.0));
    }
}

struct Number<'a>(&'a TraceSpans);

impl Visit for Number<'_> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name() == NUMBER {
            self.0.refuse(usize::try_from(value).unwrap_or_default());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
