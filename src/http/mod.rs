//! The HTTP listener: the API as JSON, and pages for probes and metrics, as one router on a bounded server.
//!
//! It must not know SQL. Every path of a page has a row in the policy table (`auth::policy`), and so has every RPC that the API
//! leads to: [`rest`] calls it through the gate of gRPC. Errors are JSON in the form of `google.rpc.Status`, and so is what is
//! not made for people or for Prometheus.

mod answer;
mod cors;
mod diagnostics;
mod health;
mod metrics;
mod openapi;
mod rest;
mod serve;
mod unread;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, Version, header},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use http_body_util::BodyExt as _;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tower::util::option_layer;
use tracing::Instrument as _;

pub use cors::cors;
pub use rest::Rpcs;
pub use serve::{Bounds, serve};

use self::{
    answer::status,
    metrics::Exposition,
    openapi::Description,
    rest::{Rest, Template},
    unread::Unread,
};
use crate::{
    auth::{AuthenticateLayer, Authenticator, Policy, pages as paths},
    grpc,
    lifecycle::{Phase, Standing},
    service::Service,
    telemetry::{HttpCall, Metrics, REQUEST_ID, request_id},
};

/// What the pages stand on.
pub struct Pages {
    /// The use cases.
    pub service: Arc<Service>,
    /// What is counted as it happens.
    pub metrics: Metrics,
    /// The services, behind their gate.
    pub rpcs: Rpcs,
    /// Bytes that the body of a request may have.
    pub max_request: usize,
    /// What probes are told.
    pub standing: Standing,
    /// Told when the server takes no more calls.
    pub draining: CancellationToken,
    /// Whether everybody may see the metrics.
    pub metrics_anonymous: bool,
    /// How long a request may take until its answer begins.
    pub timeout: Duration,
    /// Origins whose pages may call.
    pub cors_origins: Vec<String>,
    /// How the listener is reached: `http` or `https`.
    pub scheme: &'static str,
}

/// The API and the pages, each behind its gate.
pub fn pages(pages: Pages, authenticator: Arc<Authenticator>) -> Router {
    let Pages { service, metrics, rpcs, max_request, .. } = pages;
    let Pages { standing, draining, metrics_anonymous, timeout, cors_origins, scheme, .. } = pages;
    let exposition = Arc::new(Exposition::new(&metrics, &service));
    let api = Api { rest: Rest::new(rpcs, max_request), draining, scheme };
    let probes = health_pages(health::Health { standing, service: Some(Arc::clone(&service)) });
    let gate = AuthenticateLayer::new(authenticator, Policy::Pages { metrics_anonymous }, answer::refuse);
    Router::new()
        .route(paths::METRICS, get(metrics::metrics))
        .with_state(exposition)
        .route(paths::DIAGNOSTICS, get(diagnostics::diagnostics))
        .with_state(service)
        .merge(description())
        .merge(probes)
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::wrong_method)
        .layer(gate)
        .layer(middleware::from_fn_with_state(api, api_first))
        .layer(middleware::from_fn_with_state(timeout, bound))
        .layer(option_layer(cors(&cors_origins)))
}

/// The pages that need no service: what is answered before there is one, and after.
pub fn probes(standing: &Standing, timeout: Duration, cors_origins: &[String]) -> Router {
    let told = standing.clone();
    health_pages(health::Health { standing: standing.clone(), service: None })
        .merge(description())
        .fallback(async move || match told.phase() {
            Phase::Starting | Phase::StoreAway => answer::starting(),
            Phase::Serving | Phase::Draining => answer::draining(),
        })
        .method_not_allowed_fallback(answer::wrong_method)
        .layer(middleware::from_fn_with_state(timeout, bound))
        .layer(option_layer(cors(cors_origins)))
}

fn health_pages(health: health::Health) -> Router {
    Router::new()
        .route(paths::LIVEZ, get(health::livez))
        .route(paths::READYZ, get(health::readyz))
        .with_state(health)
}

/// The same for every server of a version.
fn description() -> Router {
    Router::new().route(paths::OPENAPI, get(openapi::openapi)).with_state(Arc::new(Description::default()))
}

/// The API over HTTP, for as long as the server takes calls.
#[derive(Clone)]
struct Api {
    rest: Rest,
    draining: CancellationToken,
    scheme: &'static str,
}

/// Answers what is the API's, and leaves the rest to the pages.
async fn api_first(State(api): State<Api>, request: Request, next: Next) -> Response {
    match Rest::owns(request.uri().path()) {
        true if api.draining.is_cancelled() => answer::draining(),
        true => traced(&api, request).await,
        false => next.run(request).await,
    }
}

/// Answers what is the API's, as one span of a trace.
async fn traced(api: &Api, request: Request) -> Response {
    let method = request.method().clone();
    let call = HttpCall::begin(&method, request.headers(), api.scheme);
    let response = api.rest.call(request).instrument(call.span()).await;
    let route = response.extensions().get::<Template>().map(|template| template.0.as_str());
    match call.answered(&method, route, response.status()) {
        None => response,
        // For as long as there is a body. What is done to its errors keeps its length, other than what is done to its frames.
        Some(answer) => response.map(|body| {
            Body::new(body.map_err(move |error| {
                let _ = &answer;
                error
            }))
        }),
    }
}

/// What is answered to a request that nobody here could mean: one without a host, and one that is gRPC, whose client
/// understands no other answer.
fn refused(request: &Request) -> Option<Response> {
    if let Some(what) = grpc::host_fault(request.version(), request.headers()) {
        return Some(status(StatusCode::BAD_REQUEST, "HOST_MISSING", what));
    }
    let what = "this port speaks HTTP with JSON; gRPC has a port of its own (--listen)";
    let refusal = || grpc::refusal(Code::Unimplemented, "UNSUPPORTED_MEDIA_TYPE", what).into_http();
    grpc::is_grpc(request.headers()).then(refusal)
}

/// Gives a request its time, and answers the headers that all have in common.
async fn bound(State(timeout): State<Duration>, mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let version = request.version();
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let (request, unread) = Unread::lend(request);
    let mut response = match refused(&request) {
        Some(refusal) => {
            drop(request);
            refusal
        }
        None => tokio::time::timeout(timeout, next.run(request)).await.unwrap_or_else(|_| {
            status(StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED", "the request took too long")
        }),
    };
    if version == Version::HTTP_2 {
        unread.read().await;
    }
    if response.status() == StatusCode::PAYLOAD_TOO_LARGE && version < Version::HTTP_2 {
        // The rest of the body is not read, so that nothing can follow it on this connection.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REQUEST_ID, id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use tower::ServiceExt as _;

    use super::*;

    /// A page reads what it is told then, and asks again.
    #[tokio::test]
    async fn regression_pages_of_other_origins_are_answered_while_a_server_starts() {
        let origins = ["https://console.example.com".to_owned()];
        let router = probes(&Standing::default(), Duration::from_secs(5), &origins);
        for (method, path, code) in [
            (Method::GET, "/v1/status", 503),
            (Method::GET, paths::OPENAPI, 200),
            (Method::OPTIONS, "/v1/status", 200),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(header::ORIGIN, &origins[0])
                .header(header::ACCESS_CONTROL_REQUEST_METHOD, "GET")
                .header(header::HOST, "signalbox");
            let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), code, "{path}");
            assert_eq!(answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], origins[0], "{path}");
        }
    }
}
