//! Answers: what an extractor reads of a document, and what a worker gets of it.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::extractor::{Extractor, Rules};
use crate::proto::v1::ToolCall;

/// What a call of a tool counts beside its arguments.
const CALL_BYTES: usize = 64;

/// What a model has answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// What it says; empty where it only calls tools.
    pub text: String,
    /// What it thought, where it tells.
    pub reasoning: String,
    /// Why it ended: `stop`, `length`, `tool_calls`, `content_filter`, or the provider's own word.
    pub finish_reason: Option<String>,
    /// The tools that it calls. One to which the provider gives no id has `call_` and its place, from 0 on.
    pub tool_calls: Vec<ToolCall>,
    /// Tokens by what they were used for, for example `prompt_tokens`.
    pub usage: BTreeMap<String, i64>,
    /// What the rules beyond these have found, by their names.
    pub others: BTreeMap<String, Value>,
}

/// An answer that is none by the provider's rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider's answer {0}")]
pub struct Malformed(String);

impl Malformed {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl Extractor {
    /// Reads a whole answer.
    pub fn answer(&self, body: &[u8]) -> Result<Answer, Malformed> {
        let document = parse(body)?;
        let mut parts = Parts::default();
        parts.add(&self.rules, &document, false)?;
        parts.into_answer()
    }
}

/// Reads a JSON document.
pub(super) fn parse(body: &[u8]) -> Result<Value, Malformed> {
    serde_json::from_slice(body).map_err(|_| Malformed::new("is no JSON document"))
}

/// An answer that is put together, at once or from events.
#[derive(Debug, Default)]
pub(super) struct Parts {
    answer: Answer,
    calls: Vec<ToolCall>,
    /// The places of those to which the provider gives a number.
    numbered: HashMap<i64, usize>,
    /// How many bytes the calls hold, about.
    calls_bytes: usize,
    /// Whether anything was found that makes an answer of it, be it empty.
    anything: bool,
}

impl Parts {
    /// Adds what the rules find in a document. In a stream arguments come in pieces.
    pub fn add(&mut self, rules: &Rules, document: &Value, stream: bool) -> Result<(), Malformed> {
        for (name, rule) in rules {
            let found = rule.read(document);
            let found = found.map_err(|_| Malformed::new(format!("holds something else than `{name}`")))?;
            let Some(value) = found else { continue };
            self.anything |= self.put(name, value, stream);
        }
        Ok(())
    }

    /// Puts a value where it belongs, and says whether it makes an answer of what is read.
    fn put(&mut self, name: &str, value: Value, stream: bool) -> bool {
        let text = || value.as_str().unwrap_or_default();
        match name {
            "text_content" => self.answer.text.push_str(text()),
            "reasoning_content" => self.answer.reasoning.push_str(text()),
            "finish_reason" => self.answer.finish_reason = Some(text().to_owned()),
            "usage_stats" => {
                let fields = value.as_object().into_iter().flatten();
                let counts = fields.filter_map(|(name, count)| Some((name.clone(), count.as_i64()?)));
                self.answer.usage.extend(counts);
                return false;
            }
            "tool_calls" => {
                let calls = value.as_array().into_iter().flatten();
                calls.for_each(|call| self.put_call(call, stream));
            }
            _ => {
                self.answer.others.insert(name.to_owned(), value);
                return false;
            }
        }
        true
    }

    fn put_call(&mut self, found: &Value, stream: bool) {
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        let index = found["index"].as_i64().filter(|_| stream);
        let arguments = match &found["arguments"] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        self.calls_bytes += arguments.len();
        let known = index.and_then(|index| self.numbered.get(&index)).copied();
        match known.and_then(|place| self.calls.get_mut(place)) {
            Some(call) => {
                for (field, text) in [(&mut call.id, text("id")), (&mut call.function_name, text("name"))] {
                    if !text.is_empty() {
                        *field = text;
                    }
                }
                call.arguments_json.push_str(&arguments);
            }
            None => {
                let call =
                    ToolCall { id: text("id"), function_name: text("name"), arguments_json: arguments };
                self.calls_bytes += CALL_BYTES;
                if let Some(index) = index {
                    self.numbered.insert(index, self.calls.len());
                }
                self.calls.push(call);
            }
        }
    }

    /// How many bytes it holds, about.
    pub fn size(&self) -> usize {
        self.answer.text.len() + self.answer.reasoning.len() + self.calls_bytes
    }

    pub fn text(&self) -> &str {
        &self.answer.text
    }

    pub fn reasoning(&self) -> &str {
        &self.answer.reasoning
    }

    pub fn into_answer(self) -> Result<Answer, Malformed> {
        if !self.anything {
            return Err(Malformed::new("holds neither a text nor a reason why there is none"));
        }
        let mut answer = self.answer;
        for (place, mut call) in self.calls.into_iter().enumerate() {
            if call.id.is_empty() {
                call.id = format!("call_{place}");
            }
            if call.arguments_json.is_empty() {
                call.arguments_json = json!({}).to_string();
            }
            answer.tool_calls.push(call);
        }
        Ok(answer)
    }
}
