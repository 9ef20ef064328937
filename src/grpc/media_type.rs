//! Refuses what is no gRPC, in any of its forms, before anybody takes it for a call: 415, or 405, as the protocol has it.
//!
//! It must not know what a form is decoded by. Who is refused is counted and gets an id like any call, by the service that it is
//! made with, and has a line of text to read: the likeliest mistake is the other listener's port.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use futures_util::future::Either;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use tonic::{Code, body::Body};
use tower::{Layer, Service};

use super::status::refusal;

/// The forms that are decoded, as they are named from here on: types are the same in small letters and in large ones, and what
/// stands behind them is nobody's.
const FORMS: [&str; 6] = [
    "application/grpc",
    "application/grpc+proto",
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
];

/// Answers what is no call of gRPC.
#[derive(Clone, Copy)]
pub struct Refusal;

impl<B> Service<Request<B>> for Refusal {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(match form(request.headers()) {
            Some(_) => {
                answer(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "a call is made with POST")
            }
            None => answer(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UNSUPPORTED_MEDIA_TYPE",
                "this port speaks gRPC and gRPC-Web, and the header Content-Type says neither; REST has a port of its own \
                 (--http-listen)",
            ),
        }))
    }
}

/// With the status of gRPC beside that of HTTP, for who counts it and who understands it.
fn answer(code: StatusCode, reason: &'static str, message: &'static str) -> Response<Body> {
    let mut answer = refusal(Code::InvalidArgument, reason, message).into_http::<Body>();
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if code == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    answer.map(|_| Body::new(format!("{message}\n")))
}

/// The form of a request that says it once.
fn form(headers: &HeaderMap) -> Option<&'static str> {
    let mut said = headers.get_all(CONTENT_TYPE).iter();
    let (Some(first), None) = (said.next(), said.next()) else { return None };
    let first = first.to_str().ok()?;
    let named = first.split_once(';').map_or(first, |(named, _)| named).trim();
    FORMS.into_iter().find(|form| form.eq_ignore_ascii_case(named))
}

/// Adds [`OnlyGrpc`] to a service; the rest goes to another one.
#[derive(Clone)]
pub struct RefuseOthers<R>(pub R);

/// A service that is asked nothing but gRPC.
#[derive(Clone)]
pub struct OnlyGrpc<S, R> {
    inner: S,
    refusal: R,
}

impl<S, R: Clone> Layer<S> for RefuseOthers<R> {
    type Service = OnlyGrpc<S, R>;

    fn layer(&self, inner: S) -> OnlyGrpc<S, R> {
        OnlyGrpc { inner, refusal: self.0.clone() }
    }
}

impl<S, R, B> Service<Request<B>> for OnlyGrpc<S, R>
where
    S: Service<Request<B>, Response = Response<Body>, Error = R::Error>,
    R: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<R::Future, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match self.refusal.poll_ready(context) {
            Poll::Ready(Ok(())) => self.inner.poll_ready(context),
            other => other,
        }
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match form(request.headers()) {
            Some(form) if request.method() == Method::POST => {
                request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form));
                Either::Right(self.inner.call(request))
            }
            _ => Either::Left(self.refusal.call(request)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(values: &[&'static str]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_TYPE, HeaderValue::from_static(value));
        }
        form(&headers)
    }

    #[test]
    fn regression_a_form_is_taken_by_its_name_in_any_letters_and_nothing_alike() {
        assert_eq!(said(&["Application/gRPC-Web+Proto"]), Some("application/grpc-web+proto"));
        assert_eq!(said(&["application/grpc ; charset=utf-8"]), Some("application/grpc"));
        for other in ["application/grpcfoo", "application/grpc+json", "application/json", ""] {
            assert_eq!(said(&[other]), None, "{other}");
        }
        assert_eq!((said(&[]), said(&["application/grpc", "application/grpc"])), (None, None));
    }
}
