//! The connection that a call came over, as far as a call may know it: it can be cut.

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Cuts a connection. Every call that comes over it finds this among its extensions.
#[derive(Clone, Debug, Default)]
pub struct ConnectionHandle(CancellationToken);

impl ConnectionHandle {
    /// Resolves when the connection is to be cut.
    #[must_use]
    pub fn is_cut(&self) -> WaitForCancellationFutureOwned {
        self.0.clone().cancelled_owned()
    }

    /// The other end, for whoever may have to cut it.
    #[must_use]
    pub fn scissors(&self) -> CancellationToken {
        self.0.clone()
    }
}
