//! What a start does with a database that is elsewhere than it was last served: a copy may lack what was acknowledged, and
//! clients have to be told.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::store::{LIFETIME, Store, StoreError};

/// How long replicas that live may take to say that they went along, and saw nothing get lost: the database may just have come
/// back. As long as one may be silent, and a heartbeat more.
const PATIENCE: Duration = LIFETIME.saturating_add(Duration::from_secs(2));

/// Pause between looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Begins a new life of the store if its database is elsewhere and no replica went along: then nobody knows whether commits
/// were lost. Replicas that went along find out by themselves, and a failover that lost nothing costs no client anything.
pub(super) async fn settle(store: &dyn Store) -> Result<(), StoreError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Some(found) = store.displaced().await? else { return Ok(()) };
        if found.served && Instant::now() < deadline {
            sleep(PAUSE).await;
            continue;
        }
        tracing::warn!(
            from = found.from.escape_debug().to_string(),
            to = found.to.escape_debug().to_string(),
            "the database is another one than was last served, or goes on from another past: the store begins a new life"
        );
        return match store.begin_life(found.epoch).await {
            // What can be read of it is served as such.
            Err(StoreError::Damaged(what)) => {
                tracing::error!(what, "the store is damaged, and can't begin a new life");
                Ok(())
            }
            begun => begun.map(drop),
        };
    }
}
