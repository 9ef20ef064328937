//! Fernet tokens that other systems made: opened here, so that what they hold can be imported. Nothing is sealed with these
//! keys, and no token of ours is one of theirs.
//!
//! Their tokens carry the true time of their making. It is not looked at, because what was stored does not expire.

use base64::{
    Engine as _, alphabet,
    engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE},
};
use fernet::Fernet;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{SecretText, derive::Key, fernet_box};

/// Rounds of PBKDF2-HMAC-SHA256 by which other systems stretch a password into a Fernet key.
const ROUNDS: u32 = 100_000;
/// Base64 of the keys: URL-safe or not, with its padding or without.
const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent);
const LENIENT_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
const LENIENT_STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);

/// Opens tokens with the keys of another system.
pub struct ForeignKeys(Vec<Fernet>);

/// What a stored text turned out to be.
pub enum Foreign {
    /// A token, and what it holds.
    Opened(SecretText),
    /// A token that none of the keys opens, or that holds no text.
    Sealed,
    /// What is sealed by its look, but is no whole token: one that was cut, or what OpenPGP made.
    Ciphertext,
    /// Nothing that looks sealed.
    Plain,
}

/// How ciphertext begins: tokens of Fernet, as they are and in base64 once more; messages of OpenPGP, which pgcrypto makes,
/// in base64 and in armour; bytes of a database in hexadecimal digits.
const BEGINNINGS: [&str; 8] =
    ["gAAAA", "Z0FBQUFB", "ww0E", "jA0E", "-----BEGIN PGP", "\\x", "\\\\x", "0xc30d"];
/// How a message of OpenPGP under a password begins in hexadecimal digits, in either format of its header.
const MESSAGES: [&str; 2] = ["c30d04", "8c0d04"];

/// Whether a text is sealed by its look, by whatever means. No key of any service looks so.
#[must_use]
pub fn is_ciphertext(text: &str) -> bool {
    let text = text.trim();
    let is_hex = || text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let begins = |with: &&str| text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    BEGINNINGS.iter().any(|with| text.starts_with(with)) || (MESSAGES.iter().any(begins) && is_hex())
}

impl ForeignKeys {
    /// No keys: every token stays sealed.
    #[must_use]
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Reads keys of 32 bytes in base64, one a line or separated by commas.
    ///
    /// # Errors
    /// What is wrong; never a part of a key.
    pub fn from_text(text: &SecretText) -> Result<Self, &'static str> {
        let parts = text.expose().split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
        let keys = parts.map(key).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err("holds no key") } else { Ok(Self(keys)) }
    }

    /// Derives the key from a password: PBKDF2-HMAC-SHA256 with 100,000 rounds. Takes a while, and belongs off the
    /// runtime's threads.
    #[must_use]
    pub fn from_password(password: &SecretText, salt: &[u8]) -> Self {
        let mut stretched = Key::new([0; 32]);
        pbkdf2::pbkdf2_hmac::<Sha256>(password.expose().as_bytes(), salt, ROUNDS, stretched.as_mut());
        Self(fernet(stretched.as_ref()).into_iter().collect())
    }

    /// Opens a stored text: a token, or a token that was put into base64 once more.
    #[must_use]
    pub fn open(&self, text: &str) -> Foreign {
        let text = text.trim();
        if fernet_box::is_token(text) {
            return self.open_token(text);
        }
        let inner = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).map(Zeroizing::new);
        match inner.ok().as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok()) {
            Some(token) if fernet_box::is_token(token) => self.open_token(token),
            _ if is_ciphertext(text) => Foreign::Ciphertext,
            _ => Foreign::Plain,
        }
    }

    fn open_token(&self, token: &str) -> Foreign {
        // The latest time that the crate's own arithmetic bears: no token is from the future.
        let now = u64::MAX / 2;
        let opened = self.0.iter().find_map(|key| key.decrypt_at_time(token, None, now).ok());
        opened.and_then(SecretText::from_utf8).map_or(Foreign::Sealed, Foreign::Opened)
    }
}

fn key(text: &str) -> Result<Fernet, &'static str> {
    // The decoder's own errors tell characters of the key.
    let bytes = LENIENT_URL_SAFE.decode(text).or_else(|_| LENIENT_STANDARD.decode(text)).map(Zeroizing::new);
    let bytes = bytes.map_err(|_| "holds a key that is not base64")?;
    if bytes.len() != 32 {
        return Err("holds a key that is not 32 bytes long");
    }
    fernet(&bytes).ok_or("holds a key that is not 32 bytes long")
}

fn fernet(bytes: &[u8]) -> Option<Fernet> {
    Fernet::new(&Zeroizing::new(URL_SAFE.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(keys: &ForeignKeys, text: &str) -> Option<String> {
        match keys.open(text) {
            Foreign::Opened(text) => Some(text.expose().to_owned()),
            Foreign::Sealed | Foreign::Ciphertext | Foreign::Plain => None,
        }
    }

    #[test]
    fn opens_what_any_of_the_keys_sealed() {
        let (one, two) = (Fernet::generate_key(), Fernet::generate_key());
        let token = Fernet::new(&two).unwrap().encrypt(b"sk-1");
        let keys = ForeignKeys::from_text(&SecretText::new(format!("{one}\n{two}\n"))).ok().unwrap();
        assert_eq!(opened(&keys, &token).as_deref(), Some("sk-1"));
        assert_eq!(opened(&keys, &STANDARD.encode(&token)).as_deref(), Some("sk-1"), "base64 twice");
        let other = ForeignKeys::from_text(&SecretText::new(one)).ok().unwrap();
        assert!(matches!(other.open(&token), Foreign::Sealed));
        assert!(matches!(ForeignKeys::none().open(&token), Foreign::Sealed));
        assert!(matches!(keys.open("sk-plain"), Foreign::Plain));
        let mut forged = token.clone();
        forged.replace_range(20..21, if &token[20..21] == "A" { "B" } else { "A" });
        assert!(matches!(keys.open(&forged), Foreign::Sealed));
    }

    #[test]
    fn regression_ciphertext_is_never_plain() {
        let key = Fernet::generate_key();
        let token = Fernet::new(&key).unwrap().encrypt(b"sk-1");
        let keys = ForeignKeys::from_text(&SecretText::new(key)).ok().unwrap();
        for length in [5, 20, 40, 57, 96] {
            assert!(!matches!(keys.open(&token[..length]), Foreign::Plain), "a token of {length}");
            let twice = STANDARD.encode(&token[..length + 3]);
            assert!(!matches!(keys.open(&twice), Foreign::Plain), "in base64 once more");
        }
        for text in [
            "\\xc30d040703",
            "c30d04070302",
            "C30D0407",
            "8c0d0409",
            "ww0EBwMC",
            "-----BEGIN PGP MESSAGE-----",
        ] {
            assert!(matches!(keys.open(text), Foreign::Ciphertext), "{text}");
        }
        for text in ["sk-c30d04", "c30dx", "gsk_gAAAA", "AIza", "c30e0407", "xai-1", "0x1"] {
            assert!(matches!(keys.open(text), Foreign::Plain), "{text}");
        }
    }

    #[test]
    fn keys_come_in_both_alphabets() {
        let bytes = [0xfb; 32];
        for text in [URL_SAFE.encode(bytes), STANDARD.encode(bytes), URL_SAFE.encode(bytes).replace('=', "")]
        {
            assert!(ForeignKeys::from_text(&SecretText::new(text)).is_ok());
        }
        for text in ["", "\n", "short", "not base64!"] {
            let told = ForeignKeys::from_text(&text.into()).err().unwrap();
            assert!(!text.starts_with(|c: char| c.is_alphabetic()) || !told.contains(text));
        }
    }

    /// RFC 7914 has no vector of 100,000 rounds; this one was made with Python's `hashlib.pbkdf2_hmac`.
    #[test]
    fn passwords_are_stretched_as_python_does() {
        let expected = "WPyKFsPP12hgXBa2v7jdiHlEI7-_nj6yqOPUyR0tsF8=";
        let token = Fernet::new(expected).unwrap().encrypt(b"sk-2");
        let keys = ForeignKeys::from_password(&"correct horse".into(), b"salt");
        assert_eq!(opened(&keys, &token).as_deref(), Some("sk-2"));
    }
}
