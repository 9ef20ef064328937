//! How long the server takes to stop.

use std::time::Duration;

use super::{
    options::{Opt, Problem},
    reader::Reader,
    values,
};

const DELAY: Opt = Opt::new(
    "shutdown-delay",
    "SIGNALBOX_SHUTDOWN_DELAY",
    "shutdown.delay",
    "TIME",
    "How long calls are still taken after readiness is lost, so that balancers send nobody any more; with the grace less \
     than the deadline",
)
.or("0s");
const GRACE: Opt = Opt::new(
    "shutdown-grace",
    "SIGNALBOX_SHUTDOWN_GRACE",
    "shutdown.grace",
    "TIME",
    "How long watchers are given to go, after they were told to",
)
.or("5s");
const DEADLINE: Opt = Opt::new(
    "shutdown-deadline",
    "SIGNALBOX_SHUTDOWN_DEADLINE",
    "shutdown.deadline",
    "TIME",
    "When the process ends, whatever is left",
)
.or("10s");

/// The options of this section.
pub static OPTIONS: [&Opt; 3] = [&DELAY, &GRACE, &DEADLINE];

/// How long the server takes to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// How long everything is still served after readiness is lost.
    pub delay: Duration,
    /// How long streams may live on after GoingAway.
    pub grace: Duration,
    /// When the process ends, whatever is left; counted from the first signal.
    pub deadline: Duration,
}

impl Shutdown {
    /// Reads the section.
    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let delay = from.get(&DELAY, values::duration);
        let grace = from.get(&GRACE, values::duration);
        let deadline = from.get(&DEADLINE, values::duration);
        Some(Self { delay: delay?, grace: grace?, deadline: deadline? })
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let bounds = (Duration::from_millis(100), Duration::from_secs(600));
        let deadline = Problem::unless_between(&DEADLINE, self.deadline, bounds, values::show_duration);
        let grace = (self.grace >= self.deadline).then(|| {
            Problem::with(
                &GRACE,
                "must be less than --shutdown-deadline, so that the store can still be closed",
            )
        });
        let before = self.delay.saturating_add(self.grace);
        let delay = (grace.is_none() && before >= self.deadline).then(|| {
            Problem::with(
                &DELAY,
                "must with --shutdown-grace be less than --shutdown-deadline, so that the store can still be closed; \
                 give less, or a later deadline",
            )
        });
        [deadline, grace, delay].into_iter().flatten().collect()
    }

    /// How long the store may take to close, once the streams are gone.
    #[must_use]
    pub fn closing(&self) -> Duration {
        self.deadline.saturating_sub(self.delay.saturating_add(self.grace)) / 2
    }
}
