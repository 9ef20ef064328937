//! How long is waited before a provider is asked again, and when that is too long.
//!
//! Owns that rule, which `tests/vectors/routing.json` holds in every language. Must not know why a call failed.

use std::time::Duration;

/// What the pause before a provider is asked again depends on.
#[derive(Debug)]
pub(super) struct Pause {
    /// The longest that the router's own pause may be this time.
    pub(super) own: Duration,
    /// The longest that any pause may be.
    pub(super) longest: Duration,
    /// How long the provider asks to be left alone, if it does.
    pub(super) asked: Option<Duration>,
    /// Whether another provider is left that can be asked.
    pub(super) others: bool,
    /// What is left of the call's time.
    pub(super) left: Duration,
}

impl Pause {
    /// How long it is, by a random number from 0 to 1. `None` where the provider asks for more than is waited for: it is not
    /// asked again in this call. While another one can be asked, that is more than the router would wait by itself.
    pub(super) fn length(&self, random: f64) -> Option<Duration> {
        let own = self.own.mul_f64(random);
        let Some(asked) = self.asked else { return Some(own.min(self.left)) };
        let most = if self.others { self.own } else { self.longest };
        // Own time on top: many are told the same, and must not come back as one.
        (asked <= most && asked < self.left).then(|| (asked + own).min(self.left))
    }
}
