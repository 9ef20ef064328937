//! Somebody else's words, such as a provider's: in one line of bounded length, without what is or may be a part of a key.
//!
//! A key is looked for as it is and as it may come back: masked, cut, spread over words, percent-encoded, escaped as in JSON, in
//! base64 (`user:key`) or in hex. It must not know where the words come from.

use std::collections::HashSet;

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// Characters that are looked at: more than are repeated, since what is taken out makes room.
const READ_CHARS: usize = 4_000;
/// Characters that are repeated.
const MESSAGE_CHARS: usize = 500;
/// As many characters of a key in a row are a part of it.
const KEY_PART: usize = 6;
/// As many, where other characters stand between them.
const SPREAD_PART: usize = 8;
/// A word as long as this, with digits among its letters, may be a key.
const KEY_LIKE: usize = 20;
const REMOVED: &str = "[removed]";

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: [GeneralPurpose; 2] =
    [GeneralPurpose::new(&STANDARD, LENIENT), GeneralPurpose::new(&URL_SAFE, LENIENT)];

/// Words in one line of bounded length, without what is or may be a part of a key.
#[must_use]
pub fn without_keys(text: &str, key: Option<&str>) -> String {
    let read: String = text.chars().take(READ_CHARS).filter(|letter| !is_invisible(*letter)).collect();
    let words = read.split(|letter: char| letter.is_whitespace() || letter.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let parts = key.map(|key| Parts::of(key, KEY_PART));
    let spread = key.map(|key| Parts::of(&squeezed(key), SPREAD_PART).spread_over(&words));
    let mut shown = words.iter().enumerate().map(|(place, word)| {
        let is_spread = spread.as_ref().is_some_and(|spread| spread.contains(&place));
        if is_spread || tells(word, parts.as_ref()) { REMOVED } else { word }
    });
    let mut line = String::new();
    let mut last = "";
    for word in &mut shown {
        // One key in several words is one thing.
        if word == REMOVED && last == REMOVED {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        last = word;
    }
    line.chars().take(MESSAGE_CHARS).collect()
}

/// Whether a word has as much of the key in it as makes a part of it, in whatever form.
#[must_use]
pub fn shares(word: &str, key: &str) -> bool {
    Parts::of(key, KEY_PART).are_in_any_form_of(word)
}

/// What shows nothing, and can hide a key from who looks for it or a text from who reads it: format characters (zero-width ones,
/// those that turn a line around), fillers and selectors of variants.
fn is_invisible(letter: char) -> bool {
    matches!(letter,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
        | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0000}'..='\u{E0FFF}')
}

fn squeezed(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_whitespace()).collect()
}

/// The parts of a key: what stands in a row in it.
struct Parts {
    size: usize,
    parts: HashSet<Vec<char>>,
}

impl Parts {
    fn of(key: &str, size: usize) -> Self {
        let letters: Vec<char> = key.chars().collect();
        let size = size.min(letters.len());
        let parts =
            if size == 0 { HashSet::new() } else { letters.windows(size).map(<[char]>::to_vec).collect() };
        Self { size, parts }
    }

    fn are_in(&self, text: &str) -> bool {
        let letters: Vec<char> = text.chars().collect();
        self.size > 0 && letters.windows(self.size).any(|part| self.parts.contains(part))
    }

    fn are_in_any_form_of(&self, word: &str) -> bool {
        let unescaped = unescaped(word);
        let forms = [word.to_owned(), percent_decoded(word), percent_decoded(&unescaped), unescaped];
        forms.iter().any(|form| self.are_in(form) || decoded(form).any(|text| self.are_in(&text)))
    }

    /// The places of the words over which a part is spread.
    fn spread_over(&self, words: &[&str]) -> HashSet<usize> {
        let letters: Vec<(usize, char)> = words
            .iter()
            .enumerate()
            .flat_map(|(place, word)| word.chars().map(move |letter| (place, letter)))
            .collect();
        let text: Vec<char> = letters.iter().map(|(_, letter)| *letter).collect();
        let mut found = HashSet::new();
        if self.size > 0 {
            for (at, part) in text.windows(self.size).enumerate() {
                if self.parts.contains(part) {
                    found.extend(letters[at..at + self.size].iter().map(|(place, _)| *place));
                }
            }
        }
        found
    }
}

/// Whether a word shows a part of the key, as providers do: masked, cut, or as a whole.
fn tells(word: &str, parts: Option<&Parts>) -> bool {
    let masked = ["***", "...", "…", "•"].iter().any(|mask| {
        let rest = word.trim_matches(|letter: char| !letter.is_alphanumeric() && !mask.contains(letter));
        rest.find(mask).is_some_and(|place| place > 0 && rest.len() > place + mask.len())
            || rest.contains("**")
    });
    let runs = || word.split(|letter: char| !letter.is_ascii_alphanumeric() && !"-_.".contains(letter));
    let key_like = runs().any(|run| {
        let has = |is: fn(&u8) -> bool| run.bytes().any(|byte| is(&byte));
        run.len() >= KEY_LIKE && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
    });
    masked || key_like || parts.is_some_and(|parts| parts.are_in_any_form_of(word))
}

/// A text with `%2D` and the like as what they stand for.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = text.get(at + 1..at + 3).filter(|_| byte == b'%');
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(meant) => {
                decoded.push(meant);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// A text with the escapes of JSON as what they stand for.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let code = escape.strip_prefix('u').and_then(|code| code.get(..4));
        let letter = code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
        rest = match letter {
            Some(letter) => {
                plain.push(letter);
                &escape[5..]
            }
            // The next letter stands for itself: a key holds no control characters.
            None => {
                let mut letters = escape.chars();
                plain.extend(letters.next());
                letters.as_str()
            }
        };
    }
    plain + rest
}

/// What the parts of a text stand for that may be base64 or hex.
fn decoded(text: &str) -> impl Iterator<Item = String> + '_ {
    let runs = text.split(|letter: char| !letter.is_ascii_alphanumeric() && !"+/-_".contains(letter));
    let runs = runs.filter(|run| run.len() >= KEY_PART);
    runs.flat_map(|run| {
        // A run may begin with what is none of it.
        let base64 = (0..4.min(run.len())).flat_map(move |skip| {
            BASE64.iter().filter_map(move |engine| {
                let part = &run[skip..];
                // A single letter behind the last whole group stands for nothing.
                let part = if part.len() % 4 == 1 { &part[..part.len() - 1] } else { part };
                engine.decode(part).ok()
            })
        });
        let even = &run[..run.len() / 2 * 2];
        base64.chain(hex::decode(even).ok())
    })
    .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Vectors {
        cases: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        description: String,
        key: String,
        text: String,
        shown: String,
    }

    /// The same as for the client in Python.
    #[test]
    fn the_vectors_hold() {
        let vectors: Vectors = serde_json::from_str(include_str!("../../tests/vectors/words.json")).unwrap();
        assert!(vectors.cases.len() > 40);
        for Case { description, key, text, shown } in vectors.cases {
            assert_eq!(without_keys(&text, Some(&key)), shown, "{description}");
        }
    }

    #[test]
    fn no_part_of_a_key_is_repeated() {
        let key = "sk-proj-Abc123def456ghi789";
        for (text, shown) in [
            ("Incorrect API key provided: xa***yz.", "Incorrect API key provided: [removed]"),
            ("key sk-pr...i789 is bad", "key [removed] is bad"),
            ("key '123def' is bad", "key [removed] is bad"),
            ("no \"Abc123def456ghi789\",", "no [removed]"),
            ("gsk_0123456789abcdefghij", "[removed]"),
            ("Please wait... and try model gpt-4o again", "Please wait... and try model gpt-4o again"),
            ("the model claude-3-5-sonnet is\nnot there", "the model claude-3-5-sonnet is not there"),
        ] {
            assert_eq!(without_keys(text, Some(key)), shown);
        }
        assert_eq!(without_keys(&"x ".repeat(999), None).chars().count(), MESSAGE_CHARS);
        assert_eq!(without_keys("abc", Some("")), "abc");
        assert_eq!(without_keys("it was k3y", Some("k3y")), "it was [removed]");
    }

    #[test]
    fn regression_no_form_of_a_key_is_repeated() {
        // Without a digit, so that nothing but the key itself gives it away.
        let key = "sk/proj+Abcd\"efghi";
        let words = |form: &str| without_keys(&format!("the key {form} is bad"), Some(key));
        let base64 = |text: &str| BASE64[0].encode(text);
        for form in [
            "sk%2Fproj%2BAbcd%22efghi".to_owned(),
            "%73%6B%2F%70%72%6F%6A".to_owned(),
            "sk\\/pr\\u006fj+Abcd\\\"efghi".to_owned(),
            key.chars().map(|letter| format!("{letter}\u{200B}")).collect(),
            key.chars().map(|letter| format!("{letter}\u{2060}\u{202E}")).collect(),
            key.chars().map(|letter| format!("{letter} ")).collect(),
            "sk/proj +Abcd \"efghi".to_owned(),
            base64(&format!("user:{key}")),
            format!("Basic:{}", base64(&format!("me:{key}"))),
            base64(key).replace('=', "%3D"),
            BASE64[1].encode(key),
            hex::encode(key),
        ] {
            let shown = words(&form);
            let squeezed = squeezed(&shown);
            assert!(
                squeezed.starts_with("thekey") && squeezed.ends_with("[removed]isbad"),
                "{form}: {shown}"
            );
        }
        // A key may have spaces in it.
        let shown = without_keys("no team blue team seven here", Some("blue team seven"));
        assert_eq!(shown, "no team [removed] here");
        let shown = without_keys("the quick brown fox jumps over the lazy dog", Some(key));
        assert_eq!(shown, "the quick brown fox jumps over the lazy dog");
    }

    #[test]
    fn regression_nothing_turns_a_line_around() {
        let text = "a\u{202E}b\u{200F}c\u{2066}d\u{FEFF}e\u{1b}[31mf\u{85}g\u{E0041}h\u{2028}i";
        assert_eq!(without_keys(text, None), "abcde [31mf gh i");
        assert_eq!(without_keys("Grüße 世界 👋", None), "Grüße 世界 👋");
    }

    #[test]
    fn regression_much_text_and_long_keys_take_little_time() {
        let (text, key) = ("ab%4".repeat(1 << 18), "x".repeat(64 * 1024));
        let begun = std::time::Instant::now();
        assert!(without_keys(&text, Some(&key)).chars().count() <= MESSAGE_CHARS);
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
