//! Opening a stream. One of a worker enters the fleet. One that carries secrets is audited when it opens, and does not open
//! if that can't be done.

use super::Service;
use crate::{
    domain::{Principal, Result, Role},
    fleet::Hello,
    watch::{Cursor, WatchRequest},
};

impl Service {
    /// Opens a stream.
    ///
    /// # Errors
    /// `PermissionDenied`, `Exhausted`, and `Unavailable` when a stream with secrets can't be audited.
    pub async fn watch(&self, caller: &Principal, request: WatchRequest, hello: Hello) -> Result<Cursor> {
        let secrets = request.include_secrets;
        let worker = hello.worker.clone();
        let mut cursor = self.parts.streams.open(caller, request)?;
        let stream = self.parts.fleet.stream(caller, hello, caller.role == Role::Worker);
        let mut stream = stream.showing(cursor.filter().selectors(), secrets);
        if secrets {
            // Before it enters the fleet: what does not open is no worker, and takes nobody's place.
            let revision = self.parts.view.state().revision;
            let session = stream.first_name();
            let detail = format!("session {session} of worker {worker:?}: {}", cursor.filter().describe());
            self.audit(caller, "secrets_watch_opened", format!("{detail} at revision {revision}")).await?;
            let (audit, caller) = (self.parts.audit.clone(), caller.clone());
            cursor.on_end(move |revision| {
                audit.note(&caller, "secrets_watch_ended", format!("{detail} at revision {revision}"));
            });
        }
        cursor.name_session(Box::new(move |epoch| stream.enter(epoch)));
        Ok(cursor)
    }
}
