//! Keys and passwords that everybody knows, or could guess.

use std::collections::HashSet;

/// Characters that a password has at least.
pub(super) const PASSWORD_CHARS: usize = 12;

/// Keys from the Fernet specification's examples, and the one that half of the world copied from an answer.
const KNOWN_KEYS: [&str; 2] =
    ["cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=", "ZmDfcTF7_60GrrY167zsiPd67pEvs0aGOv2oasOM1Pg="];

/// Words that are no password, however they are spelled and whatever is put around them.
const KNOWN_PASSWORDS: [&str; 15] = [
    "josoorllmproviderkey2026",
    "changeme",
    "changeit",
    "password",
    "passphrase",
    "letmein",
    "secret",
    "default",
    "example",
    "encryptionkey",
    "qwertyuiop",
    "correcthorsebatterystaple",
    // The secrets of jwt.io's examples, and of tutorials that copy them.
    "your256bitsecret",
    "astringsecretatleast256bitslong",
    "yoursecretkeythatisatleast32characterslong",
];

/// Why a key is not good enough; `None` if nothing is wrong with it.
pub(super) fn key_problem(text: &str, key: &[u8; 32]) -> Option<&'static str> {
    let steps: HashSet<u8> = key.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    let distinct: HashSet<&u8> = key.iter().collect();
    if KNOWN_KEYS.iter().any(|known| known.trim_end_matches('=') == text.trim_end_matches('=')) {
        Some("is an example key that everybody knows")
    } else if steps.len() == 1 || distinct.len() < 12 {
        // Of 32 random bytes fewer than 12 are distinct with a chance below 2^-80.
        Some("repeats or counts instead of being random")
    } else if key.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        Some("is readable text in base64, not random bytes")
    } else {
        None
    }
}

/// Why a password is not good enough; `None` if nothing is wrong with it.
pub(crate) fn password_problem(password: &str) -> Option<&'static str> {
    let letters: String =
        password.chars().filter(|each| each.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    // What is left of a known word when digits around it are gone, so that `changeme1234!!` is still `changeme`.
    let core = letters.trim_matches(|each: char| each.is_ascii_digit());
    let distinct: HashSet<char> = password.chars().collect();
    if password.chars().count() < PASSWORD_CHARS {
        Some("is shorter than 12 characters")
    } else if KNOWN_PASSWORDS.iter().any(|known| letters == *known || core == *known) {
        Some("is one that everybody knows")
    } else if distinct.len() < 6 {
        Some("repeats a few characters")
    } else {
        None
    }
}
