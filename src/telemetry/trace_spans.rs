//! Counts what becomes of finished spans, those included that find no place in the queue: OpenTelemetry's own queue drops them
//! and tells nobody how many. So the bound is held here, before it. It must not know the collector.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::{Context, Value};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchSpanProcessor, Span, SpanData, SpanProcessor},
};
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::{metrics::Labels, spans::UNPROVEN};

/// What became of finished spans. Clones count together.
#[derive(Clone, Debug)]
pub struct TraceSpans {
    outcomes: Family<Labels<1>, Counter>,
    waiting: Arc<AtomicUsize>,
    /// Of the batch that is being sent.
    refused: Arc<AtomicUsize>,
}

/// What can become of a span: the collector took it, the collector could not be reached or did not take it, or there was no place
/// in the queue.
const OUTCOMES: [&str; 3] = ["sent", "failed", "queue_full"];

impl Default for TraceSpans {
    fn default() -> Self {
        let outcomes: Family<Labels<1>, Counter> = Family::default();
        for outcome in OUTCOMES {
            // There from the beginning, so that the first one that is lost is seen as a rise.
            drop(outcomes.get_or_create_owned(&[("outcome", outcome)]));
        }
        Self { outcomes, waiting: Arc::default(), refused: Arc::default() }
    }
}

impl TraceSpans {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "signalbox_trace_spans",
            "Finished spans, by what became of them: sent, failed (the collector was away or refused them), or dropped because the queue was full",
            self.outcomes.clone(),
        );
    }

    /// Takes a place in the queue, or counts the span as dropped.
    fn enter(&self, places: usize) -> bool {
        let taken = |waiting: usize| (waiting < places).then_some(waiting + 1);
        let entered = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok();
        if !entered {
            self.count("queue_full", 1);
        }
        entered
    }

    /// So many have left the queue.
    pub(super) fn left(&self, spans: usize) {
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
    }

    /// The collector refuses so many of what is being sent.
    pub(super) fn refuse(&self, spans: usize) {
        self.refused.store(spans, Ordering::Relaxed);
    }

    /// So many were sent, and the collector took them or not. Gives how many it did not.
    pub(super) fn ended(&self, spans: usize, taken: bool) -> usize {
        let refused = self.refused.swap(0, Ordering::Relaxed);
        let failed = if taken { refused.min(spans) } else { spans };
        self.count("sent", spans - failed);
        self.count("failed", failed);
        failed
    }

    /// How many found no place.
    pub(super) fn dropped(&self) -> u64 {
        self.outcomes.get_or_create(&[("outcome", "queue_full")]).get()
    }

    fn count(&self, outcome: &'static str, spans: usize) {
        self.outcomes.get_or_create(&[("outcome", outcome)]).inc_by(spans as u64);
    }
}

/// Whether a span may be sent: not one that continues the trace of a caller without a good token. What it says of that stays
/// here.
fn is_sent(span: &mut SpanData) -> bool {
    let mut said = None;
    span.attributes.retain(|each| {
        let ours = each.key.as_str() == UNPROVEN;
        if ours {
            said = Some(each.value == Value::Bool(true) && said != Some(false));
        }
        !ours
    });
    said != Some(true)
}

/// OpenTelemetry's queue, with a bound before it that is never above its own.
#[derive(Debug)]
pub(super) struct Bounded {
    inner: BatchSpanProcessor,
    places: usize,
    spans: TraceSpans,
}

impl Bounded {
    pub fn new(inner: BatchSpanProcessor, places: usize, spans: TraceSpans) -> Self {
        Self { inner, places, spans }
    }
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, mut span: SpanData) {
        if is_sent(&mut span) && self.spans.enter(self.places) {
            self.inner.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_place_is_counted_and_a_place_that_is_left_is_free() {
        let spans = TraceSpans::default();
        assert_eq!([1, 2, 3].map(|_| spans.enter(2)), [true, true, false]);
        spans.left(2);
        spans.ended(2, true);
        assert!(spans.enter(2));
        spans.refuse(3);
        assert_eq!([spans.ended(4, true), spans.ended(4, true), spans.ended(1, false)], [3, 0, 1]);
        let counted = OUTCOMES.map(|outcome| spans.outcomes.get_or_create(&[("outcome", outcome)]).get());
        assert_eq!((counted, spans.dropped()), ([7, 4, 1], 1));
    }
}
