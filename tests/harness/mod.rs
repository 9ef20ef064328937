//! The real binary, for tests that see it only from outside: started on a free port, in a folder of its own, with
//! nothing in its environment that the developer happens to have there.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Far more than a start takes, so that only a server that will never be ready runs into it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. It is killed when the test lets go of it.
pub struct Server {
    child: Child,
    folder: tempfile::TempDir,
    address: String,
}

impl Server {
    /// Starts a server on an empty store, and returns when it has said that it is ready.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        let log = folder.path().join("server.log");
        let mut child = command(env!("CARGO_BIN_EXE_signalbox"), folder.path())
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "data"])
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a file for the log"))
            .spawn()
            .expect("the binary starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (send, lines) = mpsc::channel();
        // Reads on to the end, so that the server never meets a closed pipe.
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let mut server = Self { child, folder, address: String::new() };
        // The ready line names the addresses, that of the gRPC listener first.
        while server.address.is_empty() {
            let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                let log = fs::read_to_string(&log).unwrap_or_default();
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
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default();
            eprintln!("--- the server's log ---\n{log}");
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
