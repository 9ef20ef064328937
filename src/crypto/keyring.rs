//! Key-encryption keys: their ids, their check values, and wrapping with them.

use std::fmt;

use zeroize::Zeroizing;

use super::{
    derive::{Key, Purpose, derive},
    fernet_box,
};
use crate::domain::{
    StoreId,
    keys::{KeyCheck, WrappedKey},
};

/// A key-encryption key. It never wraps by itself, but through keys derived from it.
pub(super) struct Kek {
    id: String,
    key: Key,
}

/// The key-encryption keys that this process was given; the first is current, the others only open.
///
/// Never empty. Its `Debug` shows ids. Wiped on drop.
pub struct Keyring {
    keks: Vec<Kek>,
}

impl Kek {
    /// Takes a key over. Its id is derived from it, so that it is the same wherever the key is used.
    pub(super) fn new(key: Key) -> Self {
        let id = format!("kek-{}", hex::encode(&derive(&key, Purpose::KeyId, &[])[..8]));
        Self { id, key }
    }

    /// Its id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The value that only this key gives for this store.
    pub(super) fn check(&self, store: &StoreId) -> KeyCheck {
        let value = hex::encode(derive(&self.key, Purpose::KeyCheck, &[&store.0]).as_ref());
        KeyCheck { kek: self.id.clone(), value }
    }

    /// Wraps a key for its place: this store, this id.
    pub(super) fn wrap(&self, store: &StoreId, id: &str, key: &Key) -> WrappedKey {
        let wrapping = derive(&self.key, Purpose::Wrap, &[&store.0, id]);
        WrappedKey {
            id: id.to_owned(),
            kek: self.id.clone(),
            wrapped: fernet_box::seal(&wrapping, key.as_ref()),
        }
    }

    /// The key that [`Kek::wrap`] wrapped for the same place with the same key; `None` otherwise.
    pub(super) fn unwrap(&self, store: &StoreId, wrapped: &WrappedKey) -> Option<Key> {
        let wrapping = derive(&self.key, Purpose::Wrap, &[&store.0, &wrapped.id]);
        let opened = fernet_box::open(&wrapping, &wrapped.wrapped)?;
        let bytes: &[u8; 32] = opened.as_slice().try_into().ok()?;
        Some(Zeroizing::new(*bytes))
    }
}

impl Keyring {
    /// A keyring of these keys, without doubles; `None` if there are none.
    pub(super) fn of(keks: Vec<Kek>) -> Option<Self> {
        let mut unique: Vec<Kek> = Vec::with_capacity(keks.len());
        for kek in keks {
            if unique.iter().all(|known| known.id != kek.id) {
                unique.push(kek);
            }
        }
        (!unique.is_empty()).then_some(Self { keks: unique })
    }

    /// Ids of the keys, the current one first. They tell nothing about the keys.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.keks.iter().map(|kek| kek.id.clone()).collect()
    }

    /// The key that new data keys are wrapped with.
    pub(super) fn current(&self) -> &Kek {
        // `of` lets no empty keyring come to be.
        &self.keks[0]
    }

    /// The key with this id.
    pub(super) fn find(&self, id: &str) -> Option<&Kek> {
        self.keks.iter().find(|kek| kek.id == id)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Keyring").field(&self.ids()).finish()
    }
}
