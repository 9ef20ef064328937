//! Traces through the client: the context that a call carries, and the span of a callback.
//!
//! With the feature `otel` both come from and go to whatever `tracing-opentelemetry` layer the process has. Without it the
//! context of a change is there to be read (`ChangeEvent::traceparent`, `ChangeEvent::tracestate`), and no more is done.

use tracing::Span;

use super::events::ChangeEvent;
use crate::trace_context::TraceContext;

/// The context of whoever calls now.
#[cfg(feature = "otel")]
pub(super) fn current() -> Option<TraceContext> {
    use opentelemetry::{Context, trace::TraceContextExt as _};
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    let known = |context: &Context| TraceContext::of(context.span().span_context());
    // Who uses OpenTelemetry without `tracing` has a context of his own.
    known(&Span::current().context()).or_else(|| known(&Context::current()))
}

/// The context of whoever calls now: nobody knows.
#[cfg(not(feature = "otel"))]
pub(super) fn current() -> Option<TraceContext> {
    None
}

/// The span of one callback, a child of the span that told of the change. None where nobody traced that.
#[cfg(feature = "otel")]
pub(super) fn of_callback(event: &ChangeEvent) -> Span {
    use opentelemetry::{Context, trace::TraceContextExt as _};
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    let Some(parent) = event.traceparent else { return Span::none() };
    let told = TraceContext { parent, state: event.tracestate.clone() };
    let span = tracing::info_span!(
        parent: None,
        "callback",
        otel.kind = "consumer",
        signalbox.revision = event.revision.cast_signed(),
    );
    // Refused where the process has no such layer.
    let _ = span.set_parent(Context::new().with_remote_span_context(told.remote()));
    span
}

/// The span of one callback: none is made.
#[cfg(not(feature = "otel"))]
pub(super) fn of_callback(_: &ChangeEvent) -> Span {
    Span::none()
}
