//! The digest of a view: what lets both ends of a stream find out that a cache has drifted.
//!
//! Owns the arithmetic, which server and client share. Must not know resources, streams or any framework.
//!
//! Over every resource in the view, the first 16 bytes of SHA-256(name, a zero byte, update revision as 8 bytes
//! little-endian), read as a little-endian integer and summed modulo 2^128. A sum does not depend on order, and it can
//! be kept with one hash a change. Test vectors for other languages: `tests/vectors/digest.json`.

use sha2::{Digest, Sha256};

/// The digest of a set of (name, update revision) pairs. The default is the digest of the empty set.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ViewDigest(u128);

impl ViewDigest {
    /// Puts a resource into the set. The pair must not be in it already: a sum would count it twice.
    pub fn add(&mut self, name: &str, update_revision: u64) {
        self.0 = self.0.wrapping_add(term(name, update_revision));
    }

    /// Takes a resource out of the set, with the revision that it was added with.
    pub fn remove(&mut self, name: &str, update_revision: u64) {
        self.0 = self.0.wrapping_sub(term(name, update_revision));
    }

    /// The 16 bytes that travel in `Progress.digest`, little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }
}

/// What one resource adds to the sum.
fn term(name: &str, update_revision: u64) -> u128 {
    let hash = Sha256::new()
        .chain_update(name.as_bytes())
        .chain_update([0])
        .chain_update(update_revision.to_le_bytes())
        .finalize();
    hash.iter()
        .take(16)
        .rev()
        .fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::ViewDigest;

    #[derive(serde::Deserialize)]
    struct Vectors {
        vectors: Vec<Vector>,
    }

    #[derive(serde::Deserialize)]
    struct Vector {
        description: String,
        resources: Vec<Entry>,
        digest_hex: String,
    }

    #[derive(serde::Deserialize)]
    struct Entry {
        name: String,
        update_revision: String,
    }

    fn vectors() -> Vec<(String, Vec<(String, u64)>, String)> {
        let vectors: Vectors =
            serde_json::from_str(include_str!("../tests/vectors/digest.json")).unwrap();
        vectors
            .vectors
            .into_iter()
            .map(|vector| {
                let pairs = vector.resources.into_iter();
                let pairs = pairs.map(|entry| (entry.name, entry.update_revision.parse().unwrap()));
                (vector.description, pairs.collect(), vector.digest_hex)
            })
            .collect()
    }

    #[test]
    fn agrees_with_the_vectors_in_either_order() {
        for (description, pairs, expected) in vectors() {
            let (mut forward, mut backward) = (ViewDigest::default(), ViewDigest::default());
            pairs
                .iter()
                .for_each(|(name, revision)| forward.add(name, *revision));
            pairs
                .iter()
                .rev()
                .for_each(|(name, revision)| backward.add(name, *revision));
            assert_eq!(hex::encode(forward.to_bytes()), expected, "{description}");
            assert_eq!(forward, backward, "{description}");
            assert_eq!(
                ViewDigest::from_bytes(forward.to_bytes()),
                forward,
                "{description}"
            );
        }
    }

    #[test]
    fn removing_undoes_adding() {
        for (description, pairs, _) in vectors() {
            let mut digest = ViewDigest::default();
            pairs
                .iter()
                .for_each(|(name, revision)| digest.add(name, *revision));
            pairs
                .iter()
                .for_each(|(name, revision)| digest.remove(name, *revision));
            assert_eq!(digest, ViewDigest::default(), "{description}");
        }
    }
}
