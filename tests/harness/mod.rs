//! The real binary, for tests that see it only from outside: started on a free port, in a folder of its own, with
//! nothing in its environment that the developer happens to have there. And what such tests need beside it.
//!
//! Owns how the binary is spawned, and how tests wait. What a server is told over gRPC stands in [`calls`] and [`api`].

#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy's exemption of tests does not reach their helpers"
)]

pub mod api;
pub mod calls;
pub mod collector;
mod commands;
pub mod events;
pub mod exposition;
pub mod forms;
pub mod http;
pub mod probe;
pub mod raw;
mod waiting;

use std::{
    fs::{self, File},
    io::{Read, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{sleep, timeout},
};

pub use commands::{command, end, example, example_of, lines, run, tool};
pub use waiting::{PATIENCE, soon, until, until_answered, within};

const BINARY: &str = env!("CARGO_BIN_EXE_signalbox");

/// A folder that servers run in, one after the other, and what stands in their environment. Their data directory is
/// `data` in there; what they print is gathered in `server.out` and `server.log`.
pub struct Home {
    folder: TempDir,
    environment: Vec<(String, String)>,
    binary: PathBuf,
}

impl Home {
    /// An empty folder. Stores begin empty in there, unless the test sets `SIGNALBOX_STARTERS`.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        let environment = vec![("SIGNALBOX_STARTERS".to_owned(), "off".to_owned())];
        Self { folder, environment, binary: BINARY.into() }
    }

    /// With another binary than the one that is tested.
    pub fn running(mut self, binary: &Path) -> Self {
        self.binary = binary.to_owned();
        self
    }

    /// With a variable for every process.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    /// Sets a variable for the processes to come.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.unset(name);
        self.environment.push((name.to_owned(), value.into()));
    }

    /// Takes a variable away from the processes to come.
    pub fn unset(&mut self, name: &str) {
        self.environment.retain(|(other, _)| other != name);
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder().join(relative)
    }

    /// The first administrator's token.
    pub fn admin_token(&self) -> String {
        admin_token(&self.path("data"))
    }

    /// What the servers have logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("server.log")).unwrap_or_default()
    }

    /// The binary, which is stopped should it hang.
    pub fn signalbox(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("timeout");
        command.arg("60").arg(&self.binary).args(arguments);
        command
    }

    /// The command that starts a server, on a free port unless the arguments say otherwise.
    pub fn serve(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&self.binary);
        command.args(serving(arguments));
        command
    }

    /// Runs the binary to its end.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        run(&mut self.signalbox(arguments)).await
    }

    /// A start that must not succeed.
    pub async fn refused(&self) -> Refused {
        self.refused_with(&[]).await
    }

    /// A start with these arguments that must not succeed.
    pub async fn refused_with(&self, arguments: &[&str]) -> Refused {
        let output = self.run(&serving(arguments)).await;
        let message = String::from_utf8(output.stderr).expect("text");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "it did not become ready");
        Refused { code: output.status.code(), message }
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = command(program, self.folder());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A file that everything is added to which a server prints.
    fn appended(&self, name: &str) -> File {
        let file = File::options().create(true).append(true).open(self.path(name));
        file.expect("a file for what the server prints")
    }
}

/// The arguments of `serve`, with those that a test leaves out.
fn serving<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["serve", "--data-dir", "data"];
    if !arguments.contains(&"--listen") {
        all.extend(["--listen", "127.0.0.1:0"]);
    }
    // Its default is one port for all.
    if !arguments.contains(&"--http-listen") {
        all.extend(["--http-listen", "off"]);
    }
    all.extend(arguments);
    all
}

/// How a start was refused.
#[derive(Debug)]
pub struct Refused {
    pub code: Option<i32>,
    pub message: String,
}

/// A running server. It is killed when the test lets go of it.
pub struct Server {
    child: Child,
    home: Arc<Home>,
    ready_line: String,
    /// What it still has to say; closed when it has ended.
    lines: UnboundedReceiver<String>,
}

impl Server {
    /// Starts a server on an empty store, and returns when it has said that it is ready.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`Self::start`], with further arguments of `serve`.
    pub async fn start_with(arguments: &[&str]) -> Self {
        Self::start_in_with(&Arc::new(Home::new()), arguments).await
    }

    /// As [`Self::start`], on whatever is in a folder.
    pub async fn start_in(home: &Arc<Home>) -> Self {
        Self::start_in_with(home, &[]).await
    }

    /// As [`Self::start_in`], with further arguments of `serve`.
    pub async fn start_in_with(home: &Arc<Home>, arguments: &[&str]) -> Self {
        Self::launch(home, home.serve(arguments)).await
    }

    /// As [`Self::start`], with a limit to the size of every file that it writes.
    pub async fn start_with_file_limit(kib: u32) -> Self {
        let home = Arc::new(Home::new());
        let limited = format!("ulimit -f {kib} && exec \"$0\" \"$@\"");
        let mut command = home.command("bash");
        command.args(["-c", &limited, BINARY]).args(serving(&["--http-listen", "127.0.0.1:0"]));
        Self::launch(&home, command).await
    }

    async fn launch(home: &Arc<Home>, mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(home.appended("server.log"));
        let mut child = command.spawn().expect("the binary starts");
        let output = child.stdout.take().expect("a pipe");
        let lines = lines(Copied { output, copy: home.appended("server.out") });
        let mut server = Self { child, home: Arc::clone(home), ready_line: String::new(), lines };
        let Ok(Some(line)) = timeout(PATIENCE, server.lines.recv()).await else {
            panic!("the server was not ready within {PATIENCE:?}, or ended; its log:\n{}", home.log())
        };
        server.ready_line = line;
        server
    }

    /// The line that it said when it was ready.
    pub fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// URL of the gRPC listener.
    pub fn url(&self) -> &str {
        self.listener("gRPC on ", "grpc")
    }

    /// Host and port of the gRPC listener.
    pub fn address(&self) -> &str {
        self.url().split_once("://").expect("a URL").1
    }

    /// Host and port of the HTTP listener.
    pub fn http_address(&self) -> &str {
        self.listener("HTTP on ", "http").split_once("://").expect("a URL").1
    }

    /// Host and port of the health-only listener.
    pub fn health_address(&self) -> &str {
        self.listener("health on ", "health")
    }

    /// What the ready line says of a listener, in words or as JSON.
    fn listener(&self, before: &str, name: &str) -> &str {
        let quoted = || self.ready_line.split_once(&format!("\"{name}\":\""))?.1.split('"').next();
        word_after(&self.ready_line, before)
            .or_else(quoted)
            .unwrap_or_else(|| panic!("{name}: {}", self.ready_line))
    }

    /// Where it runs.
    pub fn home(&self) -> &Arc<Home> {
        &self.home
    }

    /// The first administrator's token.
    pub fn admin_token(&self) -> String {
        self.home.admin_token()
    }

    /// The limits of the process, as the kernel tells them.
    pub fn kernel_limits(&self) -> String {
        fs::read_to_string(format!("/proc/{}/limits", self.child.id())).expect("the process is there")
    }

    /// The most memory that the process ever held, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let told =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the process is there");
        let peak = told.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells it");
        peak.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// A command line beside the server, as its administrator unless the environment says otherwise.
    pub fn signalbox(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.signalbox(arguments);
        command.env("SIGNALBOX_URL", self.url());
        command
    }

    /// Runs a command line beside the server to its end.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        run(&mut self.signalbox(arguments)).await
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the server is there to be signalled");
    }

    /// How the process ended, if it does so in time. All that it printed is in the files by then.
    pub async fn ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        let ended = async {
            while self.lines.recv().await.is_some() {}
            loop {
                match self.child.try_wait().expect("a child of ours") {
                    Some(status) => return status,
                    None => sleep(Duration::from_millis(1)).await,
                }
            }
        };
        timeout(limit, ended).await.ok()
    }

    /// Waits for the end of the process.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let ended = self.ended(limit).await;
        ended.unwrap_or_else(|| panic!("the server did not end within {limit:?}"))
    }

    /// Tells the server to stop, as an operator does, and waits until it has.
    pub async fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait(PATIENCE).await;
        assert!(status.success(), "the server ended with {status}");
    }

    /// kill -9.
    pub async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait(PATIENCE).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Who is killed waits for nobody, so that this does not either.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.home.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the end of the server's log ---");
            lines[lines.len().saturating_sub(100)..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The token that the first start wrote into its data directory.
pub fn admin_token(data: &Path) -> String {
    let path = data.join("admin.token");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim().to_owned()
}

/// Output of which a copy is kept.
struct Copied<R> {
    output: R,
    copy: File,
}

impl<R: Read> Read for Copied<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.output.read(buffer)?;
        self.copy.write_all(&buffer[..length])?;
        Ok(length)
    }
}

fn word_after<'a>(line: &'a str, before: &str) -> Option<&'a str> {
    let (_, behind) = line.split_once(before)?;
    behind.split([',', ' ']).next()
}
