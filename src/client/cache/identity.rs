//! What a cache is of, so that it opens for nothing else.
//!
//! Owns the fingerprint of servers, view and token subject. It is a hash over numbers as 4 bytes, little-endian, and texts,
//! each behind its length as such a number:
//!
//! 1. how many servers there are, and their URLs, sorted bytewise;
//! 2. how many selectors there are, and each as: `all`, `name`, `prefix` or `kind`; the name, prefix or kind, empty for `all`;
//!    how many labels it has, and their keys and values, sorted by key. Selectors are sorted by these bytes;
//! 3. 1 where secrets are asked for, else 0;
//! 4. the issuer and the subject of the token; both empty where there is no token, or none that says them.
//!
//! Must not know files.

use sha2::{Digest as _, Sha256};

use crate::client::{selector::Selector, token::Subject};

/// The fingerprint: SHA-256 of what the module's first lines say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::client) struct Identity([u8; 32]);

impl Identity {
    pub(in crate::client) fn of(
        urls: &[String],
        selectors: &[Selector],
        secrets: bool,
        subject: &Subject,
    ) -> Self {
        let mut urls: Vec<_> = urls.iter().map(String::as_str).collect();
        urls.sort_unstable();
        let mut bytes = number(urls.len());
        urls.iter().for_each(|url| text(&mut bytes, url));
        let mut picked: Vec<_> = selectors.iter().map(bytes_of).collect();
        picked.sort_unstable();
        bytes.extend(number(picked.len()));
        bytes.extend(picked.into_iter().flatten());
        bytes.extend(number(usize::from(secrets)));
        text(&mut bytes, &subject.issuer);
        text(&mut bytes, &subject.subject);
        Self(Sha256::digest(&bytes).into())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
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
