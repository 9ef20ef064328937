//! Bounds what one peer may hold open without saying who it is: calls to the health service.
//!
//! Everything else asks for a token, and is bounded by it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{
    ConnectionHandle,
    peers::{PeerPlace, Peers},
    to_status,
};
use crate::domain::Error;

const HEALTH: &str = "/grpc.health.v1.Health/";
/// Health calls that one peer may have under way; a machine's probes are a handful.
const PER_PEER: usize = 64;

/// Adds [`Bounded`] to a service.
#[derive(Clone, Default)]
pub struct BoundAnonymous {
    open: Peers,
}

/// A service with bounded anonymous calls.
#[derive(Clone)]
pub struct Bounded<S> {
    inner: S,
    open: Peers,
}

impl<S> Layer<S> for BoundAnonymous {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner, open: self.open.clone() }
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
        let Some(place) = self.open.take(peer, PER_PEER) else {
            return std::future::ready(Ok(too_many().into_http())).boxed();
        };
        let answer = self.inner.call(request);
        async move { Ok(answer.await?.map(|body| Body::new(Held { body, _place: place }))) }.boxed()
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
    _place: PeerPlace,
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
