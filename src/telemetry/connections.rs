//! Connections that the kernel has given up. Who serves them counts.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// How many connections have ended because their peers acknowledged nothing of what they were sent. Clones count together.
#[derive(Clone, Default, Debug)]
pub struct ConnectionsGivenUp(Counter);

impl ConnectionsGivenUp {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "signalbox_connections_given_up",
            "Connections that the kernel has given up because the peer acknowledged nothing: it is gone, or reads nothing",
            self.0.clone(),
        );
    }

    /// One more.
    pub fn count(&self) {
        self.0.inc();
    }
}
