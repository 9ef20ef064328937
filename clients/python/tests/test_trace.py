"""A callback belongs to the trace of its change."""

import threading

import pytest
from conftest import Server, until
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from signalbox import _trace

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def spans():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def test_a_callback_runs_in_a_span_beneath_the_one_that_told_of_the_change(tmp_path, connect, spans):
    # Nobody takes the server's own spans; the change belongs to its trace all the same.
    server = Server(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    try:
        client = connect(server)
        client.wait_ready()
        told = []

        def call(event):
            told.append((event, trace.get_current_span().get_span_context()))
            raise ValueError("sk-canary")

        client.on_change(call, "settings/traced")
        server.put("settings/traced", setting={"intValue": "1"})
        until(lambda: told)
        until(spans.get_finished_spans)
        (span,) = spans.get_finished_spans()
        event, current = told[0]
        version, trace_id, span_id, _ = event.traceparent.split("-")
        assert (version, len(trace_id)) == ("00", 32)
        assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (trace_id, span_id)
        assert (span.name, span.kind, current.span_id) == (
            "callback",
            trace.SpanKind.CONSUMER,
            span.context.span_id,
        )
        assert dict(span.attributes) == {"signalbox.revision": event.revision}
        assert "canary" not in span.to_json()
    finally:
        server.kill()


def test_where_nobody_traces_there_is_no_span(shared, connect, spans):
    spans.clear()
    client = connect(shared)
    client.wait_ready()
    told = threading.Event()
    events = []
    client.on_change(lambda event: (events.append(event), told.set()), "settings/untraced")
    shared.put("settings/untraced", setting={"intValue": "1"})
    assert told.wait(20)
    assert events[0].traceparent == ""
    for wrong in ("", "nonsense", TRACEPARENT.replace("00-", "ff-")):
        with _trace.of_callback(wrong, "a=b", 1):
            pass
    assert not spans.get_finished_spans()


def test_without_opentelemetry_callbacks_run_all_the_same(monkeypatch):
    monkeypatch.setattr(_trace, "trace", None)
    with _trace.of_callback(TRACEPARENT, "", 1):
        pass


def test_what_is_said_beside_the_context_goes_along(spans):
    with _trace.of_callback(TRACEPARENT, "a=b,c=d", 1):
        state = trace.get_current_span().get_span_context().trace_state
    assert state.to_header() == "a=b,c=d"
