//! From a request of HTTP to the message of an RPC: path, query, headers and body, together or not at all.
//!
//! It is read when the service asks for it, which is behind the gate: who may not call is refused before a byte of the body
//! is read.

use std::collections::BTreeMap;

use axum::{
    body::Body as HttpBody,
    http::{HeaderMap, Method, header},
};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, LengthLimitError, Limited, StreamBody};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};
use tonic::{Status, body::Body as RpcBody};

use super::{
    fields::{self, Path},
    json::{self, Strict},
    route::{Body, Route},
};
use crate::{
    domain::{Error, Violations},
    grpc::{self, to_status},
};

/// A request that nobody has read yet.
pub(super) struct Pending {
    pub route: Route,
    /// The name that stands in the path.
    pub name: Option<String>,
    pub query: String,
    pub headers: HeaderMap,
    pub body: HttpBody,
    /// Bytes that the body may have.
    pub limit: usize,
}

impl Pending {
    /// The body of the call: one message, or why there is none.
    pub fn into_body(self) -> RpcBody {
        let message = async move { self.read().await.map(Frame::data) };
        RpcBody::new(StreamBody::new(stream::once(message)))
    }

    async fn read(self) -> Result<Bytes, Status> {
        self.check_accept()?;
        let Self { route, name, query, headers, body, limit } = self;
        let bytes = collect(body, limit).await?;
        if !bytes.is_empty() && !is_json(&headers) {
            let message = "the body must be JSON in UTF-8 and not compressed: say `Content-Type: application/json`, once";
            return Err(grpc::refusal(tonic::Code::InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", message));
        }
        let mut violations = Violations::default();
        let mut message = from_body(&route, &bytes, &mut violations);
        from_query(&route, &query, &mut message, &mut violations);
        from_path(&route, name, &mut message, &mut violations);
        from_headers(&route, &headers, &mut message, &mut violations);
        violations.into_result().map_err(to_status)?;
        framed(&message)
    }

    /// An answer has one form only.
    fn check_accept(&self) -> Result<(), Status> {
        let form =
            if self.route.rpc.is_server_streaming() { "text/event-stream" } else { "application/json" };
        let accepts = |accept: &str| {
            accept.split(',').any(|range| {
                let range = range.split(';').next().unwrap_or_default().trim();
                let (kind, _) = form.split_once('/').unwrap_or_default();
                range == "*/*" || range.eq_ignore_ascii_case(form) || range.strip_suffix("/*") == Some(kind)
            })
        };
        let mut given = self.headers.get_all(header::ACCEPT).iter().peekable();
        if given.peek().is_none() || given.any(|value| value.to_str().is_ok_and(accepts)) {
            return Ok(());
        }
        let message = format!("the answer is {form}, which the request does not accept");
        Err(grpc::refusal(tonic::Code::InvalidArgument, "NOT_ACCEPTABLE", &message))
    }
}

async fn collect(body: HttpBody, limit: usize) -> Result<Bytes, Status> {
    let too_large = || {
        let message = format!("the body has more than the {limit} bytes that this server takes");
        grpc::refusal(tonic::Code::ResourceExhausted, "REQUEST_TOO_LARGE", &message)
    };
    // What it says of its own length need not be waited for.
    if http_body::Body::size_hint(&body).lower() > limit as u64 {
        return Err(too_large());
    }
    match Limited::new(body, limit).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Status::cancelled("the request broke off")),
    }
}

/// Whether the body is JSON as it is read here: in UTF-8, and not compressed.
fn is_json(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase()
    };
    if headers.get_all(header::CONTENT_TYPE).iter().nth(1).is_some() {
        return false;
    }
    let (given, encoding) = (text(header::CONTENT_TYPE), text(header::CONTENT_ENCODING));
    let mut parts = given.split(';').map(str::trim);
    let is_form = parts.next() == Some("application/json");
    let mut charsets =
        parts.filter_map(|part| part.strip_prefix("charset=")).map(|name| name.trim_matches('"'));
    is_form
        && charsets.all(|name| matches!(name, "utf-8" | "utf8" | "us-ascii"))
        && matches!(&*encoding, "" | "identity")
}

/// The request as far as the body has it.
fn from_body(route: &Route, bytes: &Bytes, violations: &mut Violations) -> DynamicMessage {
    let input = route.rpc.input();
    let mut message = DynamicMessage::new(input.clone());
    if bytes.is_empty() {
        return message;
    }
    let (descriptor, path) = match &route.body {
        Body::None => {
            violations.add(
                "body",
                "UNEXPECTED",
                "is not read by this method; give fields of the request in the query",
            );
            return message;
        }
        Body::Whole => (input, ""),
        Body::Field(field) => match input.get_field_by_name(field).map(|field| field.kind()) {
            Some(prost_reflect::Kind::Message(inner)) => (inner, field.as_str()),
            _ => return message,
        },
    };
    match Strict::parse(bytes) {
        Ok(strict) => {
            let read = json::read(&descriptor, strict, path, violations);
            match &route.body {
                Body::Field(field) => message.set_field_by_name(field, Value::Message(read)),
                _ => message = read,
            }
        }
        Err(wrong) => violations.add("body", "UNDECODABLE", wrong),
    }
    message
}

/// Adds what stands in the query.
fn from_query(route: &Route, query: &str, message: &mut DynamicMessage, violations: &mut Violations) {
    let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        given.entry(key.into_owned()).or_default().push(value.into_owned());
    }
    for (key, values) in given {
        let shown = json::shown(&key);
        match parameter(route, &key) {
            Ok(path) => fields::put_texts(message, &path, values, violations),
            Err(description) => violations.add(shown, "UNKNOWN_PARAMETER", description),
        }
    }
}

/// The field that a parameter of the query means, or why it means none.
fn parameter(route: &Route, key: &str) -> Result<Path, String> {
    if route.body == Body::Whole {
        return Err("there are no parameters; give the fields of the request in the body".to_owned());
    }
    let known = || {
        let paths = fields::parameters(route).into_iter().map(|path| format!("`{}`", path.name()));
        match paths.collect::<Vec<_>>().join(", ").as_str() {
            "" => "there are no parameters here".to_owned(),
            paths => format!("there is no such parameter; there are {paths}"),
        }
    };
    let path = Path::find(&route.rpc.input(), key).ok_or_else(known)?;
    match fields::parameters(route).contains(&path) {
        true => Ok(path),
        false => Err(known()),
    }
}

/// Adds the name that stands in the path.
fn from_path(route: &Route, name: Option<String>, message: &mut DynamicMessage, violations: &mut Violations) {
    let (Some(variable), Some(name)) = (&route.variable, name) else { return };
    let Some(path) = Path::find(&route.rpc.input(), &variable.field) else { return };
    match (path.is_list(), variable.collection) {
        (true, collection) => {
            fields::add_selector(message, &path, name, collection.is_some());
            if let Some(kind) = collection.and_then(|collection| collection.only) {
                fields::narrow(message, kind);
            }
        }
        (false, None) => match (path.text(message), path.rival(message)) {
            (given, _) if given == name => {}
            (_, None) => path.put(message, Value::String(name)),
            (_, Some(_)) => {
                violations.add(
                    path.name(),
                    "CONFLICT",
                    format!("is {name} by the path; give nothing beside it"),
                );
            }
        },
        (false, Some(collection)) => {
            let given = path.text(message);
            if !given.is_empty() && !collection.holds(&name, &given) {
                let description =
                    format!("must be the name of a resource in {name}, which stands in the path");
                violations.add(path.name(), "CONFLICT", description);
            }
        }
    }
}

/// Adds what the headers say: the precondition, and where a stream is to go on.
fn from_headers(
    route: &Route,
    headers: &HeaderMap,
    message: &mut DynamicMessage,
    violations: &mut Violations,
) {
    let input = route.rpc.input();
    refuse_unread_preconditions(route, headers, violations);
    if let Some(given) = headers.get(header::IF_MATCH) {
        let etag = given.to_str().ok().and_then(|text| text.strip_prefix('"')?.strip_suffix('"'));
        match (etag_field(route, &input), etag.filter(|etag| !etag.contains('"'))) {
            (None, _) => violations.add("If-Match", "UNEXPECTED", "is not read by this method; leave it out"),
            (_, None) => {
                violations.add("If-Match", "WRONG_TYPE", "must be one etag in quotes, as `ETag` had it")
            }
            (Some(path), Some(etag)) => match path.text(message) {
                given if given.is_empty() || given == etag => {
                    path.put(message, Value::String(etag.to_owned()))
                }
                _ => violations.add(path.name(), "CONFLICT", "is not what `If-Match` says"),
            },
        }
    }
    if headers.get_all("last-event-id").iter().nth(1).is_some() {
        violations.add(
            "Last-Event-ID",
            "WRONG_TYPE",
            "is there more than once; send the one that was received last",
        );
    }
    let resume = ["resume_token", "view_id"].map(|field| Path::find(&input, field));
    if let ([Some(token), Some(view)], Some(given)) = (resume, headers.get("last-event-id"))
        && token.text(message).is_empty()
    {
        let text = given.to_str().unwrap_or("?");
        let (last, seen) = text.split_once('/').unwrap_or((text, ""));
        token.put(message, Value::String(last.to_owned()));
        view.put(message, Value::String(seen.to_owned()));
    }
}

/// A precondition is never passed over: one that is not read, or stands twice, is refused.
fn refuse_unread_preconditions(route: &Route, headers: &HeaderMap, violations: &mut Violations) {
    if headers.get_all(header::IF_MATCH).iter().nth(1).is_some() {
        violations.add("If-Match", "REPEATED", "stands more than once; give one etag");
    }
    if route.method == Method::GET {
        return;
    }
    for (name, shown) in
        [(header::IF_NONE_MATCH, "If-None-Match"), (header::IF_UNMODIFIED_SINCE, "If-Unmodified-Since")]
    {
        if headers.contains_key(name) {
            violations.add(shown, "UNEXPECTED", "is not read by writes; `If-Match` is");
        }
    }
}

/// The field that holds the precondition of a write.
pub(in crate::http) fn etag_field(route: &Route, input: &MessageDescriptor) -> Option<Path> {
    match &route.body {
        Body::Field(field) if route.rpc.name().starts_with("Update") => {
            Path::find(input, &format!("{field}.etag"))
        }
        _ => Path::find(input, "etag"),
    }
}

/// The message as gRPC frames it.
fn framed(message: &DynamicMessage) -> Result<Bytes, Status> {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    let too_large = || to_status(Error::internal("a request is larger than a frame"));
    frame.put_u32(u32::try_from(length).map_err(|_| too_large())?);
    message.encode(&mut frame).map_err(|_| too_large())?;
    Ok(frame.freeze())
}
