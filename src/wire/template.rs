//! JSON documents with placeholders; the language is that of `wire.proto`.

use serde_json::{Map, Value};

use super::problems;

const TEMPLATE_BYTES: usize = 4096;
/// How often a template may hold one placeholder: what is put there may be a whole conversation.
const COPIES: usize = 2;

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
            false => match known.iter().find(|name| copies(&document, name) > COPIES) {
                Some(name) => {
                    Err(format!("holds `{{{name}}}` more than {COPIES} times; say it {COPIES} times at most"))
                }
                None => Ok(Self(document)),
            },
            true if known.is_empty() => Err("holds a placeholder, and none is known here".into()),
            true => {
                let known: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
                let known = problems::list(known.iter().map(String::as_str));
                Err(format!("holds an unknown placeholder; known here are {known}"))
            }
        }
    }

    /// The document with values in place of the placeholders; `None` where the whole is one without a value.
    pub fn fill(&self, values: &[(&str, Option<Value>)]) -> Option<Value> {
        fill(&self.0, values)
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

/// How often a placeholder stands in a document.
fn copies(value: &Value, name: &str) -> usize {
    match value {
        Value::String(text) => usize::from(placeholder(text) == Some(name)),
        Value::Array(list) => list.iter().map(|value| copies(value, name)).sum(),
        Value::Object(object) => object.values().map(|value| copies(value, name)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn fill(value: &Value, values: &[(&str, Option<Value>)]) -> Option<Value> {
    match value {
        Value::String(text) => match placeholder(text) {
            Some(name) => values.iter().find(|(known, _)| *known == name)?.1.clone(),
            None => Some(value.clone()),
        },
        Value::Array(list) => {
            Some(Value::Array(list.iter().filter_map(|value| fill(value, values)).collect()))
        }
        Value::Object(object) => {
            let filled = |(name, value): (&String, &Value)| Some((name.clone(), fill(value, values)?));
            Some(Value::Object(object.iter().filter_map(filled).collect::<Map<_, _>>()))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(value.clone()),
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
            template.fill(&[("x", Some(json!({"k": 1}))), ("y", None)]),
            Some(json!({"a": {"k": 1}, "b": [1], "c": "{x} and more", "d": {}}))
        );
        // A value that looks like a placeholder is a value.
        assert_eq!(template.fill(&[("x", Some(json!("{y}"))), ("y", None)]).unwrap()["a"], json!("{y}"));
        assert_eq!(Template::parse("\"{x}\"", &["x"]).unwrap().fill(&[("x", None)]), None);
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in ["", "{x}", "{", "\"{z}\"", r#"{"a": ["{api_key}"]}"#] {
            assert!(Template::parse(text, &["x"]).is_err(), "{text}");
        }
        assert!(Template::parse(&format!("\"{}\"", "x".repeat(4096)), &[]).is_err());
        assert!(Template::parse(r#"["{x}", "{x}", "{y}"]"#, &["x", "y"]).is_ok());
        let told = Template::parse(r#"["{x}", {"a": ["{x}", "{x}"]}]"#, &["x", "y"]).unwrap_err();
        assert!(told.contains("`{x}` more than 2 times"), "{told}");
        assert!(Template::parse(&format!("{}{}", "[".repeat(2000), "]".repeat(2000)), &[]).is_err());
        assert!(Template::parse(r#"["{}", "{X}", "{a b}", "{{x}}"]"#, &[]).is_ok(), "these are texts");
    }
}
