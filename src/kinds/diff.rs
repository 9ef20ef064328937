//! What differs between two states of a resource, field by field.
//!
//! Works on masked canonical JSON, and so can't show a secret. Must not know what a field means.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::SerializeOptions;
use serde_json::{Value, json};

use super::{reflect, secrets};
use crate::{
    domain::{
        FieldPath,
        record::{Labels, Spec},
    },
    proto::v1::{FieldDiff, secret::State},
};

/// One side of a comparison; `None` where the resource is not there.
pub type Side<'a> = Option<(&'a Labels, &'a Spec)>;

/// The fields that differ, by path in order.
///
/// Lists are compared as a whole, messages and maps by their leaves. Of a secret only the state is shown; one of the
/// `replaced` paths differs although its state does not, and says so in its new value.
#[must_use]
pub fn diff(before: Side<'_>, after: Side<'_>, replaced: &BTreeSet<FieldPath>) -> Vec<FieldDiff> {
    let before = before.map(leaves).unwrap_or_default();
    let mut after = after.map(leaves).unwrap_or_default();
    for path in replaced {
        let shown = after.get_mut(&path.0).and_then(Value::as_object_mut);
        if let Some(shown) = shown.filter(|_| before.contains_key(&path.0)) {
            shown.insert("replaced".into(), Value::Bool(true));
        }
    }
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let text = |value: Option<&Value>| value.map(Value::to_string).unwrap_or_default();
    paths
        .into_iter()
        .map(|path| (path, before.get(path), after.get(path)))
        .filter(|(_, before, after)| before != after)
        .map(|(path, before, after)| FieldDiff {
            path: path.clone(),
            before: text(before),
            after: text(after),
        })
        .collect()
}

/// The leaves of one side by path.
fn leaves((labels, spec): (&Labels, &Spec)) -> BTreeMap<String, Value> {
    let mut masked = spec.clone();
    secrets::mask(&mut masked);
    let states = secrets::states(&masked);
    let options = SerializeOptions::new().use_proto_field_name(true);
    let value = reflect::to_dynamic(&masked)
        .serialize_with_options(serde_json::value::Serializer, &options)
        .unwrap_or_default();
    let mut leaves = BTreeMap::new();
    flatten(String::new(), value, &states, &mut leaves);
    leaves.extend(labels.iter().map(|(key, value)| (format!("labels.{key}"), json!(value))));
    leaves
}

fn flatten(
    path: String,
    value: Value,
    secrets: &BTreeMap<FieldPath, State>,
    leaves: &mut BTreeMap<String, Value>,
) {
    let path = FieldPath(path);
    if let Some(state) = secrets.get(&path) {
        let state = state.as_str_name().trim_start_matches("STATE_");
        leaves.insert(path.0, json!({ "state": state }));
        return;
    }
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let within = if path.0.is_empty() { name } else { format!("{path}.{name}") };
                flatten(within, value, secrets, leaves);
            }
        }
        // The arm itself is no field.
        Value::Object(_) if !path.0.contains('.') => {}
        leaf => drop(leaves.insert(path.0, leaf)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{
        ApiKeySpec, HeaderValue, ProviderCapabilities, ProviderSpec, Secret, SettingSpec, header_value,
        setting_spec,
    };

    fn rows(before: Side<'_>, after: Side<'_>, replaced: &[&str]) -> Vec<(String, String, String)> {
        let replaced = replaced.iter().map(|path| FieldPath((*path).to_owned())).collect();
        diff(before, after, &replaced).into_iter().map(|row| (row.path, row.before, row.after)).collect()
    }

    fn row(path: &str, before: &str, after: &str) -> (String, String, String) {
        (path.to_owned(), before.to_owned(), after.to_owned())
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn leaves_are_compared_and_lists_as_a_whole() {
        let mut one = ProviderSpec {
            display_name: "a".into(),
            models: vec!["x".into()],
            enabled: Some(true),
            ..Default::default()
        };
        let before = Spec::Provider(one.clone());
        one.display_name = "b".into();
        one.models.push("y".into());
        one.capabilities = Some(ProviderCapabilities { chat: Some(false), ..Default::default() });
        let plain = Some(header_value::Value::Plain("v".into()));
        one.headers.insert("X-A".into(), HeaderValue { value: plain });
        let after = Spec::Provider(one);
        let (old, new) = (labels(&[("team", "a"), ("x", "1")]), labels(&[("team", "b"), ("x", "1")]));
        assert_eq!(
            rows(Some((&old, &before)), Some((&new, &after)), &[]),
            [
                row("labels.team", "\"a\"", "\"b\""),
                row("provider.capabilities.chat", "", "false"),
                row("provider.display_name", "\"a\"", "\"b\""),
                row("provider.headers.X-A.plain", "", "\"v\""),
                row("provider.models", "[\"x\"]", "[\"x\",\"y\"]"),
            ]
        );
        assert_eq!(rows(Some((&new, &after)), Some((&new, &after)), &[]), []);
    }

    #[test]
    fn secrets_show_their_state_only() {
        let key = |secret: Secret| Spec::ApiKey(ApiKeySpec { secret: Some(secret), ..Default::default() });
        let present = key(Secret { value: None, state: State::Present.into() });
        let leaking = key(Secret { value: Some("gsk_1".into()), state: 0 });
        let none = Labels::new();
        let shown = r#"{"state":"PRESENT"}"#;
        assert_eq!(rows(None, Some((&none, &leaking)), &[]), [row("api_key.secret", "", shown)]);
        assert_eq!(rows(Some((&none, &present)), None, &[]), [row("api_key.secret", shown, "")]);
        assert_eq!(rows(Some((&none, &present)), Some((&none, &leaking)), &[]), []);
        assert_eq!(
            rows(Some((&none, &present)), Some((&none, &leaking)), &["api_key.secret"]),
            [row("api_key.secret", shown, r#"{"replaced":true,"state":"PRESENT"}"#)]
        );
        assert_eq!(
            rows(None, Some((&none, &present)), &["api_key.secret"]),
            [row("api_key.secret", "", shown)]
        );
    }

    #[test]
    fn the_member_of_a_oneof_shows() {
        let setting = |value| Spec::Setting(SettingSpec { value, ..Default::default() });
        let zero = setting(Some(setting_spec::Value::IntValue(0)));
        let text = setting(Some(setting_spec::Value::StringValue("0".into())));
        let none = Labels::new();
        assert_eq!(
            rows(Some((&none, &zero)), Some((&none, &text)), &[]),
            [row("setting.int_value", "\"0\"", ""), row("setting.string_value", "", "\"0\"")]
        );
        assert_eq!(rows(None, Some((&none, &setting(None))), &[]), []);
    }
}
