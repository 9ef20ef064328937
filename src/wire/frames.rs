//! Streams of `application/vnd.amazon.eventstream`: messages are cut out of the bytes as they arrive, and checked.
//!
//! The encoding is that of <https://smithy.io/2.0/aws/amazon-eventstream.html>. All numbers are big-endian. A frame is its own
//! length (4 bytes), that of its headers (4), the CRC-32 of these two (4), headers, payload, and the CRC-32 of all that is before
//! (4). A header is the length of its name (1), the name, a type (1), and a value.
//!
//! Not a library's, since that one waits for as much as a frame claims to be before it looks whether it is one. Must not know what the
//! messages mean.

use std::collections::BTreeMap;

use bytes::{Buf, BytesMut};
use serde_json::{Value, json};

use super::{
    answer::{Malformed, parse},
    stream::{EVENT_BYTES, StreamFailure},
};

/// Both lengths and their checksum.
const PRELUDE: usize = 12;
const CHECKSUM: usize = 4;
/// The type of headers that are texts.
const TEXT: u8 = 7;

/// Cuts messages out of bytes.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Bytes that are no whole frame yet.
    received: BytesMut,
}

/// What a frame says.
pub(super) enum Message {
    /// An object with one member, which is named by the type of the event.
    Event(Value),
    Error(Raised),
}

/// An error in a frame of its own.
pub(super) struct Raised {
    /// Its type.
    pub code: String,
    /// What its headers say of it.
    pub message: String,
    pub payload: Vec<u8>,
}

impl Frames {
    pub fn extend(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// Whether nothing is there of a further frame.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// The next message, once all of it is there.
    pub fn take(&mut self) -> Result<Option<Message>, StreamFailure> {
        let Some(prelude) = self.received.first_chunk() else { return Ok(None) };
        let (whole, headers) = lengths(prelude)?;
        if self.received.len() < whole {
            return Ok(None);
        }
        let frame = self.received.split_to(whole);
        let (content, checksum) = frame.split_at(whole - CHECKSUM);
        if checksum != crc32fast::hash(content).to_be_bytes() {
            return Err(Malformed::new("has a frame with a wrong checksum").into());
        }
        let (headers, payload) = content[PRELUDE..].split_at(headers);
        Ok(Some(message(headers, payload)?))
    }
}

/// The lengths of a frame and of its headers, which lie within it.
fn lengths(prelude: &[u8; PRELUDE]) -> Result<(usize, usize), StreamFailure> {
    let mut rest = &prelude[..];
    let (whole, headers, checksum) = (rest.get_u32(), rest.get_u32(), rest.get_u32());
    if checksum != crc32fast::hash(&prelude[..8]) {
        return Err(Malformed::new(
            "has a frame whose lengths have a wrong checksum, or is no row of frames",
        )
        .into());
    }
    let size = |length: u32| usize::try_from(length).unwrap_or(usize::MAX);
    let (whole, headers) = (size(whole), size(headers));
    if whole.checked_sub(PRELUDE + CHECKSUM).is_none_or(|room| room < headers) {
        return Err(Malformed::new("has a frame that is shorter than its headers").into());
    }
    if whole > EVENT_BYTES {
        return Err(StreamFailure::TooLarge);
    }
    Ok((whole, headers))
}

fn message(headers: &[u8], payload: &[u8]) -> Result<Message, Malformed> {
    let headers = texts(headers).ok_or_else(|| Malformed::new("has a frame with headers that are none"))?;
    let text = |name: &str| headers.get(name).copied().unwrap_or_default().to_owned();
    let (code, message) = match text(":message-type").as_str() {
        "event" if headers.contains_key(":event-type") => {
            let value = if payload.trim_ascii().is_empty() { Value::Null } else { parse(payload)? };
            return Ok(Message::Event(json!({text(":event-type"): value})));
        }
        "exception" => (text(":exception-type"), String::new()),
        "error" => (text(":error-code"), text(":error-message")),
        _ => return Err(Malformed::new("has a frame that is neither an event nor an error")),
    };
    Ok(Message::Error(Raised { code, message, payload: payload.to_vec() }))
}

/// The headers that are texts, by their names; `None` where the bytes are no headers.
fn texts(mut rest: &[u8]) -> Option<BTreeMap<&str, &str>> {
    let mut texts = BTreeMap::new();
    while !rest.is_empty() {
        let length = rest.try_get_u8().ok()?;
        let name = str::from_utf8(rest.split_off(..usize::from(length))?).ok()?;
        let of = rest.try_get_u8().ok()?;
        // True, false, byte, short, integer, long, bytes, text, timestamp, UUID.
        let length = match of {
            0 | 1 => 0,
            2 => 1,
            3 => 2,
            4 => 4,
            5 | 8 => 8,
            6 | TEXT => usize::from(rest.try_get_u16().ok()?),
            9 => 16,
            _ => return None,
        };
        let value = rest.split_off(..length)?;
        if of == TEXT {
            texts.insert(name, str::from_utf8(value).ok()?);
        }
    }
    Some(texts)
}
