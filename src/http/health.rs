//! The pages for probes. They tell everybody who asks, so they tell words that are the same everywhere.
//!
//! A server that serves from memory is alive and ready, and says that it is not at its best: who restarted it, or sent its
//! callers elsewhere, would only lose what it still has.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::answer;
use crate::service::{Degradation, Service};

/// What the pages are about.
#[derive(Clone)]
pub(super) struct Health {
    pub service: Arc<Service>,
    pub draining: CancellationToken,
}

impl Health {
    fn degraded(&self) -> Vec<Value> {
        let shown =
            |Degradation { reason, description }| json!({ "reason": reason, "description": description });
        self.service.degradations().into_iter().map(shown).collect()
    }
}

/// Whether the process answers: 200, as long as it does.
pub(super) async fn livez(State(health): State<Health>) -> Response {
    answer::json(StatusCode::OK, &json!({ "live": true, "degraded": health.degraded() }))
}

/// Whether it takes calls: 200, and 503 once it is about to stop. Nobody can ask before the first view: the listener is
/// bound after it.
pub(super) async fn readyz(State(health): State<Health>) -> Response {
    let degraded = health.degraded();
    if health.draining.is_cancelled() {
        let why = json!({ "reason": "DRAINING", "description": "the server is about to stop" });
        let content = json!({ "ready": false, "why": why, "degraded": degraded });
        return answer::json(StatusCode::SERVICE_UNAVAILABLE, &content);
    }
    answer::json(StatusCode::OK, &json!({ "ready": true, "degraded": degraded }))
}
