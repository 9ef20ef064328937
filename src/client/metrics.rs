//! What a client tells of itself while it happens, for whatever counts it.
//!
//! Owns the hook and its words. Must not know streams or any system of metrics.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Something that happened to the cache.
///
/// The names are those that the Python client shows to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Metric {
    /// The cache stands at this revision: the gauge `config_cache_revision`.
    Revision(u64),
    /// So many reads were answered from memory since this was told last: adds to the counter `config_cache_hits_total`. Told
    /// with each message, heartbeats included, and with each attempt that fails. A getter is a read, and so is a snapshot,
    /// whatever is read of it.
    Reads(u64),
    /// It took so long from asking for a stream to being in sync with it: the histogram `config_load_seconds`.
    Load(Duration),
    /// So long ago the store confirmed the cache: a gauge such as `config_cache_age_seconds`. Told with each message that
    /// confirms it, and with each attempt that fails, so that it grows during an outage.
    ConfirmedAge(Duration),
    /// So many resources have changed in one step: adds to the counter `config_cache_changes_total`.
    Changes(usize),
    /// So many streams were opened after the first: the counter `config_cache_reconnects_total` as it stands.
    Reconnects(u64),
    /// So many resets were announced: the counter `config_cache_resets_total` as it stands.
    Resets(u64),
    /// So often the cache was found to differ from the server's: the counter `config_cache_digest_mismatches_total` as it
    /// stands.
    DigestMismatches(u64),
    /// Secrets were revoked: adds one to the counter `config_cache_revocations_total`.
    Revoked,
}

/// Whom to tell.
#[derive(Clone, Default)]
pub(super) struct Metrics(Option<Arc<Hook>>);

struct Hook {
    call: Box<dyn Fn(Metric) + Send + Sync>,
    /// Reads that have not been told yet.
    reads: AtomicU64,
}

impl Metrics {
    pub(super) fn new(hook: impl Fn(Metric) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(Hook { call: Box::new(hook), reads: AtomicU64::new(0) })))
    }

    /// Tells. A hook that panics must not end the cache.
    pub(super) fn tell(&self, metric: Metric) {
        let Some(hook) = &self.0 else { return };
        if catch_unwind(AssertUnwindSafe(|| (hook.call)(metric))).is_err() {
            tracing::error!(?metric, "the metrics hook panicked");
        }
    }

    /// Counts a read. It costs nothing where nobody wants to know.
    pub(super) fn read(&self) {
        if let Some(hook) = &self.0 {
            hook.reads.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells what was read since the last time.
    pub(super) fn tell_reads(&self) {
        let reads = self.0.as_ref().map_or(0, |hook| hook.reads.swap(0, Ordering::Relaxed));
        if reads > 0 {
            self.tell(Metric::Reads(reads));
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "a hook" } else { "none" })
    }
}
