//! What was seen of resources: beside the log, so that it makes no revision and is in no digest.

use async_trait::async_trait;

use super::{
    StoreError,
    rows::{RowDefect, read_time, write_time},
};
use crate::domain::{
    Uid,
    observation::{Matter, Observation},
};

/// Keeps what was seen of resources.
#[async_trait]
pub trait Observations: Send + Sync + 'static {
    /// Writes observations, no two of one resource and matter; all or none. An older one never replaces a newer one.
    async fn observe(&self, seen: Vec<Observation>) -> Result<(), StoreError>;
    /// What was seen of these resources, by resource and matter in bytewise order.
    async fn observed(&self, uids: Vec<Uid>) -> Result<Vec<Observation>, StoreError>;
}

/// One observation, whoever writes which first: resource, matter, value, time.
pub type ObservationRow = (String, String, String, String);

/// Bytes of an observation that are read; what is longer was written by nobody of us.
pub const READ_BYTES: i64 = 65 << 10;
/// Characters of a foreign row's name that are told.
const UID_SHOWN: usize = 64;

/// Forgets what was seen of resources that are gone.
pub const FORGET_OBSERVATIONS: &str = "DELETE FROM observations WHERE uid NOT IN (SELECT uid FROM resources)";

/// The rows to write, in one order: replicas that write the same ones at once must not wait for each other in a circle.
pub fn rows(mut seen: Vec<Observation>) -> Vec<ObservationRow> {
    seen.sort_by(|one, other| (&one.uid.0, &one.what).cmp(&(&other.uid.0, &other.what)));
    let row = |Observation { uid, what, value_json, time }| {
        (uid.0, what.0.into_owned(), value_json, write_time(time))
    };
    seen.into_iter().map(row).collect()
}

/// Reads rows that the database holds. What can't be read is left out and told: it is no reason to show nothing of the others.
#[must_use]
pub fn read(rows: Vec<ObservationRow>) -> Vec<Observation> {
    let read = |(uid, what, value_json, time): ObservationRow| {
        let time = read_time(&time)
            .inspect_err(|RowDefect(defect)| {
                let uid: String = uid.chars().take(UID_SHOWN).collect();
                tracing::warn!(uid = %uid.escape_debug(), "what was seen of a resource is passed over: {defect}");
            })
            .ok()?;
        Some(Observation { uid: Uid(uid), what: Matter(what.into()), value_json, time })
    };
    rows.into_iter().filter_map(read).collect()
}
