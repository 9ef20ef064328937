//! Fernet (<https://github.com/fernet/spec/blob/master/Spec.md>) without its clock.
//!
//! A Fernet token carries the time of its making, and readers refuse tokens from the future. Between replicas that
//! would turn clock skew into lost secrets, and the time would tell when a secret was written. So every token is
//! made at, and read at, one constant time; the TTL path, which can panic on forged input, is not used.

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use fernet::Fernet;
use zeroize::Zeroizing;

use super::derive::Key;

/// Seconds since 1970 that every token carries.
const TIME: u64 = 0;

/// Encrypts and authenticates.
pub(super) fn seal(key: &Key, plain: &[u8]) -> String {
    fernet(key).encrypt_at_time(plain, TIME)
}

/// The plaintext; `None` unless the token was made with this key and is untouched.
pub(super) fn open(key: &Key, token: &str) -> Option<Zeroizing<Vec<u8>>> {
    fernet(key).decrypt_at_time(token, None, TIME).ok().map(Zeroizing::new)
}

/// Whether a text has the outer shape of a token: base64url, the version byte, whole blocks.
pub(super) fn is_token(text: &str) -> bool {
    // Version 1, time 8, IV 16, at least one block of 16, HMAC 32.
    URL_SAFE.decode(text).is_ok_and(|bytes| {
        bytes.first() == Some(&0x80) && bytes.len() >= 73 && (bytes.len() - 57).is_multiple_of(16)
    })
}

fn fernet(key: &Key) -> Fernet {
    let text = Zeroizing::new(URL_SAFE.encode(key.as_ref()));
    let Some(fernet) = Fernet::new(&text) else {
        unreachable!("32 bytes in base64url are a Fernet key");
    };
    fernet
}
