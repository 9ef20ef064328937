//! How long to wait before the next attempt.
//!
//! Owns the arithmetic of delays. Must not know what is attempted, and takes its randomness from outside.

use std::time::Duration;

/// A source of numbers in `[0, 1)`.
pub(super) type Random = Box<dyn FnMut() -> f64 + Send>;

/// Exponential backoff with full jitter: the n-th delay is uniform between zero and `floor * 2^n`, at most `ceiling`.
///
/// Full jitter, because ten thousand workers that lost one server must not come back in step.
pub(super) struct Backoff {
    floor: Duration,
    ceiling: Duration,
    failures: u32,
    random: Random,
}

impl Backoff {
    pub(super) fn new(floor: Duration, ceiling: Duration, random: Random) -> Self {
        Self { floor, ceiling, failures: 0, random }
    }

    /// The next delay, after one more failure in a row.
    pub(super) fn next_delay(&mut self) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures);
        let cap = self.floor.saturating_mul(factor).min(self.ceiling);
        self.failures = self.failures.saturating_add(1);
        cap.mul_f64(self.fraction())
    }

    /// A delay of at least `least` and at most a tenth more, for waits that somebody else has asked for.
    pub(super) fn spread(&mut self, least: Duration) -> Duration {
        least.saturating_add((least / 10).mul_f64(self.fraction()))
    }

    /// Forgets the failures: what was attempted has worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    fn fraction(&mut self) -> f64 {
        let fraction = (self.random)();
        if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Backoff, Duration};

    const FLOOR: Duration = Duration::from_millis(100);
    const CEILING: Duration = Duration::from_secs(10);

    fn backoff(fraction: f64) -> Backoff {
        Backoff::new(FLOOR, CEILING, Box::new(move || fraction))
    }

    #[test]
    fn doubles_up_to_the_ceiling() {
        let mut backoff = backoff(1.0);
        let delays: Vec<_> = (0..9).map(|_| backoff.next_delay().as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.reset();
        assert_eq!(backoff.next_delay(), FLOOR);
    }

    #[test]
    fn jitter_is_full() {
        let mut none = backoff(0.0);
        assert!((0..20).all(|_| none.next_delay() == Duration::ZERO));
        let mut half = backoff(0.5);
        assert_eq!(half.next_delay(), FLOOR / 2);
    }

    #[test]
    fn a_requested_wait_is_never_shortened() {
        assert_eq!(backoff(0.0).spread(CEILING), CEILING);
        assert_eq!(backoff(1.0).spread(CEILING), CEILING + CEILING / 10);
    }

    proptest! {
        #[test]
        fn stays_in_bounds_whatever_the_randomness_and_the_number_of_failures(
            fractions in proptest::collection::vec(any::<f64>(), 1..200),
        ) {
            let mut source = fractions.clone().into_iter().cycle();
            let mut backoff = Backoff::new(FLOOR, CEILING, Box::new(move || source.next().unwrap()));
            for attempt in 0..fractions.len() * 2 {
                let cap = FLOOR.saturating_mul(2_u32.saturating_pow(attempt as u32)).min(CEILING);
                assert!(backoff.next_delay() <= cap);
            }
        }
    }
}
