//! Keys as they lie in a store, and what a store says of itself before it is unlocked.

use super::StoreId;

/// A data key, wrapped by a key-encryption key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// Its id. [`WrappedKey::LOG`] is the key of the hash chain.
    pub id: String,
    /// Id of the key-encryption key.
    pub kek: String,
    /// A Fernet token.
    pub wrapped: String,
}

/// Tells a right key from a wrong one, without opening anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCheck {
    /// Id of the key-encryption key.
    pub kek: String,
    /// A value that only that key gives for this store.
    pub value: String,
}

/// What a store says of itself before it is unlocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its identity.
    pub store_id: StoreId,
    /// Whether no key was ever used on it.
    pub fresh: bool,
    /// Key check values of the keys in use.
    pub key_checks: Vec<KeyCheck>,
    /// All wrapped keys.
    pub keys: Vec<WrappedKey>,
    /// Salt for keys that come from a password; made when the store is.
    pub password_salt: [u8; 16],
    /// Version of the schema.
    pub schema_version: u32,
}

/// What a fresh store is given before its first use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstKeys {
    /// The key check value of the current key.
    pub check: KeyCheck,
    /// The first data key and the log key.
    pub keys: Vec<WrappedKey>,
}

/// Key of the log's hash chain and of the state digest. It can't be printed, and is wiped on drop.
#[derive(Clone, zeroize::ZeroizeOnDrop)]
pub struct LogKey(pub [u8; 32]);

impl WrappedKey {
    /// Id of the log key.
    pub const LOG: &'static str = "log";
}
