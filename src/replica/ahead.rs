//! Heartbeats of a time that is still to come: somebody else wrote them, or the database's clock was set back since.
//!
//! Whoever tells of itself next takes such rows away, or writes over its own. So what is left of them is what is remembered here.

use tokio::time::Instant;

use super::TOLD;
use crate::store::MOST_REPLICAS;

/// The most rows that were found at once since they are told of, and when the last were.
#[derive(Default)]
pub(super) struct Ahead(Option<(usize, Instant)>);

impl Ahead {
    /// Takes note of how many there were now.
    pub fn note(&mut self, rows: usize, now: Instant) {
        let told = self.0.filter(|(_, last)| now - *last < TOLD);
        self.0 = match rows {
            0 => told,
            rows => Some((told.map_or(rows, |(most, _)| most.max(rows)), now)),
        };
    }

    /// The alarm, if there is one.
    pub fn alarm(&self) -> Option<String> {
        let count = match self.0?.0 {
            MOST_REPLICAS.. => format!("{MOST_REPLICAS} rows or more"),
            1 => "1 row".to_owned(),
            rows => format!("{rows} rows"),
        };
        Some(format!(
            "the `replicas` table had {count} of a time that was still to come by the database's clock, which are ignored and taken \
             away: no replica writes such, so find out who else writes to the database, or whether its clock was set back. This is told \
             for an hour after the last"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn they_are_told_of_for_an_hour_after_the_last_as_they_were_at_most() {
        let (mut ahead, begin) = (Ahead::default(), Instant::now());
        let mut told_after = |seconds: u64, rows: usize| {
            ahead.note(rows, begin + Duration::from_secs(seconds));
            ahead.alarm().map(|text| text.contains("had 3 rows"))
        };
        assert_eq!(told_after(0, 0), None);
        assert_eq!(told_after(2, 3), Some(true));
        assert_eq!(told_after(4, 1), Some(true), "one that comes and goes begins no alarm anew");
        assert_eq!(told_after(3602, 0), Some(true));
        assert_eq!(told_after(3604, 0), None);
        assert_eq!(told_after(3606, 1), Some(false));
    }
}
