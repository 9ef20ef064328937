//! What a route may answer: the answer itself, and the statuses of HTTP that its errors come with.

use axum::http::StatusCode;
use prost_reflect::MessageDescriptor;
use serde_json::{Map, Value, json};

use super::schemas::Schemas;
use crate::{
    http::rest::{
        fields::Path,
        request,
        route::{Body, Route, Segment},
    },
    proto,
};

/// Every answer of a route, by status.
pub(super) fn answers(route: &Route, schemas: &mut Schemas) -> Value {
    let mut all = Map::new();
    all.insert("200".to_owned(), answer(route, schemas));
    for (status, words) in errors(route) {
        all.insert(status.as_str().to_owned(), error(words, schemas));
    }
    all.insert("default".to_owned(), error("Any other error: a defect, or out of time.", schemas));
    all.into()
}

fn error(words: &str, schemas: &mut Schemas) -> Value {
    json!({ "description": words, "content": { "application/json": { "schema": schemas.status() } } })
}

/// The errors that can occur on a route: those of every call, and those that follow from what it takes and from what its
/// comment says.
fn errors(route: &Route) -> Vec<(StatusCode, &'static str)> {
    let (rpc, input) = (&route.rpc, route.rpc.input());
    let words = proto::comment(&rpc.parent_service().parent_file(), rpc.path());
    let says = |codes: &[&str]| codes.iter().any(|code| words.contains(code));
    let named = route.segments.iter().any(|segment| matches!(segment, Segment::Free(_)));
    let writes = input.get_field_by_name("request_id").is_some();
    let body = route.body != Body::None;
    let conditional = request::etag_field(route, &input).is_some();
    let possible = [
        (true, StatusCode::BAD_REQUEST, "What is asked for is wrong, or can't be done as things are."),
        (true, StatusCode::UNAUTHORIZED, "There is no token, or none that is good."),
        (true, StatusCode::FORBIDDEN, "The token does not reach so far."),
        (named || says(&["NOT_FOUND"]), StatusCode::NOT_FOUND, "There is no such resource."),
        (true, StatusCode::NOT_ACCEPTABLE, "The form of the answer is not accepted."),
        (
            writes || says(&["ALREADY_EXISTS", "ABORTED"]),
            StatusCode::CONFLICT,
            "It is there already, or has changed meanwhile.",
        ),
        (conditional, StatusCode::PRECONDITION_FAILED, "The etag in `If-Match` is not the present one."),
        (body, StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than is taken."),
        (body, StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is not JSON."),
        (says(&["RESOURCE_EXHAUSTED"]), StatusCode::TOO_MANY_REQUESTS, "Too much at once: come again later."),
        (true, StatusCode::SERVICE_UNAVAILABLE, "Not now: `Retry-After` says when to come again."),
    ];
    possible.into_iter().filter(|(can, ..)| *can).map(|(_, status, words)| (status, words)).collect()
}

fn answer(route: &Route, schemas: &mut Schemas) -> Value {
    let output = route.rpc.output();
    let words = proto::comment(&output.parent_file(), output.path());
    let schema = schemas.reference(&output);
    match route.rpc.is_server_streaming() {
        true => json!({
            "description": format!("{words} Server-sent events; the data of each is one such message, but for the last one, \
                                    `status`, which says how the stream ended."),
            "content": { "text/event-stream": { "schema": event(&schema, &schemas.status()) } },
        }),
        false => json!({
            "description": words,
            "headers": headers(&output),
            "content": { "application/json": { "schema": schema } },
        }),
    }
}

fn headers(output: &MessageDescriptor) -> Value {
    let header = |words: &str| json!({ "description": words, "schema": { "type": "string" } });
    let mut headers =
        json!({ "X-Request-Id": header("The name of the request, as the caller gave it or made here.") });
    if Path::find(output, "resource.etag").is_some() {
        headers["ETag"] = header("The etag in quotes of the resource that is shown, for `If-Match`.");
    }
    headers
}

/// One server-sent event.
fn event(message: &Value, status: &Value) -> Value {
    json!({
        "type": "object",
        "description": "One event.",
        "properties": {
            "event": { "type": "string", "description": "What it is; `status` is the last." },
            "id": { "type": "string", "description": "To be given back as `Last-Event-ID`." },
            "retry": { "type": ["string", "integer"], "description": "When to come back, in milliseconds." },
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": { "anyOf": [message, status] },
            },
        },
        "required": ["event", "data"],
    })
}
