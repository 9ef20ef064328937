//! The search itself: it finds a secret in every form, and nothing else.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};

use crate::forms::{Forms, contains};

const SECRET: &str = "sk-canary~/?>>ÿÿ+0123456789";

fn found(bytes: impl AsRef<[u8]>) -> Option<&'static str> {
    Forms::of(SECRET).found_in(bytes.as_ref())
}

#[test]
fn every_form_is_found_wherever_it_stands() {
    assert_eq!(found(format!("a log line: {SECRET}\n")), Some("plain"));
    assert_eq!(found(format!("00{}ff", hex::encode(SECRET))), Some("hex"));
    assert_eq!(found(hex::encode_upper(SECRET)), Some("upper-case hex"));
    let url = "key=sk-canary~%2F%3F%3E%3E%C3%BF%C3%BF%2B0123456789&x";
    assert_eq!(found(url), Some("URL-encoded"));
    let all: String = SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect();
    assert_eq!(found(all), Some("URL-encoded throughout"));
    let wide: Vec<u8> = SECRET.bytes().flat_map(|byte| [byte, 0]).collect();
    assert_eq!(found(wide), Some("UTF-16"));
}

#[test]
fn base64_is_found_at_every_alignment_between_any_neighbours() {
    for before in 0..6 {
        for after in 0..4 {
            let text = [&vec![0xfb; before][..], SECRET.as_bytes(), &vec![0xef; after]].concat();
            assert_eq!(found(STANDARD.encode(&text)), Some("base64"), "{before} {after}");
            assert_eq!(found(URL_SAFE.encode(&text)), Some("URL-safe base64"), "{before} {after}");
        }
    }
    assert_ne!(STANDARD.encode(SECRET), URL_SAFE.encode(SECRET), "the alphabets differ here");
}

#[test]
fn nothing_else_is_found() {
    assert_eq!(found(&SECRET[1..]), None);
    assert_eq!(found(STANDARD.encode(&SECRET[3..])), None);
    assert_eq!(found(""), None);
    assert_eq!(Forms::of(SECRET).find(format!("at 5:{SECRET}").as_bytes()), Some((5, "plain")));
    assert!(contains(b"aab", b"ab") && !contains(b"aab", b"abb"));
}
