//! Things worth remembering that change no configuration: who read secrets, who ran the service.

use chrono::{DateTime, Utc};

/// One line of the audit table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// When.
    pub time: DateTime<Utc>,
    /// Subject of the caller.
    pub actor: String,
    /// What, for example `watch_opened`, `secret_read`, `token_created`.
    pub event: &'static str,
    /// Particulars, without secrets: selectors, revision, token id.
    pub detail: String,
}
