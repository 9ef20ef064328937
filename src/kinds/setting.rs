//! Runtime settings: `settings/{key}` for all, `users/{user}/settings/{key}` for one user.
//!
//! Must not know where a setting is read or what hides it; it only sees to the key's spelling and the value's form.

use std::borrow::Cow;

use super::{CheckContext, Kind, credential, json, rules::DESCRIPTION_CHARS};
use crate::{
    domain::{FieldViolation, KindName, ResourceName, Text, Violations, record::Spec},
    proto::v1::{SettingSpec, secret::State, setting_spec::Value},
    setting_key,
};

/// The kind `setting`.
pub struct Setting;

const VALUE_BYTES: usize = 64 * 1024;
const JSON: json::Bounds = json::Bounds { depth: 64, nodes: 10_000 };
/// The range of `google.protobuf.Duration`: about 10,000 years.
const DURATION_SECONDS: i64 = 315_576_000_000;

impl Kind for Setting {
    fn name(&self) -> KindName {
        KindName("setting")
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["settings/{key}", "users/{user}/settings/{key}"]
    }

    fn normalise_id<'id>(&self, id: &'id str) -> Cow<'id, str> {
        setting_key::normalise(id)
    }

    fn overridable<'name>(&self, name: &'name ResourceName) -> Option<&'name str> {
        Some(name.id())
    }

    fn check(&self, context: &CheckContext<'_>) -> Vec<FieldViolation> {
        let Spec::Setting(spec) = context.spec else { return Vec::new() };
        let mut violations = Violations::default();
        check_secrecy(context, spec, &mut violations);
        match &spec.value {
            None => violations.add(
                "setting",
                "REQUIRED",
                "has no value; set one of `string_value`, `int_value`, `float_value`, `bool_value`, `duration_value`, \
                 `json_value`, `secret_value`",
            ),
            Some(value) => check_value(value, context.creates(), &mut violations),
        }
        violations.text("setting.description", &spec.description, Text::Prose, DESCRIPTION_CHARS);
        violations.into_vec()
    }
}

fn check_secrecy(context: &CheckContext<'_>, spec: &SettingSpec, violations: &mut Violations) {
    let key = context.name.id();
    let Some(value) = &spec.value else { return };
    let field = format!("setting.{}", field_of(value));
    let why = match (value, credential_in(value)) {
        (Value::SecretValue(_), _) => return,
        _ if setting_key::is_secret(key) => format!("`{key}` is the name of a secret"),
        (_, Some(found)) => format!("it holds {found}"),
        (_, None) => return,
    };
    let problem = format!(
        "must not be set, because {why}; set `secret_value` instead (on the command line, `--secret`)"
    );
    violations.add(field, "SECRET_REQUIRED", problem);
}

/// The credential that a value shows to everybody who may read it, in words.
#[must_use]
pub fn credential_in(value: &Value) -> Option<&'static str> {
    match value {
        Value::StringValue(text) | Value::JsonValue(text) => credential::found_in_json(text),
        _ => None,
    }
}

fn check_value(value: &Value, creating: bool, violations: &mut Violations) {
    let field = format!("setting.{}", field_of(value));
    match value {
        Value::StringValue(text) => {
            check_size(&field, text, violations);
            violations.text(&field, text, Text::Value, usize::MAX);
        }
        Value::JsonValue(text) => {
            check_size(&field, text, violations);
            violations.text(&field, text, Text::Value, usize::MAX);
            if text.len() <= VALUE_BYTES
                && let Err(problem) = json::check(text, JSON)
            {
                violations.add(
                    field,
                    "INVALID_FORMAT",
                    format!("is not a JSON document that can be taken: {problem}"),
                );
            }
        }
        Value::FloatValue(number) if !number.is_finite() => {
            violations.add(field, "OUT_OF_RANGE", "must be a finite number");
        }
        Value::DurationValue(duration) => {
            let opposite = duration.seconds.signum() * i64::from(duration.nanos.signum()) < 0;
            if duration.seconds.unsigned_abs() > DURATION_SECONDS.unsigned_abs()
                || duration.nanos.unsigned_abs() > 999_999_999
                || opposite
            {
                violations.add(
                    field,
                    "OUT_OF_RANGE",
                    format!(
                        "must be within {DURATION_SECONDS} seconds, with nanos within 999999999 and of the same \
                         sign"
                    ),
                );
            }
        }
        Value::SecretValue(secret) if creating && secret.state() == State::Absent => {
            violations.add(field, "REQUIRED", "is required; give the secret as `value`");
        }
        Value::IntValue(_) | Value::FloatValue(_) | Value::BoolValue(_) | Value::SecretValue(_) => {}
    }
}

fn check_size(field: &str, text: &str, violations: &mut Violations) {
    if text.len() > VALUE_BYTES {
        let length = text.len();
        violations.add(field, "TOO_LONG", format!("has {length} bytes; at most {VALUE_BYTES} are allowed"));
    }
}

fn field_of(value: &Value) -> &'static str {
    match value {
        Value::StringValue(_) => "string_value",
        Value::IntValue(_) => "int_value",
        Value::FloatValue(_) => "float_value",
        Value::BoolValue(_) => "bool_value",
        Value::DurationValue(_) => "duration_value",
        Value::JsonValue(_) => "json_value",
        Value::SecretValue(_) => "secret_value",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kinds::tests::{plan, secret, wrong},
        proto::v1::Secret,
    };

    fn spec(value: Value) -> Spec {
        Spec::Setting(SettingSpec { value: Some(value), description: String::new() })
    }

    #[track_caller]
    fn good(value: Value) {
        assert_eq!(wrong("settings/x", spec(value)), [""; 0]);
    }

    #[track_caller]
    fn bad(value: Value) {
        let field = format!("setting.{}", field_of(&value));
        assert_eq!(wrong("settings/x", spec(value)), [field]);
    }

    fn duration(seconds: i64, nanos: i32) -> Value {
        Value::DurationValue(prost_types::Duration { seconds, nanos })
    }

    #[test]
    fn values() {
        good(Value::StringValue("a\nb\u{200F}".into()));
        bad(Value::StringValue("a\nb\u{202E}".into()));
        bad(Value::JsonValue("\"\u{202E}\"".into()));
        bad(Value::StringValue("a\0".into()));
        bad(Value::StringValue("x".repeat(65537)));
        good(Value::IntValue(i64::MIN));
        good(Value::FloatValue(-0.0));
        bad(Value::FloatValue(f64::NAN));
        bad(Value::FloatValue(f64::INFINITY));
        good(Value::BoolValue(false));
        good(duration(-1, -5));
        good(duration(DURATION_SECONDS, 0));
        bad(duration(1, -5));
        bad(duration(0, i32::MIN));
        bad(duration(i64::MIN, 0));
        good(Value::SecretValue(secret("x")));
        bad(Value::SecretValue(Secret::default()));
        let described =
            |text: &str| SettingSpec { value: Some(Value::IntValue(1)), description: text.to_owned() };
        assert_eq!(wrong("settings/x", Spec::Setting(described("a\nb"))), [""; 0]);
        assert_eq!(wrong("settings/x", Spec::Setting(described("a\0"))), ["setting.description"]);
        assert_eq!(wrong("settings/x", Spec::Setting(SettingSpec::default())), ["setting"]);
    }

    #[test]
    fn json_documents() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for text in ["{}", " [1, \"a\", null, {\"b\": true}] ", "1e5", &nested(64)] {
            good(Value::JsonValue(text.into()));
        }
        let wide = format!("[{}1]", "1,".repeat(JSON.nodes));
        let long = format!("\"{}\"", "x".repeat(65536));
        for text in [r#"{"a": 1, "a": 2}"#, r#"[{"a": {"b": 1, "\u0062": 2}}]"#] {
            bad(Value::JsonValue(text.into()));
        }
        for text in ["", "{", "{} {}", "{a:1}", "NaN", "'a'", &nested(65), &nested(10_000), &wide, &long] {
            bad(Value::JsonValue(text.into()));
        }
    }

    #[test]
    fn secret_keys_take_only_secrets() {
        for name in ["settings/openaiApiKey", "users/alice/settings/smtp_password"] {
            let (_, violations) = plan(name, spec(Value::StringValue("sk-1".into())), None);
            assert_eq!(violations.len(), 1);
            assert_eq!(
                (violations[0].field.as_str(), violations[0].reason),
                ("setting.string_value", "SECRET_REQUIRED")
            );
            assert!(!violations[0].description.contains("sk-1"));
            assert_eq!(wrong(name, spec(Value::SecretValue(secret("sk-1")))), [""; 0]);
        }
    }

    #[test]
    fn regression_values_that_hold_a_credential_are_secrets() {
        let url = "postgres://app:pw-canary@db.example/app";
        for value in [Value::StringValue(url.into()), Value::JsonValue(format!("[\"{url}\"]"))] {
            let (_, violations) = plan("settings/primary_database", spec(value), None);
            assert_eq!(violations.len(), 1);
            assert_eq!(violations[0].reason, "SECRET_REQUIRED");
            assert!(violations[0].description.contains("`secret_value`"));
            assert!(!violations[0].description.contains("canary"));
        }
        assert_eq!(wrong("settings/primary_database", spec(Value::SecretValue(secret(url)))), [""; 0]);
        good(Value::StringValue("postgres://app@db.example/app".into()));
    }
}
