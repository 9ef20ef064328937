//! To add a kind takes one message with its arm, one file and one line of the registry: the sources are copied, these are
//! added, and everything that works for all kinds works for this one.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use crate::harness::{Home, Server, api::new_token, end, example_of, lines, run, soon};

/// What a package of the sources needs to be built.
const COPIED: [&str; 9] =
    ["Cargo.toml", "Cargo.lock", "build.rs", "build", "proto", "src", "migrations", "examples", "benches"];

const MESSAGE: &str = r#"syntax = "proto3";

package signalbox.v1;

import "signalbox/v1/column.proto";
import "signalbox/v1/secret.proto";

// What a greeting says.
message GreetingSpec {
  // The words. Required, at most 20 characters.
  string text = 1 [(column) = "TEXT"];
  // Who knows it may greet.
  Secret token = 2 [(column) = "TOKEN"];
  // Whether it is said. True is filled in.
  optional bool enabled = 3 [(column) = "ENABLED"];
}
"#;

const ARM: &str = "\n    // A greeting: `greetings/{id}`.\n    GreetingSpec greeting = 99;";

const FILE: &str = r#"//! Greetings: `greetings/{id}`.

use super::{CheckContext, Kind};
use crate::domain::{FieldViolation, KindName, ResourceName, Text, Violations, record::Spec};

/// The kind `greeting`.
pub struct Greeting;

impl Kind for Greeting {
    fn name(&self) -> KindName {
        KindName("greeting")
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["greetings/{id}"]
    }

    fn fill_defaults(&self, spec: &mut Spec, _name: &ResourceName) {
        if let Spec::Greeting(spec) = spec {
            spec.enabled.get_or_insert(true);
        }
    }

    fn check(&self, context: &CheckContext<'_>) -> Vec<FieldViolation> {
        let Spec::Greeting(spec) = context.spec else { return Vec::new() };
        let mut violations = Violations::default();
        violations.required("greeting.text", &spec.text, Text::Line, 20);
        violations.into_vec()
    }
}
"#;

/// The binary itself, as an example: cargo builds these with the features of the dependencies that tests have.
const MAIN: &str = r#"//! The `signalbox` binary with a thirteenth kind.

use std::process::ExitCode;

use signalbox::{cli, settings::Environment};

fn main() -> ExitCode {
    ExitCode::from(cli::run(std::env::args_os(), &Environment::of_process()) as u8)
}
"#;

const SECRET: &str = "s3cret-of-the-greeting";

#[tokio::test]
async fn a_thirteenth_kind_takes_one_message_one_file_and_one_line() {
    let binary = example_of(&package(), "thirteenth_kind").await;
    let server = Server::start_in(&Arc::new(Home::new().running(&binary))).await;
    let said = async |code: i32, arguments: &[&str]| {
        let output = run(&mut server.signalbox(arguments)).await;
        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        told
    };
    // watch, set
    let mut watching = server
        .signalbox(&["watch", "--quiet", "greetings"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut watched = lines(watching.stdout.take().unwrap());
    assert_eq!(soon(watched.recv()).await.as_deref(), Some("0 SYNCED"));
    fs::write(server.home().path("token"), SECRET).unwrap();
    said(0, &["set", "greetings/hello", "--field", "text=Hi there", "--secret", "token=@token"]).await;
    let change = soon(watched.recv()).await.expect("a change");
    assert!(change.contains("CREATED greetings/hello") && change.contains("Hi there"), "{change}");
    let refused = said(1, &["set", "greetings/mute", "--field", "enabled=true"]).await;
    assert!(refused.contains("greeting.text") && refused.contains("at most 20 characters"), "{refused}");

    // get, list, masks, filters, defaults
    let got = said(0, &["get", "greetings/hello", "-o", "json"]).await;
    for part in ["\"text\": \"Hi there\"", "\"enabled\": true", "STATE_PRESENT"] {
        assert!(got.contains(part), "{part}: {got}");
    }
    let listed = said(0, &["list", "kind:greeting", "--filter", "enabled = true"]).await;
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..4], ["NAME", "TEXT", "TOKEN", "ENABLED"]);
    assert_eq!(rows[1][..5], ["greetings/hello", "Hi", "there", "••••", "yes"]);
    let masked = said(0, &["set", "greetings/hello", "--field", "text=Hello", "--dry-run"]).await;
    assert!(masked.contains("greeting.text"), "{masked}");
    assert!(![&change, &got, &listed].iter().any(|text| text.contains(SECRET)));
    let token = new_token(&server, &["--role", "worker", "--selector", "kind:greeting", "--secrets"]).await;
    let mut reading = server.signalbox(&["get", "greetings/hello", "--secrets", "-o", "yaml"]);
    let opened = run(reading.env("SIGNALBOX_TOKEN", token)).await;
    assert!(String::from_utf8_lossy(&opened.stdout).contains(SECRET), "{opened:?}");

    // a mask changes what it names and leaves the rest, and the secret, as they are
    said(0, &["set", "greetings/hello", "--field", "text=Hello"]).await;
    let change = soon(watched.recv()).await.expect("a change");
    assert!(change.contains("UPDATED greetings/hello") && change.contains("Hello"), "{change}");
    fs::write(server.home().path("whole.yaml"), "{name: greetings/hello, greeting: {enabled: false}}")
        .unwrap();
    said(0, &["set", "-f", "whole.yaml"]).await;
    soon(watched.recv()).await.expect("a change");
    let opened = run(&mut reading).await;
    let opened = String::from_utf8_lossy(&opened.stdout).into_owned();
    for part in ["text: Hello", "enabled: false", SECRET] {
        assert!(opened.contains(part), "{part}: {opened}");
    }
    let unknown = said(5, &["set", "greetings/hello", "--field", "text=x", "--etag", "none"]).await;
    assert!(unknown.contains("greetings/hello"), "{unknown}");

    // who changed what, and what was there before
    let history = said(0, &["history", "greetings/hello"]).await;
    let actions = ["created", "updated", "disabled"];
    assert!(actions.iter().filter(|action| history.contains(**action)).count() >= 2, "{history}");
    let past = said(0, &["get", "greetings/hello", "--revision", "1", "-o", "json"]).await;
    assert!(
        past.contains("Hi there") && ![&history, &past].iter().any(|text| text.contains(SECRET)),
        "{past}"
    );

    // its fields, documented
    let explained = said(0, &["explain", "greeting"]).await;
    assert!(
        explained.contains("text <string> (required)") && explained.contains("token <secret>"),
        "{explained}"
    );

    // out, and in again
    let exported = said(0, &["export", "kind:greeting"]).await;
    assert!(exported.contains("greetings/hello") && !exported.contains(SECRET), "{exported}");
    fs::write(server.home().path("exported.yaml"), exported).unwrap();
    let imported = said(0, &["import", "exported.yaml", "--dry-run"]).await;
    assert!(imported.contains("1 skipped"), "{imported}");

    said(0, &["delete", "--yes", "greetings/hello"]).await;
    let change = soon(watched.recv()).await.expect("a change");
    assert!(change.contains("DELETED greetings/hello"), "{change}");
    watching.kill().unwrap();
    end(watching).await;
    said(0, &["doctor"]).await;
    server.stop().await;
}

/// A copy of the sources with a thirteenth kind. What did not change since the last time is left as it is, so that cargo
/// need not build it again.
fn package() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("thirteenth_kind");
    let mut kept = BTreeSet::new();
    let mut write = |path: &str, text: &[u8]| {
        let place = copy.join(path);
        kept.insert(place.clone());
        if fs::read(&place).is_ok_and(|found| found == text) {
            return;
        }
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, text).unwrap();
    };
    for file in COPIED.iter().flat_map(|path| files(&root.join(path))) {
        let path = file.strip_prefix(root).unwrap().to_str().unwrap();
        let text = fs::read(&file).unwrap();
        let edited = |edits: &[(&str, &str)]| {
            let mut text = String::from_utf8(text.clone()).unwrap();
            for (after, added) in edits {
                assert!(text.contains(after), "{path} has no {after}");
                text = text.replacen(after, &format!("{after}{added}"), 1);
            }
            text.into_bytes()
        };
        match path {
            // Another version, so that cargo does not take what is built of one for the other.
            "Cargo.toml" | "Cargo.lock" => {
                let version = format!("\nversion = \"{}", env!("CARGO_PKG_VERSION"));
                let own = ("name = \"signalbox\"".to_owned() + &version, "-thirteen");
                write(path, &edited(&[(&own.0, own.1)]));
            }
            "proto/signalbox/v1/resource.proto" => {
                let import = (
                    "import \"signalbox/v1/feature_flag.proto\";",
                    "\nimport \"signalbox/v1/greeting.proto\";",
                );
                write(path, &edited(&[import, ("CachePolicySpec cache_policy = 31;", ARM)]));
            }
            "src/kinds/mod.rs" => {
                let module = ("pub mod filter;\n", "pub mod greeting;\n");
                write(
                    path,
                    &edited(&[module, ("&cache_policy::CachePolicy,\n", "        &greeting::Greeting,\n")]),
                );
            }
            _ => write(path, &text),
        }
    }
    write("proto/signalbox/v1/greeting.proto", MESSAGE.as_bytes());
    write("src/kinds/greeting.rs", FILE.as_bytes());
    write("examples/thirteenth_kind.rs", MAIN.as_bytes());
    for file in files(&copy).into_iter().filter(|file| !kept.contains(file)) {
        fs::remove_file(file).unwrap();
    }
    copy
}

/// Every file at or beneath a path.
fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return path.exists().then(|| path.to_owned()).into_iter().collect();
    }
    fs::read_dir(path).unwrap().flat_map(|entry| files(&entry.unwrap().path())).collect()
}
