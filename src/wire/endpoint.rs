//! Endpoint paths and the URLs that they become part of. A path stays below the base URL, whatever is put into it.

use std::{borrow::Cow, collections::BTreeMap, net::Ipv4Addr};

use crate::proto::v1::ProviderSpec;

const PATH_BYTES: usize = 1024;
/// Parameters of a query that carry credentials, in lower case and without `-` and `_`.
const CREDENTIALS: [&str; 14] = [
    "key",
    "apikey",
    "xapikey",
    "token",
    "accesstoken",
    "authtoken",
    "auth",
    "authorization",
    "secret",
    "clientsecret",
    "password",
    "accesskey",
    "subscriptionkey",
    "signature",
];

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
    } else if !is_encoded(&rest) {
        ("INVALID_FORMAT", "has a `%` that does not begin an octet; write `%25` for the sign itself")
    } else if rest.split(['/', '?']).any(is_dots) {
        ("INVALID_FORMAT", "must not hold `.` or `..` as a segment, percent-encoded or not")
    } else if names_credentials(path) {
        (
            "NOT_ALLOWED",
            "must not hold credentials in its query; store them as an API key or as a secret header",
        )
    } else {
        return None;
    };
    Some((reason, problem.to_owned()))
}

/// Whether every `%` of a part of a URL begins an octet.
#[must_use]
pub fn is_encoded(text: &str) -> bool {
    let octet = |part: &str| part.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    text.split('%').skip(1).all(octet)
}

/// Whether a segment, which may be percent-encoded, is a step to elsewhere or to nowhere.
fn is_dots(segment: &str) -> bool {
    matches!(unescaped(segment).as_str(), "." | "..")
}

/// Whether the query of a path has a parameter that carries credentials by its name.
fn names_credentials(path: &str) -> bool {
    let query = path.split_once('?').map(|(_, query)| query).unwrap_or_default();
    query.split('&').any(|parameter| {
        let name = unescaped(parameter.split('=').next().unwrap_or_default());
        CREDENTIALS.contains(&name.to_ascii_lowercase().replace(['-', '_'], "").as_str())
    })
}

/// A text without its percent-encoding, as far as it is ASCII.
fn unescaped(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let byte = piece.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(u8::is_ascii) {
            Some(byte) => {
                plain.push(char::from(byte));
                plain.push_str(&piece[2..]);
            }
            None => plain.push_str(piece),
        }
    }
    plain
}

/// Whether a value for a placeholder would make its segment a step to elsewhere: no encoding protects dots.
pub(super) fn leads_elsewhere(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte == b'.')
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

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encode(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().fold(String::new(), |encoded, byte| match unreserved(byte) {
        true => encoded + char::from(byte).encode_utf8(&mut [0; 4]),
        false => encoded + &format!("%{byte:02X}"),
    })
}

/// The first label of the host beside a provider's own to which its key goes as well, to list models; empty: there is none.
/// The label of the type counts only beside an address of the type: a gateway in front of it has no such neighbour, and
/// nobody has named one.
#[must_use]
pub fn neighbour(provider: &ProviderSpec) -> String {
    let mut filled = provider.clone();
    super::families::fill(&mut filled);
    let label = filled.model_listing.map(|listing| listing.host_label).unwrap_or_default();
    let first = first_label(&provider.base_url).unwrap_or_default();
    if super::families::is_beside(provider.r#type, &label, first) { label } else { String::new() }
}

/// A base URL with another first label of its host.
pub(super) fn at_neighbour(base_url: &str, label: &str) -> String {
    match (base_url.split_once("://"), first_label(base_url)) {
        (Some((scheme, rest)), Some(first)) if !label.is_empty() => {
            format!("{scheme}://{label}{}", &rest[first.len()..])
        }
        _ => base_url.to_owned(),
    }
}

/// The first label of the host of a base URL, if that is a name of several.
fn first_label(base_url: &str) -> Option<&str> {
    let host = base_url.split_once("://")?.1.split(['/', ':']).next()?;
    let (first, _) = host.split_once('.')?;
    host.parse::<Ipv4Addr>().is_err().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::ProviderType;

    #[test]
    fn values_stay_in_their_segment() {
        let values = [("model".to_owned(), "a/../b:c?d#ü".to_owned())].into();
        assert_eq!(
            url("https://h/v1/", "/m/{model}:x?y=1", &values),
            "https://h/v1/m/a%2F..%2Fb%3Ac%3Fd%23%C3%BC:x?y=1"
        );
        assert_eq!(url("https://h", "/{model", &values), "https://h/{model");
        assert_eq!(with_query("https://h/m?a=1", "t", "x y"), "https://h/m?a=1&t=x%20y");
    }

    #[test]
    fn regression_dots_are_dots_however_they_are_written() {
        for path in ["/..", "/%2e%2E/x", "/.%2e", "/%2E", "/a/.{model}", "/{model}%2e"] {
            assert!(path_problem(path, &["model"]).is_some(), "{path}");
        }
        for path in ["/v1/{model}", "/v1.5/x", "/...", "/x?alt=sse", "/x?max_tokens=1"] {
            assert_eq!(path_problem(path, &["model"]), None, "{path}");
        }
        assert!(
            leads_elsewhere("..") && leads_elsewhere(".") && !leads_elsewhere("a.b") && !leads_elsewhere("")
        );
    }

    #[test]
    fn regression_credentials_are_not_in_the_query_of_a_path() {
        for path in ["/x?key=a", "/x?alt=sse&api_key=a", "/x?API-Key=a", "/x?k%65y=a", "/x?access_token=a"] {
            assert!(path_problem(path, &[]).is_some_and(|(reason, _)| reason == "NOT_ALLOWED"), "{path}");
        }
    }

    #[test]
    fn neighbours_differ_in_their_first_label() {
        let url = "https://bedrock-runtime.eu-west-1.amazonaws.com:8443/x.y";
        assert_eq!(at_neighbour(url, "bedrock"), "https://bedrock.eu-west-1.amazonaws.com:8443/x.y");
        assert_eq!(at_neighbour(url, ""), url);
        for alone in ["http://localhost:80/a.b", "http://10.0.0.5:8080/x", "http://[::1]:80/a.b"] {
            assert_eq!(at_neighbour(alone, "x"), alone);
        }
    }

    #[test]
    fn regression_a_gateway_has_no_neighbour_that_nobody_has_named() {
        let labelled = |base_url: &str, label: Option<&str>| {
            let mut provider = ProviderSpec {
                r#type: ProviderType::Bedrock.into(),
                base_url: base_url.to_owned(),
                ..ProviderSpec::default()
            };
            // As a provider is stored: with the listing of its type.
            crate::wire::families::fill(&mut provider);
            if let (Some(label), Some(listing)) = (label, &mut provider.model_listing) {
                label.clone_into(&mut listing.host_label);
            }
            neighbour(&provider)
        };
        for own in
            ["https://bedrock-runtime.eu-west-1.amazonaws.com", "https://Bedrock-Runtime-FIPS.x.api.aws"]
        {
            assert_eq!(labelled(own, None), "bedrock", "{own}");
        }
        for other in [
            "https://gw.example.com/bedrock",
            "https://bedrock-gw.example.com",
            "https://vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com",
            "http://10.0.0.5:8080",
            "http://localhost:8080",
        ] {
            assert_eq!(labelled(other, None), "", "{other}");
        }
        assert_eq!(labelled("https://gw.example.com", Some("lists")), "lists", "somebody has named it");
    }
}
