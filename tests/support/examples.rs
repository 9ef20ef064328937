//! An example of every field of every kind: what may stand there, and what may not.
//!
//! They lie in `tests/examples/{kind}.yaml`. There:
//!
//! - `base` is a spec that is right, and `fields` says for each field where it stands (`at`, with `[0]` for the first of a
//!   list and a name for the key of a map), what is `valid` and what is `invalid` there, and what the refusal `says`. It is
//!   at the same path, unless `path` gives another. `with` is merged into the spec of both.
//! - `free` lists fields that can't be wrong, with an example and the reason.
//! - `made` lists fields that only the server sets: what is given is refused.

use std::{fs, path::Path};

use prost_reflect::{FieldDescriptor, ReflectMessage};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use signalbox::proto::v1::Resource;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Examples {
    pub name: String,
    pub base: Value,
    pub fields: Vec<Field>,
    #[serde(default)]
    pub free: Vec<Free>,
    #[serde(default)]
    pub made: Vec<Made>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    pub at: String,
    pub valid: Value,
    pub invalid: Value,
    pub path: Option<String>,
    pub says: String,
    #[serde(default)]
    pub with: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Free {
    pub at: String,
    pub valid: Value,
    pub why: String,
    #[serde(default)]
    pub with: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    pub at: String,
    pub invalid: Value,
    pub says: String,
}

/// The kinds, as the arms of a resource's spec.
pub fn arms() -> Vec<FieldDescriptor> {
    let resource = Resource::default().descriptor();
    resource.oneofs().find(|oneof| oneof.name() == "spec").unwrap().fields().collect()
}

/// The examples of a kind.
pub fn examples(kind: &str) -> Examples {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/examples/{kind}.yaml"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is there for others to refer to.
pub fn targets() -> Vec<Value> {
    vec![
        json!({"name": "providers/target", "provider": {"type": "PROVIDER_TYPE_GROQ"}}),
        json!({"name": "models/target/model", "model": {}}),
        json!({"name": "tools/target", "tool": {}}),
    ]
}

/// Puts a value where a path leads to, through maps and first items that are made on the way.
pub fn put(spec: &mut Value, at: &str, value: Value) {
    let mut place = spec;
    for part in at.split('.') {
        if place.is_null() {
            *place = json!({});
        }
        let (name, first) = part.strip_suffix("[0]").map_or((part, false), |name| (name, true));
        place = place.as_object_mut().unwrap().entry(name).or_insert(Value::Null);
        if first {
            if place.is_null() {
                *place = json!([null]);
            }
            place = &mut place.as_array_mut().unwrap()[0];
        }
    }
    *place = value;
}

/// Puts one spec over another.
pub fn merge(spec: &mut Value, with: &Map<String, Value>) {
    for (key, value) in with {
        match (spec.as_object_mut().unwrap().entry(key).or_insert(Value::Null), value) {
            (place @ Value::Object(_), Value::Object(below)) => merge(place, below),
            (place, value) => *place = value.clone(),
        }
    }
}
