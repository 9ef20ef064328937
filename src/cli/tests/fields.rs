//! Fields: what `set` takes as flags, typed by the descriptors.

use super::{
    super::{edit::Edit, secret_source, session::Format},
    with_session,
};
use crate::proto::v1::{self, ProviderType, header_value, resource::Spec, secret::State, setting_spec};

fn edited(name: &str, fields: &[&str]) -> Result<(v1::Resource, Vec<String>), String> {
    let mut edit = Edit::of(name)?;
    fields.iter().try_for_each(|field| edit.field(field))?;
    edit.build(None)
}

pub fn provider(resource: v1::Resource) -> v1::ProviderSpec {
    match resource.spec {
        Some(Spec::Provider(provider)) => provider,
        other => panic!("{other:?}"),
    }
}

#[test]
fn regression_a_list_is_emptied_by_no_value() {
    let (resource, mask) = edited("routers/default", &["fallbacks="]).unwrap();
    let Some(Spec::Router(router)) = resource.spec else { panic!("no router") };
    assert!(router.fallbacks.is_empty() && mask == ["router.fallbacks"], "{mask:?}");
    let (resource, _) = edited("routers/default", &["fallbacks=", "fallbacks=providers/a"]).unwrap();
    let Some(Spec::Router(router)) = resource.spec else { panic!("no router") };
    assert_eq!(router.fallbacks, ["providers/a"]);
}

#[test]
fn fields_are_typed_by_their_descriptor() {
    let (resource, mask) = edited(
        "providers/groq",
        &[
            "type=groq",
            "provider.display_name=Groq, the fast = one",
            "enabled=false",
            "models=a",
            "models=b",
            "auth.scheme=BEARER",
            "contextWindowTokens=8192",
            "capabilities.chat=true",
            "headers.X-A.plain=v",
        ],
    )
    .unwrap();
    let spec = provider(resource);
    assert_eq!(spec.r#type(), ProviderType::Groq);
    assert_eq!((spec.display_name.as_str(), spec.enabled), ("Groq, the fast = one", Some(false)));
    assert_eq!((spec.models, spec.context_window_tokens), (vec!["a".to_owned(), "b".to_owned()], 8192));
    assert_eq!(spec.headers["X-A"].value, Some(header_value::Value::Plain("v".into())));
    assert_eq!(
        mask,
        [
            "provider.auth.scheme",
            "provider.capabilities.chat",
            "provider.context_window_tokens",
            "provider.display_name",
            "provider.enabled",
            "provider.headers",
            "provider.models",
            "provider.type"
        ]
    );
}

#[test]
fn wrong_fields_are_told_with_what_would_be_right() {
    let cases = [
        ("providers/x", "type=grok", "provider.type", "`grok` is not known; known are openai, anthropic"),
        ("providers/x", "enabled=on", "enabled", "neither true nor false"),
        ("providers/x", "context_window_tokens=-1", "", "`-1` is not a whole number that fits into 32 bits"),
        ("providers/x", "nonsense=1", "nonsense", "has no such field; it has type, display_name"),
        ("providers/x", "provider.nonsense=1", "", "there is no field `nonsense`; there are type"),
        ("providers/x", "auth=bearer", "", "is a group of fields; name one of scheme, header_template"),
        ("providers/x", "headers=x", "", "is a map; name the entry, as in headers.KEY"),
        ("providers/x", "headers.A=x", "", "is a group of fields; name one of plain, secret"),
        (
            "providers/x",
            "headers.A.secret=x",
            "",
            "is a secret; give it with --secret headers.A.secret=@FILE",
        ),
        ("providers/x", "headers.A.secret.value=x", "", "is part of a secret"),
        ("providers/x", "type.x=1", "", "lies beneath a single value"),
        ("providers/x", "type", "", "is not PATH=VALUE"),
        ("providers/x", "labels.a=b", "", "--label KEY=VALUE"),
        ("providers/x", "uid=b", "", "is filled in by the server"),
        ("settings/x", "float_value=NaN", "", "`NaN` is not a number"),
        ("settings/x", "duration_value=soon", "", "is not a length of time; give one such as 500ms"),
        ("providers", "type=groq", "", "`providers` is not the name of a resource"),
        ("nonsense/x", "type=groq", "", "is not the name of a resource"),
    ];
    for (name, field, _, expected) in cases {
        let wrong = edited(name, &[field]).expect_err(field);
        assert!(wrong.contains(expected), "{field}: {wrong}");
    }
    assert!(edited("providers/x", &["type=groq", "type=groq"]).unwrap_err().contains("given twice"));
    assert!(edited("settings/x", &["int_value=1", "bool_value=true"]).unwrap_err().contains("only one of"));
    assert!(edited("providers/x", &["headers.A.plain=1", "headers.B.plain=2"]).is_ok());
}

/// Found by a stranger: a warning said to clear `request_builder`, and no flag did.
#[test]
fn regression_a_group_of_fields_is_cleared_by_no_value() {
    let (resource, mask) = edited("providers/x", &["request_builder="]).unwrap();
    assert_eq!(
        (provider(resource), mask),
        (v1::ProviderSpec::default(), vec!["provider.request_builder".into()])
    );
    let (_, mask) = edited("providers/x", &["auth=", "display_name=X"]).unwrap();
    assert_eq!(mask, ["provider.auth", "provider.display_name"]);
    let wrong = edited("providers/x", &["request_builder={}"]).unwrap_err();
    assert!(wrong.contains("or clear it with request_builder="), "{wrong}");
    assert!(edited("providers/x", &["provider="]).unwrap_err().contains("is a group of fields"));

    let plain = |value: &str| v1::HeaderValue { value: Some(header_value::Value::Plain(value.into())) };
    let headers = [("A".to_owned(), plain("1")), ("B".to_owned(), plain("2"))].into();
    let spec = v1::ProviderSpec { headers, ..Default::default() };
    let current = v1::Resource { spec: Some(Spec::Provider(spec)), ..Default::default() };
    let mut edit = Edit::of("providers/x").unwrap();
    edit.field("headers.A=").unwrap();
    let (resource, mask) = edit.build(Some(&current)).unwrap();
    assert_eq!(mask, ["provider.headers"]);
    assert_eq!(provider(resource).headers.into_keys().collect::<Vec<_>>(), ["B"]);
}

#[test]
fn regression_an_entry_of_a_map_of_texts_is_cleared_by_no_value() {
    let defaults = ["groq", "openai"].map(|of| (of.to_owned(), format!("providers/{of}")));
    let spec = v1::RouterSpec { type_defaults: defaults.into(), ..Default::default() };
    let current = v1::Resource { spec: Some(Spec::Router(spec)), ..Default::default() };
    let mut edit = Edit::of("routers/default").unwrap();
    edit.field("type_defaults.groq=").unwrap();
    let (resource, mask) = edit.build(Some(&current)).unwrap();
    assert_eq!(mask, ["router.type_defaults"]);
    let Some(Spec::Router(router)) = resource.spec else { panic!("is no router") };
    assert_eq!(router.type_defaults.into_keys().collect::<Vec<_>>(), ["openai"]);
}

/// The later one won, and nobody was told.
#[test]
fn regression_what_is_cleared_and_set_at_once_is_refused() {
    for fields in [["auth.scheme=none", "auth="], ["auth=", "auth.scheme=none"]] {
        assert!(edited("providers/x", &fields).unwrap_err().contains("contradict each other"), "{fields:?}");
    }
    let header = ["headers.A=", "headers.A.plain=1"];
    assert!(edited("providers/x", &header).unwrap_err().contains("contradict each other"));
    assert!(edited("providers/x", &["headers.A=", "headers.B.plain=1"]).is_ok());
}

#[test]
fn parts_of_maps_are_changed_on_what_is_there() {
    let header = |value| v1::HeaderValue { value: Some(value) };
    let sealed = v1::Secret { value: None, state: State::Present.into() };
    let spec = v1::ProviderSpec {
        display_name: "kept by the mask".into(),
        headers: [("X-S".to_owned(), header(header_value::Value::Secret(sealed)))].into(),
        ..Default::default()
    };
    let labels = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into();
    let current = v1::Resource { spec: Some(Spec::Provider(spec)), labels, ..Default::default() };
    let mut edit = Edit::of("providers/x").unwrap();
    edit.field("headers.X-A.plain=v").unwrap();
    edit.label("b-").unwrap();
    edit.label("app.kubernetes.io/name=x").unwrap();
    assert!(edit.needs_current());
    let (resource, mask) = edit.build(Some(&current)).unwrap();
    assert_eq!(mask, ["labels", "provider.headers"]);
    assert_eq!(resource.labels.keys().collect::<Vec<_>>(), ["a", "app.kubernetes.io/name"]);
    let spec = provider(resource);
    assert_eq!(spec.headers.len(), 2, "the sealed header is kept");
    assert_eq!(spec.display_name, "");
}

#[test]
fn values_of_settings_are_guessed_unless_typed() {
    use setting_spec::Value;
    let set = |value: &str, value_type| {
        let mut edit = Edit::of("settings/max_retries").unwrap();
        edit.setting(value, value_type)?;
        match edit.build(None)?.0.spec {
            Some(Spec::Setting(setting)) => Ok(setting.value.unwrap()),
            other => Err(format!("{other:?}")),
        }
    };
    assert_eq!(set("5", None), Ok(Value::IntValue(5)));
    assert_eq!(set("-0.5", None), Ok(Value::FloatValue(-0.5)));
    assert_eq!(set("true", None), Ok(Value::BoolValue(true)));
    assert_eq!(
        set("1500ms", None),
        Ok(Value::DurationValue(prost_types::Duration { seconds: 1, nanos: 500_000_000 }))
    );
    assert_eq!(set("{\"a\": 1}", None), Ok(Value::JsonValue("{\"a\": 1}".into())));
    for text in ["{not json", "hello", "inf", "", "1.2.3"] {
        assert_eq!(set(text, None), Ok(Value::StringValue(text.into())));
    }
    assert_eq!(set("5", Some("string")), Ok(Value::StringValue("5".into())));
    assert!(set("5.5", Some("int")).unwrap_err().contains("not a whole number"));
    assert!(
        Edit::of("providers/x").unwrap().setting("5", None).unwrap_err().contains("--value is for settings")
    );
}

#[test]
fn regression_a_setting_keeps_its_type_unless_one_is_given() {
    use setting_spec::Value;
    let set = |stored: Value, value: &str, value_type| {
        let spec = v1::SettingSpec { value: Some(stored), ..Default::default() };
        let current = v1::Resource { spec: Some(Spec::Setting(spec)), ..Default::default() };
        let mut edit = Edit::of("settings/max_retries").unwrap();
        edit.setting(value, value_type)?;
        assert!(edit.needs_current() != value_type.is_some() && !edit.rewrites_maps());
        match edit.build(Some(&current))?.0.spec {
            Some(Spec::Setting(setting)) => Ok(setting.value.unwrap()),
            other => Err(format!("{other:?}")),
        }
    };
    let told = set(Value::IntValue(1), "abc", None).unwrap_err();
    assert!(told.contains("`abc` is not a whole number"), "{told}");
    assert!(told.contains("is of the type int; to change its type give --type string"), "{told}");
    assert_eq!(set(Value::IntValue(1), "7", None), Ok(Value::IntValue(7)));
    assert_eq!(set(Value::FloatValue(1.5), "7", None), Ok(Value::FloatValue(7.0)));
    assert_eq!(set(Value::StringValue("a".into()), "7", None), Ok(Value::StringValue("7".into())));
    assert_eq!(set(Value::IntValue(1), "abc", Some("string")), Ok(Value::StringValue("abc".into())));
    let secret = Value::SecretValue(v1::Secret::default());
    assert!(set(secret, "abc", None).unwrap_err().contains("--secret @FILE"));
}

#[test]
fn secrets_come_from_anywhere_but_the_command_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from-file\n").unwrap();
    let at = format!("secret=@{}", file.path().display());
    let read = |text: &str| {
        let (read, _, _) =
            with_session(Format::Table, "from-stdin\r\n", |session| secret_source::read(session, text));
        read.map(|given| (given.path, given.value.to_string())).map_err(|failure| failure.to_string())
    };
    let named = || Some("secret".to_owned());
    assert_eq!(read(&at), Ok((named(), "from-file".into())));
    assert_eq!(read("secret=-"), Ok((named(), "from-stdin".into())));
    assert_eq!(read("-"), Ok((None, "from-stdin".into())));
    assert_eq!(read("env:GROQ_API_KEY"), Ok((None, "gsk-from-env".into())));
    assert!(read("secret=env:NOT_SET").unwrap_err().contains("NOT_SET is not set"));
    for exposed in ["secret=gsk-exposed", "gsk-exposed"] {
        let wrong = read(exposed).unwrap_err();
        assert!(wrong.contains("does not belong on the command line") && !wrong.contains("gsk"), "{wrong}");
    }
    let mut edit = Edit::of("providers/groq/apiKeys/prod").unwrap();
    edit.secret(None, "gsk").unwrap();
    let (resource, mask) = edit.build(None).unwrap();
    assert_eq!(mask, ["api_key.secret"]);
    assert!(
        matches!(resource.spec, Some(Spec::ApiKey(key)) if key.secret.as_ref().unwrap().value() == "gsk")
    );
    assert!(Edit::of("providers/groq").unwrap().secret(None, "x").unwrap_err().contains("which secret"));
    assert!(
        Edit::of("providers/groq")
            .unwrap()
            .secret(Some("type"), "x")
            .unwrap_err()
            .contains("is not a secret")
    );
}

#[test]
fn regression_a_secret_that_never_ends_is_refused() {
    let read = |text: &str| {
        let endless = "x".repeat(70 * 1024);
        let (read, _, _) =
            with_session(Format::Table, &endless, |session| secret_source::read(session, text));
        read.map(|_| ()).map_err(|failure| failure.to_string())
    };
    for source in ["@/dev/zero", "secret=@/dev/zero", "-"] {
        assert!(read(source).unwrap_err().contains("larger than 64 KiB"), "{source}");
    }
    assert!(read("@/").unwrap_err().contains("directory"));
}

#[test]
fn regression_a_field_with_the_name_of_its_kind_is_set() {
    use crate::cli::schema;
    let mut edit = Edit::of("databases/pg").unwrap();
    edit.field("database=postgres").unwrap();
    let (resource, mask) = edit.build(None).unwrap();
    assert_eq!(mask, ["database.database"]);
    let Some(Spec::Database(spec)) = resource.spec else { panic!() };
    assert_eq!(spec.database, "postgres");
    // For every kind: each field by its name alone means that field, also where the kind is called the same.
    let mut named_alike = 0;
    for arm in schema::arms() {
        let message = schema::message_of(&arm).unwrap();
        let Some(field) = schema::field(&message, arm.name()) else { continue };
        named_alike += 1;
        let name = match arm.name() {
            "database" => "databases/x",
            other => panic!("give a name for a {other}, which has a field {}", field.name()),
        };
        let whole = format!("{0}.{0}=x", arm.name());
        let short = format!("{}=x", arm.name());
        for text in [whole, short] {
            let mut edit = Edit::of(name).unwrap();
            edit.field(&text).unwrap();
            assert_eq!(edit.build(None).unwrap().1, [format!("{0}.{0}", arm.name())], "{text}");
        }
    }
    assert_eq!(named_alike, 1, "databases have one");
}
