//! A length of time as a message has it, which both ends read.
//!
//! Must not know whose it is, or what lengths are allowed.

use std::time::Duration;

/// The length, where it is one that is not negative. Seconds and nanos as proto3 has them: nanos from 0 to 999,999,999.
///
/// Not `TryFrom`, which turns the sign of what is negative, and so panics at the least of all where overflows are looked for.
#[must_use]
pub fn read(wire: prost_types::Duration) -> Option<Duration> {
    let nanos = u32::try_from(wire.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(wire.seconds).ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_the_least_length_is_none_and_no_panic() {
        let read = |seconds, nanos| read(prost_types::Duration { seconds, nanos });
        assert_eq!(read(1, 500_000_000), Some(Duration::from_millis(1500)));
        assert_eq!(read(0, 0), Some(Duration::ZERO));
        assert!(read(i64::MAX, 999_999_999).is_some());
        for (seconds, nanos) in [
            (i64::MIN, 0),
            (i64::MIN, i32::MIN),
            (-1, 0),
            (0, -1),
            (1, -1),
            (1, 1_000_000_000),
            (0, i32::MIN),
        ] {
            assert_eq!(read(seconds, nanos), None, "{seconds} {nanos}");
        }
    }
}
