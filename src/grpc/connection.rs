//! The connection that a call came over, as far as a call may know it: it can be cut.

use std::net::IpAddr;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Cuts a connection. Every call that comes over it finds this among its extensions.
#[derive(Clone, Debug, Default)]
pub struct ConnectionHandle {
    cut: CancellationToken,
    peer: Option<IpAddr>,
}

impl ConnectionHandle {
    /// The handle of a connection with this peer, which is cut at the latest when everything is.
    #[must_use]
    pub fn new(peer: Option<IpAddr>, everything: &CancellationToken) -> Self {
        Self { cut: everything.child_token(), peer }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Resolves when the connection is to be cut.
    pub fn is_cut(&self) -> WaitForCancellationFutureOwned {
        self.cut.clone().cancelled_owned()
    }

    /// The other end, for whoever may have to cut it.
    #[must_use]
    pub fn scissors(&self) -> CancellationToken {
        self.cut.clone()
    }
}
