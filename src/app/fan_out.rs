//! The fan-out as traces know it: what is told of a revision, on every replica, goes on with the trace of its write.

use std::sync::Arc;

use crate::{
    domain::RevisionBatch,
    telemetry,
    view::{Publish, State},
};

/// Tells of every revision in a span, which the clients' are children of. One that nobody traced has none.
pub(super) struct Traced<P>(pub P);

impl<P: Publish> Publish for Traced<P> {
    fn batch(&self, mut batch: RevisionBatch, state: &Arc<State>) {
        let Some(written) = &batch.trace else { return self.0.batch(batch, state) };
        let span = tracing::info_span!(
            parent: None,
            "fan out",
            otel.kind = "producer",
            signalbox.revision = batch.revision.0.cast_signed(),
            signalbox.changes = batch.changes.len().cast_signed(),
        );
        telemetry::join(&span, written);
        // A replica that makes no traces hands on what the writer's said.
        batch.trace = telemetry::context(&span).or(batch.trace.take());
        span.in_scope(|| self.0.batch(batch, state));
    }

    fn rebuilt(&self, state: &Arc<State>) {
        self.0.rebuilt(state);
    }
}
