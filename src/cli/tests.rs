use std::{ffi::OsString, io::Cursor};

use chrono::{DateTime, Utc};
use clap::{CommandFactory, Parser};

use super::{args::*, document::read_all, edit::Edit, failure::Outcome, session::Format, *};
use crate::{
    domain::Clock,
    proto::v1::{self, ProviderType, header_value, resource::Spec, secret::State, setting_spec},
};

struct At(i64);

impl Clock for At {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.0, 0).unwrap()
    }
}

/// Runs something with a session; gives what it returned and what it wrote.
fn with_session<T>(
    format: Format,
    input: &str,
    run: impl FnOnce(&mut Session<'_>) -> T,
) -> (T, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let env = |name: &str| match name {
        "GROQ_API_KEY" => Some(OsString::from("gsk-from-env")),
        _ => None,
    };
    let mut session = Session {
        out: &mut out,
        err: &mut err,
        input: &mut Cursor::new(input.to_owned()),
        env: &env,
        clock: &At(1_000_000),
        interactive: false,
        format,
        quiet: false,
    };
    let result = run(&mut session);
    (result, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn parse(line: &str) -> Result<Cli, String> {
    Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())
}

fn edited(name: &str, fields: &[&str]) -> Result<(v1::Resource, Vec<String>), String> {
    let mut edit = Edit::of(name)?;
    fields.iter().try_for_each(|field| edit.field(field))?;
    edit.build(None)
}

fn provider(resource: v1::Resource) -> v1::ProviderSpec {
    match resource.spec {
        Some(Spec::Provider(provider)) => provider,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
    let help = Cli::command().render_long_help().to_string();
    assert!(help.contains("Exit codes:") && help.contains("SIGNALBOX_URL"), "{help}");
}

#[test]
fn command_lines_are_read() {
    let cli =
        parse("signalbox list providers/* --kind api_key -l env=prod -o json --server http://x:1").unwrap();
    assert_eq!((cli.output, cli.target.server.as_deref()), (Format::Json, Some("http://x:1")));
    let Verb::List(list) = cli.verb else { panic!() };
    assert_eq!(
        (list.selectors, list.kind, list.label),
        (vec!["providers/*".into()], vec!["api_key".into()], vec!["env=prod".into()])
    );
    let Verb::Serve(serve) =
        parse("signalbox serve --listen 127.0.0.1:0 --allow-plaintext --max-streams 5").unwrap().verb
    else {
        panic!()
    };
    let flags: Vec<_> = serve.flags.0.iter().map(|(flag, value)| (*flag, value.as_str())).collect();
    assert_eq!(flags, [("allow-plaintext", "true"), ("listen", "127.0.0.1:0"), ("max-streams", "5")]);
    let Verb::Set(set) = parse("signalbox set settings/x --value -5 --type float").unwrap().verb else {
        panic!()
    };
    assert_eq!((set.value.as_deref(), set.value_type), (Some("-5"), Some(ValueType::Float)));
    let Verb::Set(set) = parse("signalbox set -f - --dry-run").unwrap().verb else { panic!() };
    assert!(set.write.dry_run && set.name.is_none());
    let Verb::Token(Token::Create(token)) =
        parse("signalbox token create --role worker --selector providers/* --secrets --ttl 2h").unwrap().verb
    else {
        panic!()
    };
    assert!(token.secrets && token.ttl.as_secs() == 7200);
}

#[test]
fn wrong_command_lines_are_refused() {
    for line in [
        "signalbox",
        "signalbox get",
        "signalbox set",
        "signalbox set a/b -f x --field c=d",
        "signalbox set a/b --type int",
        "signalbox list --page-size 0",
        "signalbox token revoke",
        "signalbox token revoke --id a --subject b",
        "signalbox token create --role god",
        "signalbox watch --resume-token x",
        "signalbox serve --jwt-secret x",
        "signalbox serve --encryption-key x",
        "signalbox get a/b --token secret",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
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
        ("providers/x", "type=grok", "provider.type", "`grok` is none of openai, anthropic"),
        ("providers/x", "enabled=yes", "enabled", "neither true nor false"),
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

const YAML: &str = "\
name: providers/groq
uid: output-only
labels: {env: prod}
provider:
  type: groq
  displayName: Groq
  auth: {header_template: 'x: {api_key}'}
  headers:
    X-A: {plain: v}
  models: [a, b]
  enabled: false
---
name: providers/groq/apiKeys/prod
api_key:
  secret: {value: gsk}
---
name: settings/timeout
setting: {durationValue: 1.500s, description: null}
";

#[test]
fn documents_are_read_in_both_spellings() {
    let documents = read_all(YAML, false, None).unwrap();
    assert_eq!(documents.len(), 3);
    assert_eq!(
        documents[0].mask,
        [
            "labels",
            "provider.auth.header_template",
            "provider.display_name",
            "provider.enabled",
            "provider.headers",
            "provider.models",
            "provider.type"
        ]
    );
    assert_eq!(documents[0].resource.uid, "", "what only the server fills in is read over");
    assert_eq!(provider(documents[0].resource.clone()).r#type(), ProviderType::Groq);
    assert_eq!(documents[1].mask, ["api_key.secret"]);
    assert_eq!(documents[2].mask, ["setting.description", "setting.duration_value"]);
}

#[test]
fn what_is_printed_can_be_read_again() {
    let resources: Vec<v1::Resource> =
        read_all(YAML, false, None).unwrap().into_iter().map(|document| document.resource).collect();
    for (format, is_json) in [(Format::Json, true), (Format::Yaml, false)] {
        let json = session::canonical_all(&resources).unwrap();
        let (done, out, _) = with_session(format, "", |session| session.documents(&json));
        assert!(done.unwrap());
        let again = read_all(&out, is_json, None).unwrap().into_iter().map(|document| document.resource);
        assert_eq!(again.collect::<Vec<_>>(), resources, "{out}");
    }
    let listed =
        format!("{{\"resources\": {}}}", serde_json::json!(session::canonical_all(&resources).unwrap()));
    assert_eq!(read_all(&listed, true, None).unwrap().len(), 3);
}

#[test]
fn wrong_documents_are_refused_with_their_path() {
    let deep =
        format!("{{\"name\": \"settings/x\", \"setting\": {}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_yaml = format!("name: settings/x\nsetting: {}{}", "[".repeat(10_000), "]".repeat(10_000));
    let cases: &[(&str, bool, &str)] = &[
        (
            "{name: settings/x, setting: {nonsense: 1}}",
            false,
            "settings/x: setting.nonsense: there is no such field",
        ),
        (
            "{name: providers/x, provider: {headers: {A: {b: 1}}}}",
            false,
            "providers/x: provider.headers[A].b: there is no",
        ),
        (
            "{name: providers/x, provider: {models: [a, 5]}}",
            false,
            "provider.models[1]: must be text; write it in quotes",
        ),
        ("{name: providers/x, provider: {models: a}}", false, "provider.models: must be a list, but is text"),
        (
            "{name: providers/x, provider: {enabled: 'no'}}",
            false,
            "provider.enabled: must be true or false, but is text",
        ),
        ("{name: providers/x, provider: {auth: bearer}}", false, "provider.auth: must be a map, but is text"),
        (
            "{name: providers/x, provider: {display_name: a, displayName: b}}",
            false,
            "stands beside `display_name`",
        ),
        ("{name: settings/x, setting: {int_value: 1, bool_value: true}}", false, "stands beside `int_value`"),
        ("{\"name\": \"settings/x\", \"name\": \"settings/y\"}", true, "the key `name` is given twice"),
        ("name: settings/x\nname: settings/y", false, "name"),
        ("{provider: {type: groq}}", false, "document 1: name: is missing"),
        ("[{name: settings/x}, {name: settings/x}]", false, "settings/x: is given twice"),
        ("just text", false, "document 1: is text; a resource is a map"),
        ("", false, "holds no resource"),
        ("{\"name\": ", true, "EOF"),
        (&deep, true, "nested deeper than 64 levels"),
        (&deep_yaml, false, ""),
    ];
    for (text, is_json, expected) in cases {
        let wrong = read_all(text, *is_json, None).expect_err(expected);
        assert!(wrong.contains(expected), "{expected}: {wrong}");
    }
    let several = read_all("{name: settings/x, a: 1, b: 2}\n---\n{c: 3}", false, None).unwrap_err();
    assert_eq!(several.lines().count(), 4, "{several}");
    let hidden =
        read_all("{name: providers/x/apiKeys/y, api_key: {secret: sk-123}}", false, None).unwrap_err();
    assert!(hidden.contains("api_key.secret: must be a map") && !hidden.contains("sk-123"), "{hidden}");
}

#[test]
fn a_name_can_be_given_beside_a_document() {
    let read = |text| read_all(text, false, Some("settings/x"));
    assert_eq!(read("{setting: {int_value: 1}}").unwrap()[0].resource.name, "settings/x");
    assert!(read("{name: settings/y}").unwrap_err().contains("is not settings/x"));
}

#[test]
fn tables_show_what_a_person_wants() {
    let timestamp = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let resource = |name: &str, spec| v1::Resource {
        name: name.into(),
        version: 3,
        labels: [("env".to_owned(), "prod\u{1b}[2J".to_owned())].into(),
        update_time: timestamp(999_940),
        spec: Some(spec),
        ..Default::default()
    };
    let provider =
        v1::ProviderSpec { r#type: ProviderType::Groq.into(), enabled: Some(false), ..Default::default() };
    let present = v1::Secret { value: None, state: State::Present.into() };
    let key = v1::ApiKeySpec { secret: Some(present.clone()), active: Some(true), ..Default::default() };
    let sealed =
        v1::SettingSpec { value: Some(setting_spec::Value::SecretValue(present)), ..Default::default() };
    let plain = v1::SettingSpec { value: Some(setting_spec::Value::IntValue(5)), ..Default::default() };
    let resources = [
        resource("providers/groq", Spec::Provider(provider)),
        resource("providers/groq/apiKeys/prod", Spec::ApiKey(key)),
        resource("settings/api_token", Spec::Setting(sealed)),
        resource("settings/max_retries", Spec::Setting(plain)),
    ];
    let shown = table::list(&resources, At(1_000_000).now());
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    let labels = "env=prod\\u{1b}[2J";
    assert_eq!(
        rows,
        [
            vec!["NAME", "TYPE", "STATE", "VERSION", "AGE", "LABELS"],
            vec!["providers/groq", "groq", "disabled", "3", "60s", labels],
            vec!["providers/groq/apiKeys/prod", "api_key", "active", "3", "60s", labels],
            vec!["settings/api_token", "secret", "••••", "3", "60s", labels],
            vec!["settings/max_retries", "int", "5", "3", "60s", labels],
        ]
    );
    let details = table::details(&resources[1], At(1_000_000).now());
    let row = |start: &str| {
        details.lines().find(|line| line.starts_with(start)).map(str::to_owned).unwrap_or(details.clone())
    };
    assert!(row("api_key.secret ").ends_with("••••"));
    assert!(row("updated ").ends_with("(60s ago)"));
}

#[test]
fn deleting_asks_first() {
    let args = || Delete { names: vec!["providers/groq".into()], ..Default::default() };
    let delete = |args: &Delete, interactive, input: &str| -> Outcome {
        with_session(Format::Table, input, |session| {
            session.interactive = interactive;
            let target = Target { server: Some("http://127.0.0.1:1".into()), ..Default::default() };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(delete::delete(session, &target, args))
        })
        .0
    };
    assert_eq!(delete(&args(), false, "").unwrap_err().exit(), Exit::Usage);
    assert!(delete(&args(), true, "n\n").unwrap_err().to_string().contains("nothing was deleted"));
    let reached = delete(&args(), true, "y\n").unwrap_err();
    assert!(
        reached.exit() == Exit::Unavailable && reached.to_string().contains("is the server running"),
        "{reached}"
    );
    assert_eq!(delete(&Delete { yes: true, ..args() }, false, "").unwrap_err().exit(), Exit::Unavailable);
}

#[test]
fn help_and_mistakes_have_their_exit_codes() {
    let run = |line: &str| run(line.split(' ').map(OsString::from), &|_| None) as u8;
    assert_eq!(run("signalbox --version"), 0);
    assert_eq!(run("signalbox nonsense"), 2);
    assert_eq!(run("signalbox -q --server ftp://x status"), 2);
    assert_eq!(run("signalbox -q --server http://127.0.0.1:1 status"), 6);
}
