//! The pages for probes. They tell everybody who asks, so they tell words that are the same everywhere.
//!
//! A server that serves from memory is alive and ready, and says that it is not at its best: who restarted it, or sent its
//! callers elsewhere, would only lose what it still has.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use serde_json::{Value, json};

use super::answer;
use crate::{
    lifecycle::{Phase, Standing},
    service::{Degradation, Service},
};

/// What the pages are about.
#[derive(Clone)]
pub(super) struct Health {
    pub standing: Standing,
    /// `None` while the process starts, and when it has told its last caller goodbye.
    pub service: Option<Arc<Service>>,
}

impl Health {
    fn degraded(&self) -> Vec<Value> {
        let shown = |Degradation { reason, description }| told((reason, description));
        match (&self.service, self.standing.phase()) {
            (Some(service), _) => service.degradations().into_iter().map(shown).collect(),
            (None, Phase::StoreAway) => why_not(Phase::StoreAway).map(told).into_iter().collect(),
            (None, _) => Vec::new(),
        }
    }
}

/// Why a server takes no calls: reason and description. `None` while it takes them.
pub(super) fn why_not(phase: Phase) -> Option<(&'static str, &'static str)> {
    match phase {
        Phase::Starting => Some(("STARTING", "the server has not read its store yet")),
        Phase::StoreAway => {
            Some(("STORE_AWAY", "the server can't start: its store is out of reach, and waited for"))
        }
        Phase::Serving => None,
        Phase::Draining => Some(("DRAINING", "the server is about to stop")),
    }
}

fn told((reason, description): (&str, &str)) -> Value {
    json!({ "reason": reason, "description": description })
}

/// Whether the process answers: 200, as long as it does.
pub(super) async fn livez(State(health): State<Health>) -> Response {
    answer::json(StatusCode::OK, &json!({ "live": true, "degraded": health.degraded() }))
}

/// Whether it takes calls: 200, and 503 before its first view and once it is about to stop.
pub(super) async fn readyz(State(health): State<Health>) -> Response {
    let degraded = health.degraded();
    match why_not(health.standing.phase()) {
        None => answer::json(StatusCode::OK, &json!({ "ready": true, "degraded": degraded })),
        Some(why) => {
            let content = json!({ "ready": false, "why": told(why), "degraded": degraded });
            answer::json(StatusCode::SERVICE_UNAVAILABLE, &content)
        }
    }
}
