//! The real binary as a child, so that it can be killed in the middle of anything.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use super::{
    PATIENCE,
    caller::{Caller, Site},
    server::admin_token,
};

/// A server in a process of its own. It is killed when the test lets go of it.
pub struct Process {
    folder: tempfile::TempDir,
    settings: Vec<(&'static str, &'static str)>,
    site: Site,
    child: Option<Child>,
}

impl Process {
    /// Starts the binary on an empty store. Blocks until it has said that it is ready.
    pub fn start(settings: &[(&'static str, &'static str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        let mut process = Self { folder, settings: settings.to_vec(), site: Site::default(), child: None };
        process.resume();
        process
    }

    /// Starts it again on the same folder.
    pub fn resume(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let log = File::options().create(true).append(true).open(self.log()).expect("a file for the log");
        let mut child = Command::new(env!("CARGO_BIN_EXE_signalbox"))
            .arg("serve")
            .current_dir(self.folder.path())
            .env_clear()
            .env("SIGNALBOX_LISTEN", "127.0.0.1:0")
            .env("SIGNALBOX_DATA_DIR", "data")
            .envs(self.settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
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
        self.child = Some(child);
        loop {
            let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                panic!("the server was not ready within {PATIENCE:?}, or ended; its log:\n{}", self.tail())
            });
            if let Some(address) = address_in(&line) {
                self.site.moved_to(address);
                return;
            }
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it is gone");
    }

    pub fn site(&self) -> &Site {
        &self.site
    }

    pub fn admin(&self) -> Caller {
        Caller::new(&self.site, &admin_token(&self.folder.path().join("data")))
    }

    /// The end of its log, for failures.
    pub fn tail(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("--- the end of the server's log ---\n{}", self.tail());
        }
    }
}

/// The first address on loopback in a line.
fn address_in(line: &str) -> Option<String> {
    let (_, behind) = line.split_once("127.0.0.1:")?;
    let port = behind.split(|c: char| !c.is_ascii_digit()).next()?;
    (!port.is_empty()).then(|| format!("127.0.0.1:{port}"))
}
