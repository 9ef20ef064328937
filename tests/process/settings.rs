//! Which value of a setting counts: the server's environment, the user's, the global one, a default of the request.

use std::{collections::BTreeMap, sync::Arc};

use signalbox::proto::v1::{
    EffectiveSetting, ExplainSettingRequest, GetStatusRequest, ResolveSettingsRequest, Resource,
    SettingSource, SettingSpec, UpdateResourceRequest, resource::Spec, setting_spec::Value,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    calls::refusal,
    harness::{
        Home, Server,
        api::{Api, new_token, secret_setting, setting},
    },
};

/// In the environment as a secret; nobody but a worker that reads may be shown it.
const SECRET: &str = "sk-of-the-environment";

fn of(value: Value) -> SettingSpec {
    SettingSpec { value: Some(value), ..Default::default() }
}

fn value(sourced: &SettingSpec) -> Value {
    sourced.value.clone().expect("a value")
}

/// A server whose environment overrides some of what is stored, and the folder that it is in.
async fn furnished() -> Server {
    let home = Home::new()
        .with("SIGNALBOX_SETTING_MAX_RETRIES", " 7 ")
        .with("SIGNALBOX_SETTING_TIMEOUT", "soon")
        .with("SIGNALBOX_SETTING_groqApiKey", SECRET)
        .with("SIGNALBOX_SETTING_DSN", SECRET)
        .with("SIGNALBOX_SETTING_ONLY_HERE", "x")
        .with("SIGNALBOX_SETTING_", "y");
    let server = Server::start_in(&Arc::new(home)).await;
    let mut api = Api::admin(&server).await;
    api.create("settings/max_retries", Spec::Setting(of(Value::IntValue(3)))).await;
    api.create("users/alice/settings/max_retries", Spec::Setting(of(Value::IntValue(5)))).await;
    let timeout = prost_types::Duration { seconds: 2, nanos: 0 };
    api.create("settings/timeout", Spec::Setting(of(Value::DurationValue(timeout)))).await;
    api.create("settings/plain", setting("global")).await;
    api.create("users/alice/settings/plain", setting("alice's")).await;
    // Nothing in its name says that it is a secret.
    api.create("users/bob/settings/dsn", secret_setting("postgres://bob")).await;
    server
}

async fn explain(api: &mut Api, key: &str, user: &str) -> EffectiveSetting {
    let request = ExplainSettingRequest { key: key.into(), user: user.into(), ..Default::default() };
    api.settings.explain_setting(request).await.expect(key).into_inner().setting.expect("a setting")
}

/// Sources and where they stand, the strongest first.
fn sources(setting: &EffectiveSetting) -> Vec<(SettingSource, &str)> {
    let all = setting.effective.iter().chain(&setting.hidden);
    all.map(|sourced| (sourced.source(), sourced.origin.as_str())).collect()
}

#[tokio::test]
async fn the_strongest_source_counts_and_what_it_hides_is_told() {
    let server = furnished().await;
    let mut api = Api::admin(&server).await;
    let found = explain(&mut api, "maxRetries", "alice").await;
    assert_eq!(
        sources(&found),
        [
            (SettingSource::Environment, "SIGNALBOX_SETTING_MAX_RETRIES"),
            (SettingSource::User, "users/alice/settings/max_retries"),
            (SettingSource::Global, "settings/max_retries"),
        ]
    );
    let effective = found.effective.unwrap().setting.unwrap();
    assert_eq!(value(&effective), Value::IntValue(7), "read as the type of what it hides");
    assert_eq!(value(found.hidden[0].setting.as_ref().unwrap()), Value::IntValue(5));
    // Nobody in particular has no settings of his own.
    assert_eq!(sources(&explain(&mut api, "max_retries", "").await).len(), 2);
    assert_eq!(sources(&explain(&mut api, "plain", "alice").await)[0].0, SettingSource::User);

    // What can't be read counts all the same, as in a worker, and is told by name wherever somebody looks.
    let unread = explain(&mut api, "timeout", "").await.effective.unwrap();
    assert_eq!((&unread.setting, unread.source()), (&None, SettingSource::Environment));
    assert!(unread.problem.contains("is not a length of time"), "{}", unread.problem);
    let status = api.admin.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    let warned = |name: &str| status.warnings.iter().any(|warning| warning.starts_with(name));
    assert!(warned("SIGNALBOX_SETTING_TIMEOUT: ") && warned("SIGNALBOX_SETTING_: "), "{:?}", status.warnings);

    let request = ExplainSettingRequest { key: "nowhere".into(), ..Default::default() };
    assert_eq!(refusal(api.settings.explain_setting(request).await).0, Code::NotFound);
    let default_setting = Some(of(Value::BoolValue(true)));
    let request = ExplainSettingRequest { key: "nowhere".into(), default_setting, ..Default::default() };
    let found = api.settings.explain_setting(request).await.unwrap().into_inner().setting.unwrap();
    assert_eq!(sources(&found), [(SettingSource::Default, "")]);

    let home = Arc::clone(server.home());
    server.stop().await;
    Server::start_in(&home).await.stop().await;
    assert!(home.log().contains("SIGNALBOX_SETTING_TIMEOUT: is not a length of time"), "{}", home.log());
}

#[tokio::test]
async fn all_settings_of_a_scope_come_in_pages() {
    let server = furnished().await;
    let mut api = Api::admin(&server).await;
    let defaults: BTreeMap<_, _> = [
        ("onlyDefault".to_owned(), of(Value::IntValue(1))),
        ("maxRetries".to_owned(), of(Value::IntValue(1))),
    ]
    .into();
    let mut request =
        ResolveSettingsRequest { user: "alice".into(), defaults, page_size: 2, ..Default::default() };
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = api.settings.resolve_settings(request.clone()).await.unwrap().into_inner();
        assert!(page.settings.len() <= 2);
        found.extend(page.settings);
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
        // The pages stay at their revision.
        api.create(&format!("settings/zz{pages}"), setting("later")).await;
    }
    let told: Vec<(&str, SettingSource)> =
        found.iter().map(|each| (each.key.as_str(), each.effective.as_ref().unwrap().source())).collect();
    use SettingSource::{Default as ByDefault, Environment, User};
    assert_eq!(
        told,
        [
            ("dsn", Environment),
            ("groq_api_key", Environment),
            ("max_retries", Environment),
            ("only_default", ByDefault),
            ("only_here", Environment),
            ("plain", User),
            ("timeout", Environment),
        ]
    );
    assert_eq!(pages, 4);
    assert_eq!(found[2].hidden.len(), 3);
    // Only some, in any spelling; what stands nowhere is left out.
    let keys = ["plain", "MaxRetries", "nowhere"].map(str::to_owned).to_vec();
    let some = api.settings.resolve_settings(ResolveSettingsRequest { keys, ..Default::default() }).await;
    let some: Vec<_> = some.unwrap().into_inner().settings.into_iter().map(|each| each.key).collect();
    assert_eq!(some, ["max_retries", "plain"]);
}

#[tokio::test]
async fn secrets_are_for_workers_that_read_and_grants_hold() {
    let server = furnished().await;
    let token = async |arguments: &[&str]| {
        let token = new_token(&server, &[&["--role"], arguments].concat()).await;
        Api::with(&server, &token).await
    };
    let mut admin = Api::admin(&server).await;
    let mut viewer = token(&["viewer", "--selector", "*"]).await;
    let mut worker = token(&["worker", "--selector", "*", "--secrets"]).await;
    for api in [&mut admin, &mut viewer, &mut worker] {
        let all =
            api.settings.resolve_settings(ResolveSettingsRequest::default()).await.unwrap().into_inner();
        assert!(!format!("{all:?}").contains(SECRET));
        for key in ["groq_api_key", "dsn"] {
            let found = all.settings.iter().find(|setting| setting.key == key).expect(key);
            let shown = value(found.effective.as_ref().unwrap().setting.as_ref().unwrap());
            assert!(matches!(shown, Value::SecretValue(secret) if secret.value.is_none()), "{key}");
        }
    }
    let opening = ResolveSettingsRequest { include_secrets: true, ..Default::default() };
    assert_eq!(refusal(admin.settings.resolve_settings(opening.clone()).await).1, "SECRETS_DENIED");
    let opened = worker.settings.resolve_settings(opening).await.unwrap().into_inner();
    let opened: Vec<_> = opened
        .settings
        .iter()
        .filter_map(|each| match value(each.effective.as_ref()?.setting.as_ref()?) {
            Value::SecretValue(secret) => secret.value,
            _ => None,
        })
        .collect();
    assert_eq!(opened, [SECRET, SECRET]);

    let mut narrow = token(&["worker", "--selector", "settings/plain"]).await;
    let all = ResolveSettingsRequest { user: "alice".into(), ..Default::default() };
    let all = narrow.settings.resolve_settings(all).await.unwrap().into_inner().settings;
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(sources(&all[0]), [(SettingSource::Global, "settings/plain")], "as its cache would have it");
    let beyond = ExplainSettingRequest { key: "max_retries".into(), ..Default::default() };
    assert_eq!(refusal(narrow.settings.explain_setting(beyond).await).1, "NOT_GRANTED");
    let keys = vec!["plain".to_owned(), "max_retries".to_owned()];
    let beyond = ResolveSettingsRequest { keys, ..Default::default() };
    assert_eq!(refusal(narrow.settings.resolve_settings(beyond).await).1, "NOT_GRANTED");
}

/// Whoever reaches the settings of a user reaches no variable of the server by that.
#[tokio::test]
async fn regression_the_environment_is_for_who_reaches_the_global_settings() {
    let server = furnished().await;
    let granted = ["--role", "worker", "--selector", "users/alice/*", "--secrets"];
    let mut narrow = Api::with(&server, &new_token(&server, &granted).await).await;
    let all = ResolveSettingsRequest { user: "alice".into(), include_secrets: true, ..Default::default() };
    let all = narrow.settings.resolve_settings(all).await.unwrap().into_inner().settings;
    assert!(!all.is_empty(), "there are some of her own");
    for setting in &all {
        assert!(sources(setting).iter().all(|(source, _)| *source == SettingSource::User), "{setting:?}");
    }
    let hidden = ExplainSettingRequest {
        key: "groq_api_key".into(),
        user: "alice".into(),
        include_secrets: true,
        ..Default::default()
    };
    assert_eq!(refusal(narrow.settings.explain_setting(hidden).await).0, Code::NotFound);
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once() {
    let server = Server::start().await;
    let mut api = Api::admin(&server).await;
    let defaults = [
        ("a b".to_owned(), of(Value::IntValue(1))),
        ("api_key".to_owned(), of(Value::StringValue("k".into()))),
        ("maxRetries".to_owned(), of(Value::FloatValue(f64::NAN))),
        ("max_retries".to_owned(), SettingSpec::default()),
    ];
    let request = ResolveSettingsRequest {
        user: "al/ice".into(),
        keys: vec!["x".into(), String::new()],
        defaults: defaults.into(),
        page_size: -1,
        page_token: "x".into(),
        min_revision_token: "x".into(),
        ..Default::default()
    };
    let status = api.settings.resolve_settings(request).await.unwrap_err();
    let fields: Vec<String> = status
        .get_details_bad_request()
        .unwrap()
        .field_violations
        .into_iter()
        .map(|each| each.field)
        .collect();
    let wanted = [
        "user",
        "keys[1]",
        "defaults.a b",
        "defaults.api_key",
        "defaults.maxRetries.float_value",
        "defaults.max_retries",
        "defaults.max_retries",
        "page_size",
        "page_token",
        "min_revision_token",
    ];
    assert_eq!(fields, wanted);
    let request = ExplainSettingRequest { user: "..".into(), ..Default::default() };
    let status = api.settings.explain_setting(request).await.unwrap_err();
    let fields: Vec<String> = status
        .get_details_bad_request()
        .unwrap()
        .field_violations
        .into_iter()
        .map(|each| each.field)
        .collect();
    assert_eq!(fields, ["user", "key"]);
}

#[tokio::test]
async fn a_write_that_the_environment_hides_says_so() {
    let server = furnished().await;
    let mut api = Api::admin(&server).await;
    let mut update = async |name: &str| {
        let spec = Some(Spec::Setting(of(Value::IntValue(9))));
        let resource = Some(Resource { name: name.into(), spec, ..Default::default() });
        let request = UpdateResourceRequest {
            resource,
            allow_missing: true,
            validate_only: true,
            ..Default::default()
        };
        api.config.update_resource(request).await.expect(name).into_inner().warnings
    };
    for name in ["settings/max_retries", "users/alice/settings/maxRetries", "users/bob/settings/max_retries"]
    {
        let warnings = update(name).await;
        assert!(
            warnings.len() == 1 && warnings[0].contains("hidden by SIGNALBOX_SETTING_MAX_RETRIES"),
            "{warnings:?}"
        );
    }
    assert_eq!(update("settings/other").await, [""; 0]);
    let deleted = server.run(&["delete", "--yes", "settings/max_retries"]).await;
    assert!(
        String::from_utf8_lossy(&deleted.stderr).contains("SIGNALBOX_SETTING_MAX_RETRIES"),
        "{deleted:?}"
    );
}

#[tokio::test]
async fn the_command_line_explains_settings_and_needs_no_server_for_kinds() {
    let server = furnished().await;
    let out = async |arguments: &[&str]| {
        let output = server.run(arguments).await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let told = out(&["explain", "settings/maxRetries", "--user", "alice"]).await;
    assert_eq!(told, out(&["explain", "users/alice/settings/max_retries"]).await);
    let lines: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["COUNTS", "SOURCE", "TYPE", "VALUE", "FROM"]);
    assert_eq!(lines[1], ["yes", "environment", "int", "7", "SIGNALBOX_SETTING_MAX_RETRIES"]);
    assert_eq!(lines[2], ["hidden", "user", "int", "5", "users/alice/settings/max_retries"]);
    assert_eq!(lines[3], ["hidden", "global", "int", "3", "settings/max_retries"]);
    let told = out(&["explain", "settings/groq_api_key"]).await;
    assert!(told.contains("••••") && !told.contains(SECRET), "{told}");
    let json: serde_json::Value =
        serde_json::from_str(&out(&["explain", "settings/timeout", "-o", "json"]).await).unwrap();
    assert_eq!(json["effective"]["source"], "SETTING_SOURCE_ENVIRONMENT");
    assert_eq!(json["hidden"][0]["setting"]["durationValue"], "2s");

    let alone = Home::new().run(&["explain", "provider.auth", "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_slice(&alone.stdout).unwrap();
    assert_eq!(
        (&json["path"], &json["fields"][0]["path"]),
        (&"provider.auth".into(), &"provider.auth.scheme".into())
    );
    let kinds = Home::new().run(&["explain"]).await;
    assert!(String::from_utf8_lossy(&kinds.stdout).contains("cache_policy"), "{kinds:?}");
}

/// What shows a credential is a secret whatever its key is called: nobody stores it in the clear, and of the environment
/// nobody is shown it who may not read secrets.
#[tokio::test]
async fn regression_values_that_show_a_credential_are_secrets() {
    let url = "postgres://app:pw-canary-2d90@db.example/app";
    let home = Home::new()
        .with("SIGNALBOX_SETTING_PRIMARY_DATABASE", url)
        .with("SIGNALBOX_SETTING_ALERTS", "https://hooks.slack.com/services/T0/B0/canary")
        .with("SIGNALBOX_SETTING_PLAIN", "https://db.example/app");
    let server = Server::start_in(&Arc::new(home)).await;
    let mut api = Api::admin(&server).await;
    for role in [&["viewer", "--selector", "*"][..], &["worker", "--selector", "*", "--secrets"]] {
        let arguments = [&["--role"][..], role].concat();
        let mut caller = Api::with(&server, &new_token(&server, &arguments).await).await;
        let request = ResolveSettingsRequest::default();
        let found = caller.settings.resolve_settings(request).await.unwrap().into_inner().settings;
        assert!(!format!("{found:?}").contains("canary"), "{role:?}: {found:?}");
        let is_secret = |setting: &EffectiveSetting| {
            let effective = setting.effective.as_ref().and_then(|one| one.setting.as_ref());
            matches!(effective.and_then(|one| one.value.as_ref()), Some(Value::SecretValue(_)))
        };
        let secret: Vec<(&str, bool)> = found.iter().map(|one| (one.key.as_str(), is_secret(one))).collect();
        assert_eq!(secret, [("alerts", true), ("plain", false), ("primary_database", true)], "{role:?}");
    }
    for name in ["settings/other", "users/alice/settings/other"] {
        let resource = Resource { name: name.into(), spec: Some(setting(url)), ..Default::default() };
        let request =
            signalbox::proto::v1::CreateResourceRequest { resource: Some(resource), ..Default::default() };
        let refused = api.config.create_resource(request).await.expect_err("in the clear");
        let told = format!("{:?}", refused.get_error_details().bad_request());
        assert!(told.contains("setting.string_value") && told.contains("secret_value"), "{told}");
        assert!(!told.contains("canary"), "{told}");
        api.create(name, secret_setting(url)).await;
    }
    let default_setting = Some(of(Value::StringValue(url.into())));
    let request = ExplainSettingRequest { key: "nowhere".into(), default_setting, ..Default::default() };
    assert_eq!(refusal(api.settings.explain_setting(request).await).0, Code::InvalidArgument);
}
