//! Where a collector is and how it is spoken to: what can be right of the one depends on the other. It must not know what is
//! sent.

use url::{Host, Url};

use crate::settings::values::{self, Wrong};

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP/1.1, in the binary form.
    Http,
}

/// The protocols by their names.
const PROTOCOLS: [(&str, Protocol); 2] = [("grpc", Protocol::Grpc), ("http/protobuf", Protocol::Http)];
/// Where a collector takes traces over HTTP, beneath an address that is for everything.
const TRACES: &str = "v1/traces";

/// Reads how a collector is spoken to.
pub(super) fn protocol(text: &str) -> Result<Protocol, Wrong> {
    values::word(text, &PROTOCOLS).map_err(|_| {
        let known = PROTOCOLS.map(|(name, _)| name).join(" or ");
        format!("`{text}` is not spoken here; give {known}")
    })
}

/// Reads a collector's address. What it may have behind the port, the protocol decides.
pub(super) fn url(text: &str) -> Result<Url, Wrong> {
    let wrong = || "is not the URL of a collector; give one such as http://127.0.0.1:4317".to_owned();
    let url = Url::parse(text).map_err(|_| wrong())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or a password; give credentials in OTEL_EXPORTER_OTLP_HEADERS".into());
    }
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(
            "has a query, which no collector has; give credentials in OTEL_EXPORTER_OTLP_HEADERS".into()
        );
    }
    Ok(url)
}

/// What is called: one `for_traces` alone is that, and beneath one for everything traces have a place of their own.
pub(super) fn target(url: &Url, protocol: Protocol, for_traces: bool) -> Result<String, Wrong> {
    match protocol {
        Protocol::Grpc if url.path() == "/" => Ok(url.as_str().trim_end_matches('/').to_owned()),
        Protocol::Grpc => {
            Err("has a path; OTLP over gRPC has none, its port is mostly 4317. Over HTTP it has one: \
                               OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
                .into())
        }
        Protocol::Http if for_traces => Ok(url.to_string()),
        Protocol::Http => Ok(format!("{}/{TRACES}", url.as_str().trim_end_matches('/'))),
    }
}

/// What is mostly meant otherwise: the port of the other protocol.
pub(super) fn unlikely(target: &str, protocol: Protocol) -> Option<&'static str> {
    match (protocol, Url::parse(target).ok()?.port()?) {
        (Protocol::Grpc, 4318) => Some(
            "4318 is mostly the port of OTLP over HTTP, and gRPC is spoken to it; OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf \
             speaks HTTP",
        ),
        (Protocol::Http, 4317) => Some(
            "4317 is mostly the port of OTLP over gRPC, and HTTP is spoken to it; OTEL_EXPORTER_OTLP_PROTOCOL=grpc speaks gRPC",
        ),
        _ => None,
    }
}

/// Whether everybody on the way to the collector can read what is sent.
pub(super) fn in_the_clear(target: &str) -> bool {
    let Ok(url) = Url::parse(target) else { return false };
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    };
    url.scheme() == "http" && !local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_have_a_place_beneath_an_address_for_everything_and_their_own_address_is_taken_as_it_is() {
        let target = |text: &str, protocol, for_traces| target(&url(text).unwrap(), protocol, for_traces);
        for (text, for_traces, wanted) in [
            ("http://c:4318", false, "http://c:4318/v1/traces"),
            ("http://c:4318/", false, "http://c:4318/v1/traces"),
            ("https://c/otlp/", false, "https://c/otlp/v1/traces"),
            ("http://c:4318", true, "http://c:4318/"),
            ("https://c/otlp/v1/traces", true, "https://c/otlp/v1/traces"),
        ] {
            assert_eq!(target(text, Protocol::Http, for_traces).unwrap(), wanted, "{text}");
        }
        for for_traces in [false, true] {
            assert_eq!(target("http://c:4317/", Protocol::Grpc, for_traces).unwrap(), "http://c:4317");
            assert!(target("http://c:4318/v1/traces", Protocol::Grpc, for_traces).is_err());
        }
    }
}
