//! `deploy/replicas.sh`: replicas that stop together and once. A program in the place of the server tells how often it was told.

use std::{
    fs::{self, File},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::path;

/// Far more than a start takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const SERVER: &str = r#"#!/usr/bin/env python3
import signal, sys, time
if sys.argv[1] == "keys":
    print("a key")
if sys.argv[1] != "serve":
    sys.exit()
told = []
for each in (signal.SIGINT, signal.SIGTERM):
    signal.signal(each, lambda number, frame: told.append(number))
print("ready", flush=True)
while not told:
    time.sleep(0.02)
# Whoever is told twice is told of it within this.
time.sleep(0.5)
print("told", len(told), flush=True)
"#;

/// From a terminal, where Ctrl-c is sent to everybody of the script.
#[test]
fn regression_ctrl_c_tells_each_replica_once_and_lines_say_whose_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let server = folder.path().join("signalbox");
    fs::write(&server, SERVER).unwrap();
    fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
    let said = folder.path().join("said");
    let output = File::create(&said).unwrap();
    let search = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    // Nothing listens on these ports, and the program that stands in does not either.
    let mut script = Command::new("bash")
        .arg(path("deploy/replicas.sh"))
        .arg("postgres://user@host.invalid/database")
        .current_dir(folder.path())
        .envs([("PATH", search.as_str()), ("PORT", "2"), ("HTTP_PORT", "12")])
        .env_remove("ENCRYPTION_KEY_FILE")
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .process_group(0)
        .spawn()
        .unwrap();
    let lines = |what: &str| {
        let said = fs::read_to_string(&said).unwrap();
        let mut lines: Vec<_> = said.lines().filter(|line| line.contains(what)).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let until = |what: &str| {
        let begun = Instant::now();
        while lines(what).len() < 3 && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
        }
        lines(what)
    };
    assert_eq!(until("ready"), ["2: ready", "3: ready", "4: ready"]);
    kill_process_group(Pid::from_child(&script), Signal::INT).unwrap();
    script.wait().unwrap();
    assert_eq!(until("told"), ["2: told 1", "3: told 1", "4: told 1"]);
}
