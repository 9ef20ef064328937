//! Where a setting comes from, and what it is read as.

use std::sync::Arc;

use super::{Duration, Overrides, SecretText, SettingError, Snapshot, Source, Spec, Value};
use crate::{
    client::entry::Entry,
    proto::v1::{Resource, Secret, SettingSpec},
};

fn stored(name: &str, value: Value) -> Arc<Entry> {
    Arc::new(Entry::new(Resource {
        name: name.to_owned(),
        spec: Some(Spec::Setting(SettingSpec { value: Some(value), ..SettingSpec::default() })),
        ..Resource::default()
    }))
}

fn environment(pairs: &[(&str, &str)]) -> Snapshot {
    let environment = pairs.iter().map(|(key, text)| ((*key).to_owned(), SecretText::new(*text)));
    Snapshot::new(Arc::new(Overrides {
        environment: environment.collect(),
        defaults: [("max_retries".to_owned(), Value::IntValue(1))].into(),
    }))
}

#[test]
fn the_strongest_source_wins() {
    let found = |snapshot: &Snapshot| {
        let setting = snapshot.setting_for("alice", "maxRetries").unwrap();
        (setting.source(), setting.as_int().unwrap())
    };
    let mut snapshot = environment(&[]);
    assert_eq!(found(&snapshot), (Source::Default, 1));
    snapshot.upsert(stored("settings/max_retries", Value::IntValue(2)));
    assert_eq!(found(&snapshot), (Source::Global, 2));
    snapshot.upsert(stored("users/alice/settings/max_retries", Value::IntValue(3)));
    assert_eq!(found(&snapshot), (Source::User, 3));
    assert_eq!(snapshot.setting("max_retries").unwrap().as_int(), Ok(2), "no user, no user's setting");
    assert_eq!(snapshot.setting_for("bob", "max_retries").unwrap().source(), Source::Global);
    snapshot.overrides = environment(&[("max_retries", " 4 ")]).overrides;
    assert_eq!(found(&snapshot), (Source::Environment, 4));
    assert!(snapshot.setting("unheard_of").is_none());
}

#[test]
fn a_removed_user_setting_gives_way_to_the_global_one() {
    let mut snapshot = environment(&[]);
    snapshot.upsert(stored("settings/max_retries", Value::IntValue(2)));
    snapshot.upsert(stored("users/alice/settings/max_retries", Value::IntValue(3)));
    snapshot.remove("users/alice/settings/max_retries");
    assert_eq!(snapshot.setting_for("alice", "max_retries").unwrap().as_int(), Ok(2));
}

#[test]
fn stored_values_keep_their_type() {
    let duration = prost_types::Duration { seconds: 1, nanos: 500_000_000 };
    let mut snapshot = Snapshot::default();
    snapshot.upsert(stored("settings/text", Value::StringValue("5".to_owned())));
    snapshot.upsert(stored("settings/float", Value::FloatValue(0.5)));
    snapshot.upsert(stored("settings/int", Value::IntValue(5)));
    snapshot.upsert(stored("settings/flag", Value::BoolValue(true)));
    snapshot.upsert(stored("settings/wait", Value::DurationValue(duration)));
    snapshot.upsert(stored("settings/json", Value::JsonValue("{}".to_owned())));
    let get = |key| snapshot.setting(key).unwrap();
    assert_eq!(get("text").as_str(), Ok("5"));
    assert_eq!(get("float").as_float(), Ok(0.5));
    assert_eq!(get("int").as_float(), Ok(5.0));
    assert_eq!(get("flag").as_bool(), Ok(true));
    assert_eq!(get("wait").as_duration(), Ok(Duration::from_millis(1_500)));
    assert_eq!(get("json").as_json(), Ok("{}"));
    assert_eq!(snapshot.setting_json("json"), Ok(Some("{}".to_owned())));
    assert!(snapshot.setting_json("int").is_err() && snapshot.setting_json("none") == Ok(None));
    assert!(matches!(get("text").as_int(), Err(SettingError::WrongType { wanted: "an integer", .. })));
    assert!(get("float").as_int().is_err());
    assert!(get("int").as_str().is_err());
}

#[test]
fn the_environment_is_read_as_the_type_that_is_asked_for() {
    let snapshot =
        environment(&[("flag", "ON"), ("wait", "250ms"), ("hours", "1.5h"), ("bad", "NaN"), ("neg", "-1s")]);
    let get = |key| snapshot.setting(key).unwrap();
    assert_eq!(get("flag").as_bool(), Ok(true));
    assert_eq!(get("wait").as_duration(), Ok(Duration::from_millis(250)));
    assert_eq!(get("hours").as_duration(), Ok(Duration::from_secs(5_400)));
    assert!(get("bad").as_float().is_err());
    assert!(get("neg").as_duration().is_err());
    assert!(get("wait").as_bool().is_err());
}

#[test]
fn secrets_are_given_only_as_secrets_and_never_printed() {
    let secret = Secret { value: Some("sk-canary".to_owned()), ..Secret::default() };
    let mut snapshot = environment(&[("from_env", "sk-canary")]);
    snapshot.upsert(stored("settings/token", Value::SecretValue(secret)));
    for key in ["token", "from_env"] {
        let setting = snapshot.setting(key).unwrap();
        assert_eq!(setting.as_secret().unwrap().expose(), "sk-canary");
        assert!(!format!("{setting:?} {:?}", setting.as_int()).contains("sk-canary"));
    }
    assert_eq!(snapshot.setting_secret("token").unwrap().unwrap().expose(), "sk-canary");
    assert!(snapshot.setting_secret("none") == Ok(None) && snapshot.setting_secret("max_retries").is_err());
    assert!(snapshot.setting("token").unwrap().as_str().is_err());
    assert!(snapshot.setting("max_retries").unwrap().as_secret().is_err());
    snapshot.revoked.insert("settings/token".into(), 9);
    assert!(matches!(snapshot.setting("token").unwrap().as_secret(), Err(SettingError::Secret { .. })));
}
