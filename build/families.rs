//! What is known of the types of providers, from `src/wire/families/*.json`, as code: `src/wire/families.rs` says what the
//! files hold.

use std::{collections::BTreeMap, error::Error, fs};

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Map, Value};

/// Where the families lie.
pub const FAMILIES: &str = "src/wire/families";

/// The families as code: for each file its name, what it holds besides, and the spec as bytes, because the client has no
/// reflection to read JSON by.
pub fn families(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(FAMILIES)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).ok_or("a family without a name")?;
        let Value::Object(family) = serde_json::from_slice(&fs::read(&path)?)? else {
            return Err(format!("{name} is no JSON object").into());
        };
        files.insert(name.to_owned(), family);
    }
    let descriptor =
        pool.get_message_by_name("signalbox.v1.ProviderSpec").ok_or("no ProviderSpec message")?;
    let mut rows = String::new();
    for name in files.keys() {
        let mut family = extended(name, &files)?;
        let alternatives: Vec<(String, String)> = match family.remove("alternatives") {
            Some(alternatives) => {
                serde_json::from_value::<BTreeMap<_, _>>(alternatives)?.into_iter().collect()
            }
            None => Vec::new(),
        };
        let call_paths: Vec<String> = match family.remove("call_paths") {
            Some(paths) => serde_json::from_value(paths)?,
            None => Vec::new(),
        };
        let beside: Vec<String> = match family.remove("beside") {
            Some(labels) => serde_json::from_value(labels)?,
            None => Vec::new(),
        };
        // Where it is known from; for people.
        family.remove("sources");
        let spec = DynamicMessage::deserialize(descriptor.clone(), Value::Object(family))
            .map_err(|error| format!("{FAMILIES}/{name}.json: {error}"))?;
        let spec = spec.encode_to_vec();
        rows += &format!(
            "File {{ name: {name:?}, alternatives: &{alternatives:?}, call_paths: &{call_paths:?}, beside: &{beside:?}, spec: &{spec:?} }},\n"
        );
    }
    Ok(format!("static FILES: &[File] = &[\n{rows}];\n"))
}

/// A family, put on the one that it extends.
fn extended(
    name: &str,
    files: &BTreeMap<String, Map<String, Value>>,
) -> Result<Map<String, Value>, Box<dyn Error>> {
    let mut family = files.get(name).ok_or_else(|| format!("there is no family {name}"))?.clone();
    let Some(of) = family.remove("extends") else { return Ok(family) };
    let of = of.as_str().filter(|of| *of != name).ok_or_else(|| format!("{name} extends no family"))?;
    let mut whole = extended(of, files)?;
    merge(&mut whole, family);
    Ok(whole)
}

/// A JSON merge patch (RFC 7396).
fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => drop(target.remove(&name)),
            Value::Object(patch) => match target.entry(name).or_insert_with(|| Value::Object(Map::new())) {
                Value::Object(inner) => merge(inner, patch),
                other => *other = Value::Object(patch),
            },
            value => drop(target.insert(name, value)),
        }
    }
}
