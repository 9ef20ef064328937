//! Refuses what is no gRPC, in any of its forms, before anybody takes it for a call: 415 or 405, as the protocol has it, and 400
//! for what names no host as HTTP has it, or speaks a version in which there is no gRPC.
//!
//! It must not know what a form is decoded by. Who is refused is counted and gets an id like any call, by the service that it is
//! made with, and has a line of text to read: the likeliest mistake is the other listener's port.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either},
};
use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{ALLOW, CONTENT_TYPE},
};
use tonic::{Code, body::Body};
use tower::{Layer, Service};

use super::{host::host_fault, status::refusal, unread::read_on};

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
/// How many of them are gRPC itself, at the beginning.
const NATIVE: usize = 2;

/// What is told of a request that is in none of the forms.
const NO_FORM: &str = "this port speaks gRPC and gRPC-Web, and the header Content-Type says neither; REST has a port of its own (--http-listen)";
const NO_GRPC: &str =
    "this port is for health checks by gRPC, and the header Content-Type says something else";

const NO_HTTP_2: &str = "gRPC is spoken over HTTP/2, and HTTP/1.1 is for gRPC-Web here: a proxy has to speak HTTP/2 to this port, as \
                         nginx does by grpc_pass";

/// Why a request is no call of gRPC.
#[derive(Clone, Copy)]
enum Fault {
    Host(&'static str),
    Version,
    Method,
    Form(&'static str),
}

/// Answers what is no call of gRPC, by what [`OnlyGrpc`] has found.
#[derive(Clone, Copy)]
pub struct Refusal;

impl<B> Service<Request<B>> for Refusal
where
    B: http_body::Body<Data: Send, Error: Send> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (head, body) = request.into_parts();
        let answer = told(&head.extensions);
        async move {
            if head.version == Version::HTTP_2 {
                read_on(body).await;
            }
            Ok(answer)
        }
        .boxed()
    }
}

/// The answer to what was found.
fn told(found: &Extensions) -> Response<Body> {
    match found.get().copied().unwrap_or(Fault::Form(NO_FORM)) {
        Fault::Host(what) => answer(StatusCode::BAD_REQUEST, "HOST_MISSING", what),
        Fault::Version => answer(StatusCode::BAD_REQUEST, "HTTP_TOO_OLD", NO_HTTP_2),
        Fault::Method => {
            answer(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "a call is made with POST")
        }
        Fault::Form(what) => answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", what),
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

/// Whether a request says that it is gRPC, or gRPC-Web.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    form(headers).is_some()
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
pub struct RefuseOthers<R> {
    refusal: R,
    forms: &'static [&'static str],
    /// What is told of others.
    other: &'static str,
}

impl<R> RefuseOthers<R> {
    /// Takes gRPC and gRPC-Web.
    pub fn new(refusal: R) -> Self {
        Self { refusal, forms: &FORMS, other: NO_FORM }
    }

    /// Takes gRPC alone.
    pub fn but_grpc(refusal: R) -> Self {
        Self { refusal, forms: &FORMS[..NATIVE], other: NO_GRPC }
    }

    /// The form of a call, or why it is none.
    fn look<B>(&self, request: &Request<B>) -> Result<&'static str, Fault> {
        if let Some(what) = host_fault(request.version(), request.headers()) {
            return Err(Fault::Host(what));
        }
        let form = form(request.headers()).filter(|form| self.forms.contains(form));
        let form = form.ok_or(Fault::Form(self.other))?;
        match (request.method(), request.version()) {
            (&Method::POST, Version::HTTP_2) => Ok(form),
            (&Method::POST, _) if !FORMS[..NATIVE].contains(&form) => Ok(form),
            (&Method::POST, _) => Err(Fault::Version),
            _ => Err(Fault::Method),
        }
    }
}

/// A service that is asked nothing but gRPC.
#[derive(Clone)]
pub struct OnlyGrpc<S, R> {
    inner: S,
    gate: RefuseOthers<R>,
}

impl<S, R: Clone> Layer<S> for RefuseOthers<R> {
    type Service = OnlyGrpc<S, R>;

    fn layer(&self, inner: S) -> OnlyGrpc<S, R> {
        OnlyGrpc { inner, gate: self.clone() }
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
        match self.gate.refusal.poll_ready(context) {
            Poll::Ready(Ok(())) => self.inner.poll_ready(context),
            other => other,
        }
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.gate.look(&request) {
            Ok(form) => {
                request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form));
                Either::Right(self.inner.call(request))
            }
            Err(fault) => {
                request.extensions_mut().insert(fault);
                Either::Left(self.gate.refusal.call(request))
            }
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
