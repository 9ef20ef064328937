//! Names that are none, and contents that are not allowed.

use signalbox::proto::v1::{DatabasePool, DatabaseSpec, SettingSpec, VirtualKeySpec};

use super::*;

#[tokio::test]
async fn names_that_are_none() {
    let server = furnished().await;
    let names = [
        ("an empty name", String::new()),
        ("a giant name", format!("settings/{}", "a".repeat(100_000))),
        ("a giant segment", format!("settings/{}", "a".repeat(129))),
        ("a name with NUL", "settings/a\0b".to_owned()),
        ("a name in another script", "settings/ключ".to_owned()),
        ("a name with bidirectional controls", "settings/a\u{202E}b".to_owned()),
        ("a doubled slash", "settings//a".to_owned()),
        ("a trailing slash", "settings/a/".to_owned()),
        ("a path upwards", "settings/../providers".to_owned()),
        ("an escaped slash", "settings/a%2fb".to_owned()),
        ("an unknown collection", "planets/mars".to_owned()),
        ("a collection in capitals", "Settings/a".to_owned()),
        ("a collection alone", "settings".to_owned()),
    ];
    let mut cases: Vec<Case> = Vec::new();
    for (what, name) in names {
        cases.push((what, create(setting(&name, "x")), INVALID, "INVALID_NAME", "resource.name"));
        let update = Op::update(setting(&name, "x"), &["setting.string_value"]);
        cases.push((what, Call::Write(update), INVALID, "INVALID_NAME", "resource.name"));
        cases.push((what, Call::Write(Op::delete(&name)), INVALID, "INVALID_NAME", "name"));
        let get = GetResourceRequest { name: name.clone(), ..Default::default() };
        cases.push((what, Call::Get(get), INVALID, "INVALID_NAME", "name"));
        let selectors = vec![by_name(&name)];
        let watch = WatchConfigRequest { selectors: selectors.clone(), ..Default::default() };
        cases.push((what, Call::Watch(watch), INVALID, "INVALID_NAME", "selectors[0].name"));
        let request = ListResourcesRequest { selectors, ..Default::default() };
        cases.push((what, list(request), INVALID, "INVALID_NAME", "selectors[0].name"));
        let batch =
            Job::batch(vec![Op::Create(setting("settings/sound", "x")), Op::Create(setting(&name, "x"))]);
        cases.push((what, Call::Job(batch), INVALID, "INVALID_NAME", "operations[1].create.resource.name"));
    }
    refused(&server, cases).await;
}

#[tokio::test]
async fn contents_that_are_not_allowed() {
    let server = furnished().await;
    let wrong_arm = named("providers/new", setting("x", "x").spec.unwrap());
    let key = |secret: &str| api_key("providers/a/apiKeys/new", secret);
    let giant_secret = format!("{CANARY}{}", "x".repeat(64 * 1024));
    let giant = {
        let mut giant = provider("providers/new");
        if let Some(Spec::Provider(spec)) = &mut giant.spec {
            spec.models = (0..400).map(|index| format!("{index}{}", "界".repeat(190))).collect();
            spec.models.extend((0..600).map(|index| format!("m{index}{}", "x".repeat(150))));
        }
        giant
    };
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let duration = prost_types::Duration { seconds: 1, nanos: -1 };
    let many: Vec<(String, String)> = (0..33).map(|index| (format!("k{index}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let labels = |labels: &[(&str, &str)]| create(labelled(setting("settings/new", "x"), labels));
    let header = |value: &str| create(with_header(provider("providers/new"), "x-extra", value));
    let broken_header = format!("{CANARY}\nx");
    let nul = format!("{CANARY}\0");
    refused(
        &server,
        vec![
            ("the wrong arm", create(wrong_arm), INVALID, "WRONG_KIND", "resource.setting"),
            (
                "no arm",
                create(Resource { name: "providers/new".into(), ..Default::default() }),
                INVALID,
                "REQUIRED",
                "resource.provider",
            ),
            ("no resource", Call::Raw(CREATE, Vec::new()), INVALID, "INVALID_NAME", "resource.name"),
            ("an empty secret", create(key("")), INVALID, "INVALID_FORMAT", "resource.api_key.secret"),
            (
                "a secret with NUL",
                create(key(&nul)),
                INVALID,
                "FORBIDDEN_CHARACTER",
                "resource.api_key.secret",
            ),
            ("a giant secret", create(key(&giant_secret)), INVALID, "TOO_LONG", "resource.api_key.secret"),
            (
                "a secret header with a line feed",
                header(&broken_header),
                INVALID,
                "INVALID_FORMAT",
                "resource.provider.headers.x-extra.secret",
            ),
            (
                "a secret setting without a value",
                create(secret_setting("settings/new", "")),
                INVALID,
                "INVALID_FORMAT",
                "resource.setting.secret_value",
            ),
            (
                "a value with NUL",
                create(setting("settings/new", "a\0b")),
                INVALID,
                "FORBIDDEN_CHARACTER",
                "resource.setting.string_value",
            ),
            (
                "a giant value",
                create(setting("settings/new", "x".repeat(64 * 1024 + 1))),
                INVALID,
                "TOO_LONG",
                "resource.setting.string_value",
            ),
            (
                "JSON 10,000 deep",
                create(with_value(Value::JsonValue(deep))),
                INVALID,
                "INVALID_FORMAT",
                "resource.setting.json_value",
            ),
            (
                "JSON that is none",
                create(with_value(Value::JsonValue("{".into()))),
                INVALID,
                "INVALID_FORMAT",
                "resource.setting.json_value",
            ),
            (
                "a number that is none",
                create(with_value(Value::FloatValue(f64::NAN))),
                INVALID,
                "OUT_OF_RANGE",
                "resource.setting.float_value",
            ),
            (
                "a duration of two signs",
                create(with_value(Value::DurationValue(duration))),
                INVALID,
                "OUT_OF_RANGE",
                "resource.setting.duration_value",
            ),
            ("a resource beyond 256 KiB", create(giant), INVALID, "TOO_LARGE", "resource.provider"),
            ("33 labels", labels(&many), INVALID, "TOO_MANY", "resource.labels"),
            (
                "a label's key with a space",
                labels(&[("a b", "x")]),
                INVALID,
                "INVALID_FORMAT",
                "resource.labels.\"a b\"",
            ),
            ("a giant label", labels(&[("a", &"x".repeat(129))]), INVALID, "TOO_LONG", "resource.labels.a"),
            ("a label with NUL", labels(&[("a", "\0")]), INVALID, "FORBIDDEN_CHARACTER", "resource.labels.a"),
            (
                "a key of nobody",
                create(api_key("providers/no/apiKeys/k", CANARY)),
                Code::FailedPrecondition,
                "PARENT_MISSING",
                "resource.name",
            ),
            (
                "a name that is taken",
                create(setting("settings/s", "y")),
                Code::AlreadyExists,
                "ALREADY_EXISTS",
                "",
            ),
            (
                "a creation with an etag",
                create(Resource { etag: "x".into(), ..setting("settings/new", "x") }),
                INVALID,
                "NOT_ALLOWED",
                "resource.etag",
            ),
        ],
    )
    .await;
}

/// Moments and lengths of time for which the stored form has no text: they are refused, and not an internal error.
#[tokio::test]
async fn times_that_are_none() {
    let server = furnished().await;
    let database = |seconds, nanos| {
        let idle_timeout = Some(prost_types::Duration { seconds, nanos });
        let pool = Some(DatabasePool { idle_timeout, ..Default::default() });
        let spec = DatabaseSpec { r#type: 1, host: "db.example".to_owned(), pool, ..DatabaseSpec::default() };
        create(named("databases/new", Spec::Database(spec)))
    };
    let key = |seconds| {
        let expire_time = Some(prost_types::Timestamp { seconds, nanos: 0 });
        let spec = VirtualKeySpec { expire_time, ..VirtualKeySpec::default() };
        create(named("virtualKeys/new", Spec::VirtualKey(spec)))
    };
    let setting = |seconds, nanos| {
        let value = Some(Value::DurationValue(prost_types::Duration { seconds, nanos }));
        create(named("settings/new", Spec::Setting(SettingSpec { value, ..SettingSpec::default() })))
    };
    let (pool, expiry) = ("resource.database.pool.idle_timeout", "resource.virtual_key.expire_time");
    let duration = "resource.setting.duration_value";
    let range = "OUT_OF_RANGE";
    refused(
        &server,
        vec![
            ("nanos below zero", database(5, -1), INVALID, range, pool),
            ("nanos beyond all bounds", database(5, i32::MIN), INVALID, range, pool),
            ("the least length", database(i64::MIN, 0), INVALID, range, pool),
            ("the least length of a setting", setting(i64::MIN, 0), INVALID, range, duration),
            ("the year 10000", key(253_402_300_800), INVALID, range, expiry),
            ("the end of all time", key(i64::MAX), INVALID, range, expiry),
            ("its beginning", key(i64::MIN), INVALID, range, expiry),
            ("a length with two signs", setting(1, -5), INVALID, range, duration),
            ("a length without end", setting(i64::MAX, i32::MAX), INVALID, range, duration),
        ],
    )
    .await;
}
