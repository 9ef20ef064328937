//! Endpoint paths and the URLs that they become part of. A path stays below the base URL, whatever is put into it.

use std::{borrow::Cow, collections::BTreeMap};

use crate::proto::v1::ProviderSpec;

const PATH_BYTES: usize = 1024;

/// What is wrong with a path below a base URL that may hold each of these names once, as `{name}`; with a reason. The
/// text reads on from the field's path.
#[must_use]
pub fn path_problem(path: &str, names: &[&str]) -> Option<(&'static str, String)> {
    let mut rest = Cow::Borrowed(path);
    for name in names {
        rest = rest.replacen(&format!("{{{name}}}"), "", 1).into();
    }
    let (reason, problem) = if !path.starts_with('/') || path.starts_with("//") {
        ("INVALID_FORMAT", "must begin with one `/`")
    } else if path.len() > PATH_BYTES {
        ("TOO_LONG", "is longer than 1024 bytes")
    } else if !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.contains(['\\', '#']) {
        ("INVALID_FORMAT", "may hold only the characters of a URL's path and query, in ASCII")
    } else if rest.contains(['{', '}']) {
        return Some(("INVALID_FORMAT", placeholders_problem(names)));
    } else if path.split(['/', '?']).any(|segment| matches!(segment, "." | "..")) {
        ("INVALID_FORMAT", "must not hold `.` or `..` as a segment")
    } else {
        return None;
    };
    Some((reason, problem.to_owned()))
}

fn placeholders_problem(names: &[&str]) -> String {
    if names.is_empty() {
        return "may hold no placeholder, because no entry of the request builder has a `target` such as `url:model`"
            .into();
    }
    let names: Vec<String> = names.iter().map(|name| format!("`{{{name}}}`")).collect();
    format!("may hold {} once and no other placeholder", names.join(", "))
}

/// Whether a path has this placeholder.
pub(super) fn holds(path: &str, name: &str) -> bool {
    path.contains(&format!("{{{name}}}"))
}

/// The URL of a path with values in its placeholders.
pub(super) fn url(base_url: &str, path: &str, values: &BTreeMap<String, String>) -> String {
    let mut url = base_url.trim_end_matches('/').to_owned();
    let mut rest = path;
    while let Some((before, (name, after))) =
        rest.split_once('{').and_then(|(before, inside)| Some((before, inside.split_once('}')?)))
    {
        url.push_str(before);
        url.push_str(&values.get(name).map(|value| encode(value)).unwrap_or_default());
        rest = after;
    }
    url + rest
}

/// A URL with one more parameter in its query.
pub(super) fn with_query(url: &str, name: &str, value: &str) -> String {
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}{name}={}", encode(value))
}

/// Percent-encodes all but the unreserved characters of RFC 3986. Dots alone would be a step to elsewhere.
fn encode(text: &str) -> String {
    if text.bytes().all(|byte| byte == b'.') {
        return "%2E".repeat(text.len());
    }
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().fold(String::new(), |encoded, byte| match unreserved(byte) {
        true => encoded + char::from(byte).encode_utf8(&mut [0; 4]),
        false => encoded + &format!("%{byte:02X}"),
    })
}

/// The first label of the host beside a provider's own to which its key goes as well, to list models; empty: there is none.
#[must_use]
pub fn neighbour(provider: &ProviderSpec) -> String {
    let mut provider = provider.clone();
    super::families::fill(&mut provider);
    provider.model_listing.map(|listing| listing.host_label).unwrap_or_default()
}

/// A base URL with another first label of its host.
pub(super) fn at_neighbour(base_url: &str, label: &str) -> String {
    let Some((scheme, rest)) = base_url.split_once("://") else { return base_url.to_owned() };
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    match host.split_once('.') {
        Some((first, _)) if !label.is_empty() => format!("{scheme}://{label}{}", &rest[first.len()..]),
        _ => base_url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_in_their_segment() {
        let values = [("model".to_owned(), "a/../b:c?d#ü".to_owned())].into();
        assert_eq!(
            url("https://h/v1/", "/m/{model}:x?y=1", &values),
            "https://h/v1/m/a%2F..%2Fb%3Ac%3Fd%23%C3%BC:x?y=1"
        );
        assert_eq!(
            url("https://h", "/m/{model}", &[("model".into(), "..".into())].into()),
            "https://h/m/%2E%2E"
        );
        assert_eq!(url("https://h", "/{model", &values), "https://h/{model");
        assert_eq!(with_query("https://h/m?a=1", "t", "x y"), "https://h/m?a=1&t=x%20y");
    }

    #[test]
    fn neighbours_differ_in_their_first_label() {
        let url = "https://bedrock-runtime.eu-west-1.amazonaws.com:8443/x.y";
        assert_eq!(at_neighbour(url, "bedrock"), "https://bedrock.eu-west-1.amazonaws.com:8443/x.y");
        assert_eq!(at_neighbour(url, ""), url);
        assert_eq!(at_neighbour("http://localhost:80/a.b", "x"), "http://localhost:80/a.b");
    }
}
