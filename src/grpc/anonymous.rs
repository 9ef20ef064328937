//! Bounds what one peer may hold open without saying who it is: calls to the health service.
//!
//! Everything else asks for a token, and is bounded by it.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{ConnectionHandle, to_status};
use crate::domain::Error;

const HEALTH: &str = "/grpc.health.v1.Health/";
/// Health calls that one peer may have under way; a machine's probes are a handful.
const PER_PEER: usize = 64;

/// Adds [`Bounded`] to a service.
#[derive(Clone, Default)]
pub struct BoundAnonymous {
    open: Open,
}

/// A service with bounded anonymous calls.
#[derive(Clone)]
pub struct Bounded<S> {
    inner: S,
    open: Open,
}

type Open = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// One call of a peer; given back when dropped.
struct Place {
    peer: IpAddr,
    open: Open,
}

impl<S> Layer<S> for BoundAnonymous {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner, open: Arc::clone(&self.open) }
    }
}

impl<S, B> Service<Request<B>> for Bounded<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let peer = request.extensions().get::<ConnectionHandle>().and_then(ConnectionHandle::peer);
        let (Some(peer), true) = (peer, request.uri().path().starts_with(HEALTH)) else {
            return self.inner.call(request).boxed();
        };
        let Some(place) = Place::take(peer, &self.open) else {
            return std::future::ready(Ok(too_many().into_http())).boxed();
        };
        let answer = self.inner.call(request);
        async move { Ok(answer.await?.map(|body| Body::new(Held { body, _place: place }))) }.boxed()
    }
}

impl Place {
    fn take(peer: IpAddr, open: &Open) -> Option<Self> {
        let mut counts = open.lock();
        let count = counts.entry(peer).or_default();
        if *count >= PER_PEER {
            return None;
        }
        *count += 1;
        Some(Self { peer, open: Arc::clone(open) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.lock();
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

fn too_many() -> Status {
    to_status(Error::Exhausted {
        reason: "TOO_MANY_HEALTH_CALLS",
        description: format!("this peer has {PER_PEER} health calls open, which is all that it may have"),
        retry_after: Duration::from_secs(5),
    })
}

/// A body that holds its place until it is gone.
struct Held {
    body: Body,
    _place: Place,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_so_many_places_and_gets_them_back() {
        let open = Open::default();
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let places: Vec<_> = (0..PER_PEER).map(|_| Place::take(one, &open).unwrap()).collect();
        assert!(Place::take(one, &open).is_none());
        assert!(Place::take(other, &open).is_some());
        drop(places);
        assert!(Place::take(one, &open).is_some());
        assert!(open.lock().is_empty(), "nothing is kept of peers that are gone");
    }
}
