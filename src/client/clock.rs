//! What time it is for the age of a cache.
//!
//! Owns the choice of the clock: one that never goes back, and that counts the time for which the machine was suspended,
//! because a key that was revoked while a laptop slept is revoked. Must not know what is dated.

use std::time::Duration;

/// A moment of the clock. Only the distance of two of them means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64);

impl Moment {
    /// A moment that every other one comes before.
    pub(super) const NEVER: Self = Self(i64::MAX);
    /// A moment that comes before every other one.
    pub(super) const LONG_AGO: Self = Self(i64::MIN);

    /// How long ago another moment was; nothing for one that is still to come.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }

    /// The moment that long before this one, be it before the clock began.
    pub(super) fn before(self, distance: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(distance)))
    }

    /// The moment that long after this one.
    pub(super) fn after(self, distance: Duration) -> Self {
        Self(self.0.saturating_add(nanos(distance)))
    }

    /// As a number, for an atomic.
    pub(super) fn to_bits(self) -> i64 {
        self.0
    }

    /// The moment of such a number.
    pub(super) fn from_bits(bits: i64) -> Self {
        Self(bits)
    }
}

fn nanos(distance: Duration) -> i64 {
    i64::try_from(distance.as_nanos()).unwrap_or(i64::MAX)
}

/// What tells the present: the machine, or in a test a clock that can be held still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(pub(super) fn() -> Moment);

impl Clock {
    pub(super) const MACHINE: Self = Self(machine);

    pub(super) fn now(self) -> Moment {
        (self.0)()
    }
}

/// The machine's time since 1970, which people may set: only for what another process has to understand.
pub(super) fn wall() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn machine() -> Moment {
    // Apple's monotonic clock goes on while the machine sleeps; Linux has another one for that.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(CLOCK);
    Moment(time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec))
}

#[cfg(test)]
mod tests {
    use super::{Clock, Duration, Moment};

    #[test]
    fn a_moment_may_lie_before_the_machine_started() {
        let now = Clock::MACHINE.now();
        let year = Duration::from_secs(366 * 86_400);
        assert_eq!(now.since(now.before(year)), year);
        assert_eq!(now.before(year).since(now), Duration::ZERO);
        assert_eq!(now.after(year).before(year), now);
        assert!(Moment::LONG_AGO < now.before(year) && now.after(year) < Moment::NEVER);
        assert_eq!(Moment::NEVER.after(year), Moment::NEVER);
    }

    #[test]
    fn the_clock_goes_on() {
        let before = Clock::MACHINE.now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(Clock::MACHINE.now().since(before) >= Duration::from_millis(2));
    }
}
