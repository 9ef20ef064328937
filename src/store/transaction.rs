//! A transaction as traces know it: each of its writes has a span in its own trace, and the log row says which.
//!
//! What a group costs is one transaction; the spans of the others are linked to that of its first write.

use tracing::{Span, field::Empty};

use super::writer::Answer;
use crate::{
    domain::{ApplyError, WriteSet},
    telemetry,
};

/// The spans of a group's writes, in their order.
pub(super) struct Transaction(Vec<Span>);

impl Transaction {
    /// A group's transaction begins; `callers` are the spans that wait for its writes.
    pub fn begin(system: &'static str, writes: &mut [WriteSet], callers: Vec<Span>) -> Self {
        let group = writes.len();
        let mut spans: Vec<Span> = Vec::with_capacity(group);
        for (write, caller) in writes.iter_mut().zip(callers) {
            let span = tracing::info_span!(
                parent: &caller,
                "transaction",
                otel.kind = "client",
                db.system.name = system,
                // The conventions have no batch of one. Unsigned numbers would be sent as texts.
                db.operation.batch.size = (group > 1).then_some(group.cast_signed()),
                signalbox.changes = write.changes.len().cast_signed(),
                signalbox.revision = Empty,
                otel.status_code = Empty,
            );
            if let Some(first) = spans.first() {
                span.follows_from(first);
            }
            write.trace = telemetry::context(&span);
            spans.push(span);
        }
        Self(spans)
    }

    /// The span that the work is done in.
    pub fn span(&self) -> Span {
        self.0.first().cloned().unwrap_or_else(Span::none)
    }

    /// It has ended, before anybody is answered.
    pub fn end(self, answers: &[Answer]) {
        for (span, answer) in self.0.into_iter().zip(answers) {
            match answer {
                Ok(applied) => {
                    span.record("signalbox.revision", applied.token().revision.0.cast_signed());
                }
                // The next attempt has a transaction of its own; a reused id is the caller's mistake.
                Err(ApplyError::Stale { .. } | ApplyError::RequestMismatch) => {}
                Err(_) => {
                    span.record("otel.status_code", "error");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use chrono::DateTime;
    use opentelemetry::{Value, trace::TracerProvider as _};
    use opentelemetry_sdk::{
        error::OTelSdkResult,
        trace::{SdkTracerProvider, SpanData, SpanExporter},
    };
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::domain::{
        Applied, ChainHash, Epoch, Revision, RevisionToken, TraceContext, write::RequestKey,
    };

    #[derive(Clone, Debug, Default)]
    struct Gathered(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Gathered {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    fn write() -> WriteSet {
        WriteSet {
            reads: vec![],
            changes: vec![],
            sealed: vec![],
            revocation: None,
            actor: String::new(),
            time: DateTime::UNIX_EPOCH,
            reason: String::new(),
            request: RequestKey {
                principal: String::new(),
                id: String::new(),
                mac: [0; 32],
                outcome: vec![],
            },
            trace: None,
        }
    }

    #[test]
    fn each_write_of_a_group_has_a_span_in_its_own_trace_linked_to_the_first() {
        let gathered = Gathered::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(gathered.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let mut writes = [write(), write(), write()];
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let callers: Vec<Span> = (0..3).map(|_| tracing::info_span!(parent: None, "caller")).collect();
            let own: Vec<TraceContext> =
                callers.iter().map(|span| telemetry::context(span).unwrap()).collect();
            let transaction = Transaction::begin("sqlite", &mut writes, callers);
            for (write, own) in writes.iter().zip(&own) {
                let kept = write.trace.as_ref().unwrap().parent;
                assert!(kept.trace() == own.parent.trace() && kept.span() != own.parent.span());
            }
            let token = RevisionToken::new(Epoch(1), Revision(7), &ChainHash([0; 32]));
            let committed = || Ok(Applied::Committed { token, time: DateTime::UNIX_EPOCH });
            transaction.end(&[committed(), Err(ApplyError::Unknown { reason: String::new() }), committed()]);
        });
        let spans = gathered.0.lock().unwrap();
        let of = |write: &WriteSet| {
            let kept = write.trace.as_ref().unwrap().parent.span().to_be_bytes();
            spans.iter().find(|span| span.span_context.span_id().to_bytes() == kept).unwrap()
        };
        let [first, second, third] = writes.each_ref().map(of);
        assert_eq!(first.links.len(), 0);
        for other in [second, third] {
            assert_eq!(other.links[0].span_context.span_id(), first.span_context.span_id());
        }
        let size = |span: &SpanData| {
            let found = span.attributes.iter().find(|each| each.key.as_str() == "db.operation.batch.size");
            found.map(|each| each.value.clone())
        };
        assert_eq!([first, second, third].map(size), [const { Some(Value::I64(3)) }; 3]);
        let status = |span: &SpanData| matches!(span.status, opentelemetry::trace::Status::Error { .. });
        assert_eq!([status(first), status(second), status(third)], [false, true, false]);
    }
}
