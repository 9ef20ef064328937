//! Which pages of other origins a browser lets call this server.

use std::time::Duration;

use axum::http::{
    HeaderValue, Method,
    header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH, RETRY_AFTER},
};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may keep what it was told.
const KEPT: Duration = Duration::from_secs(3_600);

/// What callers send beyond what browsers let pass anyhow.
const SENT: [HeaderName; 11] = [
    AUTHORIZATION,
    CONTENT_TYPE,
    IF_MATCH,
    IF_NONE_MATCH,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-grpc-web"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-user-agent"),
];

/// What they may read of an answer.
const READ: [HeaderName; 6] = [
    ETAG,
    RETRY_AFTER,
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static("x-request-id"),
];

/// Lets pages of these origins call; `None` where there are none, which leaves browsers to refuse all. Who calls says so with
/// a token, never with a cookie, so that no page can call in the name of who looks at it.
#[must_use]
pub fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> =
        origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins.clone()))
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers(SENT)
        .expose_headers(READ)
        .max_age(KEPT);
    (!origins.is_empty()).then_some(layer)
}
