//! What one route takes and answers.

use prost_reflect::Kind;
use serde_json::{Value, json};

use super::schemas::Schemas;
use crate::{
    domain::limits,
    http::rest::{
        fields::{self, Path},
        request,
        route::{Body, Route, Segment},
    },
    proto,
};

/// The description of a route.
pub(super) fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    let rpc = &route.rpc;
    let service = rpc.parent_service();
    let words = proto::comment(&service.parent_file(), rpc.path());
    let summary = words.split(". ").next().unwrap_or_default().trim_end_matches('.').to_owned();
    let mut operation = json!({
        "operationId": id(route),
        "tags": [service.name()],
        "summary": summary,
        "description": words,
        "parameters": parameters(route, schemas),
        "responses": {
            "200": answer(route, schemas),
            "default": {
                "description": "An error",
                "content": { "application/json": { "schema": schemas.status() } },
            },
        },
    });
    if let Some(body) = body(route, schemas) {
        operation["requestBody"] = body;
    }
    operation
}

/// The RPC's name, and what tells its routes apart.
fn id(route: &Route) -> String {
    let name = route.rpc.name();
    let fixed = route.segments.iter().skip(1).filter_map(|segment| match segment {
        Segment::Fixed(text) => Some(text.as_str()),
        Segment::Free(_) => None,
    });
    // Of collections one is `models/{provider}`: what is free counts as well.
    let depth = route.segments.len();
    let place: Vec<&str> = fixed.collect();
    let method = route.method.as_str().to_ascii_lowercase();
    format!("{name}_{method}_{}_{depth}", place.join("_"))
}

fn parameters(route: &Route, schemas: &mut Schemas) -> Vec<Value> {
    let free = route.segments.iter().filter_map(|segment| match segment {
        Segment::Free(name) => Some(json!({
            "name": name,
            "in": "path",
            "required": true,
            "description": "A segment of the resource's name.",
            "schema": {
                "type": "string",
                "pattern": "^[A-Za-z0-9][A-Za-z0-9._:@+-]*$",
                "maxLength": limits::SEGMENT_BYTES,
            },
        })),
        Segment::Fixed(_) => None,
    });
    let mut all: Vec<Value> = free.collect();
    all.extend(fields::parameters(route).iter().map(|path| in_query(path, schemas)));
    let input = route.rpc.input();
    if request::etag_field(route, &input).is_some() {
        all.push(json!({
            "name": "If-Match",
            "in": "header",
            "description": "The etag in quotes that the resource must have, as `ETag` showed it.",
            "schema": { "type": "string", "pattern": "^\"[A-Za-z0-9._-]+\"$" },
        }));
    }
    if Path::find(&input, "resume_token").is_some() {
        all.push(json!({
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The id of the last event that was received, to go on behind it.",
            "schema": { "type": "string", "pattern": "^[A-Za-z0-9_/-]+$" },
        }));
    }
    all
}

fn in_query(path: &Path, schemas: &mut Schemas) -> Value {
    let Some(field) = path.last() else { return Value::Null };
    let words = proto::comment(&field.parent_message().parent_file(), field.path());
    let is_selector = matches!(field.kind(), Kind::Message(message) if message.name() == "Selector");
    let (schema, words) = match is_selector {
        true => {
            let one = json!({ "type": "string", "examples": ["*", "providers/*", "kind:setting", "providers/groq"] });
            let words =
                format!("{words} Each as `*`, a prefix such as `providers/*`, `kind:provider`, or a name.");
            (json!({ "type": "array", "items": one, "maxItems": limits::SELECTORS }), words)
        }
        false => (schemas.of_field(field), words),
    };
    json!({ "name": path.name(), "in": "query", "description": words, "schema": schema })
}

fn body(route: &Route, schemas: &mut Schemas) -> Option<Value> {
    let input = route.rpc.input();
    let (message, required) = match &route.body {
        Body::None => return None,
        Body::Whole => (input, false),
        Body::Field(field) => match input.get_field_by_name(field)?.kind() {
            Kind::Message(message) => (message, true),
            _ => return None,
        },
    };
    Some(json!({
        "required": required,
        "content": { "application/json": { "schema": schemas.reference(&message) } },
    }))
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
            "headers": { "X-Request-Id": {
                "description": "The name of the request, as the caller gave it or made here.",
                "schema": { "type": "string" },
            } },
            "content": { "application/json": { "schema": schema } },
        }),
    }
}
