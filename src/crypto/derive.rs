//! The one place where keys are derived: HKDF-SHA256 (RFC 5869), a label for each purpose, context length-prefixed.
//!
//! The labels are part of the format at rest. Changing one makes what it protects unreadable.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// A symmetric key of 256 bits, wiped on drop.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// What a derived key, or a derived value, is for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// Public id of a key-encryption key.
    KeyId,
    /// Public value that tells whether a key-encryption key is the right one for a store.
    KeyCheck,
    /// Wraps one data key.
    Wrap,
    /// Seals one value.
    Value,
    /// Key of the log's hash chain.
    Log,
    /// MAC of the requests under idempotency keys.
    Request,
    /// Seals one value of an export, with the caller's key.
    Export,
    /// MAC of what a replica's environment says of settings.
    Environment,
    /// MAC of what a replica verifies tokens with.
    Verification,
    /// MAC of the name of a worker's session.
    Session,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Purpose::KeyId => b"signalbox/v1/key-id",
            Purpose::KeyCheck => b"signalbox/v1/key-check",
            Purpose::Wrap => b"signalbox/v1/wrap",
            Purpose::Value => b"signalbox/v1/value",
            Purpose::Log => b"signalbox/v1/log",
            Purpose::Request => b"signalbox/v1/request",
            Purpose::Export => b"signalbox/v1/export",
            Purpose::Environment => b"signalbox/v1/environment",
            Purpose::Verification => b"signalbox/v1/verification",
            Purpose::Session => b"signalbox/v1/session",
        }
    }
}

/// Derives the key of one purpose in one context.
///
/// Label and context are each preceded by their length (8 bytes, big-endian), so that no two contexts run together.
pub(super) fn derive(key: &[u8; 32], purpose: Purpose, context: &[&str]) -> Key {
    let mut info = Vec::new();
    for part in std::iter::once(purpose.label()).chain(context.iter().map(|part| part.as_bytes())) {
        info.extend_from_slice(&(part.len() as u64).to_be_bytes());
        info.extend_from_slice(part);
    }
    let mut derived = Key::new([0; 32]);
    let Ok(()) = Hkdf::<Sha256>::new(None, key).expand(&info, derived.as_mut()) else {
        unreachable!("HKDF-SHA256 gives up to 8,160 bytes, and this asks for 32");
    };
    derived
}

/// HMAC-SHA256 of a message.
pub(super) fn mac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        unreachable!("HMAC takes keys of any length");
    };
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// Fills a new key from the operating system's random source.
///
/// # Errors
/// When that source fails.
pub(super) fn random_key() -> Result<Key, RandomError> {
    random_bytes()
}

/// Bytes from the operating system's random source, wiped on drop.
///
/// # Errors
/// When that source fails.
pub fn random_bytes<const LENGTH: usize>() -> Result<Zeroizing<[u8; LENGTH]>, RandomError> {
    use rand::TryRng as _;
    let mut bytes = Zeroizing::new([0; LENGTH]);
    rand::rngs::SysRng.try_fill_bytes(bytes.as_mut()).map_err(|_| RandomError)?;
    Ok(bytes)
}

/// The operating system gave no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system's random source failed")]
pub struct RandomError;
