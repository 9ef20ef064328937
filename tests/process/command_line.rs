//! The command line against a server that goes away, and against one that it does not understand.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use rustix::process::Signal;

use crate::harness::{self, Server};

/// A command line in the server's folder; it is the administrator's.
pub fn signalbox(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = harness::command("timeout", folder);
    command.arg("30").arg(env!("CARGO_BIN_EXE_signalbox")).args(arguments);
    command
}

/// What a command said that had to fail with this code.
pub fn said(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

#[test]
fn a_watch_whose_server_goes_away_says_so_and_how_to_go_on() {
    for signal in [Signal::KILL, Signal::TERM] {
        let server = Server::start();
        let mut watch = signalbox(server.folder(), &["watch", "--quiet", "--server", server.url()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "0 SYNCED");
        server.signal(signal);
        assert!(lines.map_while(Result::ok).count() <= 1, "at most that it is going away");
        let said = said(&watch.wait_with_output().unwrap(), 6);
        assert!(said.starts_with("error: the ") && said.contains("server"), "{said}");
        assert!(!said.contains("h2 protocol error"), "{said}");
        let (_, hint) = said.split_once("hint: to go on from here: ").expect("a hint");
        let resumed: Vec<&str> = hint.split_whitespace().collect();
        assert!(matches!(resumed[..], ["--resume-token", _, "--view-id", _]), "{hint}");
    }
}

#[test]
fn a_setting_without_a_value_is_told_how_to_give_one() {
    let server = Server::start();
    let set = |arguments: &[&str]| {
        let mut command = signalbox(server.folder(), &["set", "--server", server.url()]);
        command.args(arguments).output().unwrap()
    };
    let missing = said(&set(&["settings/k"]), 1);
    assert!(missing.contains("--value") && missing.contains("--secret"), "{missing}");
    let missing = said(&set(&["providers/k"]), 1);
    assert!(missing.contains("--field"), "{missing}");

    fs::write(server.folder().join("value"), "something").unwrap();
    assert!(set(&["settings/k", "--secret", "@value"]).status.success());
    // It has a value by now; this only adds to it.
    assert!(set(&["settings/k", "--label", "a=b"]).status.success());
}
