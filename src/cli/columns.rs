//! Resources in lists: the columns of a kind, which its message names, and one line for each.
//!
//! A field of a kind is a column where its message says so (`column.proto`), and nowhere else: a new kind or field shows
//! itself without a change here.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};

use super::{
    rotation, schema,
    table::{plain, shown},
    text,
};
use crate::{
    import::is_import_label,
    proto::{DESCRIPTOR_POOL, v1},
};

/// Characters of one cell of a list.
const CELL: usize = 64;
/// What is seen of a rotation.
const ROTATION: &str = "rotation";
/// The option that makes a field a column.
const OPTION: &str = "signalbox.v1.column";

/// Where the values of a column are: a field, by the fields that lead to it. The alternatives of a `oneof` share one.
struct Column {
    heading: String,
    fields: Vec<Vec<FieldDescriptor>>,
}

/// Several resources, a line each: with the columns of their kind where they are of one, else with a summary of these.
#[must_use]
pub fn list(resources: &[v1::Resource], now: DateTime<Utc>) -> String {
    let specs: Vec<_> = resources.iter().map(spec_of).collect();
    let mut kinds: Vec<Option<&FieldDescriptor>> =
        specs.iter().map(|spec| spec.as_ref().map(|(arm, _)| arm)).collect();
    kinds.dedup();
    let one_kind = match kinds.as_slice() {
        [Some(arm)] => schema::message_of(arm).map(|message| columns(&message)),
        _ => None,
    };
    let headings: Vec<&str> = match &one_kind {
        Some(columns) => columns.iter().map(|column| column.heading.as_str()).collect(),
        None => vec!["KIND", "SUMMARY"],
    };
    let seen = if one_kind.is_some() { matters(resources) } else { Vec::new() };
    let seen_headings: Vec<String> =
        seen.iter().map(|matter| matter.to_uppercase().replace('_', " ")).collect();
    let seen_headings: Vec<&str> = seen_headings.iter().map(String::as_str).collect();
    let header = [&["NAME"], headings.as_slice(), &seen_headings, &["VERSION", "UPDATED", "LABELS"]].concat();
    let rows = resources.iter().zip(&specs).map(|(resource, spec)| {
        let mut own = match (&one_kind, spec) {
            (Some(columns), Some((_, spec))) => columns.iter().map(|column| column.cell(spec, now)).collect(),
            (_, Some((arm, spec))) => vec![arm.name().to_owned(), summary(spec, now)],
            // A kind that this command is too old for.
            (_, None) => vec!["?".to_owned(), String::new()],
        };
        own.extend(seen.iter().map(|matter| last_seen(resource, matter, now)));
        row(resource, &own, now)
    });
    plain(&header, rows.collect())
}

/// What was seen of any of these, each matter once.
fn matters(resources: &[v1::Resource]) -> Vec<&str> {
    let told =
        |resource: &&v1::Resource, what: &str| what != ROTATION || rotation::in_short(resource).is_some();
    let seen = resources
        .iter()
        .flat_map(|resource| resource.observations.iter().filter(move |seen| told(&resource, &seen.what)));
    seen.map(|seen| seen.what.as_str()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// How long ago it was seen of this one, after what came of it where that is told: `REFUSED 60s ago`; of a rotation that is under way,
/// how it stands.
fn last_seen(resource: &v1::Resource, matter: &str, now: DateTime<Utc>) -> String {
    if matter == ROTATION {
        return rotation::in_short(resource).unwrap_or_default();
    }
    let Some(seen) = resource.observations.iter().find(|seen| seen.what == matter) else {
        return String::new();
    };
    let ago = seen.time.as_ref().map(|then| text::relative(now, then)).unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(&seen.value_json).unwrap_or_default();
    match value.get("reason").and_then(serde_json::Value::as_str) {
        Some(reason) => format!("{} {ago}", text::printable(reason)),
        None => ago,
    }
}

fn row(resource: &v1::Resource, own: &[String], now: DateTime<Utc>) -> Vec<String> {
    let given = resource.labels.iter().filter(|(key, _)| !is_import_label(key));
    let labels: Vec<String> = given.map(|(key, value)| format!("{key}={value}")).collect();
    let cell = |cell: &str| text::clipped(&text::printable(cell), CELL);
    let mut row = vec![text::printable(&resource.name)];
    row.extend(own.iter().map(|own| cell(own)));
    row.push(resource.version.to_string());
    row.push(resource.update_time.as_ref().map(|then| text::relative(now, then)).unwrap_or_default());
    row.push(cell(&labels.join(",")));
    row
}

fn spec_of(resource: &v1::Resource) -> Option<(FieldDescriptor, DynamicMessage)> {
    let message = resource.transcode_to_dynamic();
    let arm = schema::arms().find(|arm| message.has_field(arm))?;
    let spec = message.get_field(&arm).as_message().cloned()?;
    Some((arm, spec))
}

/// All columns of a spec that have something to tell, in one cell.
fn summary(spec: &DynamicMessage, now: DateTime<Utc>) -> String {
    let told = columns(&spec.descriptor()).into_iter().filter_map(|column| {
        let word = column.heading.to_lowercase().replace(' ', "-");
        match (column.cell(spec, now).as_str(), column.heading.as_str()) {
            ("", _) => None,
            (cell, "TYPE" | "VALUE") => Some(cell.to_owned()),
            ("yes", _) => Some(word),
            ("no", _) if column.is_switch() => Some(format!("not-{word}")),
            ("no", _) => None,
            (cell, _) => Some(format!("{word}={cell}")),
        }
    });
    let mut told: Vec<String> = told.collect();
    // What is on or off is short, and what is looked for; long values may be cut.
    told.sort_by_key(|part| part.contains('='));
    told.join(" ")
}

/// The columns of a kind, in the order of its fields.
fn columns(message: &MessageDescriptor) -> Vec<Column> {
    let mut columns = Vec::new();
    gather(message, &[], &mut columns);
    columns
}

fn gather(message: &MessageDescriptor, path: &[FieldDescriptor], columns: &mut Vec<Column>) {
    for field in message.fields() {
        let here = [path, std::slice::from_ref(&field)].concat();
        if let Some(heading) = heading(&field) {
            match columns.iter_mut().find(|column| column.heading == heading) {
                Some(column) => column.fields.push(here),
                None => {
                    // Which alternative it is says as much as what it holds.
                    if schema::real_oneof(&field).is_some() {
                        columns.push(Column { heading: "TYPE".to_owned(), fields: Vec::new() });
                    }
                    columns.push(Column { heading, fields: vec![here] });
                }
            }
        } else if let Some(below) = schema::message_of(&field).filter(|_| !field.is_list() && !field.is_map())
            && !path.contains(&field)
        {
            gather(&below, &here, columns);
        }
    }
}

/// What a field's message says that its column is called.
fn heading(field: &FieldDescriptor) -> Option<String> {
    let option = DESCRIPTOR_POOL.get_extension_by_name(OPTION)?;
    let options = field.options();
    options.has_extension(&option).then(|| options.get_extension(&option).as_str().map(str::to_owned))?
}

impl Column {
    fn cell(&self, spec: &DynamicMessage, now: DateTime<Utc>) -> String {
        if self.fields.is_empty() {
            return alternative(spec);
        }
        self.fields.iter().find_map(|path| value(spec, path, now)).unwrap_or_default()
    }

    /// Whether it has a value even where nothing was given: then `no` is worth telling.
    fn is_switch(&self) -> bool {
        self.fields.iter().flatten().any(FieldDescriptor::supports_presence)
    }
}

/// The alternative that is set, as `int` of `int_value`.
fn alternative(spec: &DynamicMessage) -> String {
    let set = spec.fields().map(|(field, _)| field).find(|field| schema::real_oneof(field).is_some());
    set.map(|field| field.name().trim_end_matches("_value").to_owned()).unwrap_or_default()
}

fn value(spec: &DynamicMessage, path: &[FieldDescriptor], now: DateTime<Utc>) -> Option<String> {
    let (field, rest) = path.split_first()?;
    // What has no presence is there with its zero, of which only `no` is worth telling.
    let always_there = matches!(field.kind(), Kind::Bool) && !field.supports_presence();
    if !spec.has_field(field) && !always_there {
        return None;
    }
    let found = spec.get_field(field);
    match (rest.is_empty(), found.as_ref()) {
        (false, Value::Message(below)) => value(below, rest, now),
        (false, _) => None,
        (true, Value::Bool(value)) => Some(if *value { "yes" } else { "no" }.to_owned()),
        (true, Value::Message(message)) if schema::is_timestamp(&message.descriptor()) => {
            message.transcode_to().ok().map(|then| text::relative(now, &then))
        }
        (true, Value::List(items)) => {
            let items: Vec<String> = items.iter().map(|item| shown(item, &field.kind())).collect();
            Some(items.join(","))
        }
        (true, found) => Some(shown(found, &field.kind())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_a_column_of_lists_of_one_kind() {
        let now = DateTime::from_timestamp(1_000_000, 0).unwrap();
        let key = |name: &str, used: Option<i64>| {
            let time = used.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 });
            let seen = v1::Observation { what: "last_used".into(), time, value_json: String::new() };
            v1::Resource {
                name: format!("providers/a/apiKeys/{name}"),
                spec: Some(v1::resource::Spec::ApiKey(v1::ApiKeySpec {
                    active: Some(true),
                    ..Default::default()
                })),
                observations: used.map(|_| seen).into_iter().collect(),
                ..Default::default()
            }
        };
        let shown = list(&[key("k", Some(999_820)), key("l", None)], now);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].contains("ACTIVE") && lines[0].contains("LAST USED"), "{shown}");
        assert!(lines[1].contains("yes") && lines[1].contains("3m ago"), "{shown}");
        assert!(!list(&[key("l", None)], now).contains("LAST USED"));
    }

    #[test]
    fn regression_a_test_is_listed_with_what_came_of_it() {
        let now = DateTime::from_timestamp(1_000_000, 0).unwrap();
        let tested = |id: &str, value: &str| {
            let time = Some(prost_types::Timestamp { seconds: 999_940, nanos: 0 });
            let seen = v1::Observation { what: "test".into(), time, value_json: value.into() };
            v1::Resource {
                name: format!("databases/{id}"),
                spec: Some(v1::resource::Spec::Database(v1::DatabaseSpec::default())),
                observations: vec![seen],
                ..Default::default()
            }
        };
        let resources =
            [tested("a", r#"{"reason":"OK"}"#), tested("b", r#"{"reason":"REFUSED"}"#), tested("c", "?")];
        let shown = list(&resources, now);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].contains("TEST"), "{shown}");
        assert!(lines[1].contains("OK 60s ago") && lines[2].contains("REFUSED 60s ago"), "{shown}");
        assert!(lines[3].contains("  60s ago"), "{shown}");
    }

    #[test]
    fn regression_what_is_on_is_told_before_what_may_be_cut() {
        let spec = v1::ProviderSpec {
            enabled: Some(true),
            display_name: "A name of many words".into(),
            base_url: "https://a-long-name.of-a-host.example.com/with/a/path/v1".into(),
            default_model: "a-model-with-a-long-name-20261128".into(),
            ..Default::default()
        };
        let named =
            |name: &str, spec| v1::Resource { name: name.into(), spec: Some(spec), ..Default::default() };
        let resources = [
            named("providers/a", v1::resource::Spec::Provider(spec)),
            named("settings/x", v1::resource::Spec::Setting(v1::SettingSpec::default())),
        ];
        let shown = list(&resources, DateTime::UNIX_EPOCH);
        assert!(shown.contains(" enabled ") && shown.contains('…'), "{shown}");
    }

    #[test]
    fn regression_a_rotation_is_told_only_while_it_is_under_way() {
        let now = DateTime::from_timestamp(1_000_000, 0).unwrap();
        let key = |rotation: Option<v1::ApiKeyRotation>| v1::Resource {
            name: "providers/a/apiKeys/k".into(),
            update_revision: 7,
            spec: Some(v1::resource::Spec::ApiKey(v1::ApiKeySpec { rotation, ..Default::default() })),
            observations: vec![v1::Observation {
                what: ROTATION.into(),
                time: Some(prost_types::Timestamp { seconds: 999_820, nanos: 0 }),
                value_json: r#"{"revision":7,"waiting":2,"workers":5}"#.into(),
            }],
            ..Default::default()
        };
        let state = v1::api_key_rotation::State::Retiring.into();
        let retiring = key(Some(v1::ApiKeyRotation { state, ..Default::default() }));
        let shown = list(&[retiring.clone(), key(None)], now);
        assert!(shown.contains("retiring, 2 waiting") && !shown.contains("3m ago"), "{shown}");
        let older = v1::Resource { update_revision: 8, ..retiring };
        let shown = list(&[older], now);
        assert!(shown.contains("retiring") && !shown.contains("waiting"), "{shown}");
    }

    #[test]
    fn regression_what_importers_keep_in_labels_is_no_column() {
        let labels = [("imported-from", "env"), ("imported-as", "0123"), ("team", "a")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let shown = list(
            &[v1::Resource { name: "settings/x".into(), labels, ..Default::default() }],
            DateTime::UNIX_EPOCH,
        );
        assert!(shown.contains("team=a") && !shown.contains("imported"), "{shown}");
    }

    #[test]
    fn every_kind_has_columns() {
        for arm in schema::arms() {
            let columns = columns(&schema::message_of(&arm).unwrap());
            assert!(!columns.is_empty(), "no field of {} is a column: see column.proto", arm.name());
            let mut headings: Vec<&str> = columns.iter().map(|column| column.heading.as_str()).collect();
            assert!(headings.iter().all(|heading| *heading == heading.to_uppercase()), "{headings:?}");
            headings.sort_unstable();
            headings.dedup();
            assert_eq!(headings.len(), columns.len(), "{}", arm.name());
        }
    }
}
