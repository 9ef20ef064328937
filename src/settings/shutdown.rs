//! How long the server takes to stop.

use std::time::Duration;

use super::{
    options::{Opt, Problem},
    reader::Reader,
    values,
};

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
pub static OPTIONS: [&Opt; 2] = [&GRACE, &DEADLINE];

/// How long the server takes to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// How long streams may live on after GoingAway.
    pub grace: Duration,
    /// When the process ends, whatever is left; counted from the first signal.
    pub deadline: Duration,
}

impl Shutdown {
    /// Reads the section.
    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let grace = from.get(&GRACE, values::duration);
        let deadline = from.get(&DEADLINE, values::duration);
        Some(Self { grace: grace?, deadline: deadline? })
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
        [deadline, grace].into_iter().flatten().collect()
    }
}
