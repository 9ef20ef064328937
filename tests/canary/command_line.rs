//! Every verb of the command line, given secrets as it wants them, and as it does not. Neither what it prints nor what
//! the server keeps may hold them.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
};

use crate::{
    api::new_token,
    harness::{Home, PATIENCE, Server, end, run, until},
    trail::Trail,
};

/// A server, and command lines beside it.
struct Shell<'a> {
    home: Arc<Home>,
    server: Server,
    trail: &'a Trail,
    verbs: BTreeSet<String>,
}

/// Where a canary is put.
enum Given<'a> {
    /// Into a file of this name, with this text around it in the place of `{}`.
    File(&'a str, &'a str),
    /// Into a variable.
    Variable(&'a str, &'a str),
    /// To standard input.
    Input(&'a str),
    /// Into the arguments, in the place of `{}`.
    Argument,
}

use Given::{Argument, File, Input, Variable};

impl Shell<'_> {
    /// Runs a command line that is given a new canary; it has to end with this code.
    async fn run(&mut self, code: i32, line: &str, given: &Given<'_>) -> Output {
        let used = format!("signalbox {line} [{}]", self.verbs.len());
        let canary = self.trail.canary(&used);
        let arguments: Vec<String> = line.split(' ').map(|word| word.replace("{}", &canary)).collect();
        self.verbs.insert(arguments[0].clone());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = self.server.signalbox(&arguments);
        let input = match given {
            File(name, text) => {
                fs::write(self.home.path(name), text.replace("{}", &canary)).expect("a file");
                None
            }
            Variable(name, text) => {
                command.env(name, text.replace("{}", &canary));
                None
            }
            Input(text) => Some(text.replace("{}", &canary)),
            Argument => None,
        };
        let output = fed(&mut command, input.as_deref()).await;
        // What was given is not what was made of it.
        if let File(name, _) = given {
            fs::remove_file(self.home.path(name)).expect("the file");
        }
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{used}: {told}");
        self.trail.saw(format!("standard output of {used}"), &output.stdout);
        self.trail.saw(format!("standard error of {used}"), &output.stderr);
        output
    }
}

async fn fed(command: &mut Command, input: Option<&str>) -> Output {
    let mut child = command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    if let Some(text) = input {
        // Whoever does not want it closes the pipe.
        let _ = child.stdin.take().expect("a pipe").write_all(text.as_bytes());
    }
    end(child).await
}

const KEY_YAML: &str = "name: providers/groq/apiKeys/yaml\napiKey:\n  secret:\n    value: '{}'\n";

const LITELLM_YAML: &str =
    "model_list:\n- model_name: m\n  litellm_params:\n    model: mistral/small\n    api_key: {}\n";

/// What is run, with the code that it ends with, and how it is given the secret.
const LINES: [(i32, &str, Given<'static>); 79] = [
    (0, "workers --behind", Argument),
    (0, "set providers/groq --field type=groq", Argument),
    (0, "set providers/groq/apiKeys/file --secret @k", File("k", "{}\n")),
    (0, "set providers/groq/apiKeys/env --secret env:K --reason r", Variable("K", "{}")),
    (0, "set providers/groq/apiKeys/stdin --secret -", Input("{}")),
    (0, "set settings/pass --secret setting.secret_value=-", Input("{}")),
    (0, "set providers/groq --secret headers.x-tenant.secret=-", Input("{}")),
    (0, "set -f k.yaml -o yaml", File("k.yaml", KEY_YAML)),
    (0, "set -f - --dry-run -o json", Input(KEY_YAML)),
    (0, "set settings/pass --secret - -o json", Input("{}")),
    // The secret on the command line, or where it is none.
    (2, "set providers/groq/apiKeys/file --secret {}", Argument),
    (2, "set providers/groq/apiKeys/file --secret api_key.secret={}", Argument),
    (2, "set providers/groq/apiKeys/file --field secret={}", Argument),
    (2, "set providers/groq/apiKeys/file --field api_key.secret.value={}", Argument),
    (2, "set providers/groq --secret description=-", Input("{}")),
    (1, "set settings/openai_api_key --value {}", Argument),
    (1, "set settings/openai_api_key --type json --value {\"key\":\"{}\"}", Argument),
    (1, "set providers/groq --field base_url=https://me:{}@example.com/", Argument),
    // Files that can't be used, at the very line of the secret.
    (2, "set -f k.yaml", File("k.yaml", "name: settings/x\nsetting:\n  secretValue: '{}'\n")),
    (2, "set -f k.yaml", File("k.yaml", "name: settings/x\nsetting:\n  secretValue:\n    value: '{}\n")),
    (
        2,
        "set -f k.yaml",
        File("k.yaml", "name: settings/x\nsetting:\n  secretValue:\n    value: !!int '{}'\n"),
    ),
    (2, "set -f k.yaml", File("k.yaml", "name: settings/x\nsetting:\n  secretValue:\n    value: *{}\n")),
    (
        2,
        "set -f k.yaml",
        File("k.yaml", "name: settings/x\nsetting:\n  secretValue:\n    value: {} : {}\n   x: y\n"),
    ),
    (
        2,
        "set -f k.json",
        File("k.json", "{\"name\": \"settings/x\", \"setting\": {\"secretValue\": \"{}\"}}"),
    ),
    (
        2,
        "set -f k.json",
        File(
            "k.json",
            "{\"name\": \"settings/x\", \"setting\": {\"secretValue\": {\"value\": \"{}\" \"\"}}}",
        ),
    ),
    (
        2,
        "set -f k.json",
        File("k.json", "{\"name\": \"settings/x\", \"setting\": {\"secretValue\": {\"valu\": \"{}\"}}}"),
    ),
    (
        1,
        "set -f k.yaml",
        File(
            "k.yaml",
            "name: providers/none/apiKeys/k\napiKey:\n  weight: 5000\n  secret:\n    value: '{}'\n",
        ),
    ),
    (5, "set providers/groq/apiKeys/file --etag stale --secret -", Input("{}")),
    // What is taken in, in the shapes of others and in none.
    (0, "import k.yaml --replace", File("k.yaml", KEY_YAML)),
    (2, "import k.yaml", File("k.yaml", "name: settings/x\nsetting:\n  secretValue: '{}'\n")),
    (0, "import --from env e", File("e", "OPENAI_API_KEY={}\n")),
    (1, "import --from env e", File("e", "OPENAI_API_KEY='{}\n")),
    (1, "import --from env e", File("e", "DATABASE_URL=postgresql://me:{}@db.example.com/app\n")),
    (1, "import --from env e", File("e", "MISTRAL_API_KEY={} {}\n")),
    (0, "import --from litellm c.yaml", File("c.yaml", LITELLM_YAML)),
    (1, "import --from litellm c.yaml", File("c.yaml", "model_list:\n- model_name: {} : {}\n   y: z\n")),
    (1, "import --from admin-settings a.json", File("a.json", "{\"provider\": {\"api_key\": \"{}\" \"\"}}")),
    (
        1,
        "import --from runtime-config r.json",
        File("r.json", "[{\"key\": \"api_key\", \"value\": \"{}\" \"\"}]"),
    ),
    (2, "import --from api-keys --fernet-key-file k r.json", File("k", "{}")),
    // What goes out, and what was.
    (0, "export -f out.yaml", Argument),
    (2, "export --export-key-file k", File("k", "{}")),
    (0, "history --resources -o json", Argument),
    (0, "diff 1", Argument),
    // Reading shows that there is one.
    (0, "get providers/groq/apiKeys/file settings/pass -o json", Argument),
    (4, "get settings/pass --secrets", Argument),
    (0, "list -o yaml", Argument),
    (4, "list --secrets", Argument),
    (4, "watch --secrets", Argument),
    (0, "explain settings/pass -o json", Argument),
    (0, "explain settings/hidden_api_key", Argument),
    (4, "explain settings/pass --secrets", Argument),
    (0, "switch groq --no-fallbacks --reason r", Argument),
    (0, "switch -o json", Argument),
    (1, "switch {}", Argument),
    (0, "default groq groq --reason r", Argument),
    (0, "default -o json", Argument),
    (1, "default groq {}", Argument),
    (2, "default {}", Argument),
    (0, "rollback --all settings/pass --to 1 --yes --dry-run -o json", Argument),
    (1, "rollback {} --to 1 --yes", Argument),
    // Nothing is called: what is asked for is no name.
    (1, "test {}", Argument),
    (0, "set databases/d --field type=redis --field host=127.0.0.1 --secret password=-", Input("{}")),
    (1, "test databases/d", Argument),
    (1, "test databases/{}", Argument),
    (0, "render groq --model m --field generation.temperature=0.2 -o json", Argument),
    (2, "render groq --field x={}", Argument),
    (1, "discover {}", Argument),
    (0, "health -o json", Argument),
    (3, "health {}", Argument),
    (0, "status -o json", Argument),
    (0, "doctor", Argument),
    (0, "raise-feature-level", Argument),
    (0, "delete --yes settings/pass", Argument),
    (0, "keys generate", Argument),
    (2, "keys rotate providers/groq/apiKeys/file --secret {}", Argument),
    (0, "keys rotate providers/groq/apiKeys/file --secret -", Input("{}")),
    (0, "keys rotate providers/groq/apiKeys/file --revoke -o json", Argument),
    (0, "keys rotate providers/groq/apiKeys/file --secret - --timeout 1s --wait", Input("{}")),
    (0, "completions bash", Argument),
];

/// Tokens, keys and addresses with passwords, in the wrong shape: what is wrong is told, and not what they are.
const CREDENTIALS: [(i32, &str, Given<'static>); 14] = [
    (4, "status", Variable("SIGNALBOX_TOKEN", "{}")),
    (4, "status --token-file t", File("t", "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.{}.{}")),
    (2, "status", Variable("SIGNALBOX_TOKEN", "{}\u{7}")),
    (1, "token revoke --id eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.{}{}{}{}{}{}{}{}.x", Argument),
    (1, "serve --listen 127.0.0.1:0 --data-dir d", Variable("ENCRYPTION_KEY", "{}")),
    (1, "serve --listen 127.0.0.1:0 --data-dir d --encryption-key-file k", File("k", "{}")),
    (2, "serve --listen 127.0.0.1:0", Variable("SIGNALBOX_DATABASE_URL", "postgres://me:{}@db/signalbox")),
    (2, "serve --listen 127.0.0.1:0", Variable("SIGNALBOX_DATABASE_URL", "mysql://me:{}@db/signalbox")),
    (2, "serve --listen 127.0.0.1:0 --config c.toml", File("c.toml", "[keys]\nencryption_key = \"{}\n")),
    (2, "serve --listen 127.0.0.1:0 --config c.toml", File("c.toml", "[keys]\nencryption_key = \"{}\"\n")),
    (1, "doctor --offline --data-dir d", Variable("ENCRYPTION_KEY", "{}")),
    (2, "migrate --from postgres://me:{}@127.0.0.1:1/signalbox --to sqlite://d/x.db", Argument),
    (2, "migrate --from sqlite://d/x.db --to env:URL", Variable("URL", "postgres://me:{}@db/signalbox")),
    (2, "migrate --from mysql://me:{}@db/signalbox --to sqlite://d/x.db", Argument),
];

#[tokio::test]
async fn nothing_that_goes_through_the_command_line_is_found_anywhere_else() {
    let trail = Trail::new();
    let home = Home::new().with("RUST_LOG", "trace");
    let hidden = trail.canary("a setting in the environment");
    let home = Arc::new(home.with("SIGNALBOX_SETTING_HIDDEN_API_KEY", hidden));
    let server = Server::start_in(&home).await;
    for key in ["encryption.key", "jwt.key"] {
        trail.known(key, fs::read_to_string(home.path("data").join(key)).unwrap().trim());
    }
    let mut shell = Shell { home: Arc::clone(&home), server, trail: &trail, verbs: BTreeSet::new() };
    let watch = Watching::start(&shell.server).await;
    for (code, line, given) in &LINES {
        shell.run(*code, line, given).await;
    }
    for (code, line, given) in &CREDENTIALS {
        let output = shell.run(*code, line, given).await;
        let told = [output.stdout, output.stderr].concat();
        assert!(!told.is_empty(), "{line}: it says what is wrong");
    }
    trail.saw("what an administrator watched", &watch.end().await);
    assert!(trail.shows("what an administrator watched", "providers/groq/apiKeys/stdin"));
    let wanted = verbs(&home).await;
    let missing: Vec<_> = wanted.difference(&shell.verbs).collect();
    assert!(missing.is_empty(), "verbs without a canary case: {missing:?}");

    // Whoever may read is told, on standard output alone.
    let token = new_token(&shell.server, &["--role", "worker", "--selector", "*", "--secrets"]).await;
    let mut command = shell.server.signalbox(&["list", "--secrets", "-o", "json"]);
    let output = run(command.env("SIGNALBOX_TOKEN", token)).await;
    let found = Trail::new();
    found.saw("the list", &output.stdout);
    assert_eq!(found.leaks().len(), 1, "the search sees what is there");
    trail.saw("standard error of a list with secrets", &output.stderr);

    trail.saw_files(&home);
    shell.server.stop().await;
    trail.saw_files(&home);
    assert!(
        trail.shows("server.log", "TRACE") && trail.shows("signalbox.db", "providers/groq/apiKeys/stdin")
    );
    let leaks = trail.leaks();
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}

/// The verbs that the help tells; a new one wants a line above.
async fn verbs(home: &Home) -> BTreeSet<String> {
    let help = String::from_utf8(home.run(&["--help"]).await.stdout).unwrap();
    let (_, list) = help.split_once("Commands:\n").expect("a list of verbs");
    let names = list.lines().take_while(|line| !line.trim().is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        (!name.is_empty() && name != "help").then(|| name.to_owned())
    });
    let names: BTreeSet<String> = names.collect();
    assert!(names.len() >= 10, "{names:?}");
    names
}

/// `signalbox watch` in the background.
struct Watching {
    child: Child,
    printed: PathBuf,
}

impl Watching {
    async fn start(server: &Server) -> Self {
        let (printed, errors) = (server.home().path("watch.out"), server.home().path("watch.err"));
        let [output, errors] = [&printed, &errors].map(|path| fs::File::create(path).expect("a file"));
        let mut command = server.signalbox(&["watch", "-o", "json"]);
        let child = command.stdout(output).stderr(errors).spawn().expect("it runs");
        let shown = || fs::read_to_string(&printed).expect("text").contains("synced");
        until(PATIENCE, "it watches", shown).await;
        Self { child, printed }
    }

    /// Ends it as ctrl-c does; everything that it printed.
    async fn end(self) -> Vec<u8> {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::INT).expect("it is running");
        end(self.child).await;
        fs::read(self.printed).expect("what it printed")
    }
}
