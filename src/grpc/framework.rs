//! Mends the statuses that the framework makes before a handler is asked.
//!
//! tonic answers a body that it can't decode with INTERNAL and one that is too large with OUT_OF_RANGE, both without
//! details. Here these are the caller's errors, with the codes that api.md names and a reason. Statuses of our own
//! always carry details, which is how the two are told apart. What is compressed is refused here, for all services alike: to
//! tonic that is the same as a method that is not there.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Request, Response};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::status::refusal;

/// How the messages of a call are compressed, and how they may be.
const ENCODING: &str = "grpc-encoding";
const ACCEPTED: &str = "grpc-accept-encoding";
const IDENTITY: &str = "identity";

/// Adds [`Mended`] to a service.
#[derive(Clone, Copy)]
pub struct MendStatuses {
    /// How long a call may take until its answer begins; what a write has begun by then goes on.
    pub timeout: Duration,
}

/// A service whose framework errors are the caller's.
#[derive(Clone)]
pub struct Mended<S> {
    inner: S,
    timeout: Duration,
}

impl<S> Layer<S> for MendStatuses {
    type Service = Mended<S>;

    fn layer(&self, inner: S) -> Mended<S> {
        Mended { inner, timeout: self.timeout }
    }
}

impl<S, B> Service<Request<B>> for Mended<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if is_compressed(request.headers()) {
            return async { Ok(compressed()) }.boxed();
        }
        let (answer, limit) = (self.inner.call(request), self.timeout);
        async move {
            match tokio::time::timeout(limit, answer).await {
                Ok(answer) => answer.map(mend),
                Err(_) => Ok(too_slow().into_http()),
            }
        }
        .boxed()
    }
}

/// Whether a call says that its messages are compressed.
fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get_all(ENCODING).iter().any(|encoding| encoding != IDENTITY)
}

/// Says what is taken, as the protocol has it, for a client that can do without.
fn compressed() -> Response<Body> {
    let message =
        "compressed messages are not taken; let the client send them as they are (`grpc-encoding: identity`)";
    let mut response = refusal(Code::Unimplemented, "COMPRESSION_UNSUPPORTED", message).into_http();
    response.headers_mut().insert(ACCEPTED, HeaderValue::from_static(IDENTITY));
    response
}

fn too_slow() -> Status {
    let message =
        "the call took too long; a write may still happen: repeat it under the same request_id to find out";
    refusal(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message)
}

/// Only answers that failed before their first byte can be meant: their status stands in the headers.
fn mend(response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    if !headers.contains_key("grpc-status") || headers.contains_key("grpc-status-details-bin") {
        return response;
    }
    let Some(status) = Status::from_header_map(headers) else { return response };
    let (code, reason, message) = match status.code() {
        Code::Internal => (Code::InvalidArgument, "UNDECODABLE", "the request is not a well-formed message"),
        Code::OutOfRange => {
            (Code::ResourceExhausted, "REQUEST_TOO_LARGE", "the request is larger than this server takes")
        }
        Code::Unimplemented => (Code::Unimplemented, "METHOD_UNKNOWN", "there is no such method"),
        _ => return response,
    };
    refusal(code, reason, message).into_http()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(response: &Response<Body>) -> Code {
        Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
    }

    #[test]
    fn framework_errors_are_the_callers() {
        assert_eq!(code(&mend(Status::internal("failed to decode").into_http())), Code::InvalidArgument);
        assert_eq!(code(&mend(Status::out_of_range("too large").into_http())), Code::ResourceExhausted);
    }

    #[test]
    fn our_own_statuses_stay() {
        let own = super::super::to_status(crate::domain::Error::internal("x")).into_http();
        assert_eq!(code(&mend(own)), Code::Internal);
    }
}
