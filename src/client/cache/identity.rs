//! What a cache is of, so that it opens for nothing else.
//!
//! Owns two fingerprints, each a SHA-256. That of the view and of whom the token speaks for goes into the key. It is a hash over
//! numbers as 4 bytes, little-endian, and texts, each behind its length as such a number:
//!
//! 1. how many selectors there are, and each as: `all`, `name`, `prefix` or `kind`; the name, prefix or kind, empty for `all`;
//!    how many labels it has, and their keys and values, sorted by key. Selectors are sorted by these bytes;
//! 2. 1 where secrets are asked for, else 0;
//! 3. the issuer and the subject of the token; both empty where there is no token, or none that says them.
//!
//! Those of the servers stand in the sealed header, because their list may change: a replica is added, another one goes. One
//! server in common makes it the same service. Each is a hash over `scheme://host:port`, in lower case, with 80 for `http` and
//! 443 for `https` where no port is given.
//!
//! As bytes an identity is the first fingerprint, and then those of the servers, sorted.
//!
//! Must not know files.

use std::collections::BTreeSet;

use http::Uri;
use sha2::{Digest as _, Sha256};

use crate::client::{selector::Selector, token::Subject};

type Fingerprint = [u8; 32];

/// The fingerprints of what the module's first lines say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::client) struct Identity {
    view: Fingerprint,
    servers: BTreeSet<Fingerprint>,
}

impl Identity {
    pub(in crate::client) fn of(
        urls: &[String],
        selectors: &[Selector],
        secrets: bool,
        subject: &Subject,
    ) -> Self {
        let mut picked: Vec<_> = selectors.iter().map(bytes_of).collect();
        picked.sort_unstable();
        let mut bytes = number(picked.len());
        bytes.extend(picked.into_iter().flatten());
        bytes.extend(number(usize::from(secrets)));
        text(&mut bytes, &subject.issuer);
        text(&mut bytes, &subject.subject);
        let servers = urls.iter().map(|url| Sha256::digest(server(url)).into()).collect();
        Self { view: Sha256::digest(&bytes).into(), servers }
    }

    /// What goes into the key.
    pub(super) fn view(&self) -> &[u8] {
        &self.view
    }

    /// The servers, in hexadecimal digits.
    pub(super) fn servers(&self) -> Vec<String> {
        self.servers.iter().map(hex::encode).collect()
    }

    /// Whether one of these servers is one of its own.
    pub(super) fn has_one_of(&self, servers: &[String]) -> bool {
        self.servers.iter().any(|server| servers.contains(&hex::encode(server)))
    }

    #[cfg(test)]
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.servers.iter().fold(self.view.to_vec(), |bytes, server| [&bytes[..], server].concat())
    }
}

/// An address in its one spelling. What is no address is left as it is; no client watches there.
fn server(url: &str) -> String {
    let parsed = url.parse::<Uri>().ok();
    let spelt = parsed.as_ref().and_then(|uri| {
        let (scheme, host) = (uri.scheme_str()?.to_ascii_lowercase(), uri.host()?.to_ascii_lowercase());
        let usual = if scheme == "https" { 443 } else { 80 };
        Some(format!("{scheme}://{host}:{}", uri.port_u16().unwrap_or(usual)))
    });
    spelt.unwrap_or_else(|| url.to_owned())
}

fn bytes_of(selector: &Selector) -> Vec<u8> {
    let (sort, pattern) = selector.pattern_words();
    let mut bytes = Vec::new();
    text(&mut bytes, sort);
    text(&mut bytes, pattern);
    bytes.extend(number(selector.labels().len()));
    for (key, value) in selector.labels() {
        text(&mut bytes, key);
        text(&mut bytes, value);
    }
    bytes
}

fn number(number: usize) -> Vec<u8> {
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes().to_vec()
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(number(text.len()));
    bytes.extend(text.as_bytes());
}
