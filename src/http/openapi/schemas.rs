//! Messages as schemas: the JSON form of each, by its descriptor.

use std::collections::BTreeMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::required;
use crate::proto;

/// A number of items: signed, as everywhere in gRPC, and never less than none.
const PAGE_SIZE: &str = "page_size";

/// The schemas that were asked for so far, by name.
#[derive(Default)]
pub(super) struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// A reference to a message's schema, which is made if it is new.
    pub fn reference(&mut self, message: &MessageDescriptor) -> Value {
        let name = short(message.full_name());
        if !self.0.contains_key(&name) {
            // First of all, because it may hold itself.
            self.0.insert(name.clone(), Value::Null);
            let schema = self.message(message);
            self.0.insert(name.clone(), schema);
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    /// A reference to the schema of errors.
    pub fn status(&mut self) -> Value {
        self.0.entry("Status".to_owned()).or_insert_with(|| {
            json!({
                "type": "object",
                "description": "An error, as `google.rpc.Status`.",
                "properties": {
                    "code": { "type": "integer", "description": "The code of gRPC." },
                    "message": { "type": "string", "description": "For people; left out when all is well." },
                    "details": {
                        "type": "array",
                        "description": "`ErrorInfo` with a stable reason first; others by what went wrong.",
                        "items": {
                            "type": "object",
                            "properties": { "@type": { "type": "string" } },
                            "required": ["@type"],
                        },
                    },
                },
                "required": ["code"],
            })
        });
        json!({ "$ref": "#/components/schemas/Status" })
    }

    /// The schema of what a field holds.
    pub fn of_field(&mut self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let value = self.kind(&entry.map_entry_value_field().kind());
                json!({ "type": "object", "additionalProperties": value })
            }
            kind if field.is_list() => json!({ "type": "array", "items": self.kind(&kind) }),
            kind => {
                let mut schema = self.kind(&kind);
                if field.name() == PAGE_SIZE {
                    schema["minimum"] = 0.into();
                }
                schema
            }
        }
    }

    /// All of them, by name.
    pub fn into_map(self) -> Map<String, Value> {
        self.0.into_iter().collect()
    }

    fn message(&mut self, message: &MessageDescriptor) -> Value {
        let mut properties = Map::new();
        for field in message.fields() {
            let mut schema = self.of_field(&field);
            let words = words_of(&field);
            if words.contains("Output only") {
                schema["readOnly"] = true.into();
            }
            schema["description"] = words.into();
            properties.insert(field.json_name().to_owned(), schema);
        }
        let mut schema = json!({
            "type": "object",
            "description": proto::comment(&message.parent_file(), message.path()),
            "properties": properties,
            "additionalProperties": false,
        });
        let required: Vec<Value> = message
            .fields()
            .filter(required::is_required)
            .map(|field| field.json_name().to_owned().into())
            .collect();
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        schema
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::String => json!({ "type": "string" }),
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Double | Kind::Float => json!({ "type": "number" }),
            Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({ "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX })
            }
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "pattern": "^[0-9]{1,20}$" }),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({ "type": "string", "pattern": "^-?[0-9]{1,19}$" })
            }
            Kind::Enum(words) => self.words(words),
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => json!({ "type": "string", "format": "date-time" }),
                "google.protobuf.Duration" => {
                    json!({ "type": "string", "pattern": "^-?[0-9]{1,12}(\\.[0-9]{1,9})?s$" })
                }
                "google.protobuf.FieldMask" => json!({ "type": "string" }),
                _ => self.reference(message),
            },
        }
    }

    fn words(&mut self, words: &EnumDescriptor) -> Value {
        let name = short(words.full_name());
        self.0.entry(name.clone()).or_insert_with(|| {
            let about = proto::comment(&words.parent_file(), words.path());
            let each = words.values().map(|word| {
                format!("- `{}`: {}", word.name(), proto::comment(&words.parent_file(), word.path()))
            });
            let about = [about, String::new()].into_iter().chain(each).collect::<Vec<_>>().join("\n");
            let names: Vec<Value> = words.values().map(|word| word.name().into()).collect();
            json!({ "type": "string", "description": about, "enum": names })
        });
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }
}

/// What is said of a field, and what it can't stand beside.
fn words_of(field: &FieldDescriptor) -> String {
    let words = proto::comment(&field.parent_message().parent_file(), field.path());
    let arms = field.containing_oneof().map(|oneof| oneof.fields().collect::<Vec<_>>()).unwrap_or_default();
    let others: Vec<String> =
        arms.iter().filter(|arm| *arm != field).map(|arm| format!("`{}`", arm.json_name())).collect();
    match others.is_empty() {
        true => words,
        false => format!("{words} Never beside {}.", others.join(", ")),
    }
}

fn short(full_name: &str) -> String {
    full_name.trim_start_matches("signalbox.v1.").to_owned()
}
