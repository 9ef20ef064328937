//! Spans and the contexts that they are known by elsewhere.
//!
//! A span is made with `tracing`'s macros wherever something takes its time, and is for traces alone: where none are made
//! it is nothing. Attributes hold numbers and static texts: no name, no value and nothing else of a resource.

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::{Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::{FilterFn, LevelFilter, filter_fn};

use super::requests;
use crate::domain::TraceParent;

/// What a span says of its caller while nobody has found its token good, and no longer afterwards: never sent.
pub(super) const UNPROVEN: &str = "unproven";

/// What a span is known by elsewhere; `None` where no traces are made.
#[must_use]
pub fn context(span: &Span) -> Option<TraceParent> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let known = span.span_context();
    let trace = u128::from_be_bytes(known.trace_id().to_bytes());
    TraceParent::new(trace, u64::from_be_bytes(known.span_id().to_bytes()), known.is_sampled())
}

/// Makes a new span a child of one that is known by its context alone.
pub fn join(span: &Span, parent: TraceParent) {
    let flags = if parent.sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, known) = (TraceId::from(parent.trace()), SpanId::from(parent.span()));
    let remote = SpanContext::new(trace, known, flags, true, TraceState::default());
    // Only a span that has begun already refuses, or one that nobody traces.
    let _ = span.set_parent(Context::new().with_remote_span_context(remote));
}

/// Gives a span its name once that is known, which `tracing` can't do for one that has children.
pub(super) fn rename(span: &Span, name: String) {
    span.context().span().update_name(name);
}

/// What becomes part of traces: our own spans. Those of libraries, the exporter's among them, would trace how traces are sent.
pub fn of_traces() -> FilterFn {
    let ours: fn(&Metadata<'_>) -> bool = is_of_traces;
    filter_fn(ours).with_max_level_hint(LevelFilter::INFO)
}

fn is_of_traces(metadata: &Metadata<'_>) -> bool {
    let ours = metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"));
    metadata.is_span() && ours && !requests::is_of_log(metadata)
}
