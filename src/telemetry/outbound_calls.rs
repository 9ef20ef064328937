//! Counts and times the calls that the server makes to others. What is called, and what an outcome means, the room of these
//! calls knows (`outbound`).

use std::time::Duration;

use prometheus_client::{
    metrics::{family::Family, histogram::Histogram},
    registry::Registry,
};

use super::metrics::{Labels, seconds};

/// What sorts of targets there are.
const TARGETS: [&str; 2] = ["provider", "database"];

/// Calls to others. Clones count together.
#[derive(Clone)]
pub struct OutboundCalls {
    seconds: Family<Labels<2>, Histogram, fn() -> Histogram>,
}

impl Default for OutboundCalls {
    fn default() -> Self {
        let seconds = Family::new_with_constructor(seconds as fn() -> Histogram);
        for target in TARGETS {
            // There from the beginning, so that the first failure is seen as a rise.
            drop(seconds.get_or_create_owned(&[("target", target), ("outcome", "ok")]));
        }
        Self { seconds }
    }
}

impl OutboundCalls {
    pub(super) fn register(&self, registry: &mut Registry) {
        let Self { seconds } = self;
        registry.register(
            "signalbox_outbound_call_seconds",
            "Time that calls to providers and databases took, which administrators asked for, by target and outcome",
            seconds.clone(),
        );
    }

    /// A call to a sort of target has come to this, after so long.
    pub fn ended(&self, target: &'static str, outcome: &'static str, took: Duration) {
        self.seconds.get_or_create(&[("target", target), ("outcome", outcome)]).observe(took.as_secs_f64());
    }
}
