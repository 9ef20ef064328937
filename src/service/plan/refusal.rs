//! Why there is no plan, and whether there might be one on a newer state.

use crate::domain::Error;

/// Why there is no plan.
pub struct Refusal {
    /// What the caller is told.
    pub error: Error,
    /// Whether a newer state might allow it.
    pub depends_on_state: bool,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let depends_on_state = !matches!(
            error.cause(),
            Error::Invalid(_) | Error::PermissionDenied { .. } | Error::Internal { .. }
        );
        Self { error, depends_on_state }
    }
}
