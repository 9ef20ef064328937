//! The API over HTTP with JSON: one translation for every RPC, by its descriptors and the bindings in the proto files.
//!
//! A request becomes a call of the very services that gRPC reaches, through the same gate, limits and counters; so nothing is
//! decided here about who may do what. It must not know any RPC by itself.

mod conditional;
mod events;
pub(in crate::http) mod fields;
mod frames;
mod json;
pub(in crate::http) mod request;
pub(in crate::http) mod route;

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body as HttpBody,
    extract::Request,
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, Uri, Version,
        header::{self, HeaderName},
        request::Parts,
    },
    response::{IntoResponse as _, Response},
};
use prost_reflect::{DynamicMessage, MethodDescriptor};
use tonic::body::Body;
use tower::{ServiceExt as _, util::BoxCloneSyncService};

use self::{
    conditional::Conditional,
    frames::{Answer, Next},
    request::Pending,
    route::{Found, Route},
};
use super::answer;
use crate::grpc::ConnectionHandle;

/// The services as gRPC reaches them, behind their gate.
pub type Rpcs = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Infallible>;

/// The path that a request was found to mean, without what the caller put in.
#[derive(Clone)]
pub(super) struct Template(pub String);

/// Headers that a call takes along.
const TAKEN_ALONG: [HeaderName; 4] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// The API over HTTP.
#[derive(Clone)]
pub(super) struct Rest {
    routes: Arc<[Route]>,
    rpcs: Rpcs,
    max_request: usize,
}

impl Rest {
    /// On these services; `max_request` bounds the bytes of a body.
    pub fn new(rpcs: Rpcs, max_request: usize) -> Self {
        Self { routes: route::routes().into(), rpcs, max_request }
    }

    /// Whether a path is one of the API's.
    pub fn owns(path: &str) -> bool {
        path.strip_prefix("/v1").is_some_and(|rest| rest.starts_with(['/', ':']))
    }

    /// Answers a request. The answer says by its extension which path was meant.
    pub async fn call(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let (route, name) = match route::find(&self.routes, &head.method, head.uri.path()) {
            Found::Route(route, name) => (route, name),
            Found::OtherMethod(methods) => return other_method(&methods),
            Found::Nothing => return answer::no_such_path(),
        };
        let conditional = Conditional::of(&head);
        let mut response = conditional.apply(self.answer(route, name, head, body).await);
        response.extensions_mut().insert(Template(route.template()));
        response
    }

    async fn answer(&self, route: &Route, name: Option<String>, head: Parts, body: HttpBody) -> Response {
        let conditional = head.headers.contains_key(header::IF_MATCH);
        let last_event_id = head.headers.get("last-event-id").cloned();
        let along = taken_along(&head.headers);
        let query = head.uri.query().unwrap_or_default().to_owned();
        let pending = Pending {
            route: route.clone(),
            name,
            query,
            headers: head.headers,
            body,
            limit: self.max_request,
        };
        let mut call = http::Request::new(pending.into_body());
        *call.method_mut() = Method::POST;
        *call.uri_mut() = path(&route.rpc);
        *call.version_mut() = Version::HTTP_2;
        *call.headers_mut() = along;
        if let Some(connection) = head.extensions.get::<ConnectionHandle>() {
            call.extensions_mut().insert(connection.clone());
        }
        let Ok(response) = self.rpcs.clone().oneshot(call).await;
        let answer = match Answer::begin(response) {
            Ok(answer) => answer,
            Err(status) => return answer::of_status(&status, conditional),
        };
        let output = route.rpc.output();
        if route.rpc.is_server_streaming() {
            let last_event_id = last_event_id.as_ref().and_then(|id| id.to_str().ok());
            return events::respond(answer, output, last_event_id);
        }
        match unary(answer).await {
            Ok(bytes) => match DynamicMessage::decode(output, bytes) {
                Ok(message) => whole(&message),
                Err(_) => answer::of_status(&answer::unreadable(), conditional),
            },
            Err(status) => answer::of_status(&status, conditional),
        }
    }
}

/// The one message of an answer.
async fn unary(mut answer: Answer) -> Result<bytes::Bytes, tonic::Status> {
    let message = match answer.next().await {
        Next::Message(message) => message,
        Next::End(status) => return Err(status),
    };
    match answer.next().await {
        Next::End(status) if status.code() == tonic::Code::Ok => Ok(message),
        Next::End(status) => Err(status),
        Next::Message(_) => Err(answer::unreadable()),
    }
}

/// An answer that is no error, with the etag of the resource that it shows.
fn whole(message: &DynamicMessage) -> Response {
    let Some(json) = text(message) else {
        return answer::of_status(&answer::unreadable(), false);
    };
    let mut response = (StatusCode::OK, json).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let etag = fields::Path::find(&prost_reflect::ReflectMessage::descriptor(message), "resource.etag")
        .map(|path| path.text(message));
    if let Some(etag) = etag.filter(|etag| !etag.is_empty())
        && let Ok(etag) = HeaderValue::try_from(format!("\"{etag}\""))
    {
        headers.insert(header::ETAG, etag);
    }
    response
}

/// A message as JSON. What is the same is the same text, whatever the order in which a map happens to be read.
fn text(message: &DynamicMessage) -> Option<String> {
    serde_json::to_value(message).ok().map(|json| json.to_string())
}

fn path(rpc: &MethodDescriptor) -> Uri {
    let path = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
    Uri::try_from(path).unwrap_or_default()
}

/// The headers of a call.
fn taken_along(given: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    for name in TAKEN_ALONG {
        // All of them: the gate refuses what is there twice.
        for value in given.get_all(&name) {
            headers.append(&name, value.clone());
        }
    }
    headers
}

fn other_method(methods: &[Method]) -> Response {
    let mut names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let message = "this path takes other methods: the header `Allow` names them";
    let mut response = answer::status(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message);
    if let Ok(allow) = HeaderValue::try_from(names.join(", ")) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
