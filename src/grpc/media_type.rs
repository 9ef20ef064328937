//! Refuses what is no gRPC, in any of its forms, before anybody takes it for a call: 415, as the protocol has it.
//!
//! It must not know which forms there are beyond the word that all begin with.

use std::{
    future::{Ready, ready},
    task::{Context, Poll},
};

use futures_util::future::Either;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use tonic::body::Body;
use tower::{Layer, Service};

/// What every form of gRPC begins with, gRPC-Web among them.
const GRPC: &[u8] = b"application/grpc";

/// Adds [`OnlyGrpc`] to a service.
#[derive(Clone, Copy)]
pub struct RefuseOthers;

/// A service that is asked nothing but gRPC.
#[derive(Clone)]
pub struct OnlyGrpc<S>(S);

impl<S> Layer<S> for RefuseOthers {
    type Service = OnlyGrpc<S>;

    fn layer(&self, inner: S) -> OnlyGrpc<S> {
        OnlyGrpc(inner)
    }
}

impl<S, B> Service<Request<B>> for OnlyGrpc<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<Ready<Result<Response<Body>, S::Error>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut forms = request.headers().get_all(CONTENT_TYPE).iter();
        let first = forms.next().is_some_and(|form| form.as_bytes().starts_with(GRPC));
        if first && forms.next().is_none() {
            return Either::Right(self.0.call(request));
        }
        let mut refused = Response::new(Body::empty());
        *refused.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Either::Left(ready(Ok(refused)))
    }
}
