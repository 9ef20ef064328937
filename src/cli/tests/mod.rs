//! The verbs, run against a server that notes what it is asked.

mod calls;
mod commands;
mod documents;
mod fields;

use std::{ffi::OsString, io::Cursor};

use chrono::{DateTime, Utc};
use clap::{CommandFactory, Parser};

use super::{args::*, failure::Outcome, session::Format, *};
use crate::{
    domain::{Clock, Release},
    proto::v1::{self, ProviderType, resource::Spec, secret::State, setting_spec},
    settings::Environment,
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
    let env = Environment::of([("GROQ_API_KEY", "gsk-from-env")]);
    let mut session = Session {
        out: &mut out,
        err: &mut err,
        input: &mut Cursor::new(input.to_owned()),
        env: &env,
        release: Release::CURRENT,
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
    let line = "signalbox token revoke --subject u --issuer https://id --reason leaked";
    let Verb::Token(Token::Revoke(revoke)) = parse(line).unwrap().verb else { panic!() };
    assert_eq!((revoke.subject.as_deref(), revoke.issuer.as_str()), (Some("u"), "https://id"));
    assert_eq!(revoke.reason, "leaked");
    assert!(parse("signalbox token revoke --id x --reason y").is_ok());
    assert!(parse("signalbox token revoke x --reason y").is_ok(), "as `token create` tells it");
    assert!(parse("signalbox token revoke x --subject y").is_err());
    assert!(parse("signalbox token revoke --id x --subject y").is_err());
    assert!(parse("signalbox token revoke --reason y").is_err());
    // Tokens are base64url: one in 64 begins with a hyphen.
    let Verb::Doctor(doctor) = parse("signalbox doctor --anchor -AbC --offline").unwrap().verb else {
        panic!()
    };
    assert_eq!((doctor.anchor.as_deref(), doctor.offline), (Some("-AbC"), true));
    let line = "signalbox watch --resume-token -AbC --view-id -d --progress";
    let Verb::Watch(watch) = parse(line).unwrap().verb else { panic!() };
    assert_eq!((watch.resume_token.as_str(), watch.view_id.as_str(), watch.progress), ("-AbC", "-d", true));
    let Verb::Set(set) = parse("signalbox set -f - --dry-run").unwrap().verb else { panic!() };
    assert!(set.write.dry_run && set.name.is_none());
    let Verb::Token(Token::Create(token)) =
        parse("signalbox token create --role worker --selector providers/* --secrets --ttl 2h").unwrap().verb
    else {
        panic!()
    };
    assert!(token.secrets && token.ttl == Some(Life::For(std::time::Duration::from_secs(7200))));
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
    let rows = |resources: &[v1::Resource]| -> Vec<Vec<String>> {
        let shown = columns::list(resources, At(1_000_000).now());
        // Two blanks stand between columns.
        let cells = |line: &str| {
            line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
        };
        shown.lines().map(cells).collect()
    };
    let labels = "env=prod\\u{1b}[2J";
    assert_eq!(
        rows(&resources),
        [
            vec!["NAME", "KIND", "SUMMARY", "VERSION", "UPDATED", "LABELS"],
            vec!["providers/groq", "provider", "groq not-enabled", "3", "60s ago", labels],
            vec!["providers/groq/apiKeys/prod", "api_key", "active secret=••••", "3", "60s ago", labels],
            vec!["settings/api_token", "setting", "secret ••••", "3", "60s ago", labels],
            vec!["settings/max_retries", "setting", "int 5", "3", "60s ago", labels],
        ]
    );
    // Those of one kind have its columns.
    assert_eq!(
        rows(&resources[2..]),
        [
            vec!["NAME", "TYPE", "VALUE", "VERSION", "UPDATED", "LABELS"],
            vec!["settings/api_token", "secret", "••••", "3", "60s ago", labels],
            vec!["settings/max_retries", "int", "5", "3", "60s ago", labels],
        ]
    );
    assert_eq!(
        rows(&resources[..1])[0],
        ["NAME", "TYPE", "BASE URL", "DEFAULT MODEL", "ENABLED", "VERSION", "UPDATED", "LABELS"]
    );
    let details = table::details(&resources[1], At(1_000_000).now(), Vec::new());
    let row = |start: &str| {
        details.lines().find(|line| line.starts_with(start)).map(str::to_owned).unwrap_or(details.clone())
    };
    assert!(row("api_key.secret ").ends_with("••••"));
    assert!(row("updated ").ends_with("(60s ago)"));
}

#[test]
fn regression_times_of_a_spec_are_told_from_now() {
    let expire_time = Some(prost_types::Timestamp { seconds: 1_432_000, nanos: 0 });
    let key = v1::VirtualKeySpec { expire_time, ..Default::default() };
    let spec = Some(Spec::VirtualKey(key));
    let key = v1::Resource { name: "virtualKeys/a".into(), spec, ..Default::default() };
    let details = table::details(&key, At(1_000_000).now(), Vec::new());
    let row = details.lines().find(|line| line.starts_with("virtual_key.expire_time ")).unwrap_or(&details);
    assert!(row.ends_with("1970-01-17 13:46:40 UTC (in 5d)"), "{row}");
}

#[test]
fn kinds_show_what_is_looked_for_first() {
    let model = v1::ModelSpec {
        limits: Some(v1::ModelLimits { context_window_tokens: 128_000, ..Default::default() }),
        prices: Some(v1::ModelPrices { input: "0.075".into(), ..Default::default() }),
        deprecation: Some(v1::ModelDeprecation { deprecated: true, ..Default::default() }),
        ..Default::default()
    };
    let router = v1::RouterSpec {
        primary: "providers/a".into(),
        fallbacks: vec!["providers/b".into(), "providers/c".into()],
        ..Default::default()
    };
    let template = v1::PromptTemplateSpec { model: "models/a/m".into(), ..Default::default() };
    let tool = v1::ToolSpec { enabled: Some(true), ..Default::default() };
    let key = v1::VirtualKeySpec {
        expire_time: Some(prost_types::Timestamp { seconds: 1_432_000, nanos: 0 }),
        ..Default::default()
    };
    let specs = [
        (Spec::Model(model), "model", "deprecated context=128000 input=0.075"),
        (Spec::Router(router), "router", "primary=providers/a fallbacks=providers/b,providers/c"),
        (Spec::PromptTemplate(template), "prompt_template", "model=models/a/m"),
        (Spec::Tool(tool), "tool", "enabled"),
        (Spec::VirtualKey(key), "virtual_key", "expires=in 5d"),
    ];
    // Beside something of a kind that this command is too old for.
    let newer = v1::Resource { name: "x/z".into(), ..Default::default() };
    for (spec, kind, summary) in specs {
        let resource = v1::Resource { name: "x/y".into(), spec: Some(spec), ..Default::default() };
        let shown = columns::list(&[resource, newer.clone()], At(1_000_000).now());
        let row = shown.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(row, format!("x/y {kind} {summary} 0"));
        assert_eq!(shown.lines().nth(2).unwrap().split_whitespace().collect::<Vec<_>>(), ["x/z", "?", "0"]);
    }
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

/// Redirected, it would be readable by whoever the umask lets.
#[test]
fn a_key_or_token_goes_into_a_new_file_of_ones_own() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made").to_string_lossy().into_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let make = |line: &str| {
        let words = ["signalbox", "--server", "http://127.0.0.1:1"].into_iter().chain(line.split(' '));
        let cli = Cli::try_parse_from(words.chain(["--file", &path])).unwrap();
        with_session(Format::Table, "", |session| match &cli.verb {
            Verb::Keys(verb) => runtime.block_on(keys::keys(session, &cli.target, verb)),
            Verb::Token(verb) => runtime.block_on(token::token(session, &cli.target, verb)),
            _ => panic!("{line}"),
        })
    };
    let (made, shown, _) = make("keys generate");
    made.unwrap();
    assert_eq!(shown, "", "it is in the file alone");
    let first = std::fs::read_to_string(&path).unwrap();
    assert_eq!((first.len(), std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777), (45, 0o600));
    // What is there stays, and no token is made that would be lost.
    for line in ["keys generate", "token create --role viewer"] {
        let refused = make(line).0.unwrap_err();
        assert!(refused.exit() == Exit::Usage && refused.to_string().contains("--file"), "{line}: {refused}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
}

#[test]
fn help_and_mistakes_have_their_exit_codes() {
    let run = |line: &str| run(line.split(' ').map(OsString::from), &Environment::default()) as u8;
    assert_eq!(run("signalbox --version"), 0);
    assert_eq!(run("signalbox nonsense"), 2);
    assert_eq!(run("signalbox completions nonsense"), 2);
    assert_eq!(run("signalbox -q --server ftp://x status"), 2);
    assert_eq!(run("signalbox -q --server http://127.0.0.1:1 status"), 6);
}

#[test]
fn completions_know_the_verbs() {
    let (done, out, _) =
        with_session(Format::Table, "", |session| completions(session, clap_complete::Shell::Bash));
    assert!(done.is_ok() && out.contains("doctor") && out.contains("--page-size"));
}
