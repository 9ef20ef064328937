//! JSON documents with placeholders; the language is that of `wire.proto`.
//!
//! A template may repeat what it is given, within one that repeats that: so what is made of a call is bounded as it is made.

use std::cell::Cell;

use serde_json::{Map, Value};

use super::problems;

const TEMPLATE_BYTES: usize = 4096;
/// How much templates may make of one call, in bytes of text and [`NODE_BYTES`] for each value.
const MADE_BYTES: usize = 32 << 20;
const NODE_BYTES: usize = 16;

/// A document in which some strings are placeholders.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template(Value);

impl Template {
    /// Reads a template that may hold these placeholders, which are given without their braces.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self, String> {
        let document = document(text)?;
        match stranger(&document, known) {
            false => Ok(Self(document)),
            true if known.is_empty() => Err("holds a placeholder, and none is known here".into()),
            true => {
                let known: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
                let known = problems::list(known.iter().map(String::as_str));
                Err(format!("holds an unknown placeholder; known here are {known}"))
            }
        }
    }

    /// The document with values in place of the placeholders; `None` where the whole is one without a value, or the room is
    /// spent, which whoever made it has to look at in the end.
    pub fn fill(&self, values: &[(&str, Option<Value>)], room: &Room) -> Option<Value> {
        fill(&self.0, values, room)
    }
}

/// What templates may still make of a call.
pub(super) struct Room(Cell<usize>);

impl Default for Room {
    fn default() -> Self {
        Self(Cell::new(MADE_BYTES))
    }
}

impl Room {
    /// Whether something was left out for want of room.
    pub fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    /// Takes room for a copy, if there is enough.
    fn copy(&self, value: &Value) -> Option<Value> {
        let left = left(self.0.get(), value);
        self.0.set(left);
        (left > 0).then(|| value.clone())
    }
}

/// What is left of some bytes after a value.
fn left(bytes: usize, value: &Value) -> usize {
    let bytes = bytes.saturating_sub(NODE_BYTES);
    match value {
        _ if bytes == 0 => 0,
        Value::String(text) => bytes.saturating_sub(text.len()),
        Value::Array(list) => list.iter().fold(bytes, left),
        Value::Object(object) => {
            object.iter().fold(bytes, |bytes, (name, value)| left(bytes.saturating_sub(name.len()), value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => bytes,
    }
}

/// Reads a JSON document of bounded size.
///
/// # Errors
/// What is wrong with it.
pub(super) fn document(text: &str) -> Result<Value, String> {
    if text.len() > TEMPLATE_BYTES {
        return Err(format!("has {} bytes; at most {TEMPLATE_BYTES} are allowed", text.len()));
    }
    serde_json::from_str(text).map_err(|error| {
        format!("must be a JSON document, texts in quotes: line {}, column {}", error.line(), error.column())
    })
}

/// The name in `{name}`, if that is all there is.
fn placeholder(text: &str) -> Option<&str> {
    let name = text.strip_prefix('{')?.strip_suffix('}')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_name.then_some(name)
}

/// Whether a placeholder is none of these.
fn stranger(value: &Value, known: &[&str]) -> bool {
    match value {
        Value::String(text) => placeholder(text).is_some_and(|name| !known.contains(&name)),
        Value::Array(list) => list.iter().any(|value| stranger(value, known)),
        Value::Object(object) => object.values().any(|value| stranger(value, known)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn fill(value: &Value, values: &[(&str, Option<Value>)], room: &Room) -> Option<Value> {
    match value {
        Value::String(text) => match placeholder(text) {
            Some(name) => room.copy(values.iter().find(|(known, _)| *known == name)?.1.as_ref()?),
            None => room.copy(value),
        },
        Value::Array(list) => {
            Some(Value::Array(list.iter().filter_map(|value| fill(value, values, room)).collect()))
        }
        Value::Object(object) => {
            let filled = |(name, value): (&String, &Value)| Some((name.clone(), fill(value, values, room)?));
            Some(Value::Object(object.iter().filter_map(filled).collect::<Map<_, _>>()))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => room.copy(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn placeholders_take_values_as_they_are() {
        let template = Template::parse(
            r#"{"a": "{x}", "b": ["{y}", 1], "c": "{x} and more", "d": {"{x}": "{y}"}}"#,
            &["x", "y"],
        );
        let template = template.unwrap();
        assert_eq!(
            template.fill(&[("x", Some(json!({"k": 1}))), ("y", None)], &Room::default()),
            Some(json!({"a": {"k": 1}, "b": [1], "c": "{x} and more", "d": {}}))
        );
        // A value that looks like a placeholder is a value.
        assert_eq!(
            template.fill(&[("x", Some(json!("{y}"))), ("y", None)], &Room::default()).unwrap()["a"],
            json!("{y}")
        );
        assert_eq!(Template::parse("\"{x}\"", &["x"]).unwrap().fill(&[("x", None)], &Room::default()), None);
    }

    #[test]
    fn no_more_is_made_than_there_is_room_for() {
        let twice = Template::parse(r#"["{x}", "{x}"]"#, &["x"]).unwrap();
        let (mut value, room) = (json!("x".repeat(1024)), Room::default());
        for _ in 0..40 {
            value = twice.fill(&[("x", Some(value))], &room).unwrap();
            if room.is_spent() {
                break;
            }
        }
        assert!(room.is_spent() && value.to_string().len() < MADE_BYTES);
        assert_eq!(twice.fill(&[("x", Some(json!(1)))], &room), Some(json!([])), "nothing fits any more");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in ["", "{x}", "{", "\"{z}\"", r#"{"a": ["{api_key}"]}"#] {
            assert!(Template::parse(text, &["x"]).is_err(), "{text}");
        }
        assert!(Template::parse(&format!("\"{}\"", "x".repeat(4096)), &[]).is_err());
        assert!(Template::parse(&format!("{}{}", "[".repeat(2000), "]".repeat(2000)), &[]).is_err());
        assert!(Template::parse(r#"["{}", "{X}", "{a b}", "{{x}}"]"#, &[]).is_ok(), "these are texts");
    }
}
