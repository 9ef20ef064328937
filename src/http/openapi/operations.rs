//! What one route takes and answers.

use axum::http::Method;
use prost_reflect::Kind;
use serde_json::{Value, json};

use super::{answers, required, schemas::Schemas};
use crate::{
    domain::limits,
    http::rest::{
        fields::{self, Path},
        request,
        route::{self, Body, Route, Segment},
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
        "responses": answers::answers(route, schemas),
    });
    if let Some(body) = body(route, schemas) {
        operation["requestBody"] = body;
    }
    operation
}

/// The RPC's name; where it is called at several places, with what tells these apart.
fn id(route: &Route) -> String {
    let name = route.rpc.name();
    let mut id: String =
        name.chars().take(1).map(|letter| letter.to_ascii_lowercase()).chain(name.chars().skip(1)).collect();
    let bindings = route::bindings(&route.rpc);
    let everywhere = |call: &str| call.contains("=resource}") || call.contains("=collection}");
    let several = bindings.len() > 1 || bindings.iter().any(|binding| everywhere(&binding.call));
    if let Some(variable) = route.variable.as_ref().filter(|_| several) {
        for segment in route.segments.iter().skip(1) {
            if let Segment::Fixed(text) = segment {
                id += &format!("_{text}");
            }
        }
        // A collection such as that of one provider's models.
        if let (Some(_), Some(Segment::Free(of))) = (variable.collection, route.segments.last()) {
            id += &format!("_{of}");
        }
    }
    // What may be read with a body as well, where an address is too short for it.
    let is_read = bindings.iter().any(|binding| binding.call.starts_with("GET "));
    if is_read && route.method == Method::POST {
        id += "_post";
    }
    id
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
    let mut parameter = json!({ "name": path.name(), "in": "query", "description": words, "schema": schema });
    // What is within a message is required only where the message is given.
    if path.name() == field.name() && required::is_required(field) {
        parameter["required"] = true.into();
    }
    parameter
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
    let schema = schemas.reference(&message);
    let schema = match names_itself(route) {
        true => json!({ "allOf": [schema, { "required": ["name"] }] }),
        false => schema,
    };
    Some(json!({ "required": required, "content": { "application/json": { "schema": schema } } }))
}

/// Whether the body has to name what it is: the path says only in which collection.
fn names_itself(route: &Route) -> bool {
    let (Body::Field(field), Some(variable)) = (&route.body, &route.variable) else { return false };
    variable.collection.is_some() && variable.field == format!("{field}.name")
}
