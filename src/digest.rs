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
    hash.iter().take(16).rev().fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
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

    impl Entry {
        fn revision(&self) -> u64 {
            self.update_revision.parse().unwrap()
        }
    }

    fn vectors() -> Vec<Vector> {
        let text = include_str!("../tests/vectors/digest.json");
        serde_json::from_str::<Vectors>(text).unwrap().vectors
    }

    fn sum<'a>(entries: impl Iterator<Item = &'a Entry>) -> ViewDigest {
        let mut digest = ViewDigest::default();
        entries.for_each(|entry| digest.add(&entry.name, entry.revision()));
        digest
    }

    #[test]
    fn agrees_with_the_vectors_in_either_order() {
        for vector in vectors() {
            let digest = sum(vector.resources.iter());
            assert_eq!(hex::encode(digest.to_bytes()), vector.digest_hex, "{}", vector.description);
            assert_eq!(digest, sum(vector.resources.iter().rev()), "{}", vector.description);
            assert_eq!(ViewDigest::from_bytes(digest.to_bytes()), digest);
        }
    }

    #[test]
    fn removing_undoes_adding() {
        for vector in vectors() {
            let mut digest = sum(vector.resources.iter());
            vector.resources.iter().for_each(|entry| digest.remove(&entry.name, entry.revision()));
            assert_eq!(digest, ViewDigest::default(), "{}", vector.description);
        }
    }
}
