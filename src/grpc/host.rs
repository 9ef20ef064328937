//! Whether a request names its host as its version of HTTP has it: one rule for every listener. Proxies that take another one of
//! two for the right one, or read a malformed one otherwise, would send it elsewhere. It must not know which hosts there are.

use http::{HeaderMap, HeaderValue, Version, header::HOST, uri::Authority};

/// What is wrong with how a request names its host (RFC 9112, section 3.2); `None` if nothing is.
#[must_use]
pub fn host_fault(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        // HTTP/2 has `:authority` in its place.
        (None, _) if version != Version::HTTP_11 => None,
        (None, _) => Some("a request of HTTP/1.1 has the header `Host`"),
        (Some(host), None) if is_host(host) => None,
        (Some(_), None) => Some("the header `Host` is not a host, alone or with a port"),
        (Some(_), Some(_)) => Some("the header `Host` stands more than once"),
    }
}

/// Empty is what is sent where an address has no host.
fn is_host(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    bytes.is_empty() || (!bytes.contains(&b'@') && Authority::try_from(bytes).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_stands_once_and_is_one() {
        let fault = |version, hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, HeaderValue::from_static(host));
            }
            host_fault(version, &headers)
        };
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            for good in ["a", "a.example:8080", "[::1]:8080", "127.0.0.1", ""] {
                assert_eq!(fault(version, &[good]), None, "{version:?} {good}");
            }
            for bad in ["a b", "a/b", "u@a", "a, b", "http://a"] {
                assert!(fault(version, &[bad]).is_some(), "{version:?} {bad}");
            }
            assert!(fault(version, &["a", "a"]).is_some(), "{version:?}");
            assert_eq!(fault(version, &[]).is_some(), version == Version::HTTP_11);
        }
    }
}
