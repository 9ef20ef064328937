//! Opening a stream. One that carries secrets is audited when it opens, and does not open if that can't be done.

use super::Service;
use crate::{
    domain::{Principal, Result},
    watch::{Cursor, WatchRequest},
};

impl Service {
    /// Opens a stream.
    ///
    /// # Errors
    /// `PermissionDenied`, `Exhausted`, and `Unavailable` when a stream with secrets can't be audited.
    pub async fn watch(&self, caller: &Principal, request: WatchRequest) -> Result<Cursor> {
        let secrets = request.include_secrets;
        let worker = request.worker.clone();
        let cursor = self.parts.streams.open(caller, request)?;
        if secrets {
            let detail =
                format!("{} by worker {worker:?}, session {}", cursor.describe(), cursor.session_id());
            self.audit(caller, "secrets_watch_opened", detail).await?;
        }
        Ok(cursor)
    }
}
