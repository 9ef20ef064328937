//! The connection that a call came over, as far as a call may know it: it can be cut, and it is told once somebody has
//! proven on it who it is.

use std::{net::IpAddr, sync::Arc};

use http::Request;
use parking_lot::Mutex;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::peers::PeerPlace;
use crate::{auth::Caller, telemetry::Unproven};

/// Cuts a connection. Every call that comes over it finds this among its extensions.
#[derive(Clone, Debug, Default)]
pub struct ConnectionHandle {
    cut: CancellationToken,
    peer: Option<IpAddr>,
    /// Held until somebody has said on it who it is.
    unproven: Arc<Mutex<Option<PeerPlace>>>,
}

impl ConnectionHandle {
    /// The handle of a connection with this peer, which is cut at the latest when everything is. Until a token was good on
    /// it, or it ends, it holds a place of those that its peer may have.
    #[must_use]
    pub fn new(peer: IpAddr, unproven: PeerPlace, everything: &CancellationToken) -> Self {
        let unproven = Arc::new(Mutex::new(Some(unproven)));
        Self { cut: everything.child_token(), peer: Some(peer), unproven }
    }

    /// Gives back the place: whoever is at the other end is bounded by its token, or is gone.
    pub fn give_back(&self) {
        drop(self.unproven.lock().take());
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

/// Tells the connection, and the call's spans, that a call has come through the gate with a good token. For whatever stands
/// behind the gate.
#[must_use]
pub fn prove<B>(mut request: Request<B>) -> Request<B> {
    let extensions = request.extensions_mut();
    if Caller::among(extensions).is_some() {
        if let Some(connection) = extensions.get::<ConnectionHandle>() {
            connection.give_back();
        }
        // Taken out: spans last as long as somebody holds them.
        if let Some(unproven) = extensions.remove::<Unproven>() {
            unproven.prove();
        }
    }
    request
}
