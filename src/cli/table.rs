//! Resources as tables, for any kind: what to show follows from the descriptors.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use comfy_table::{ContentArrangement, Table, presets};
use prost_reflect::{DynamicMessage, Kind, ReflectMessage, Value};

use super::{diff, scalar, schema, text};
use crate::proto::v1;

/// Rows of one field of a kind that are shown one by one.
const FEW: usize = 8;

/// A table without lines, so that it can be cut with awk.
#[must_use]
pub fn plain(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !header.is_empty() {
        table.set_header(header.to_vec());
    }
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// The alternative of a spec's `oneof` that is set.
fn alternative(spec: &DynamicMessage) -> Option<prost_reflect::FieldDescriptor> {
    spec.fields().map(|(field, _)| field).find(|field| schema::real_oneof(field).is_some())
}

/// Type and value of a setting.
#[must_use]
pub fn setting_value(setting: &v1::SettingSpec) -> (String, String) {
    let spec = setting.transcode_to_dynamic();
    let Some(field) = alternative(&spec) else { return Default::default() };
    (field.name().trim_end_matches("_value").to_owned(), shown(&spec.get_field(&field), &field.kind()))
}

/// One resource, a line for each field that is set, and what there is `more` to know of it.
#[must_use]
pub fn details(resource: &v1::Resource, now: DateTime<Utc>, more: Vec<Vec<String>>) -> String {
    let message = resource.transcode_to_dynamic();
    let mut rows = Vec::new();
    for (field, value) in message.fields() {
        match field.name() {
            "create_time" => rows.push(when("created", resource.create_time.as_ref(), now)),
            "update_time" => rows.push(when("updated", resource.update_time.as_ref(), now)),
            "observations" => rows.extend(resource.observations.iter().map(|seen| observed(seen, now))),
            name => flatten(name, value, &field.kind(), now, &mut rows),
        }
    }
    rows.extend(more);
    plain(&[], folded(&rows))
}

/// The rows, with a single one for a field of the kind that has many beneath it, as how a provider is spoken to does.
fn folded(rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let path = |row: &Vec<String>| row.first().map_or("", String::as_str).to_owned();
    let groups = rows.chunk_by(|one, other| diff::group(&path(one)) == diff::group(&path(other)));
    let shown = groups.flat_map(|rows| match rows {
        [first, ..] if rows.len() > FEW => {
            vec![vec![diff::group(&path(first)).to_owned(), diff::folded(rows.len())]]
        }
        few => few.to_vec(),
    });
    shown.collect()
}

/// When something was seen, and what, where the time does not say it all.
fn observed(seen: &v1::Observation, now: DateTime<Utc>) -> Vec<String> {
    let mut row = when(&text::printable(&seen.what), seen.time.as_ref(), now);
    if let (Some(cell), false) = (row.last_mut(), seen.value_json.is_empty()) {
        cell.push_str(": ");
        cell.push_str(&text::printable(&in_words(&seen.value_json)));
    }
    row
}

/// A flat JSON object as a person reads it, its reason first and without what is empty; anything else as it is.
fn in_words(json: &str) -> String {
    use serde_json::Value as Json;
    let Ok(Json::Object(mut object)) = serde_json::from_str(json) else { return json.to_owned() };
    let reason = object.remove("reason").and_then(|reason| reason.as_str().map(str::to_owned));
    let mut words: Vec<String> = reason.filter(|reason| !reason.is_empty()).into_iter().collect();
    for (name, value) in object {
        let (name, unit) = name.strip_suffix("_ms").map_or((name.as_str(), ""), |name| (name, " ms"));
        let name = name.replace('_', " ");
        match value {
            Json::Null => {}
            Json::Bool(true) => words.push(name),
            Json::Bool(false) => words.push(format!("not {name}")),
            Json::String(text) if text.is_empty() => {}
            Json::String(text) => words.push(format!("{name} {text}{unit}")),
            value => words.push(format!("{name} {value}{unit}")),
        }
    }
    words.join(", ")
}

fn when(what: &str, time: Option<&prost_types::Timestamp>, now: DateTime<Utc>) -> Vec<String> {
    let shown = time
        .map_or_else(String::new, |then| format!("{} ({})", text::moment(then), text::relative(now, then)));
    vec![what.to_owned(), shown]
}

fn flatten(path: &str, value: &Value, kind: &Kind, now: DateTime<Utc>, rows: &mut Vec<Vec<String>>) {
    match (value, kind) {
        (Value::Message(message), Kind::Message(descriptor)) if schema::is_timestamp(descriptor) => {
            rows.push(when(path, message.transcode_to().ok().as_ref(), now));
        }
        (Value::Message(message), Kind::Message(descriptor))
            if !schema::is_secret(descriptor) && !schema::is_well_known(descriptor) =>
        {
            for (field, value) in message.fields() {
                flatten(&format!("{path}.{}", field.name()), value, &field.kind(), now, rows);
            }
        }
        (Value::Map(map), Kind::Message(entry)) => {
            let kind = entry.map_entry_value_field().kind();
            let mut entries: Vec<_> =
                map.iter().map(|(key, value)| (key.as_str().unwrap_or_default(), value)).collect();
            entries.sort_by_key(|(key, _)| *key);
            for (key, value) in entries {
                flatten(&format!("{path}.{}", text::printable(key)), value, &kind, now, rows);
            }
        }
        (Value::List(items), _) => {
            let items: Vec<String> = items.iter().map(|item| shown(item, kind)).collect();
            rows.push(vec![path.to_owned(), text::printable(&items.join(", "))]);
        }
        _ => rows.push(vec![path.to_owned(), text::printable(&shown(value, kind))]),
    }
}

/// One value as a person reads it.
#[must_use]
pub fn shown(value: &Value, kind: &Kind) -> String {
    match (value, kind) {
        (Value::EnumNumber(number), Kind::Enum(words)) => scalar::enum_word(words, *number),
        (Value::Message(message), Kind::Message(descriptor)) if schema::is_secret(descriptor) => {
            secret(message)
        }
        (Value::Message(message), Kind::Message(descriptor))
            if descriptor.full_name() == "google.protobuf.Duration" =>
        {
            message.transcode_to().map_or_else(|_| String::new(), |duration| text::duration(&duration))
        }
        (Value::Message(message), Kind::Message(descriptor)) if schema::is_timestamp(descriptor) => {
            message.transcode_to().map_or_else(|_| String::new(), |time| text::moment(&time))
        }
        (Value::Message(message), Kind::Message(descriptor)) if schema::is_well_known(descriptor) => {
            serde_json::to_string(message).unwrap_or_default()
        }
        // An item of a list: what is set of it, in the words that a change of it takes.
        (Value::Message(message), _) => {
            let set =
                message.fields().map(|(field, value)| (field.name().to_owned(), shown(value, &field.kind())));
            set.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        }
        (Value::String(text), _) => text.clone(),
        (Value::Bool(value), _) => value.to_string(),
        (Value::I32(number), _) => number.to_string(),
        (Value::I64(number), _) => number.to_string(),
        (Value::U32(number), _) => number.to_string(),
        (Value::U64(number), _) => number.to_string(),
        (Value::F32(number), _) => number.to_string(),
        (Value::F64(number), _) => number.to_string(),
        (Value::Bytes(bytes), _) => hex::encode(bytes),
        (Value::List(items), kind) => {
            let items: Vec<String> = items.iter().map(|item| shown(item, kind)).collect();
            format!("[{}]", items.join(", "))
        }
        (Value::Map(map), Kind::Message(entry)) => {
            let kind = entry.map_entry_value_field().kind();
            let entries =
                map.iter().map(|(key, value)| (key.as_str().unwrap_or_default(), shown(value, &kind)));
            let entries: BTreeMap<_, _> = entries.collect();
            let told: Vec<String> =
                entries.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("{{{}}}", told.join(", "))
        }
        _ => String::new(),
    }
}

/// What may be shown of a secret: its value only where the server opened it because that was asked for.
fn secret(message: &DynamicMessage) -> String {
    use v1::secret::State;
    let Ok(secret) = message.transcode_to::<v1::Secret>() else { return text::MASK.to_owned() };
    if let Some(value) = &secret.value {
        return value.clone();
    }
    match secret.state() {
        State::Absent => "(not set)".to_owned(),
        State::Missing => "(missing: has to be set)".to_owned(),
        State::Undecryptable => "(no key opens it)".to_owned(),
        State::Present | State::Unspecified => text::MASK.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_items_are_told_in_words() {
        let variable = v1::TemplateVariable {
            name: "count".into(),
            r#type: v1::VariableType::Integer.into(),
            default_value: Some("3".into()),
            ..Default::default()
        };
        let spec = v1::PromptTemplateSpec { variables: vec![variable], ..Default::default() };
        let resource = v1::Resource {
            name: "promptTemplates/summary".into(),
            spec: Some(v1::resource::Spec::PromptTemplate(spec)),
            ..Default::default()
        };
        let told = details(&resource, DateTime::UNIX_EPOCH, Vec::new());
        assert!(told.contains("name=count type=integer default_value=3"), "{told}");
        let rule = v1::FeatureFlagRule {
            attribute: "country".into(),
            values: vec!["de".into(), "at".into()],
            ..Default::default()
        };
        let rule = rule.transcode_to_dynamic();
        let kind = Kind::Message(rule.descriptor());
        assert_eq!(shown(&Value::Message(rule), &kind), "attribute=country values=[de, at]");
    }

    #[test]
    fn regression_what_was_seen_is_told_in_words() {
        let now = DateTime::from_timestamp(1_000_000, 0).unwrap_or_default();
        let time = Some(prost_types::Timestamp { seconds: 999_940, nanos: 0 });
        for (value, told) in [
            (r#"{"latency_ms":6,"model":"","reason":"NO_SUCH_HOST"}"#, ": NO_SUCH_HOST, latency 6 ms"),
            (r#"{"encrypted":false,"reason":"OK"}"#, ": OK, not encrypted"),
            (r#"{"workers":["a"]}"#, r#": workers ["a"]"#),
            ("7", ": 7"),
            ("?", ": ?"),
        ] {
            let seen = v1::Observation { what: "test".into(), time, value_json: value.into() };
            let row = observed(&seen, now);
            assert!(row[1].ends_with(&format!("(60s ago){told}")), "{row:?}");
        }
    }
}
