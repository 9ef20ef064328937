//! Streams in frames: cut at every place, spoilt at every place; and the bytes of what the vectors say is streamed.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Mapping, StreamFailure};
use crate::proto::v1::{ProviderSpec, ProviderType};

/// What is streamed, as vectors have it.
#[derive(Deserialize)]
pub(crate) struct StreamBody {
    body: Option<String>,
    base64: Option<String>,
    #[serde(default)]
    frames: Vec<(BTreeMap<String, String>, Value)>,
}

impl StreamBody {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match (&self.body, &self.base64) {
            (Some(text), _) => text.clone().into_bytes(),
            (_, Some(encoded)) => BASE64_STANDARD.decode(encoded).unwrap(),
            _ => self.frames.iter().flat_map(|(headers, payload)| text_frame(headers, payload)).collect(),
        }
    }
}

fn text_frame(headers: &BTreeMap<String, String>, payload: &Value) -> Vec<u8> {
    let header = |(name, value): (&String, &String)| {
        let lengths = (u8::try_from(name.len()).unwrap(), u16::try_from(value.len()).unwrap());
        [&[lengths.0], name.as_bytes(), &[7], &lengths.1.to_be_bytes(), value.as_bytes()].concat()
    };
    let payload = payload.as_str().map_or_else(|| payload.to_string(), str::to_owned);
    frame(&headers.iter().flat_map(header).collect::<Vec<_>>(), payload.as_bytes())
}

fn frame(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let word = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
    let mut frame = [word(16 + headers.len() + payload.len()), word(headers.len())].concat();
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.extend([headers, payload].concat());
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame
}

fn event(of: &str, payload: &Value) -> Vec<u8> {
    let headers = [(":message-type", "event"), (":event-type", of)];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    text_frame(&headers.into(), payload)
}

fn said(text: &str) -> Vec<u8> {
    event("contentBlockDelta", &json!({"delta": {"text": text}}))
}

fn mapping() -> Mapping {
    let provider = ProviderSpec { r#type: ProviderType::Bedrock.into(), ..ProviderSpec::default() };
    Mapping::of(&provider).unwrap()
}

fn read<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<Answer, StreamFailure> {
    let mut reader = mapping().stream().unwrap();
    for piece in pieces {
        reader.push(piece)?;
    }
    reader.finish()
}

fn whole() -> Vec<u8> {
    [said("Hi "), said("there."), event("metadata", &json!({"usage": {"inputTokens": 9}}))].concat()
}

#[test]
fn a_stream_is_read_wherever_it_is_cut_in_two_and_one_that_ends_early_was_cut_off() {
    let bytes = whole();
    for at in 0..bytes.len() {
        let (one, other) = bytes.split_at(at);
        assert_eq!(read([one, other]).unwrap().text, "Hi there.", "{at}");
        assert_eq!(read([one]), Err(StreamFailure::CutOff), "{at}");
    }
}

#[test]
fn what_is_spoilt_anywhere_is_no_answer() {
    let bytes = whole();
    for at in 0..bytes.len() * 8 {
        let mut spoilt = bytes.clone();
        spoilt[at / 8] ^= 1 << (at % 8);
        let failure = read([&spoilt[..]]).unwrap_err();
        assert!(matches!(failure, StreamFailure::Malformed(_)), "bit {at}: {failure:?}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let mut spoilt = said("Hi");
    *spoilt.last_mut().unwrap() ^= 1;
    for (bytes, named) in [
        (&spoilt[..], "has a frame with a wrong checksum"),
        (&b"<html>Bad gateway</html>"[..], "is no row of frames"),
        (&frame(b"\x01a\x0a", b"{}")[..], "has a frame with headers that are none"),
        (&frame(b"", b"{}")[..], "has a frame that is neither an event nor an error"),
    ] {
        let failure = read([bytes]).unwrap_err().to_string();
        assert!(failure.starts_with("the provider's answer ") && failure.contains(named), "{failure}");
    }
}

/// How long a frame claims to be is judged before anything is waited for.
#[test]
fn frames_and_answers_are_bounded() {
    let mut long = said(&"x".repeat(1 << 20));
    long.truncate(12);
    assert_eq!(read([&long[..]]), Err(StreamFailure::TooLarge));
    let piece = said(&"x".repeat(1 << 19));
    assert_eq!(read(std::iter::repeat_n(&piece[..], 40)), Err(StreamFailure::TooLarge));
}

proptest! {
    #[test]
    fn any_frame_is_judged(
        headers in proptest::collection::vec(any::<u8>(), 0..40),
        payload in proptest::collection::vec(any::<u8>(), 0..20),
        size in 1..9_usize,
    ) {
        let _ = read(frame(&headers, &payload).chunks(size));
    }
}
