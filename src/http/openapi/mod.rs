//! The description of the API over HTTP, in the form of OpenAPI 3.1: made from the proto files when somebody first asks.
//!
//! It must not know any RPC by itself: paths come from the routes, words from the comments.

mod answers;
mod operations;
mod required;
mod schemas;

use std::sync::{Arc, OnceLock};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use self::schemas::Schemas;
use crate::http::rest::route;

/// The page, once it has been asked for.
#[derive(Default)]
pub(super) struct Description(OnceLock<Bytes>);

/// The page.
pub(super) async fn openapi(State(description): State<Arc<Description>>) -> Response {
    let page = description.0.get_or_init(|| Bytes::from(describe().to_string())).clone();
    ([(header::CONTENT_TYPE, "application/json")], page).into_response()
}

/// The whole description.
fn describe() -> Value {
    let mut schemas = Schemas::default();
    let mut paths: Map<String, Value> = Map::new();
    for route in route::routes() {
        let operation = operations::operation(&route, &mut schemas);
        let method = route.method.as_str().to_ascii_lowercase();
        let path = paths.entry(route.template()).or_insert_with(|| json!({}));
        path[method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Signalbox",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "LLM configuration, pushed to every worker the moment it changes.",
            "description": INTRODUCTION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        // Relative: wherever this was read from.
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "tags": tags(),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
            },
            "schemas": schemas.into_map(),
        },
    })
}

const INTRODUCTION: &str = "\
The gRPC API as JSON: the same calls, rights and errors. Names of resources are paths beneath `/v1/`; what is no reading or \
writing of a resource has a verb after a colon. Bodies are canonical proto JSON; names of fields are taken in both spellings, \
and what is not known is refused. 64-bit numbers are text. Errors are `google.rpc.Status`, with a stable `reason` in \
`ErrorInfo`. `ETag` holds the etag of the resource that is shown, and `If-Match` makes it the precondition of a write. Streams \
are server-sent events; the last one is always `status`. In a path a name's own colon is written `%3A` where a verb could be \
meant.";

/// The services, with what their comments say.
fn tags() -> Value {
    let services = crate::proto::DESCRIPTOR_POOL.services().map(|service| {
        let words = crate::proto::comment(&service.parent_file(), service.path());
        json!({ "name": service.name(), "description": words })
    });
    services.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn each<'a>(value: &'a Value, visit: &mut impl FnMut(&'a str, &'a Value)) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                visit(key, value);
                each(value, visit);
            }),
            Value::Array(items) => items.iter().for_each(|item| each(item, visit)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
        let description = describe();
        let (mut ids, mut operations) = (BTreeSet::new(), 0);
        each(&description, &mut |key, value| match (key, value.as_str()) {
            ("$ref", Some(to)) => {
                let there = description.pointer(to.trim_start_matches('#'));
                assert!(there.is_some(), "{to}");
            }
            ("operationId", Some(id)) => {
                operations += 1;
                assert!(ids.insert(id), "{id} twice");
            }
            _ => {}
        });
        assert_eq!(operations, route::routes().len());
    }

    #[test]
    fn names_of_operations_read_well_and_stay() {
        let description = describe();
        let id = |method: &str, path: &str| description["paths"][path][method]["operationId"].clone();
        assert_eq!(id("get", "/v1/status"), "getStatus");
        assert_eq!(id("get", "/v1/providers/{provider}"), "getResource_providers");
        assert_eq!(id("get", "/v1/providers"), "listResources_providers");
        assert_eq!(id("post", "/v1/settings"), "createResource_settings");
        assert_eq!(id("post", "/v1/providers/{provider}:test"), "testProvider");
        assert_eq!(id("post", "/v1/workers:list"), "listWorkers_post");
    }

    #[test]
    fn what_can_be_answered_is_listed() {
        let description = describe();
        let answers = |method: &str, path: &str| {
            let answers = description["paths"][path][method]["responses"].as_object().unwrap();
            answers.keys().map(String::as_str).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(answers("get", "/v1/status"), "200 400 401 403 406 503 default");
        assert_eq!(
            answers("patch", "/v1/providers/{provider}"),
            "200 400 401 403 404 406 409 412 413 415 503 default"
        );
        let shown = &description["paths"]["/v1/providers/{provider}"]["get"]["responses"]["200"];
        assert!(shown["headers"]["ETag"].is_object(), "{shown}");
        let schemas = &description["components"]["schemas"];
        assert_eq!(schemas["Resource"]["properties"]["uid"]["readOnly"], true);
        assert_eq!(schemas["CreateTokenRequest"]["required"], json!(["role", "subject"]));
        let body = |method: &str, path: &str| {
            let body = &description["paths"][path][method]["requestBody"];
            body["content"]["application/json"]["schema"].clone()
        };
        let created = body("post", "/v1/settings");
        assert_eq!(created["allOf"][1]["required"], json!(["name"]), "the path says only where: {created}");
        assert!(body("patch", "/v1/settings/{key}")["$ref"].is_string(), "the path names it");
    }

    #[test]
    fn everything_is_described() {
        let description = describe();
        for (path, methods) in description["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let words = operation["description"].as_str().unwrap_or_default();
                assert!(words.contains("Roles: "), "{method} {path}");
                for parameter in operation["parameters"].as_array().unwrap() {
                    assert!(parameter["description"].is_string(), "{method} {path}: {parameter}");
                }
            }
        }
        for (name, schema) in description["components"]["schemas"].as_object().unwrap() {
            assert!(schema["description"].is_string(), "{name}");
        }
    }

    /// Addresses end up in logs of everything on the way.
    #[test]
    fn no_secret_is_asked_for_in_a_query() {
        let description = describe();
        each(&description["paths"], &mut |_, value| {
            if value["in"] == "query" {
                let name = value["name"].as_str().unwrap();
                assert!(name.contains("include_secrets") || !name.contains("secret"), "{name}");
                assert!(!name.contains("export_key"), "{name}");
            }
        });
    }
}
