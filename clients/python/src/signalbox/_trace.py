"""Traces through the client: the span of a callback.

With `opentelemetry-api` (`pip install signalbox[otel]`) it is made by whatever provider the process has set. Without it the
context of a change is there to be read (`ChangeEvent.traceparent`, `ChangeEvent.tracestate`), and no more is done. Must not know streams.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    trace = None


def of_callback(traceparent: str, tracestate: str, revision: int) -> AbstractContextManager[Any]:
    """The span of one callback, a child of the span that told of the change. None where nobody traced that, or where what the
    server says is no context."""
    if trace is None or not traceparent:
        return nullcontext()
    told = TraceContextTextMapPropagator().extract({"traceparent": traceparent, "tracestate": tracestate})
    if not trace.get_current_span(told).get_span_context().is_valid:
        return nullcontext()
    return trace.get_tracer("signalbox").start_as_current_span(  # type: ignore[no-any-return]
        "callback",
        context=told,
        kind=trace.SpanKind.CONSUMER,
        attributes={"signalbox.revision": revision},
        # What a callback raises may say anything, a secret too.
        record_exception=False,
        set_status_on_exception=False,
    )
