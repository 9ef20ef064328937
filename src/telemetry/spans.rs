//! Spans and the contexts that they are known by elsewhere.
//!
//! A span is made with `tracing`'s macros wherever something takes its time, and is for traces alone: where none are made
//! it is nothing. Attributes hold numbers and static texts: no name, no value and nothing else of a resource.

use opentelemetry::{Context, trace::TraceContextExt as _};
use tracing::{Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::{FilterFn, LevelFilter, filter_fn};

use super::requests;
use crate::domain::TraceContext;

/// What a span says of its caller while nobody has found its token good, and no longer afterwards: never sent.
pub(super) const UNPROVEN: &str = "unproven";

/// What a span is known by elsewhere; `None` where no traces are made.
#[must_use]
pub fn context(span: &Span) -> Option<TraceContext> {
    if span.is_disabled() {
        return None;
    }
    TraceContext::of(span.context().span().span_context())
}

/// Makes a new span a child of one that is known by its context alone.
pub fn join(span: &Span, parent: &TraceContext) {
    // Only a span that has begun already refuses, or one that nobody traces.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent.remote()));
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
