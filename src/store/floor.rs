//! Whether the log was ever cut where the head row says: the row itself needs no key to be edited, and whoever raised its floor
//! would take the history away from all who run.

use parking_lot::Mutex;

use super::{
    chain::ChainKeys,
    failure::Failure,
    reads::Moment,
    rows::{CheckpointRow, HeadState, write_revision},
};
use crate::domain::{ChainHash, Revision};

/// What of the floor was confirmed last: it is looked up once, and not with every read.
#[derive(Default)]
pub struct ConfirmedFloor(Mutex<Option<(Revision, ChainHash)>>);

impl ConfirmedFloor {
    /// Looks at the newest checkpoint, unless this floor was confirmed before.
    ///
    /// # Errors
    /// [`Failure::Damaged`] if it was written for another floor, or by nobody who knows the store's key.
    pub async fn check(
        &self,
        keys: &ChainKeys,
        moment: &mut dyn Moment,
        head: &HeadState,
    ) -> Result<(), Failure> {
        let told = (head.head.floor, head.floor_hash);
        if *self.0.lock() == Some(told) {
            return Ok(());
        }
        let newest = moment.newest_checkpoints().await?;
        if !confirms(keys, &newest, head) {
            let floor = head.head.floor;
            return Err(Failure::Damaged(format!(
                "its head row says that the log begins after revision {floor}, which no checkpoint confirms"
            )));
        }
        *self.0.lock() = Some(told);
        Ok(())
    }
}

/// Whether the newest checkpoint, which the one before it goes with, is the one of the head row's floor.
fn confirms(keys: &ChainKeys, newest: &[CheckpointRow], head: &HeadState) -> bool {
    let Some(row) = newest.first() else { return head.head.floor == Revision::ZERO };
    let previous = newest.get(1).map_or(&[][..], |before| &before.mac);
    row.mac == keys.checkpoint(previous, row)
        && row.floor == write_revision(head.head.floor)
        && row.hash == head.floor_hash.0
}
