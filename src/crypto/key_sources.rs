//! Where key-encryption keys come from: a file, the environment, a password, or, once, from here.
//!
//! It takes values and paths; which variables and flags they stand in is for `settings` to know. Errors say what to do and
//! never hold a part of a key.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::DecodePaddingMode, engine::general_purpose};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    SecretText,
    derive::{Key, RandomError, random_key},
    keyring::{Kek, Keyring},
    private_file::{self, FileError},
    weak,
};
use crate::domain::keys::Identity;

/// Rounds of PBKDF2-HMAC-SHA256, as OWASP's password storage cheat sheet asks for.
const PASSWORD_ROUNDS: u32 = 600_000;

/// base64url, with or without `=` at the end.
const BASE64: general_purpose::GeneralPurpose = general_purpose::GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    general_purpose::GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where keys may come from.
///
/// Every source that is given is read: the first key of the first of them, in the order of the fields, is current, all
/// others only open. So a store moves from one source to another by being given both for a while. A key that the server
/// made is not given: it counts only while nothing is.
#[derive(Default, Clone)]
pub struct KeySources {
    /// A file that an operator named (`ENCRYPTION_KEY_FILE`); it has to be there.
    pub file: Option<PathBuf>,
    /// Keys, comma-separated (`ENCRYPTION_KEY`).
    pub env: Option<SecretText>,
    /// A password (`ENCRYPTION_PASSWORD`), stretched with the store's salt.
    pub password: Option<SecretText>,
    /// Where a key that the server made lies (`<key-dir>/encryption.key`). Only where nothing else is given: read if it
    /// is there, made if it is not and the store is fresh. `None` on PostgreSQL.
    pub generate_into: Option<PathBuf>,
}

/// Where the current key came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOrigin {
    /// A file that was there.
    File(PathBuf),
    /// The environment.
    Environment,
    /// A password.
    Password,
    /// This start made it and wrote it there.
    Generated(PathBuf),
}

/// A keyring, and what an operator should know about it.
#[derive(Debug)]
pub struct LoadedKeyring {
    /// The keys.
    pub keyring: Keyring,
    /// Where the current key came from.
    pub origin: KeyOrigin,
    /// To be logged at every start; holds no secret.
    pub warnings: Vec<String>,
}

/// Why there is no keyring.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A key file is missing, exposed or can't be read.
    #[error("encryption key: {0}")]
    File(#[from] FileError),
    /// A text is not a key, or not a good one.
    #[error(
        "encryption key {position} of {origin} {problem}; make one with `signalbox keys generate` (32 random bytes in URL-safe base64)"
    )]
    Key {
        /// Where it stands: a path or `ENCRYPTION_KEY`.
        origin: String,
        /// Its number there, from 1.
        position: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A source holds nothing.
    #[error("{origin} holds no encryption key; put one there or unset it")]
    Empty {
        /// Where: a path or `ENCRYPTION_KEY`.
        origin: String,
    },
    /// The password is not good enough.
    #[error("ENCRYPTION_PASSWORD {0}; use a long random one, or better a key from `signalbox keys generate`")]
    Password(&'static str),
    /// Nothing was given, and the store is one that no key may be made for.
    #[error(
        "no encryption key was given, and this store needs one{needed}; set ENCRYPTION_KEY_FILE, ENCRYPTION_KEY or ENCRYPTION_PASSWORD. {advice}"
    )]
    Missing {
        /// Which one, where the store says so.
        needed: String,
        /// What to do.
        advice: &'static str,
    },
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// A new key in Fernet's format, for `signalbox keys generate`.
///
/// # Errors
/// When the operating system's random source fails.
pub fn generate_key() -> Result<SecretText, RandomError> {
    Ok(SecretText::new(general_purpose::URL_SAFE.encode(random_key()?.as_ref())))
}

impl Keyring {
    /// Reads every source that is given, and makes a key where that is allowed. Blocks: reads files, and stretches a
    /// password for some tenths of a second.
    ///
    /// # Errors
    /// When a source is given but unusable, when a key or password is weak, or when there is none and none may be made.
    pub fn load(sources: &KeySources, identity: &Identity) -> Result<LoadedKeyring, KeyError> {
        let mut keks: Vec<(KeyOrigin, Kek)> = Vec::new();
        if let Some(path) = key_file(sources) {
            for kek in parse_keys(&private_file::read(path)?, &path.display().to_string())? {
                keks.push((KeyOrigin::File(path.to_owned()), kek));
            }
        }
        if let Some(text) = &sources.env {
            let parsed = parse_keys(text, "ENCRYPTION_KEY")?;
            keks.extend(parsed.into_iter().map(|kek| (KeyOrigin::Environment, kek)));
        }
        if let Some(password) = &sources.password {
            keks.push((KeyOrigin::Password, stretch(password, identity)?));
        }
        if keks.is_empty() {
            keks.push(generate(sources, identity)?);
        }
        let Some(origin) = keks.first().map(|(origin, _)| origin.clone()) else {
            return Err(missing(identity));
        };
        let keyring = Keyring::of(keks.into_iter().map(|(_, kek)| kek).collect());
        let warnings = warnings(sources, &origin);
        Ok(LoadedKeyring { keyring: keyring.ok_or_else(|| missing(identity))?, origin, warnings })
    }
}

/// The key file to read: the one that was named, else, where nothing is given, the one that an earlier start made.
fn key_file(sources: &KeySources) -> Option<&Path> {
    let nothing_else = sources.env.is_none() && sources.password.is_none();
    let made = || sources.generate_into.as_deref().filter(|path| nothing_else && path.exists());
    sources.file.as_deref().or_else(made)
}

/// Keys separated by commas or line ends.
fn parse_keys(text: &SecretText, origin: &str) -> Result<Vec<Kek>, KeyError> {
    let keys = text.expose().split([',', '\n', '\r']).map(str::trim).filter(|key| !key.is_empty());
    let keks = keys
        .enumerate()
        .map(|(index, key)| {
            parse_key(key).map_err(|problem| KeyError::Key {
                origin: origin.to_owned(),
                position: index + 1,
                problem,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if keks.is_empty() { Err(KeyError::Empty { origin: origin.to_owned() }) } else { Ok(keks) }
}

fn parse_key(text: &str) -> Result<Kek, &'static str> {
    read_key(text).map(Kek::new)
}

/// Reads a key in Fernet's format. Says what is wrong with it, without a part of it.
pub(super) fn read_key(text: &str) -> Result<Key, &'static str> {
    // The decoder's own errors tell characters of the key.
    let bytes = Zeroizing::new(BASE64.decode(text).map_err(|_| "is not URL-safe base64")?);
    let key: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| "is not 32 bytes long")?;
    match weak::key_problem(text, key) {
        Some(problem) => Err(problem),
        None => Ok(Zeroizing::new(*key)),
    }
}

fn stretch(password: &SecretText, identity: &Identity) -> Result<Kek, KeyError> {
    if let Some(problem) = weak::password_problem(password.expose()) {
        return Err(KeyError::Password(problem));
    }
    let mut key = Key::new([0; 32]);
    pbkdf2::pbkdf2_hmac::<Sha256>(
        password.expose().as_bytes(),
        &identity.password_salt,
        PASSWORD_ROUNDS,
        key.as_mut(),
    );
    Ok(Kek::new(key))
}

/// Makes the key of a fresh store. It is on the disk before anybody can encrypt with it.
fn generate(sources: &KeySources, identity: &Identity) -> Result<(KeyOrigin, Kek), KeyError> {
    let Some(path) = sources.generate_into.as_ref().filter(|_| identity.fresh) else {
        return Err(missing(identity));
    };
    let key = random_key()?;
    private_file::create(path, &SecretText::new(general_purpose::URL_SAFE.encode(key.as_ref())))?;
    Ok((KeyOrigin::Generated(path.clone()), Kek::new(key)))
}

fn missing(identity: &Identity) -> KeyError {
    let ids: Vec<&str> = identity.key_checks.iter().map(|check| check.kek.as_str()).collect();
    let needed = if ids.is_empty() { String::new() } else { format!(" (id {})", ids.join(" or ")) };
    let advice = if identity.fresh {
        "A new key comes from `signalbox keys generate`; every replica needs the same one."
    } else {
        "The store was encrypted with a key that this server does not have: restore it from where it was backed up. A new key can't open the store."
    };
    KeyError::Missing { needed, advice }
}

fn warnings(sources: &KeySources, origin: &KeyOrigin) -> Vec<String> {
    let Some(made) = &sources.generate_into else { return Vec::new() };
    let warning = match origin {
        KeyOrigin::File(path) | KeyOrigin::Generated(path) if path == made => format!(
            "the encryption key lies in {}: back it up apart from the database, without it every secret is lost",
            path.display()
        ),
        _ if made.exists() && sources.file.as_ref() != Some(made) => format!(
            "{} is ignored, because another encryption key is given; if it has sealed anything, give its content as a \
             second key of ENCRYPTION_KEY, so that it still opens",
            made.display()
        ),
        _ => return Vec::new(),
    };
    vec![warning]
}
