//! Finds a secret in bytes, whatever form it has there: plain, base64 in either alphabet and at any of its three
//! alignments, hex in either case, URL-encoded. What a Base64 or JSON writer does to the bytes around it does not matter.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

/// The forms that a secret may have, each with its name, without repetition.
pub struct Forms {
    forms: Vec<(&'static str, Vec<u8>)>,
}

impl Forms {
    /// Of a secret, which must be long enough that nothing but itself holds it.
    pub fn of(secret: &str) -> Self {
        assert!(secret.len() >= 16, "{secret} could be found by chance");
        let bytes = secret.as_bytes();
        let hex = hex::encode(bytes);
        let mut forms = vec![
            ("plain", bytes.to_vec()),
            ("hex", hex.clone().into_bytes()),
            ("upper-case hex", hex.to_uppercase().into_bytes()),
            (
                "URL-encoded",
                url_encoded(bytes, |byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)),
            ),
            ("URL-encoded throughout", url_encoded(bytes, |_| false)),
            ("UTF-16", bytes.iter().flat_map(|byte| [*byte, 0]).collect()),
        ];
        for skipped in 0..3 {
            forms.push(("base64", aligned(&STANDARD_NO_PAD, bytes, skipped)));
            forms.push(("URL-safe base64", aligned(&URL_SAFE_NO_PAD, bytes, skipped)));
        }
        forms.sort_by(|one, other| one.1.cmp(&other.1));
        forms.dedup_by(|one, other| one.1 == other.1);
        Self { forms }
    }

    /// The name of a form that the bytes hold.
    pub fn found_in(&self, bytes: &[u8]) -> Option<&'static str> {
        self.find(bytes).map(|(_, form)| form)
    }

    /// Where the bytes first hold a form, and which. One pass, because logs are long.
    pub fn find(&self, bytes: &[u8]) -> Option<(usize, &'static str)> {
        let mut begins = [false; 256];
        self.forms.iter().for_each(|(_, form)| begins[usize::from(form[0])] = true);
        let starts = bytes.iter().enumerate().filter(|(_, byte)| begins[usize::from(**byte)]);
        let found = |at: usize| self.forms.iter().find(|(_, form)| bytes[at..].starts_with(form));
        starts.map(|(at, _)| at).find_map(|at| found(at).map(|(name, _)| (at, *name)))
    }
}

/// Whether the bytes hold the part.
pub fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn url_encoded(bytes: &[u8], stays: impl Fn(u8) -> bool) -> Vec<u8> {
    let encoded = bytes.iter().map(|&byte| match stays(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    encoded.collect::<String>().into_bytes()
}

/// What base64 makes of the bytes when the number of those before them leaves this remainder: only the characters that
/// no neighbour has a part in.
fn aligned(engine: &impl base64::Engine, bytes: &[u8], skipped: usize) -> Vec<u8> {
    let mut padded = vec![0; skipped];
    padded.extend_from_slice(bytes);
    let text = engine.encode(&padded);
    let first = (skipped * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    text.as_bytes()[first..last].to_vec()
}
