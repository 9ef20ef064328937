//! Sends finished spans, counts what became of them, and tells the log once when they begin to be lost, and once when they are not.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};

use super::{collector::Trouble, trace_spans::TraceSpans};

/// An exporter whose failures are counted, and told once.
pub(super) struct Told {
    inner: Otlp,
    spans: TraceSpans,
    /// Why something could not be sent, where the error does not say it.
    trouble: Trouble,
    fails: AtomicBool,
    overflows: AtomicBool,
    /// How many had been dropped when it was looked last.
    dropped: AtomicU64,
}

impl Told {
    pub fn new(inner: Otlp, spans: TraceSpans, trouble: Trouble) -> Self {
        let (fails, overflows, dropped) = Default::default();
        Self { inner, spans, trouble, fails, overflows, dropped }
    }

    /// Told from here and not where a span is dropped: there it would be told in the middle of what is traced.
    fn tell_of_dropped(&self) {
        let dropped = self.spans.dropped();
        let new = dropped - self.dropped.swap(dropped, Ordering::Relaxed);
        if new > 0 && !self.overflows.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                dropped = new,
                "more spans end than the collector takes; those without a place in the queue (OTEL_BSP_MAX_QUEUE_SIZE) are dropped \
                 and counted, and this is said once until none are"
            );
        } else if new == 0 {
            self.overflows.store(false, Ordering::Relaxed);
        }
    }
}

impl SpanExporter for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.spans.left(count);
        let sent = self.inner.export(batch).await;
        let failed = self.spans.ended(count, sent.is_ok());
        match (&sent, self.fails.swap(failed > 0, Ordering::Relaxed)) {
            (Err(error), false) => tracing::warn!(
                error = %self.trouble.take().unwrap_or_else(|| error.to_string()),
                "traces can't be sent to the collector; they are dropped, and this is said once until they can"
            ),
            (Ok(()), false) if failed > 0 => tracing::warn!(
                failed,
                "the collector refuses some of the spans that it is sent, and its log may say why; they are dropped, and this is said \
                 once until it takes all"
            ),
            (Ok(()), true) if failed == 0 => tracing::info!("traces are sent to the collector again"),
            _ => {}
        }
        self.tell_of_dropped();
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl fmt::Debug for Told {
    /// Without what it sends along.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Told(..)")
    }
}
