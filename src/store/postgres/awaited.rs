//! What is really waited for where a lock is not given, or a commit not answered: whoever commits keeps its locks for as long as
//! it waits for a synchronous standby.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::timeout;

use super::session::{BEGIN_LOOK, Lease, SILENCE, asked};
use crate::store::failure::Failure;

/// What is said of a lock that is not given.
pub const LOCKED: &str = "another session holds the database's lock";
/// What is said of a server that says nothing.
pub const SILENT: &str = "the database does not answer";
/// What is said of notifications, which are not sent before their commit is done.
pub const NO_RING: &str = "notifications do not arrive";
/// What is said in their stead.
const NO_STANDBY: &str = "a commit waits for a synchronous standby that does not confirm it: bring the standby back, or take it out of \
     `synchronous_standby_names` on the database";

/// How long it may take to find out: somebody waits for the answer, and the server may be what is silent.
const PATIENCE: Duration = Duration::from_secs(1);
/// Sessions of one's own role are seen by everybody.
const WAITS: &str =
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep' LIMIT 1";

/// The better word for why something did not come through, if there is one.
pub async fn instead(readers: &PgPool, why: &str) -> Option<&'static str> {
    if ![LOCKED, SILENT, NO_RING].contains(&why) {
        return None;
    }
    let waits = async {
        let mut lease = Lease::begin(readers, BEGIN_LOOK).await?;
        let found: Vec<(i32,)> = asked(lease.connection()?, WAITS, SILENCE).await?;
        lease.end().await;
        Ok::<bool, Failure>(!found.is_empty())
    };
    matches!(timeout(PATIENCE, waits).await, Ok(Ok(true))).then_some(NO_STANDBY)
}
