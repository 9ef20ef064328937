//! Processes: what they are started with, and how they are waited for.
//!
//! Nothing here blocks the thread while a process runs. The clients of a test live on the test's own thread, and may be
//! a part of what is waited for: a server that stops asks each of them, by a ping, whether it has heard so, and gives
//! who does not answer the whole grace.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
};

use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    task::spawn_blocking,
};

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

/// Builds an example as it is, with the profile of this test: cargo does so by itself only where it runs every test.
pub async fn example(name: &str) -> PathBuf {
    example_of(Path::new(env!("CARGO_MANIFEST_DIR")), name).await
}

/// As [`example`], of the package in a folder: with the dependencies of this one, which are built already.
pub async fn example_of(package: &Path, name: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_signalbox")).parent().expect("a folder");
    let profile = match built.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        other => other.expect("a profile"),
    };
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--offline", "--example", name, "--profile", profile]);
    build.arg("--target-dir").arg(built.parent().expect("the target directory"));
    let built_it = run(build.current_dir(package)).await;
    assert!(built_it.status.success(), "{}", String::from_utf8_lossy(&built_it.stderr));
    built.join("examples").join(name)
}
