//! Streamed answers, as their bytes arrive: events are cut out, read by the rules of streams, and put together.

use std::sync::Arc;

use serde_json::Value;

use super::{
    answer::{Answer, Malformed, Parts, parse},
    extractor::{Extractor, Framing, Stream},
    failure::Failure,
    frames::{Frames, Message},
};

/// Bytes of an event at most.
pub(super) const EVENT_BYTES: usize = 1 << 20;
/// Bytes of an answer at most.
const ANSWER_BYTES: usize = 16 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads one streamed answer.
#[derive(Debug)]
pub struct StreamReader {
    extractor: Arc<Extractor>,
    frames: Frames,
    /// Bytes that are no whole line yet.
    line: Vec<u8>,
    /// Data of an event of which more may come.
    data: Vec<u8>,
    has_data: bool,
    /// Whether the line before ended in a carriage return, so that a line feed belongs to it.
    after_return: bool,
    first_line: bool,
    parts: Parts,
    ended: bool,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta {
    /// Of the text.
    Text(String),
    /// Of what the model thinks.
    Reasoning(String),
}

/// Why a stream is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamFailure {
    /// It is not what the provider's rules say.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The provider broke it off with an error.
    #[error("the provider has ended the answer with an error: {}", .0.words())]
    Failed(Failure),
    /// The connection ended before the answer did.
    #[error("the provider's answer was cut off")]
    CutOff,
    /// It is longer than what is taken.
    #[error("the provider's answer is too large")]
    TooLarge,
}

impl StreamReader {
    pub(super) fn new(extractor: Arc<Extractor>) -> Self {
        Self {
            extractor,
            frames: Frames::default(),
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            after_return: false,
            first_line: true,
            parts: Parts::default(),
            ended: false,
        }
    }

    /// Whether the answer has ended; what comes after that is not looked at.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Takes bytes as they arrive, and gives what they add to the answer.
    ///
    /// # Errors
    /// When the stream is no answer.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Delta>, StreamFailure> {
        let (text, reasoning) = (self.parts.text().len(), self.parts.reasoning().len());
        match self.stream()?.framing {
            Framing::Frames => self.take_frames(bytes)?,
            Framing::ServerSentEvents | Framing::JsonLines => self.take_lines(bytes)?,
        }
        let new = |whole: &str, before: usize| whole.get(before..).unwrap_or_default().to_owned();
        let text = Delta::Text(new(self.parts.text(), text));
        let reasoning = Delta::Reasoning(new(self.parts.reasoning(), reasoning));
        let said =
            |delta: &Delta| !matches!(delta, Delta::Text(text) | Delta::Reasoning(text) if text.is_empty());
        Ok([reasoning, text].into_iter().filter(said).collect())
    }

    /// The whole answer, once the connection has ended.
    ///
    /// # Errors
    /// When the stream is no answer, or not a whole one.
    pub fn finish(mut self) -> Result<Answer, StreamFailure> {
        let framed = self.stream()?.framing == Framing::Frames;
        if !self.ended && !framed {
            self.end_of_line()?;
            self.end_of_event()?;
        }
        let has_more = self.stream()?.ends_by_itself() || !self.frames.is_empty();
        if has_more && !self.ended { Err(StreamFailure::CutOff) } else { Ok(self.parts.into_answer()?) }
    }

    fn stream(&self) -> Result<&Stream, Malformed> {
        self.extractor.stream.as_ref().ok_or_else(|| Malformed::new("is not to be streamed"))
    }

    fn take_frames(&mut self, bytes: &[u8]) -> Result<(), StreamFailure> {
        if self.ended {
            return Ok(());
        }
        self.frames.extend(bytes);
        while !self.ended
            && let Some(message) = self.frames.take()?
        {
            match message {
                Message::Event(event) => self.event(&event)?,
                Message::Error(raised) => {
                    return Err(StreamFailure::Failed(self.extractor.failure_frame(&raised)));
                }
            }
        }
        Ok(())
    }

    fn take_lines(&mut self, bytes: &[u8]) -> Result<(), StreamFailure> {
        for &byte in bytes {
            if self.ended {
                break;
            }
            self.byte(byte)?;
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> Result<(), StreamFailure> {
        let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
        match byte {
            b'\n' if after_return => Ok(()),
            b'\n' | b'\r' => self.end_of_line(),
            _ if self.line.len() + self.data.len() >= EVENT_BYTES => Err(StreamFailure::TooLarge),
            _ => {
                self.line.push(byte);
                Ok(())
            }
        }
    }

    fn end_of_line(&mut self) -> Result<(), StreamFailure> {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.first_line) && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        match self.stream()?.framing {
            Framing::JsonLines => {
                self.data = line;
                self.has_data = true;
                self.end_of_event()
            }
            Framing::ServerSentEvents if line.is_empty() => self.end_of_event(),
            Framing::ServerSentEvents => {
                let (field, value) = match line.iter().position(|byte| *byte == b':') {
                    Some(colon) => (&line[..colon], &line[colon + 1..]),
                    None => (&line[..], &[][..]),
                };
                if field == b"data" {
                    if std::mem::replace(&mut self.has_data, true) {
                        self.data.push(b'\n');
                    }
                    self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
                }
                Ok(())
            }
            // These have no lines.
            Framing::Frames => Ok(()),
        }
    }

    fn end_of_event(&mut self) -> Result<(), StreamFailure> {
        let data = std::mem::take(&mut self.data);
        self.has_data = false;
        let text = data.trim_ascii();
        if text.is_empty() {
            return Ok(());
        }
        let end_data = &self.stream()?.end_data;
        if !end_data.is_empty() && text == end_data.as_bytes() {
            self.ended = true;
            return Ok(());
        }
        self.event(&parse(text)?)
    }

    fn event(&mut self, event: &Value) -> Result<(), StreamFailure> {
        let extractor = Arc::clone(&self.extractor);
        let Some(stream) = &extractor.stream else { return Ok(()) };
        if finds(&stream.error_paths, event) {
            return Err(StreamFailure::Failed(extractor.failure_event(event)));
        }
        self.parts.add(&stream.rules, event, true)?;
        self.ended = finds(&stream.end_paths, event);
        if self.parts.size() > ANSWER_BYTES { Err(StreamFailure::TooLarge) } else { Ok(()) }
    }
}

impl Stream {
    /// Whether the end of a stream is told, so that one that ends without was cut off.
    fn ends_by_itself(&self) -> bool {
        !self.end_data.is_empty() || !self.end_paths.is_empty()
    }
}

fn finds(paths: &[super::path::Path], event: &Value) -> bool {
    paths.iter().any(|path| !path.find(event).is_empty())
}
