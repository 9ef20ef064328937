//! The HTTP listener: pages for probes and metrics, as one router on a bounded server.
//!
//! It must not know SQL. Every path has a row in the policy table (`auth::policy`), and every answer is JSON, errors in the
//! form of `google.rpc.Status`. What else is to be reached by HTTP becomes a router beside [`pages`], with a gate of its own.

mod answer;
mod health;
mod metrics;
mod serve;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use tokio_util::sync::CancellationToken;

pub use serve::{Bounds, serve};

use self::{answer::status, metrics::Exposition};
use crate::{
    auth::{AuthenticateLayer, Authenticator, Policy, pages as paths},
    service::Service,
    telemetry::Metrics,
};

/// What the pages stand on.
pub struct Pages {
    /// The use cases.
    pub service: Arc<Service>,
    /// What is counted as it happens.
    pub metrics: Metrics,
    /// Told when the server takes no more calls.
    pub draining: CancellationToken,
    /// Whether everybody may see the metrics.
    pub metrics_anonymous: bool,
    /// How long a request may take.
    pub timeout: Duration,
}

/// The pages, behind their gate.
pub fn pages(pages: Pages, authenticator: Arc<Authenticator>) -> Router {
    let Pages { service, metrics, draining, metrics_anonymous, timeout } = pages;
    let exposition = Arc::new(Exposition::new(&metrics, &service));
    let health = health::Health { service, draining };
    let probes = Router::new()
        .route(paths::LIVEZ, get(health::livez))
        .route(paths::READYZ, get(health::readyz))
        .with_state(health);
    let gate = AuthenticateLayer::new(authenticator, Policy::Pages { metrics_anonymous }, answer::refuse);
    Router::new()
        .route(paths::METRICS, get(metrics::metrics))
        .with_state(exposition)
        .merge(probes)
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::wrong_method)
        .layer(gate)
        .layer(middleware::from_fn_with_state(timeout, bound))
}

/// Gives a request its time, and answers the headers that all have in common.
async fn bound(State(timeout): State<Duration>, request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => status(StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED", "the request took too long"),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
