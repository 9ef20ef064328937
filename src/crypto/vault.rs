//! The vault: opens a store's keys, and then seals and opens values.
//!
//! A value is sealed under a key of its own, derived from the data key and the value's place: store, resource uid, field
//! path, secret id; never name, version or revision. Moved anywhere else, it does not open.
//!
//! Data keys are `data-1`, `data-2`, ...; the highest seals, all open. The row [`WrappedKey::LOG`] is a root from
//! which the key of the hash chain and the key of request MACs are derived.

use std::{collections::BTreeMap, fmt};

use super::{
    SecretText,
    derive::{Key, Purpose, RandomError, derive, mac, random_key},
    fernet_box,
    keyring::Keyring,
    padding,
};
use crate::domain::{
    FieldPath, SealedSecret, SecretId, StoreId, Uid,
    keys::{FirstKeys, Identity, LogKey, WrappedKey},
    limits,
};

/// What a Fernet token of the longest value has at most: padded to twice its size, and a third more for base64.
const TOKEN_BYTES: usize = limits::SECRET_BYTES * 4;

/// Seals and opens the values of one store. Its `Debug` shows ids only; its keys are wiped on drop.
pub struct Vault {
    store: StoreId,
    key_ids: Vec<String>,
    /// By number; `None` where no loaded key-encryption key opens it.
    data_keys: BTreeMap<u32, Option<Key>>,
    current: u32,
    request_key: Key,
    environment_key: Key,
    verification_key: Key,
    /// Id of the key-encryption key that opened the current data key.
    sealing_id: String,
    session_key: Key,
}

/// A store's keys, opened.
pub struct Unlocked {
    /// Seals and opens values.
    pub vault: Vault,
    /// Key of the log's hash chain.
    pub log_key: LogKey,
    /// What the store has to write before its first use; `None` unless it is fresh.
    pub first_keys: Option<FirstKeys>,
}

/// Why a store does not open. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    /// None of the loaded keys is a key of this store, or the one that is needed is not among them.
    #[error(
        "the encryption key is the wrong one for this store: it needs {needed}, and {loaded} was given; restore the right key. Nothing was changed"
    )]
    WrongKey {
        /// Ids of the keys that would do.
        needed: String,
        /// Ids of the keys that were given.
        loaded: String,
    },
    /// The key is right, but what it should open was altered, or belongs to another store.
    #[error(
        "{what} of this store was altered or belongs to another store; restore the database from a backup. Nothing was changed"
    )]
    Damaged {
        /// What does not open.
        what: String,
    },
    /// No random numbers for the first keys.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Why a value does not open. It is listed as undecryptable; nothing else stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The store has no such data key.
    #[error("it is sealed with the data key {0:?}, which this store does not have")]
    UnknownDataKey(String),
    /// The data key is there, but the key-encryption key that wraps it was not given.
    #[error("it is sealed with the data key {0:?}, whose key-encryption key was not given")]
    LockedDataKey(String),
    /// It was altered, or belongs to another row, field or store. An alarm.
    #[error("it was altered, or moved here from another place")]
    Tampered,
    /// It is not in the format of a sealed value.
    #[error("it is not a sealed value")]
    Malformed,
}

impl Vault {
    /// Opens the keys of a store, or makes the first ones of a fresh store. The keyring is wiped afterwards.
    ///
    /// # Errors
    /// When the keyring is not the store's, or the store's keys were altered. The store must not be written to then.
    #[allow(clippy::needless_pass_by_value, reason = "taken over, so that it is wiped when its work is done")]
    pub fn unlock(keyring: Keyring, identity: &Identity) -> Result<Unlocked, UnlockError> {
        if identity.fresh {
            return first_unlock(&keyring, identity);
        }
        check_keys(&keyring, identity)?;
        let log_root =
            open_key(&keyring, identity, WrappedKey::LOG)?.ok_or_else(|| wrong_key(&keyring, identity))?;
        let mut data_keys = BTreeMap::new();
        for wrapped in &identity.keys {
            if let Some(number) = data_key_number(&wrapped.id) {
                data_keys.insert(number, open_key(&keyring, identity, &wrapped.id)?);
            }
        }
        let (current, newest) = data_keys.last_key_value().ok_or_else(|| damaged("the data key"))?;
        // Values sealed with an older data key can wait for their key; new values can't.
        newest.as_ref().ok_or_else(|| wrong_key(&keyring, identity))?;
        let current = *current;
        Ok(unlocked(&keyring, identity, data_keys, current, &log_root, None))
    }

    /// Seals a value for its place, under a new id. The value must be within `limits::SECRET_BYTES`.
    #[must_use]
    pub fn seal(&self, uid: &Uid, field: &FieldPath, value: &SecretText) -> SealedSecret {
        let id = SecretId(uuid::Uuid::new_v4().to_string());
        let Some(Some(data_key)) = self.data_keys.get(&self.current) else {
            unreachable!("unlock makes sure that the current data key is open");
        };
        let key = self.value_key(data_key, uid, field, &id);
        let token = fernet_box::seal(&key, &padding::pad(value.expose().as_bytes()));
        SealedSecret { id, data_key: data_key_id(self.current), token }
    }

    /// Opens a value at its place.
    ///
    /// # Errors
    /// Says why it does not open; never panics, whatever the store holds.
    pub fn open(&self, uid: &Uid, field: &FieldPath, sealed: &SealedSecret) -> Result<SecretText, OpenError> {
        let unknown = || OpenError::UnknownDataKey(sealed.data_key.chars().take(64).collect());
        let number = data_key_number(&sealed.data_key).ok_or_else(unknown)?;
        let data_key = self.data_keys.get(&number).ok_or_else(unknown)?.as_ref();
        let data_key = data_key.ok_or_else(|| OpenError::LockedDataKey(sealed.data_key.clone()))?;
        if sealed.token.len() > TOKEN_BYTES || !fernet_box::is_token(&sealed.token) {
            return Err(OpenError::Malformed);
        }
        let key = self.value_key(data_key, uid, field, &sealed.id);
        let padded = fernet_box::open(&key, &sealed.token).ok_or(OpenError::Tampered)?;
        let value = padding::unpad(&padded).ok_or(OpenError::Malformed)?;
        SecretText::from_utf8(value.to_vec()).ok_or(OpenError::Malformed)
    }

    /// Keyed MAC of a request, for its idempotency key: the same on every replica and after every restart.
    #[must_use]
    pub fn request_mac(&self, request: &[u8]) -> [u8; 32] {
        mac(&self.request_key, request)
    }

    /// Keyed MAC of what a replica's environment says of settings: replicas can compare it, and it tells nothing of what is in
    /// there to whoever reads the database.
    #[must_use]
    pub fn environment_mac(&self, environment: &[u8]) -> [u8; 32] {
        mac(&self.environment_key, environment)
    }

    /// Keyed MAC of what a replica verifies tokens with, to be compared in the same way.
    #[must_use]
    pub fn verification_mac(&self, keys: &[u8]) -> [u8; 32] {
        mac(&self.verification_key, keys)
    }

    /// Keyed MAC of the name of a worker's session, and of whose it is: every replica recognises what another one has named.
    #[must_use]
    pub fn session_mac(&self, session: &[u8]) -> [u8; 32] {
        mac(&self.session_key, session)
    }

    /// Ids of the key-encryption keys that were loaded, the current one first.
    #[must_use]
    pub fn key_ids(&self) -> &[String] {
        &self.key_ids
    }

    /// Ids of the key-encryption keys that were loaded, first the one that others need to read what this vault seals: the
    /// data key may still be wrapped with another one than the current.
    #[must_use]
    pub fn key_ids_by_use(&self) -> Vec<String> {
        let others = self.key_ids.iter().filter(|id| **id != self.sealing_id);
        std::iter::once(&self.sealing_id).chain(others).cloned().collect()
    }

    /// Ids of the data keys that no loaded key-encryption key opens.
    #[must_use]
    pub fn locked_data_keys(&self) -> Vec<String> {
        let locked = self.data_keys.iter().filter(|(_, key)| key.is_none());
        locked.map(|(number, _)| data_key_id(*number)).collect()
    }

    fn value_key(&self, data_key: &Key, uid: &Uid, field: &FieldPath, id: &SecretId) -> Key {
        derive(data_key, Purpose::Value, &[&self.store.0, &uid.0, &field.0, &id.0])
    }
}

impl Keyring {
    /// Every key of a store, wrapped anew with the current key-encryption key: what a rotation has to write.
    ///
    /// # Errors
    /// When any key of the store does not open; the rotation must not begin then.
    pub fn rewrap(&self, identity: &Identity) -> Result<FirstKeys, UnlockError> {
        check_keys(self, identity)?;
        let store = &identity.store_id;
        let ids: std::collections::BTreeSet<&str> = identity.keys.iter().map(|key| key.id.as_str()).collect();
        let rewrapped = ids.into_iter().map(|id| {
            let key = open_key(self, identity, id)?.ok_or_else(|| wrong_key(self, identity))?;
            Ok(self.current().wrap(store, id, &key))
        });
        let keys = rewrapped.collect::<Result<Vec<_>, UnlockError>>()?;
        Ok(FirstKeys { check: self.current().check(store), keys })
    }
}

fn first_unlock(keyring: &Keyring, identity: &Identity) -> Result<Unlocked, UnlockError> {
    let store = &identity.store_id;
    let (data_key, log_root) = (random_key()?, random_key()?);
    let kek = keyring.current();
    let first_keys = FirstKeys {
        check: kek.check(store),
        keys: vec![kek.wrap(store, &data_key_id(1), &data_key), kek.wrap(store, WrappedKey::LOG, &log_root)],
    };
    let data_keys = BTreeMap::from([(1, Some(data_key))]);
    Ok(unlocked(keyring, identity, data_keys, 1, &log_root, Some(first_keys)))
}

fn unlocked(
    keyring: &Keyring,
    identity: &Identity,
    data_keys: BTreeMap<u32, Option<Key>>,
    current: u32,
    log_root: &Key,
    first_keys: Option<FirstKeys>,
) -> Unlocked {
    let store = identity.store_id.clone();
    let log_key = LogKey(*derive(log_root, Purpose::Log, &[&store.0]));
    let request_key = derive(log_root, Purpose::Request, &[&store.0]);
    let environment_key = derive(log_root, Purpose::Environment, &[&store.0]);
    let verification_key = derive(log_root, Purpose::Verification, &[&store.0]);
    let session_key = derive(log_root, Purpose::Session, &[&store.0]);
    let (key_ids, sealing_id) = (keyring.ids(), sealing_id(keyring, identity, current));
    let vault = Vault {
        store,
        key_ids,
        data_keys,
        current,
        request_key,
        environment_key,
        session_key,
        verification_key,
        sealing_id,
    };
    Unlocked { vault, log_key, first_keys }
}

/// The key-encryption key that wraps the current data key: of several, in the middle of a rotation, the one that is older
/// here, because the others still have that. A store that is fresh begins with the current one.
fn sealing_id(keyring: &Keyring, identity: &Identity, current: u32) -> String {
    let data_key = data_key_id(current);
    let wraps = |id: &String| identity.keys.iter().any(|key| key.id == data_key && key.kek == *id);
    keyring.ids().into_iter().rev().find(wraps).unwrap_or_else(|| keyring.current().id().to_owned())
}

/// A store has check values of the keys that were used on it: one of them must be loaded, and give the same value.
fn check_keys(keyring: &Keyring, identity: &Identity) -> Result<(), UnlockError> {
    let mut known = 0;
    for check in &identity.key_checks {
        let Some(kek) = keyring.find(&check.kek) else { continue };
        if kek.check(&identity.store_id) != *check {
            return Err(damaged(&format!("the check value of the key {}", check.kek)));
        }
        known += 1;
    }
    if known == 0 { Err(wrong_key(keyring, identity)) } else { Ok(()) }
}

/// Opens a key of the store. `None` if it is only wrapped with keys that are not loaded.
fn open_key(keyring: &Keyring, identity: &Identity, id: &str) -> Result<Option<Key>, UnlockError> {
    let mut rows = identity.keys.iter().filter(|wrapped| wrapped.id == id).peekable();
    rows.peek().ok_or_else(|| damaged(&format!("the key {id:?}")))?;
    // In the middle of a rotation a key may be wrapped twice.
    let mut loaded = rows.filter_map(|wrapped| Some((keyring.find(&wrapped.kek)?, wrapped))).peekable();
    if loaded.peek().is_none() {
        return Ok(None);
    }
    let opened = loaded.find_map(|(kek, wrapped)| kek.unwrap(&identity.store_id, wrapped));
    opened.map(Some).ok_or_else(|| damaged(&format!("the key {id:?}")))
}

fn wrong_key(keyring: &Keyring, identity: &Identity) -> UnlockError {
    let needed: std::collections::BTreeSet<&str> =
        identity.keys.iter().map(|wrapped| wrapped.kek.as_str()).collect();
    let needed = needed.into_iter().collect::<Vec<_>>().join(" and ");
    UnlockError::WrongKey { needed, loaded: keyring.ids().join(" and ") }
}

fn damaged(what: &str) -> UnlockError {
    UnlockError::Damaged { what: what.to_owned() }
}

fn data_key_id(number: u32) -> String {
    format!("data-{number}")
}

/// The number of a data key, if its id is written exactly as [`data_key_id`] does.
fn data_key_number(id: &str) -> Option<u32> {
    let number = id.strip_prefix("data-")?.parse().ok()?;
    (data_key_id(number) == id).then_some(number)
}

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Vault").field("keys", &self.key_ids).finish_non_exhaustive()
    }
}

impl fmt::Debug for Unlocked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vault, log_key: _, first_keys } = self;
        let fresh = first_keys.is_some();
        formatter
            .debug_struct("Unlocked")
            .field("vault", vault)
            .field("fresh", &fresh)
            .finish_non_exhaustive()
    }
}
