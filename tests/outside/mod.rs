//! The real binary, for tests that see it only from outside: started on a free port, in a folder of its own, with
//! nothing in its environment that the developer happens to have there.
//!
//! Nothing here blocks the thread while it waits for a process. The clients of a test live on the test's own thread,
//! and are a part of what is waited for: a server that stops asks each of them, by a ping, whether it has heard so,
//! and gives who does not answer the whole grace.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy's exemption of tests does not reach their helpers"
)]

pub mod calls;

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    task::spawn_blocking,
    time::{sleep, timeout},
};

/// Far more than a start takes, so that only a server that will never be ready runs into it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. It is killed when the test lets go of it.
pub struct Server {
    child: Child,
    folder: Arc<TempDir>,
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
        Self::start_in(&folder(), arguments).await
    }

    /// As [`Self::start`], with a limit to the size of every file that it writes.
    pub async fn start_with_file_limit(kib: u32) -> Self {
        let limited = format!("ulimit -f {kib} && exec \"$0\" \"$@\"");
        let folder = folder();
        let mut command = command("bash", folder.path());
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_signalbox")]);
        Self::launch_as(command, &folder, &[]).ready().await
    }

    /// As [`Self::start_with`], on the store that the folder may hold already.
    pub async fn start_in(folder: &Arc<TempDir>, arguments: &[&str]) -> Self {
        Self::launch(folder, arguments).ready().await
    }

    async fn ready(mut self) -> Self {
        let Ok(Some(line)) = timeout(PATIENCE, self.lines.recv()).await else {
            panic!("the server was not ready within {PATIENCE:?}, or ended; its log:\n{}", self.log())
        };
        self.ready_line = line;
        self
    }

    /// Starts a server that must refuse to: gives its exit code and what it said.
    pub async fn refused(arguments: &[&str]) -> (Option<i32>, String) {
        let mut server = Self::launch(&folder(), arguments);
        assert_eq!(timeout(PATIENCE, server.lines.recv()).await, Ok(None), "the server started");
        let status = server.wait(PATIENCE).await;
        (status.code(), server.log())
    }

    fn launch(folder: &Arc<TempDir>, arguments: &[&str]) -> Self {
        Self::launch_as(command(env!("CARGO_BIN_EXE_signalbox"), folder.path()), folder, arguments)
    }

    fn launch_as(mut command: Command, folder: &Arc<TempDir>, arguments: &[&str]) -> Self {
        let log = folder.path().join("server.log");
        let log = OpenOptions::new().create(true).append(true).open(log).expect("a file for the log");
        let free_port: &[&str] =
            if arguments.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let mut child = command
            .args(["serve", "--data-dir", "data"])
            .args(free_port)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let lines = lines(child.stdout.take().expect("a pipe"));
        Self { child, folder: Arc::clone(folder), ready_line: String::new(), lines }
    }

    /// The line that it said when it was ready.
    pub fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// Host and port of the gRPC listener, as the ready line names them.
    pub fn address(&self) -> &str {
        self.url().split_once("://").expect("a URL").1
    }

    /// URL of the gRPC listener.
    pub fn url(&self) -> &str {
        between(&self.ready_line, "gRPC on ").expect("a ready line with the address")
    }

    /// Host and port of the health-only listener.
    pub fn health_address(&self) -> &str {
        between(&self.ready_line, "health on ").expect("a ready line with the health listener")
    }

    /// The folder that the server runs in; its data directory is `data` in there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder, to start another server in it.
    pub fn share_folder(&self) -> Arc<TempDir> {
        Arc::clone(&self.folder)
    }

    /// The first administrator's token.
    pub fn admin_token(&self) -> String {
        let token = fs::read_to_string(self.folder().join("data/admin.token")).expect("an admin token");
        token.trim().to_owned()
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("server.log")).unwrap_or_default()
    }

    /// The limits of the process, as the kernel tells them.
    pub fn kernel_limits(&self) -> String {
        fs::read_to_string(format!("/proc/{}/limits", self.child.id())).expect("the process is there")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the server is there to be signalled");
    }

    /// How the process ended, if it does so in time.
    pub async fn ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        let ended = async {
            loop {
                match self.child.try_wait().expect("a child of ours") {
                    Some(status) => return status,
                    None => sleep(Duration::from_millis(5)).await,
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
    pub async fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(PATIENCE).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the server's log ---\n{}", self.log());
        }
    }
}

/// A folder for a server.
pub fn folder() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().expect("a folder for the server"))
}

/// A command in a folder, with a bare environment and nothing to read.
pub fn command(program: impl AsRef<Path>, folder: &Path) -> Command {
    let mut command = Command::new(program.as_ref());
    command.current_dir(folder).env_clear().stdin(Stdio::null());
    for name in ["PATH", "HOME", "LANG", "LLVM_PROFILE_FILE", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Runs a command to its end.
pub async fn run(command: &mut Command) -> Output {
    let started = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    end(started.expect("the command runs")).await
}

/// Waits for the end of a process, and for all that it prints where it was given a pipe.
pub async fn end(child: Child) -> Output {
    let ended = spawn_blocking(move || child.wait_with_output().expect("a child of ours"));
    ended.await.expect("waiting does not panic")
}

/// What a process prints, line by line; closed at its end. A thread reads on whatever becomes of the test, so that the
/// process never meets a closed or a full pipe.
pub fn lines(output: impl Read + Send + 'static) -> UnboundedReceiver<String> {
    let (send, lines) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    lines
}

/// A file that `scripts/tools` installs.
pub fn tool(path: &str) -> PathBuf {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools").join(path);
    assert!(tool.exists(), "{} is missing: run scripts/tools, or scripts/test, which does", tool.display());
    tool
}

/// The word that follows `before`.
fn between<'a>(line: &'a str, before: &str) -> Option<&'a str> {
    let (_, behind) = line.split_once(before)?;
    behind.split([',', ' ']).next()
}
