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
        let mut cursor = self.parts.streams.open(caller, request)?;
        if secrets {
            let revision = self.parts.view.state().revision;
            let detail =
                format!("session {} of worker {worker:?}: {}", cursor.session_id(), cursor.describe());
            self.audit(caller, "secrets_watch_opened", format!("{detail} at revision {revision}")).await?;
            let (audit, caller) = (self.parts.audit.clone(), caller.clone());
            cursor.on_end(move |revision| {
                audit.note(&caller, "secrets_watch_ended", format!("{detail} at revision {revision}"));
            });
        }
        Ok(cursor)
    }
}
