//! Until when the certificate of the listeners is valid. Who reads certificates sets it.

use chrono::{DateTime, Utc};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

/// The end of the certificate. Clones show the same.
#[derive(Clone, Default, Debug)]
pub struct CertificateExpiry(Gauge);

impl CertificateExpiry {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "signalbox_tls_certificate_not_after_timestamp_seconds",
            "When the certificate that the listeners show expires, in seconds of Unix time; 0 without one",
            self.0.clone(),
        );
    }

    /// The one that is shown from now on is valid until then, if that can be read.
    pub fn set(&self, not_after: Option<DateTime<Utc>>) {
        self.0.set(not_after.map_or(0, |time| time.timestamp()));
    }
}
