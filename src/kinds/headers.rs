//! HTTP headers of a configuration: for each kind that has calls made with some.
//!
//! Must not know whose headers they are; what a kind sends itself it refuses by a check of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    CheckContext, SecretInput,
    rules::{header_value_problem, is_header_name, shown},
};
use crate::{
    domain::{FieldPath, Violations, spec},
    proto::v1::{HeaderValue, header_value::Value, secret::State},
};

/// Bytes of a header's value, or of a template for one.
pub const HEADER_BYTES: usize = 4096;
const MAX_HEADERS: usize = 32;

/// Headers that belong to one connection or to the framing of a message, and are not for a configuration to set.
pub const CONNECTION_HEADERS: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that carry credentials, and are therefore never in the clear.
const CREDENTIAL_HEADERS: [&str; 6] =
    ["api-key", "authorization", "cookie", "x-api-key", "x-auth-token", "x-goog-api-key"];

/// Checks the field `headers` of a spec. `taken` says what is wrong with a name that the kind uses itself.
pub fn check_headers(
    context: &CheckContext<'_>,
    headers: &BTreeMap<String, HeaderValue>,
    taken: impl Fn(&str) -> Option<&'static str>,
    violations: &mut Violations,
) {
    let field = format!("{}.headers", spec::kind_of(context.spec));
    violations.at_most(&field, headers.len(), MAX_HEADERS, "headers");
    let mut seen = BTreeSet::new();
    for (name, header) in headers.iter().take(MAX_HEADERS) {
        let path = format!("{field}.{}", shown(name));
        if !seen.insert(name.to_ascii_lowercase()) {
            violations.add(&path, "DUPLICATE", "is given twice; upper and lower case are the same header");
        }
        if let Some(problem) = name_problem(name).or_else(|| taken(name)) {
            violations.add(&path, "NOT_ALLOWED", problem);
        }
        let secret = FieldPath(format!("{field}.{name}.secret"));
        check_value(name, header, &path, context.secrets.get(&secret), violations);
    }
}

fn name_problem(name: &str) -> Option<&'static str> {
    if !is_header_name(name) {
        Some("has a name that is no header's; names are letters, digits and `!#$%&'*+-^_`|~`, at most 128")
    } else if name.contains('.') {
        Some("has a `.` in its name, which separates the parts of field paths")
    } else if is_one_of(name, &CONNECTION_HEADERS) {
        Some("belongs to the connection and is set by the client that makes the call")
    } else {
        None
    }
}

fn check_value(
    name: &str,
    header: &HeaderValue,
    path: &str,
    secret: Option<&SecretInput>,
    violations: &mut Violations,
) {
    let (path, value) = match &header.value {
        None => return violations.add(path, "REQUIRED", "has no value; set `plain` or `secret`"),
        Some(Value::Plain(_)) if is_one_of(name, &CREDENTIAL_HEADERS) => {
            let problem = "must not be set, because the header carries credentials; set `secret` instead";
            return violations.add(format!("{path}.plain"), "SECRET_REQUIRED", problem);
        }
        Some(Value::Plain(value)) => (format!("{path}.plain"), value.as_str()),
        Some(Value::Secret(secret)) if secret.state() == State::Absent => {
            let problem = "has no value; give one, or remove the header";
            return violations.add(format!("{path}.secret"), "REQUIRED", problem);
        }
        Some(Value::Secret(_)) => match secret {
            Some(SecretInput::Replace(value)) if !value.is_empty() => {
                (format!("{path}.secret"), value.as_str())
            }
            _ => return,
        },
    };
    if value.len() > HEADER_BYTES {
        let length = value.len();
        violations.add(&path, "TOO_LONG", format!("has {length} bytes; at most {HEADER_BYTES} are allowed"));
    }
    if let Some(problem) = header_value_problem(value) {
        violations.add(path, "INVALID_FORMAT", problem);
    }
}

/// Whether a header carries credentials by its name alone.
#[must_use]
pub fn carries_credentials(name: &str) -> bool {
    is_one_of(name, &CREDENTIAL_HEADERS)
}

/// Whether a header's name is one of these, which are in lower case.
pub fn is_one_of(name: &str, lower_case: &[&str]) -> bool {
    lower_case.iter().any(|known| name.eq_ignore_ascii_case(known))
}
