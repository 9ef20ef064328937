//! HTTP headers of a configuration: for each kind that has calls made with some.
//!
//! Must not know whose headers they are; what a kind sends itself it refuses by a check of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    CheckContext, SecretInput, credential,
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

/// What the names of headers that carry credentials hold, in lower case and without `-` and `_`.
const CREDENTIAL_PARTS: [&str; 14] = [
    "apikey",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "authorization",
    "authentication",
    "cookie",
    "credential",
    "subscriptionkey",
    "accesskey",
    "privatekey",
    "functionskey",
    "signature",
];
/// What such names end in, or have as one of their words: `x-author` and `x-max-tokens` carry none.
const CREDENTIAL_WORDS: [&str; 4] = ["token", "auth", "jwt", "bearer"];
/// What credentials begin with, in lower case.
const CREDENTIAL_VALUES: [&str; 3] = ["bearer ", "basic ", "sk-"];

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
        Some(Value::Plain(value)) if carries_credentials(name) || is_credential(value) => {
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
    let name = name.to_ascii_lowercase();
    let joined = name.replace(['-', '_'], "");
    // What a list hands out to be asked for its next piece, nobody has to hide.
    if matches!(joined.as_str(), "pagetoken" | "resumetoken") {
        return false;
    }
    CREDENTIAL_PARTS.iter().any(|part| joined.contains(part))
        || CREDENTIAL_WORDS.iter().any(|word| joined.ends_with(word))
        || name.split(['-', '_']).any(|word| CREDENTIAL_WORDS.contains(&word))
}

/// Whether a header's value is one of those that only credentials have.
fn is_credential(value: &str) -> bool {
    let value = value.trim_start();
    CREDENTIAL_VALUES
        .iter()
        .any(|begin| value.get(..begin.len()).is_some_and(|given| given.eq_ignore_ascii_case(begin)))
        || credential::found_in(value).is_some()
}

/// Whether a header's name is one of these, which are in lower case.
pub fn is_one_of(name: &str, lower_case: &[&str]) -> bool {
    lower_case.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_credentials_are_known_by_name_and_by_value() {
        for name in [
            "Authorization",
            "api-key",
            "X-Auth-Token",
            "x_goog_api_key",
            "Ocp-Apim-Subscription-Key",
            "X-Amz-Security-Token",
            "Helicone-Auth",
            "XAuthToken",
            "X-Client-Secret",
            "Set-Cookie",
        ] {
            assert!(carries_credentials(name), "{name}");
        }
        let harmless = [
            "x-request-id",
            "anthropic-version",
            "OpenAI-Organization",
            "X-Author",
            "X-Max-Tokens",
            "X-Title",
        ];
        for name in harmless {
            assert!(!carries_credentials(name), "{name}");
        }
        assert!(is_credential("bearer x") && is_credential("Basic eDp5") && is_credential("sk-1"));
        assert!(!is_credential("2023-06-01") && !is_credential("sk\u{e4}") && !is_credential(""));
    }
}
