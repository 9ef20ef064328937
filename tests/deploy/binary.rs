//! The real binary: what it knows of settings, and a server of it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// The binary that is tested.
pub const BINARY: &str = env!("CARGO_BIN_EXE_signalbox");
/// Far more than a start takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command with this environment and nothing else of the machine's, in a folder.
pub fn command(program: &str, folder: &Path, environment: &[(String, String)]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env_clear().stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str]) -> Output {
    let mut command = command("timeout", Path::new("/"), &[]);
    command.args(["60", BINARY]).args(arguments).output().expect("the binary runs")
}

/// The variables that a server reads.
pub fn variables() -> BTreeSet<String> {
    let help = run(&["serve", "--help"]);
    let help = String::from_utf8(help.stdout).expect("text");
    let words = help.split(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
    let prefixes = ["SIGNALBOX_", "ENCRYPTION_", "OTEL_", "RUST_LOG"];
    words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))).map(str::to_owned).collect()
}

/// Every name has to be a variable of the server.
pub fn assert_known<'a>(names: impl IntoIterator<Item = &'a str>, place: &str) {
    let known = variables();
    assert!(known.contains("SIGNALBOX_LISTEN"), "{known:?}");
    let unknown: Vec<_> = names.into_iter().filter(|name| !known.contains(*name)).collect();
    assert!(unknown.is_empty(), "{place} sets {unknown:?}, which the server does not read");
}

/// An environment with every address on a free port of the loopback, and paths moved to where the test may write.
pub fn at_home(environment: &[(String, String)], moved: &[(&str, &Path)]) -> Vec<(String, String)> {
    let address = |name: &str, value: &str| name.ends_with("LISTEN") && value.contains(':');
    let there = |value: &str| {
        moved.iter().fold(value.to_owned(), |value, (from, to)| value.replace(from, &to.to_string_lossy()))
    };
    let value = |name: &str, value: &str| match address(name, value) {
        true => "127.0.0.1:0".to_owned(),
        false => there(value),
    };
    environment.iter().map(|(name, text)| (name.clone(), value(name, text))).collect()
}

/// A running server; killed when it is let go of.
pub struct Server {
    child: Child,
    ready: String,
}

impl Server {
    /// Starts one, on an empty store, and waits until it is ready; or tells what it says instead.
    pub fn start(
        folder: &Path,
        environment: &[(String, String)],
        arguments: &[&str],
    ) -> Result<Self, String> {
        Self::start_from(folder, folder, environment, arguments)
    }

    /// As [`Self::start`], with a log elsewhere than in its working directory.
    pub fn start_from(
        folder: &Path,
        log: &Path,
        environment: &[(String, String)],
        arguments: &[&str],
    ) -> Result<Self, String> {
        let log = log.join("server.log");
        let mut command = command(BINARY, folder, environment);
        command.env("SIGNALBOX_STARTERS", "off").args(arguments);
        command.stdout(Stdio::piped()).stderr(File::create(&log).expect("a log"));
        let mut child = command.spawn().expect("the binary starts");
        let output = child.stdout.take().expect("a pipe");
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let ready = lines.recv_timeout(PATIENCE);
        let server = Self { child, ready: ready.clone().unwrap_or_default() };
        ready.map(|_| server).map_err(|_| fs::read_to_string(&log).unwrap_or_default())
    }

    /// Address of a listener, `gRPC`, `HTTP` or `health`, in either form of the line that tells of it.
    pub fn address(&self, listener: &str) -> &str {
        let text = self.ready.split_once(&format!("{listener} on "));
        let json = || self.ready.split_once(&format!("\"{}\":\"", listener.to_ascii_lowercase()));
        let (_, rest) = text.or_else(json).expect("the listener is told of");
        rest.split([',', ' ', '"']).next().expect("an address")
    }

    /// Whether the health service at a URL tells that a service serves.
    pub fn serves(&self, url: &str, service: &str, more: &[&str]) -> bool {
        run(&[&["health", service, "--server", url], more].concat()).status.success()
    }

    /// The status line of a page, asked for in plaintext.
    pub fn page(&self, path: &str) -> String {
        self.answer(path).lines().next().unwrap_or_default().to_owned()
    }

    /// The text of a page, without its headers.
    pub fn body(&self, path: &str) -> String {
        let answer = self.answer(path);
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    fn answer(&self, path: &str) -> String {
        let address = self.address("HTTP").trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
