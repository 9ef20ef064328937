//! The real binary, for tests that see it only from outside: started on a free port, in a folder of its own, with
//! nothing in its environment that the developer happens to have there.

#![allow(dead_code, reason = "no test uses all of it")]

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

/// Far more than a start takes, so that only a server that will never be ready runs into it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that servers run in, one after the other, and what stands in their environment. Their data directory is
/// `data` in there; what they print is gathered in `server.out` and `server.log`.
pub struct Home {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Home {
    /// An empty folder.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder for the server"), environment: Vec::new() }
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

    /// A path in the folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// The binary, which is stopped should it hang.
    pub fn signalbox(&self, arguments: &[&str]) -> Command {
        let mut command = command("timeout", self.folder.path());
        command.arg("60").arg(env!("CARGO_BIN_EXE_signalbox")).args(arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the binary to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.signalbox(arguments).output().expect("the binary runs")
    }

    /// A start that must not succeed.
    pub fn refused(&self) -> Refused {
        let output = self.run(&["serve", "--listen", "127.0.0.1:0"]);
        let message = String::from_utf8(output.stderr).expect("text");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "it did not become ready");
        Refused { code: output.status.code(), message }
    }
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
    address: String,
    printed: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Starts a server on an empty store, and returns when it has said that it is ready.
    pub fn start() -> Self {
        Self::start_in(&Arc::new(Home::new()))
    }

    /// Starts a server on whatever is in a folder, and returns when it has said that it is ready.
    pub fn start_in(home: &Arc<Home>) -> Self {
        let appended = |name| {
            let file: std::io::Result<File> =
                OpenOptions::new().create(true).append(true).open(home.path(name));
            file.expect("a file for what the server prints")
        };
        let mut child = command(env!("CARGO_BIN_EXE_signalbox"), home.folder.path())
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "data"])
            .envs(home.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(appended("server.log"))
            .spawn()
            .expect("the binary starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut copy = appended("server.out");
        let (send, lines) = mpsc::channel();
        // Reads on to the end, so that the server never meets a closed pipe.
        let printed = thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = writeln!(copy, "{line}");
                let _ = send.send(line);
            }
        });
        let mut server =
            Self { child, home: Arc::clone(home), address: String::new(), printed: Some(printed) };
        // The ready line names the addresses, that of the gRPC listener first.
        while server.address.is_empty() {
            let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                let log = fs::read_to_string(home.path("server.log")).unwrap_or_default();
                panic!("the server was not ready within {PATIENCE:?}, or ended; its log:\n{log}")
            });
            server.address = first_address(&line).unwrap_or_default();
        }
        server
    }

    /// Host and port of the gRPC listener.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The folder that the server runs in; its data directory is `data` in there.
    pub fn folder(&self) -> &Path {
        self.home.folder.path()
    }

    /// A command line beside the server, as its administrator unless the environment says otherwise.
    pub fn signalbox(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.signalbox(arguments);
        command.env("SIGNALBOX_URL", format!("http://{}", self.address));
        command
    }

    /// Runs a command line beside the server to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.signalbox(arguments).output().expect("the binary runs")
    }

    /// Asks the server to stop, and waits until it has, and until all that it printed is in the files.
    pub fn stop(mut self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("it is running");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "the server ended with {status}");
        self.printed.take().expect("not yet joined").join().expect("all is read");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = fs::read_to_string(self.home.path("server.log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(100).collect();
            eprintln!("--- the end of the server's log ---");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
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

/// A file that `scripts/tools` installs.
pub fn tool(path: &str) -> PathBuf {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools").join(path);
    assert!(tool.exists(), "{} is missing: run scripts/tools, or scripts/test, which does", tool.display());
    tool
}

/// The first `host:port` on a loopback address in a line.
fn first_address(line: &str) -> Option<String> {
    let (_, behind) = line.split_once("127.0.0.1:")?;
    let port = behind.split(|c: char| !c.is_ascii_digit()).next()?;
    (!port.is_empty()).then(|| format!("127.0.0.1:{port}"))
}
