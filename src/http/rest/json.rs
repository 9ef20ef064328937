//! From JSON to a message by its descriptor: canonical proto JSON, with everything that is wrong told by its path.
//!
//! It must not know which messages there are. What is told never repeats a value: that may be a secret in the wrong place.

use std::{collections::HashSet, fmt};

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value as Json, error::Category};
use zeroize::Zeroize;

use crate::domain::Violations;

/// Names longer than this are no slip of a pen, and are not shown.
const LONGEST_NAME: usize = 64;

/// How the parser's message begins for what is nested too deep.
const TOO_DEEP: &str = "recursion limit exceeded";

/// JSON that was read strictly: a key given twice is refused. Its texts are wiped when it is let go of.
pub(super) struct Strict(Json);

impl Strict {
    /// Reads a text, or says what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        // The message of the parser would show what it stumbled over.
        serde_json::from_slice(text).map_err(|error| {
            let what = match error.classify() {
                // Nothing else is wrong with what is JSON.
                Category::Data => "gives a key twice in one object; give it once",
                // The parser has no kind for it.
                _ if error.to_string().starts_with(TOO_DEEP) => "is nested deeper than 127 levels",
                Category::Io | Category::Syntax | Category::Eof => "is not JSON",
            };
            format!("{what}, at line {} column {}", error.line(), error.column())
        })
    }
}

impl Drop for Strict {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(json: &mut Json) {
    match json {
        Json::String(text) => text.zeroize(),
        Json::Array(items) => items.iter_mut().for_each(wipe),
        Json::Object(entries) => entries.values_mut().for_each(wipe),
        _ => {}
    }
}

/// Reads a message; what is wrong with it is noted, beginning with `path`.
pub(super) fn read(
    descriptor: &MessageDescriptor,
    mut json: Strict,
    path: &str,
    violations: &mut Violations,
) -> DynamicMessage {
    Reader { violations }.message(descriptor, json.0.take(), path)
}

/// A field's value from JSON that holds no message of ours; what is wrong with it is noted.
pub(super) fn read_field(
    field: &FieldDescriptor,
    json: Json,
    path: &str,
    violations: &mut Violations,
) -> Option<Value> {
    Reader { violations }.leaf(field, json, path)
}

struct Reader<'a> {
    violations: &'a mut Violations,
}

impl Reader<'_> {
    fn message(&mut self, descriptor: &MessageDescriptor, json: Json, path: &str) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        let Json::Object(entries) = json else {
            let known = field_names(descriptor);
            self.violations.add(
                path_or_body(path),
                "WRONG_TYPE",
                format!("must be an object; there are {known}"),
            );
            return message;
        };
        let mut given: Vec<(FieldDescriptor, String)> = Vec::new();
        for (key, json) in entries {
            let Some(field) = field_named(descriptor, &key) else {
                let description = format!("there is no such field; there are {}", field_names(descriptor));
                self.violations.add(join(path, &shown(&key)), "UNKNOWN_FIELD", description);
                continue;
            };
            let path = join(path, field.name());
            if let Some((_, other)) = given.iter().find(|(other, _)| *other == field) {
                let description =
                    format!("is given as `{other}` and as `{key}`, which are the same field; give it once");
                self.violations.add(path, "CONFLICT", description);
                continue;
            }
            given.push((field.clone(), key));
            if let Some(rival) = rival(&message, &field) {
                let description = format!("stands beside `{rival}`; only one of them can be set");
                self.violations.add(path, "CONFLICT", description);
                continue;
            }
            if let Some(value) = self.field(&field, json, &path) {
                message.set_field(&field, value);
            }
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, json: Json, path: &str) -> Option<Value> {
        match (held(field), json) {
            (_, Json::Null) => None,
            (Some(inner), Json::Array(items)) if field.is_list() => {
                let items = items.into_iter().enumerate();
                let read =
                    |(index, json)| Value::Message(self.message(&inner, json, &format!("{path}[{index}]")));
                Some(Value::List(items.map(read).collect()))
            }
            (Some(inner), Json::Object(entries)) if field.is_map() => {
                let read = |(key, json): (String, Json)| {
                    let path = join(path, &shown(&key));
                    (MapKey::String(key), Value::Message(self.message(&inner, json, &path)))
                };
                Some(Value::Map(entries.into_iter().map(read).collect()))
            }
            (Some(inner), json) if !field.is_list() && !field.is_map() => {
                Some(Value::Message(self.message(&inner, json, path)))
            }
            (_, json) => self.leaf(field, json, path),
        }
    }

    /// What the library reads as a whole: it does so only as a field of a message.
    fn leaf(&mut self, field: &FieldDescriptor, json: Json, path: &str) -> Option<Value> {
        let parent = field.parent_message();
        let object = Json::Object([(field.json_name().to_owned(), json)].into_iter().collect());
        match DynamicMessage::deserialize(parent.clone(), object) {
            Ok(mut message) => message.take_field(field),
            Err(_) => {
                self.violations.add(path, "WRONG_TYPE", format!("must be {}", wanted(field)));
                None
            }
        }
    }
}

/// A field by its name in either spelling.
pub(super) fn field_named(message: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    message.get_field_by_json_name(key).or_else(|| message.get_field_by_name(key))
}

/// What is set already where only one of several can be: the field itself, or another arm of its `oneof`.
pub(super) fn rival(message: &DynamicMessage, field: &FieldDescriptor) -> Option<String> {
    let arms =
        field.containing_oneof().map(|oneof| oneof.fields().collect()).unwrap_or_else(|| vec![field.clone()]);
    arms.into_iter().find(|arm| message.has_field(arm)).map(|arm| arm.name().to_owned())
}

/// The message of ours that a field holds, one or many.
fn held(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let kind = match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    };
    kind.as_message().filter(|message| message.package_name() != "google.protobuf").cloned()
}

/// The names of a message's fields, for an error.
pub(super) fn field_names(message: &MessageDescriptor) -> String {
    let names: Vec<String> = message.fields().map(|field| format!("`{}`", field.json_name())).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A name that somebody sent, as far as it can be one. Keys have digits in them, which names of fields hardly have: where
/// somebody exchanged key and value, nothing of it is told.
pub(super) fn shown(name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphabetic() || "_.".contains(letter);
    match name.len() <= LONGEST_NAME && !name.is_empty() && name.chars().all(plain) {
        true => name.to_owned(),
        false => "?".to_owned(),
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn path_or_body(path: &str) -> &str {
    if path.is_empty() { "body" } else { path }
}

/// What a field takes, as the end of a sentence.
fn wanted(field: &FieldDescriptor) -> String {
    let kind = match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    };
    let one = match kind {
        Kind::String => "text".to_owned(),
        Kind::Bool => "true or false".to_owned(),
        Kind::Bytes => "text in base64".to_owned(),
        Kind::Double | Kind::Float => "a number".to_owned(),
        Kind::Uint32 | Kind::Fixed32 => "a whole number from 0 to 4294967295".to_owned(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "a whole number of 32 bits".to_owned(),
        Kind::Uint64 | Kind::Fixed64 => "a whole number of 64 bits from 0, best as text".to_owned(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "a whole number of 64 bits, best as text".to_owned(),
        Kind::Enum(words) => {
            // What stands for nothing said is refused in turn where a value is wanted.
            let meant = words.values().filter(|word| !word.name().ends_with("_UNSPECIFIED"));
            let words: Vec<String> = meant.map(|word| word.name().to_owned()).collect();
            format!("one of {}", words.join(", "))
        }
        Kind::Message(message) => match message.name() {
            "Timestamp" => "a time such as `2026-01-31T12:00:00Z`".to_owned(),
            "Duration" => "a length of time in seconds such as `1.5s`".to_owned(),
            "FieldMask" => "paths of fields with commas between, in one text".to_owned(),
            _ => "an object".to_owned(),
        },
    };
    match () {
        () if field.is_map() => format!("an object, each value {one}"),
        () if field.is_list() => format!("a list, each item {one}"),
        () => one,
    }
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJson).map(Strict)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(ref mut item)) = items.next_element()? {
            list.push(item.take());
        }
        Ok(Json::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut seen = HashSet::new();
        let mut map = serde_json::Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let Strict(ref mut value) = entries.next_value()?;
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom("a key stands twice"));
            }
            map.insert(key, value.take());
        }
        Ok(Json::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::ReflectMessage as _;

    use super::*;
    use crate::proto::v1::{ListResourcesRequest, Resource};

    fn problems<M: prost_reflect::ReflectMessage + Default>(text: &str) -> Vec<(String, &'static str)> {
        let mut violations = Violations::default();
        match Strict::parse(text.as_bytes()) {
            Ok(json) => drop(read(&M::default().descriptor(), json, "", &mut violations)),
            Err(wrong) => violations.add("body", "UNDECODABLE", wrong),
        }
        violations.into_vec().into_iter().map(|one| (one.field, one.reason)).collect()
    }

    #[test]
    fn both_spellings_and_numbers_as_text_are_taken() {
        for text in [
            r#"{"name":"providers/groq","provider":{"displayName":"G","type":"PROVIDER_TYPE_GROQ","headers":{"x":{"plain":"y"}}}}"#,
            r#"{"name":"providers/groq","provider":{"display_name":"G","context_window_tokens":null}}"#,
            r#"{"labels":{"a":"b"},"version":"7","createTime":"2026-01-31T12:00:00Z"}"#,
        ] {
            let found = problems::<Resource>(text);
            assert!(
                found.iter().all(|(_, reason)| *reason == "UNKNOWN_FIELD") && found.len() < 2,
                "{text}: {found:?}"
            );
        }
        let mut violations = Violations::default();
        let json = Strict::parse(br#"{"pageSize":5,"selectors":[{"prefix":"tools/"}]}"#).unwrap();
        let message = read(&ListResourcesRequest::default().descriptor(), json, "", &mut violations);
        let request: ListResourcesRequest = message.transcode_to().unwrap();
        assert_eq!((request.page_size, request.selectors.len(), violations.is_empty()), (5, 1, true));
    }

    /// It is JSON, and was told to be none.
    #[test]
    fn regression_what_is_nested_too_deep_is_told_as_that() {
        let nested =
            |levels| Strict::parse(format!("{}{}", "[".repeat(levels), "]".repeat(levels)).as_bytes());
        assert!(nested(127).is_ok());
        let told = nested(128).err().unwrap();
        assert!(told.starts_with("is nested deeper than 127 levels, at line 1 "), "{told}");
    }

    #[test]
    fn everything_that_is_wrong_is_told_by_its_path() {
        let found = problems::<Resource>(
            r#"{"nme":"x","provider":{"displayName":7,"type":"GROQQ","headers":{"x":{"plain":"y","secret":{}}}},"router":{},"labels":[]}"#,
        );
        let expected = [
            ("labels", "WRONG_TYPE"),
            ("nme", "UNKNOWN_FIELD"),
            ("provider.display_name", "WRONG_TYPE"),
            ("provider.headers.x.secret", "CONFLICT"),
            ("provider.type", "WRONG_TYPE"),
            ("router", "CONFLICT"),
        ];
        let mut found = found;
        found.sort();
        assert_eq!(found, expected.map(|(field, reason)| (field.to_owned(), reason)));
    }

    #[test]
    fn regression_two_spellings_are_told_apart() {
        let mut violations = Violations::default();
        let json =
            Strict::parse(br#"{"generation":{"top_p":0.5,"topP":0.6},"chat":{"toolChoice":{"mode":"X"}}}"#);
        let descriptor = crate::proto::v1::PromptTemplateSpec::default().descriptor();
        drop(read(&descriptor, json.unwrap(), "", &mut violations));
        let found = violations.into_vec();
        let told = |field: &str| {
            found.iter().find(|one| one.field == field).map_or("", |one| one.description.as_str())
        };
        let twice = told("generation.top_p");
        assert!(twice.contains("`topP`") && twice.contains("`top_p`"), "{found:?}");
        let mode = told("chat.tool_choice.mode");
        assert!(mode.contains("TOOL_CHOICE_MODE_AUTO") && !mode.contains("UNSPECIFIED"), "{found:?}");
    }

    #[test]
    fn what_is_no_json_of_ours_is_refused() {
        for text in ["", "{", r#"{"name":"a","name":"b"}"#, r#"{"provider":{"type":1,"type":2}}"#, "{} {}"] {
            assert_eq!(problems::<Resource>(text), [("body".to_owned(), "UNDECODABLE")], "{text}");
        }
        assert_eq!(problems::<Resource>("[]"), [("body".to_owned(), "WRONG_TYPE")]);
        assert_eq!(problems::<Resource>(r#"{"name":"a","provider":{},"provider":{}}"#).len(), 1);
        let deep = "[".repeat(100_000);
        assert_eq!(problems::<Resource>(&deep).len(), 1);
    }

    /// A value, or a name that is none, may be a secret in the wrong place.
    #[test]
    fn nothing_that_was_sent_is_repeated_but_names_of_fields() {
        let texts = [
            r#"{"version":"canary"}"#,
            r#"{"createTime":"canary"}"#,
            r#"{"provider":"canary"}"#,
            r#"{"sk-canary":1}"#,
            r#"{"provider":{"headers":{"sk-canary":{"x":1}}}}"#,
            r#"{"name":"a" canary}"#,
        ];
        for text in texts {
            let mut violations = Violations::default();
            match Strict::parse(text.as_bytes()) {
                Ok(json) => drop(read(&Resource::default().descriptor(), json, "", &mut violations)),
                Err(wrong) => violations.add("body", "UNDECODABLE", wrong),
            }
            let told = format!("{:?}", violations.into_vec());
            assert!(told.contains("field") && !told.contains("canary"), "{told}");
        }
    }
}
