//! Secrets at rest: the keyring, the envelope, sealed values, and where keys come from.
//!
//! Three layers. A key-encryption key ([`Keyring`]) comes from outside the store; it wraps the store's data keys and
//! its log root; a data key, through a key derived for one place, seals one value ([`Vault`]). Every purpose has a label of
//! its own (`derive`), so that no key ever does two things.
//!
//! It must not know storage or transport: it takes an [`Identity`](crate::domain::keys::Identity) and gives back
//! what is to be stored. Everything here blocks; what reads files or stretches a password belongs off the runtime's threads.

mod derive;
mod export;
mod fernet_box;
mod foreign;
mod key_sources;
mod keyring;
mod padding;
pub mod private_file;
mod process;
mod secret;
mod vault;
pub(crate) mod weak;

pub use derive::random_bytes;
pub use export::ExportKey;
pub use foreign::{Foreign, ForeignKeys, is_ciphertext};
pub use key_sources::{KeyError, KeyOrigin, KeySources, LoadedKeyring, generate_key};
pub use keyring::Keyring;
pub use process::forbid_core_dumps;
pub use secret::{SecretBytes, SecretText};
pub use vault::{OpenError, UnlockError, Unlocked, Vault};

#[cfg(test)]
mod tests;
