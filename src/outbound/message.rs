//! A rendered request, with its credentials, as it goes over the connection.

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request,
    header::{ACCEPT, HOST, USER_AGENT},
};
use http_body_util::Full;
use url::Url;

use super::{Credentials, Fault, guard::Target};
use crate::wire::{Header, HeaderKind, HttpRequest};

const API_KEY: &str = "{api_key}";
const AGENT: &str = concat!("signalbox/", env!("CARGO_PKG_VERSION"));

/// A message and where it goes.
pub(super) struct Message {
    pub target: Target,
    pub request: Request<Full<Bytes>>,
}

impl Message {
    /// Puts the credentials into a request.
    ///
    /// # Errors
    /// `Unsendable` for a URL that is none, or a header without its secret.
    pub fn of(rendered: &HttpRequest, credentials: &Credentials) -> Result<Self, Fault> {
        let (origin, path) = split(&rendered.url)?;
        let target = target(&origin)?;
        let method = rendered.method.as_str_name().trim_start_matches("HTTP_METHOD_");
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| Fault::Unsendable)?;
        let body = rendered.body.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| Fault::Unsendable)?;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        for header in &rendered.headers {
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| Fault::Unsendable)?;
            headers.insert(name, value(header, credentials)?);
        }
        // The host that is connected to, whatever the configuration says.
        headers.insert(HOST, HeaderValue::from_str(authority(&origin)).map_err(|_| Fault::Unsendable)?);
        Ok(Self { target, request })
    }
}

/// A URL in two: what says where it goes, and the rest to the letter. The parser is given the first part only: it would
/// take steps out of the path that the configuration has encoded.
fn split(url: &str) -> Result<(Url, &str), Fault> {
    let rest = url.find("://").map(|place| place + 3).ok_or(Fault::Unsendable)?;
    let end = url[rest..].find(['/', '?', '#', '\\']).map_or(url.len(), |place| rest + place);
    let (origin, path) = url.split_at(end);
    let path = if path.is_empty() { "/" } else { path };
    if origin[rest..].contains('@') || !path.starts_with('/') || path.contains('#') {
        return Err(Fault::Unsendable);
    }
    Ok((Url::parse(origin).map_err(|_| Fault::Unsendable)?, path))
}

fn target(origin: &Url) -> Result<Target, Fault> {
    let secure = match origin.scheme() {
        "https" => true,
        "http" => false,
        _ => return Err(Fault::Unsendable),
    };
    let (host, port) = origin.host().zip(origin.port_or_known_default()).ok_or(Fault::Unsendable)?;
    Ok(Target { host: host.to_owned(), port, secure })
}

fn authority(origin: &Url) -> &str {
    &origin[url::Position::BeforeHost..url::Position::AfterPort]
}

fn value(header: &Header, credentials: &Credentials) -> Result<HeaderValue, Fault> {
    let secret = match header.kind {
        HeaderKind::Plain => {
            return HeaderValue::from_str(&header.value).map_err(|_| Fault::Unsendable);
        }
        HeaderKind::ApiKey => {
            let key = credentials.key().ok_or(Fault::Unsendable)?;
            zeroize::Zeroizing::new(header.value.replacen(API_KEY, key, 1))
        }
        HeaderKind::Secret => {
            let secret = credentials.headers.get(&header.name).ok_or(Fault::Unsendable)?;
            zeroize::Zeroizing::new(secret.expose().to_owned())
        }
    };
    let mut value = HeaderValue::from_str(&secret).map_err(|_| Fault::Unsendable)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_it_goes_and_its_path_stays_as_it_is() {
        let of = |url: &str| split(url).and_then(|(origin, path)| Ok((target(&origin)?, path.to_owned())));
        let (found, path) = of("https://API.example.com./v1/%2E%2E/x?a=1").unwrap();
        assert_eq!(
            (found.host.to_string().as_str(), found.port, found.secure),
            ("api.example.com.", 443, true)
        );
        assert_eq!(path, "/v1/%2E%2E/x?a=1");
        let (found, path) = of("http://[::1]:8080").unwrap();
        assert_eq!((found.host.to_string().as_str(), found.port, path.as_str()), ("[::1]", 8080, "/"));
        // Other ways to write 127.0.0.1.
        for text in ["http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/"] {
            assert_eq!(of(text).unwrap().0.host, url::Host::<String>::Ipv4([127, 0, 0, 1].into()), "{text}");
        }
        for text in [
            "",
            "x",
            "ftp://x/",
            "https://a@b/",
            "https://a\\b/",
            "https:///x",
            "https://x/#y",
            "https://x?y",
        ] {
            assert_eq!(of(text).unwrap_err(), Fault::Unsendable, "{text}");
        }
    }
}
