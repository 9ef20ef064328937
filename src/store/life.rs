//! A life of the store that began because commits were lost, or may have been, as the audit tells of it: what every replica
//! reads to warn of it, also one that starts later.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Head,
    rows::{RowDefect, read_time, write_time},
};
use crate::domain::{Epoch, audit::AuditEvent};

/// How long it is told of: until it has been looked at by somebody who comes once a day.
const TOLD: TimeDelta = TimeDelta::days(1);

/// What the audit calls it.
const EVENT: &str = "life_begun";

/// The newest one between two times. The table is open to whoever may write to the database, so that no text is taken longer than
/// it is written.
pub(super) const NEWEST: &str = "SELECT substr(time, 1, 64) AS time, substr(detail, 1, 256) AS detail FROM audit \
    WHERE event = 'life_begun' AND time >= $1 AND time <= $2 ORDER BY time DESC LIMIT 1";

/// A life that began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BegunLife {
    /// When, by the clock of the replica that began it.
    pub time: DateTime<Utc>,
    /// Which one ended, and where the log was cut.
    pub detail: String,
}

impl BegunLife {
    /// Whether it is still told of.
    #[must_use]
    pub fn is_told(&self, now: DateTime<Utc>) -> bool {
        (now - self.time).abs() < TOLD
    }

    /// Reads a row.
    pub(super) fn read((time, detail): (String, String)) -> Result<Self, RowDefect> {
        Ok(Self { time: read_time(&time)?, detail })
    }
}

/// The times between which one is told of. No clock of a replica is that far ahead: a row from later was not written by one.
pub(super) fn between(now: DateTime<Utc>) -> [String; 2] {
    [now - TOLD, now + TOLD].map(write_time)
}

/// What the audit is told, within the transaction that begins a life.
pub(super) fn event(time: DateTime<Utc>, lost: Epoch, begun: Head) -> AuditEvent {
    let detail = format!(
        "the database has lost commits, or may have: epoch {lost} is over, {} begins; the log found ends at revision {}",
        begun.epoch, begun.revision
    );
    AuditEvent { time, actor: "signalbox".into(), event: EVENT, detail }
}
