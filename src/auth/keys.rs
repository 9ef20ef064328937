//! Keys that verify tokens. Each is of one algorithm, which it fixes: a token's `alg` is compared, never obeyed.
//!
//! HS256, RS256, ES256 and EdDSA (RFC 7518, RFC 8037), from a secret, a PEM file or a JWKS file (RFC 7517).

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, Header,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::crypto::{
    SecretText,
    private_file::{self, FileError},
    weak,
};

/// Bytes of an HS256 secret at least (RFC 7518, section 3.2).
const SECRET_BYTES: usize = 32;
/// Keys of one issuer at most, so that a forged token costs a bounded number of verifications.
const KEYS: usize = 16;

/// Where keys of one issuer come from.
#[derive(Clone)]
pub enum KeySource {
    /// A shared secret for HS256: the bytes of the text itself, at least 32.
    Secret(SecretText),
    /// A private file that holds such a secret.
    SecretFile(PathBuf),
    /// A PEM file with one public key: RSA of at least 2,048 bits, P-256 or Ed25519.
    PublicKeyFile(PathBuf),
    /// A JWKS file of public keys; those for other uses and algorithms are passed over.
    JwksFile(PathBuf),
}

/// The keys of one issuer.
pub struct VerificationKeys(Vec<VerificationKey>);

struct VerificationKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    /// Hash of what it was made from, without the order and white space of files.
    print: [u8; 32],
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// A file is missing, exposed or can't be read.
    #[error("token key: {0}")]
    File(#[from] FileError),
    /// The secret is not good enough.
    #[error(
        "the token secret {0}; use at least 32 random characters, for example from `signalbox keys generate`"
    )]
    Secret(&'static str),
    /// A file holds something else than it should.
    #[error("the token key in {} {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: &'static str,
    },
}

impl VerificationKeys {
    /// Reads the keys. Blocks: reads files.
    ///
    /// # Errors
    /// When a file is missing, writable by others or, for a secret, readable by others; when a key is weak, private where it should be
    /// public, or of an algorithm that is not supported.
    pub fn load(source: &KeySource) -> Result<Self, TokenKeyError> {
        match source {
            KeySource::Secret(secret) => Self::of_secret(secret),
            KeySource::SecretFile(path) => Self::of_secret(&private_file::read(path)?),
            KeySource::PublicKeyFile(path) => {
                let key = public_key(private_file::read_public(path)?.expose())
                    .map_err(|problem| TokenKeyError::Unusable { path: path.clone(), problem })?;
                Ok(Self(vec![key]))
            }
            KeySource::JwksFile(path) => Ok(Self(key_set(path, private_file::read_public(path)?.expose())?)),
        }
    }

    /// The key of an HS256 secret.
    ///
    /// # Errors
    /// When the secret is too short or one that everybody knows.
    pub fn of_secret(secret: &SecretText) -> Result<Self, TokenKeyError> {
        let secret = checked_secret(secret)?;
        let key = DecodingKey::from_secret(secret.expose().as_bytes());
        let print = print_of(secret.expose());
        Ok(Self(vec![VerificationKey { id: None, algorithm: Algorithm::HS256, key, print }]))
    }

    /// The same for the same keys, in whichever order, and for no others. It is made of hashes.
    #[must_use]
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let prints: BTreeSet<&[u8; 32]> = self.0.iter().map(|key| &key.print).collect();
        let mut hash = Sha256::new();
        prints.into_iter().for_each(|print| hash.update(print));
        hash.finalize().into()
    }

    /// The keys that a token with this header may have been signed with.
    ///
    /// The `kid` only picks: keys that have another one are passed over. Keys without one are always tried.
    pub(super) fn candidates(&self, header: &Header) -> impl Iterator<Item = (Algorithm, &DecodingKey)> {
        self.0
            .iter()
            .filter(|key| key.algorithm == header.alg)
            .filter(|key| key.id.is_none() || header.kid.is_none() || key.id == header.kid)
            .map(|key| (key.algorithm, &key.key))
    }
}

/// The secret without white space around it, if it is good enough.
pub(super) fn checked_secret(secret: &SecretText) -> Result<SecretText, TokenKeyError> {
    let secret = secret.trimmed();
    if secret.expose().len() < SECRET_BYTES {
        return Err(TokenKeyError::Secret("is shorter than 32 bytes"));
    }
    match weak::password_problem(secret.expose()) {
        Some(problem) => Err(TokenKeyError::Secret(problem)),
        None => Ok(secret),
    }
}

fn public_key(pem: &str) -> Result<VerificationKey, &'static str> {
    if pem.contains("PRIVATE KEY") {
        return Err(
            "is a private key, which has no business here; give the public one (`openssl pkey -pubout`)",
        );
    }
    if pem.contains("BEGIN CERTIFICATE") {
        return Err("is a certificate; give its public key (`openssl x509 -pubkey -noout`)");
    }
    if pem.matches("-----BEGIN").count() != 1 {
        return Err("is not one PEM block; for several keys give a JWKS file");
    }
    let bytes = pem.as_bytes();
    let print = print_of(&pem.split_ascii_whitespace().collect::<String>());
    if let Ok(key) = DecodingKey::from_ed_pem(bytes) {
        return checked_public(None, Algorithm::EdDSA, key, print);
    }
    if let Ok(key) = DecodingKey::from_ec_pem(bytes) {
        return checked_public(None, Algorithm::ES256, key, print);
    }
    let key =
        DecodingKey::from_rsa_pem(bytes).map_err(|_| "is not a PEM public key of RSA, P-256 or Ed25519")?;
    checked_public(None, Algorithm::RS256, key, print)
}

/// What tells a key apart from others.
fn print_of(material: &str) -> [u8; 32] {
    Sha256::digest(material).into()
}

/// Checks sizes, which the decoder leaves to each verification.
fn checked_public(
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    print: [u8; 32],
) -> Result<VerificationKey, &'static str> {
    let right = match algorithm {
        Algorithm::EdDSA => key.try_get_as_bytes().is_ok_and(|point| point.len() == 32),
        // An uncompressed point: 4, x, y.
        Algorithm::ES256 => {
            key.try_get_as_bytes().is_ok_and(|point| point.len() == 65 && point.first() == Some(&4))
        }
        _ => modulus_bytes(&key).is_some_and(|bytes| (256..=1024).contains(&bytes)),
    };
    if right {
        Ok(VerificationKey { id, algorithm, key, print })
    } else {
        Err("is of a size or curve that is not supported; use RSA of at least 2,048 bits, P-256 or Ed25519")
    }
}

fn modulus_bytes(key: &DecodingKey) -> Option<usize> {
    match Jwk::from_decoding_key(key, None).ok()?.algorithm {
        AlgorithmParameters::RSA(parameters) => {
            let modulus = URL_SAFE_NO_PAD.decode(parameters.n).ok()?;
            Some(modulus.iter().skip_while(|byte| **byte == 0).count())
        }
        _ => None,
    }
}

fn key_set(path: &Path, text: &str) -> Result<Vec<VerificationKey>, TokenKeyError> {
    let unusable = |problem| TokenKeyError::Unusable { path: path.to_owned(), problem };
    let set: Value = serde_json::from_str(text).map_err(|_| unusable("is not JSON"))?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or_else(|| unusable("is not a JWKS"))?;
    let mut usable = Vec::new();
    for key in keys {
        // RFC 7517, section 5: what is not understood is passed over.
        let Ok(jwk) = serde_json::from_value::<Jwk>(key.clone()) else { continue };
        if let Some(key) = set_key(&jwk).map_err(unusable)? {
            usable.push(key);
        }
    }
    match usable.len() {
        0 => Err(unusable("holds no key for RS256, ES256 or EdDSA signatures")),
        1..=KEYS => Ok(usable),
        _ => Err(unusable("holds more than 16 keys; leave the retired ones out")),
    }
}

/// A key of a set; `None` if it is for something else.
fn set_key(jwk: &Jwk) -> Result<Option<VerificationKey>, &'static str> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        AlgorithmParameters::OctetKey(_) => {
            return Err(
                "holds a symmetric key; a JWKS file is for public keys, give the secret in a private file",
            );
        }
        _ => return Ok(None),
    };
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
    let named = jwk.common.key_algorithm.is_none_or(|named| named == algorithm.into());
    if !signs || !named {
        return Ok(None);
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|_| "holds a key that can't be decoded")?;
    let print = print_of(&serde_json::to_string(jwk).map_err(|_| "holds a key that can't be written down")?);
    checked_public(jwk.common.key_id.clone(), algorithm, key, print).map(Some)
}
