//! Holds the documents against the binary: the commands of the README and of `docs/` are run to the letter, the settings
//! that are listed are those that exist, and the reference is what the proto files say.
//!
//! Every fenced block of a document marked `console` is run, in order, in one shell beside one server. A line that
//! begins with `$ ` is a command (`> ` continues it); what follows must be in the output, line by line in this order,
//! where `...` stands for anything. `localhost:50051` and `localhost:8080` become the addresses of the test's server. `grpcurl` can't be had
//! from the package registries, so `tests/shims/grpcurl` stands in for it and calls `buf curl`.

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::panic)]

#[path = "docs/faults.rs"]
mod faults;
mod harness;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "docs/reasons.rs"]
mod reasons;
#[path = "docs/reference.rs"]
mod reference;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::Write,
    path::Path,
    process::{Child, ChildStdin, Stdio},
    sync::Arc,
};

use harness::{Home, PATIENCE, Server, command, lines, run, tool, until_answered};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant, timeout_at},
};

#[tokio::test]
async fn the_tour_of_the_readme_works() {
    let steps = steps(&document("README.md"), "console");
    assert!(steps.len() >= 10, "the tour has only {} commands", steps.len());
    let home = Arc::new(Home::new().with("SIGNALBOX_STARTERS", "on"));
    let server = Server::start_in_with(&home, &["--http-listen", "127.0.0.1:0"]).await;
    follow(&server, &steps).await;
}

/// Runs the steps of a document beside a server, in one shell.
async fn follow(server: &Server, steps: &[Step]) {
    let addresses = [("localhost:50051", server.address()), ("localhost:8080", server.http_address())];
    let mut shell = Shell::start(server.home(), server.url(), &addresses);
    let mut watching = 0;
    for step in steps {
        shell.run(step).await;
        if step.command.ends_with('&') {
            watching += 1;
            let has_begun = async || watchers(server).await == watching;
            until_answered(PATIENCE, "the watch in the background has begun", has_begun).await;
        }
    }
}

/// How many watches the server serves.
async fn watchers(server: &Server) -> usize {
    let status = server.run(&["status", "--output", "json"]).await.stdout;
    let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
    status["watchers"].as_str().map_or(0, |count| count.parse().expect("a number"))
}

/// Each document has a server and a shell of its own, and the environment of neither the README nor the machine.
#[tokio::test]
async fn the_commands_of_the_documents_work() {
    for (name, least) in [
        ("docs/getting-started.md", 8),
        ("docs/concepts.md", 8),
        ("docs/operating.md", 10),
        ("docs/clients.md", 3),
        ("docs/rest.md", 8),
        ("docs/migrating.md", 8),
    ] {
        let steps = steps(&document(name), "console");
        assert!(steps.len() >= least, "{name} has only {} commands", steps.len());
        let home = Arc::new(Home::new().with("SIGNALBOX_STARTERS", "on"));
        let server = Server::start_in_with(&home, &["--http-listen", "127.0.0.1:0"]).await;
        follow(&server, &steps).await;
    }
}

/// One of each kind, all in one write, without a warning.
#[tokio::test]
async fn the_documents_of_all_kinds_are_valid() {
    let text = document("docs/concepts.md");
    let (_, rest) = text.split_once("```yaml all\n").expect("a block with all kinds");
    let (all, _) = rest.split_once("```").expect("its end");
    let kinds: BTreeSet<&str> = all
        .lines()
        .filter(|line| !line.starts_with([' ', '-']) && !line.starts_with("name:"))
        .filter_map(|line| line.split_once(':'))
        .map(|(kind, _)| kind)
        .collect();
    assert_eq!(kinds.len(), 12, "{kinds:?}");
    let home = Arc::new(Home::new().with("SIGNALBOX_STARTERS", "on"));
    let server = Server::start_in(&home).await;
    let file = home.folder().join("all.yaml");
    fs::write(&file, all).expect("the folder can be written to");
    let output = server.run(&["set", "-f", &file.to_string_lossy()]).await;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !told.contains("warning"), "{output:?}");
    server.stop().await;
}

/// What the README says of moving, on the store of a server that has stopped; then a replica starts.
#[tokio::test]
async fn the_move_of_the_readme_works() {
    const URL: &str = "postgres://signalbox@db.example/signalbox?sslmode=verify-full";
    let url = postgres::shared().database().await;
    let readme = document("README.md").replace(URL, &url);
    let home = Arc::new(Home::new());
    Server::start_in(&home).await.stop().await;
    let mut shell = Shell::start(&home, "", &[]);
    for step in &steps(&readme, "console move") {
        shell.run(step).await;
    }
    let mut replica = Arc::into_inner(home).expect("nobody else");
    replica.set("SIGNALBOX_DATABASE_URL", &url);
    replica.set("SIGNALBOX_TOKEN_FILE", "admin.token");
    let replica = Server::start_in(&Arc::new(replica)).await;
    let status = replica.run(&["status"]).await;
    assert!(
        status.status.success() && String::from_utf8_lossy(&status.stdout).contains("postgres"),
        "{status:?}"
    );
    replica.stop().await;
}

#[tokio::test]
async fn every_setting_is_documented_and_every_documented_setting_exists() {
    let mut real = BTreeSet::new();
    for verb in ["serve", "get"] {
        let output = Home::new().run(&[verb, "--help"]).await;
        assert!(output.status.success(), "{output:?}");
        real.extend(variables(&String::from_utf8_lossy(&output.stdout)));
    }
    assert!(real.contains("SIGNALBOX_LISTEN"), "{real:?}");
    assert_eq!(variables(&document(".env.example")), real, ".env.example and --help");
    // The README shows the ones to know, and none that there isn't.
    let shown = variables(&settings_of_the_readme());
    assert!(shown.contains("SIGNALBOX_LISTEN"), "{shown:?}");
    let unknown: Vec<_> = shown.difference(&real).collect();
    assert!(unknown.is_empty(), "README.md has {unknown:?}, --help has not");
}

/// `set -a; . ./.env.example; signalbox serve`
#[tokio::test]
async fn a_server_starts_with_the_settings_that_are_listed() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(".env.example");
    let mut home = Home::new();
    let mut sourcing = command("bash", home.folder());
    sourcing.args(["-c", r#"set -ae; . "$1"; exec env -0"#, "bash"]).arg(file);
    let sourced = run(&mut sourcing).await;
    assert!(sourced.status.success() && sourced.stderr.is_empty(), "{sourced:?}");
    let sourced = String::from_utf8(sourced.stdout).expect("text");
    for (name, value) in sourced.split('\0').filter_map(|variable| variable.split_once('=')) {
        home.set(name, value);
    }
    assert!(sourced.contains("SIGNALBOX_LISTEN=127.0.0.1:50051"), "{sourced}");
    // The harness gives it another port, and the data directory that is the default.
    Server::start_in(&Arc::new(home)).await.stop().await;
}

/// A file that is laid out in another way stops the start.
#[tokio::test]
async fn the_principal_map_of_the_readme_is_read() {
    let readme = document("README.md");
    let map = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a map");
    let home = Home::new().with("SIGNALBOX_JWT_PRINCIPAL_MAP_FILE", "map.toml");
    fs::write(home.path("map.toml"), map.replace("selectors", "grants")).expect("a file");
    assert!(home.refused().await.message.contains("identity map"));
    fs::write(home.path("map.toml"), map).expect("a file");
    Server::start_in(&Arc::new(home)).await.stop().await;
}

/// What is shown of the worker's example stands in it, where the compiler reads it.
#[test]
fn the_rust_of_the_clients_document_is_the_examples() {
    let example = document("examples/worker.rs");
    let text = document("docs/clients.md");
    let shown = text.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    assert!(shown.lines().count() >= 3, "{shown}");
    for line in shown.lines() {
        assert!(example.contains(line.trim()), "examples/worker.rs has no line {line}");
    }
}

#[test]
fn the_links_of_the_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in documents() {
        let text = document(&name);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") {
                continue;
            }
            let path = match file {
                "" => root.join(&name),
                file => root.join(&name).with_file_name(file),
            };
            assert!(path.exists(), "{name} links to {link}");
            if !heading.is_empty() {
                let there = fs::read_to_string(&path).unwrap_or_default();
                assert!(
                    there.lines().any(|line| anchor(line) == Some(heading.into())),
                    "{name} links to {link}"
                );
            }
        }
    }
}

/// The name on PyPI is somebody else's, and nothing of ours is on crates.io.
#[test]
fn no_document_has_a_strangers_package_installed() {
    let clients = ["clients/python/examples/worker.py", "examples/worker.rs"].map(str::to_owned);
    for name in documents().into_iter().chain(clients) {
        let text = document(&name);
        for command in text.split("pip install ").skip(1) {
            let command = command.split(['`', '\n']).next().unwrap_or_default();
            let mut words = command.split_whitespace().map(|word| word.trim_matches(['\'', '"']));
            let strangers = words.any(|word| word == "signalbox" || word.starts_with("signalbox["));
            assert!(!strangers, "{name}: pip install {command}");
        }
        assert!(
            !text.contains("signalbox = { version") && !text.contains("cargo install signalbox"),
            "{name}"
        );
    }
}

/// Every path of the proto files stands in the document, and every path of the document in the proto files.
#[test]
fn the_calls_over_http_are_listed() {
    let mut real = BTreeSet::new();
    for entry in
        fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/signalbox/v1")).expect("a folder")
    {
        let text = fs::read_to_string(entry.expect("an entry").path()).expect("a file");
        let calls = text.split("call: \"").skip(1).filter_map(|rest| rest.split('"').next());
        real.extend(
            calls.filter(|call| !call.contains("=resource}") && !call.contains("=collection}")).map(shape),
        );
    }
    // These are verbs of a resource.
    real.extend(["GET /v1/*:history", "POST /v1/*:rollback"].map(str::to_owned));
    real.remove("GET /v1/config");
    let text = document("docs/rest.md");
    let (_, table) = text.split_once("## All the other calls").expect("a table");
    let table = table.split("\n## ").next().unwrap_or_default();
    let words = table.split('`').filter(|word| word.starts_with("GET /") || word.starts_with("POST /"));
    assert_eq!(words.map(shape).collect::<BTreeSet<_>>(), real, "docs/rest.md and proto/");
}

/// A path with every variable as `*`: `POST /v1/{name=providers/*}:test`, `POST /v1/providers/{ID}:test`.
fn shape(path: &str) -> String {
    let mut shape = String::new();
    let mut parts = path.split('{');
    shape.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (variable, rest) = part.split_once('}').expect("a closed brace");
        shape.push_str(variable.split_once('=').map_or("*", |(_, pattern)| pattern));
        shape.push_str(rest);
    }
    shape
}

/// What people read.
fn documents() -> Vec<String> {
    let docs = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).expect("a folder");
    let docs = docs.map(|entry| format!("docs/{}", entry.expect("an entry").file_name().to_string_lossy()));
    let elsewhere =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "benches/README.md", "clients/python/README.md"];
    let elsewhere = elsewhere.into_iter().chain(["deploy/README.md", "migrations/README.md"]);
    elsewhere.map(str::to_owned).chain(docs).collect()
}

/// What a heading can be linked to by.
fn anchor(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
}

#[test]
fn a_transcript_is_read_as_it_is_meant() {
    let text = "```sh\n$ no\n```\n```console\n$ one\nshown\n$ two <<'X'\n> body\n> X\n```\n```console\n$ three\n```\n";
    let read: Vec<_> = steps(text, "console").into_iter().map(|step| (step.command, step.shown)).collect();
    assert_eq!(
        read,
        [
            ("one".to_owned(), vec!["shown".to_owned()]),
            ("two <<'X'\nbody\nX".to_owned(), vec![]),
            ("three".to_owned(), vec![]),
        ]
    );
}

#[test]
fn a_shown_line_matches_only_what_it_says() {
    assert!(matches("a  b", "  a b"));
    assert!(matches("a ... c ...", "a b c d"));
    assert!(matches("...", "anything"));
    assert!(matches("a ... c", "a c b c"));
    assert!(!matches("a b", "a b c"));
    assert!(!matches("a ... c", "a b"));
    assert!(!matches("b ...", "a b c"));
}

/// A command, and the lines that the document shows below it.
struct Step {
    command: String,
    shown: Vec<String>,
}

/// The commands of all blocks that are marked so.
fn steps(text: &str, wanted: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(mark) = line.strip_prefix("```") {
            inside = mark == wanted;
        } else if inside {
            if let Some(command) = line.strip_prefix("$ ") {
                steps.push(Step { command: command.to_owned(), shown: Vec::new() });
            } else {
                let step = steps.last_mut().expect("a block begins with a command");
                match line.strip_prefix("> ") {
                    Some(more) => {
                        let _ = write!(step.command, "\n{more}");
                    }
                    None if line.trim().is_empty() => {}
                    None => step.shown.push(line.to_owned()),
                }
            }
        }
    }
    steps
}

/// Whether a printed line is what was shown. Widths of columns don't count, and `...` stands for anything.
fn matches(shown: &str, printed: &str) -> bool {
    let normal = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, printed) = (normal(shown), normal(printed));
    let Some((first, others)) = shown.split_once("...") else {
        return shown == printed;
    };
    let (middle, last) = others.rsplit_once("...").unwrap_or(("", others));
    let Some(mut rest) = printed.strip_prefix(first.trim()).and_then(|rest| rest.strip_suffix(last.trim()))
    else {
        return false;
    };
    middle.split("...").map(str::trim).all(|part| {
        let found = rest.split_once(part);
        rest = found.map_or(rest, |(_, behind)| behind);
        found.is_some()
    })
}

/// One shell for the whole tour, so that what a command exports or leaves running is there for the next.
struct Shell {
    child: Child,
    input: ChildStdin,
    lines: UnboundedReceiver<String>,
    /// What stands in the documents, and what it is here.
    addresses: Vec<(String, String)>,
}

impl Shell {
    fn start(home: &Home, url: &str, addresses: &[(&str, &str)]) -> Self {
        let shims = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shims");
        let binaries = Path::new(env!("CARGO_BIN_EXE_signalbox")).parent().expect("a folder");
        tool("bin/buf");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut child = command("bash", home.folder())
            .env("PATH", format!("{}:{}:{path}", shims.display(), binaries.display()))
            .env("SIGNALBOX_URL", url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash starts");
        let (input, output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let addresses =
            addresses.iter().map(|(shown, real)| ((*shown).to_owned(), (*real).to_owned())).collect();
        let mut shell = Self { input, child, lines: lines(output), addresses };
        shell.write("exec 2>&1");
        shell
    }

    fn write(&mut self, text: &str) {
        writeln!(self.input, "{text}").expect("bash reads");
    }

    /// Runs a command, and waits until it has ended well and everything that the document shows has been printed.
    async fn run(&mut self, step: &Step) {
        const END: &str = "--- end of command, code ";
        let replace = |command: String, (shown, real): &(String, String)| command.replace(shown, real);
        let command = self.addresses.iter().fold(step.command.clone(), replace);
        // The shell reads its commands from the same input: a command must not.
        self.write(&format!("{{ {command}\n}} </dev/null\nprintf '\\n{END}%s\\n' $?"));
        let deadline = Instant::now() + PATIENCE;
        let mut shown = step.shown.iter().peekable();
        let mut ended = false;
        let mut printed = String::new();
        while !ended || shown.peek().is_some() {
            let Ok(Some(line)) = timeout_at(deadline, self.lines.recv()).await else {
                let missing = shown.next().map_or("its end", String::as_str);
                panic!("$ {command}\n{printed}\nwas not seen within {PATIENCE:?}: {missing}");
            };
            // What runs in the background may be in the middle of a line of its own.
            let (line, code) = line.split_once(END).map_or((&*line, None), |(line, code)| (line, Some(code)));
            if let Some(code) = code {
                assert_eq!(code, "0", "$ {command}\n{printed}");
                ended = true;
            }
            if code.is_none() || !line.is_empty() {
                if shown.peek().is_some_and(|shown| matches(shown, line)) {
                    shown.next();
                }
                printed = printed + line + "\n";
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // What the tour left in the background goes with the shell.
        let _ = writeln!(self.input, "kill $(jobs -p) 2>/dev/null; exit");
        let _ = self.child.wait();
    }
}

/// The server's variables that a text names.
fn variables(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_')
        .filter(|word| {
            let prefixes = ["SIGNALBOX_", "ENCRYPTION_", "OTEL_"];
            prefixes.iter().any(|prefix| word.starts_with(prefix)) && !word.ends_with('_')
        })
        .map(str::to_owned)
        .collect()
}

/// The README's section on settings.
fn settings_of_the_readme() -> String {
    let text = document("README.md");
    let (_, section) = text.split_once("\n## Settings\n").expect("a section on settings");
    section.split("\n## ").next().unwrap_or_default().to_owned()
}

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}
