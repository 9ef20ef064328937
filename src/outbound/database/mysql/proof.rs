//! How MySQL and MariaDB have a password proven: by a hash over it and over what the server has made up.
//!
//! Each hash is a fast one. Whoever made up the rest of what is hashed can try passwords until one fits, so that a proof goes
//! only where the password itself might go. Must not know what is said around it.

use aws_lc_rs::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use zeroize::Zeroizing;

/// A way in which a server wants the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A hash; where the server does not remember the password's own hash, it goes on to ask for the password itself.
    CachingSha2,
    /// A hash.
    Native,
    /// The password as it is.
    Clear,
}

/// The ways that are known, by the words that servers have for them.
const WAYS: [(&str, Way); 4] = [
    ("caching_sha2_password", Way::CachingSha2),
    ("mysql_native_password", Way::Native),
    ("mysql_clear_password", Way::Clear),
    ("sha256_password", Way::Clear),
];

impl Way {
    /// The way with this name, and the name.
    pub fn named(name: &[u8]) -> Option<(Self, &'static str)> {
        WAYS.into_iter().find(|(word, _)| word.as_bytes() == name).map(|(word, way)| (way, word))
    }

    /// What is answered to what the server has made up. An account without a password is answered with nothing.
    pub fn answer(self, password: &str, nonce: &[u8]) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Clear => clear(password),
            _ if password.is_empty() => Zeroizing::default(),
            Self::CachingSha2 => {
                let once = hash(&SHA256, &[password.as_bytes()]);
                let twice = hash(&SHA256, &[&once]);
                mixed(&once, &hash(&SHA256, &[&twice, nonce]))
            }
            Self::Native => {
                let once = hash(&SHA1_FOR_LEGACY_USE_ONLY, &[password.as_bytes()]);
                let twice = hash(&SHA1_FOR_LEGACY_USE_ONLY, &[&once]);
                mixed(&once, &hash(&SHA1_FOR_LEGACY_USE_ONLY, &[nonce, &twice]))
            }
        }
    }
}

/// The password as it is, with a NUL behind it.
pub(super) fn clear(password: &str) -> Zeroizing<Vec<u8>> {
    // Of the right size at once: what is moved out of leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(password.len() + 1));
    bytes.extend_from_slice(password.as_bytes());
    bytes.push(0);
    bytes
}

fn hash(algorithm: &'static Algorithm, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut context = Context::new(algorithm);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().to_vec().into()
}

fn mixed(one: &[u8], other: &[u8]) -> Zeroizing<Vec<u8>> {
    one.iter().zip(other).map(|(one, other)| one ^ other).collect::<Vec<u8>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With what the tests of public drivers have a server make up, and what they answer.
    #[test]
    fn passwords_are_proven_as_drivers_do() {
        let nonce = [10, 47, 74, 111, 75, 73, 34, 48, 88, 76, 114, 74, 37, 13, 3, 80, 82, 2, 23, 21];
        for (way, password, proof) in [
            (Way::CachingSha2, "secret", "f490e76f66d9d86665ce54d98c78d0acfe2fb0b08b423da807144873d30b312c"),
            (Way::CachingSha2, "secret2", "abc3934a012cf342e876071c8ee202de51785b430258a7a0138bc79c4d800bc6"),
            (Way::Native, "secret", "6a149bdd80bda1ebf0fa2bd2cf2e9717fecc34bb"),
            (Way::Native, "", ""),
            (Way::Clear, "secret", "73656372657400"),
        ] {
            assert_eq!(hex::encode(&*way.answer(password, &nonce)), proof, "{way:?} {password}");
        }
    }
}
