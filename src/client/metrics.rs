//! What a client tells of itself while it happens, for whatever counts it.
//!
//! Owns the hook and its words. Must not know streams or any system of metrics.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// Something that happened to the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Metric {
    /// The cache stands at this revision.
    Revision(u64),
    /// So many resources have changed in one step.
    Changes(usize),
    /// So many streams were opened after the first.
    Reconnects(u64),
    /// So many resets were announced.
    Resets(u64),
    /// So often the cache was found to differ from the server's.
    DigestMismatches(u64),
    /// Secrets were revoked.
    Revoked,
}

/// Whom to tell.
#[derive(Clone, Default)]
pub(super) struct Metrics(Option<Arc<dyn Fn(Metric) + Send + Sync>>);

impl Metrics {
    pub(super) fn new(hook: impl Fn(Metric) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hook)))
    }

    /// Tells. A hook that panics must not end the cache.
    pub(super) fn tell(&self, metric: Metric) {
        let Some(hook) = &self.0 else { return };
        if catch_unwind(AssertUnwindSafe(|| hook(metric))).is_err() {
            tracing::error!(?metric, "the metrics hook panicked");
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "a hook" } else { "none" })
    }
}
