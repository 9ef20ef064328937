//! The command line against a server that goes away, and against one that it does not understand.

use std::{
    fs,
    process::{Output, Stdio},
};

use rustix::process::Signal;

use crate::harness::{Server, end, lines, run, soon};

/// What a command said that had to fail with this code.
pub fn said(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

#[tokio::test]
async fn a_watch_whose_server_goes_away_says_so_and_how_to_go_on() {
    for signal in [Signal::KILL, Signal::TERM] {
        let server = Server::start().await;
        let mut watch = server
            .signalbox(&["watch", "--quiet"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = lines(watch.stdout.take().unwrap());
        assert_eq!(soon(lines.recv()).await.as_deref(), Some("0 SYNCED"));
        server.signal(signal);
        let said = said(&soon(end(watch)).await, 6);
        let mut more = 0;
        while soon(lines.recv()).await.is_some() {
            more += 1;
        }
        assert!(more <= 1, "at most that it is going away");
        assert!(said.starts_with("error: the ") && said.contains("server"), "{said}");
        assert!(!said.contains("h2 protocol error"), "{said}");
        let (_, hint) = said.split_once("hint: to go on from here: ").expect("a hint");
        let resumed: Vec<&str> = hint.split_whitespace().collect();
        assert!(matches!(resumed[..], ["--resume-token", _, "--view-id", _]), "{hint}");
    }
}

#[tokio::test]
async fn a_setting_without_a_value_is_told_how_to_give_one() {
    let server = Server::start().await;
    let set = async |arguments: &[&str]| run(server.signalbox(&["set"]).args(arguments)).await;
    let missing = said(&set(&["settings/k"]).await, 1);
    assert!(missing.contains("--value") && missing.contains("--secret"), "{missing}");
    let missing = said(&set(&["providers/k"]).await, 1);
    assert!(missing.contains("--field"), "{missing}");

    fs::write(server.home().path("value"), "something").unwrap();
    assert!(set(&["settings/k", "--secret", "@value"]).await.status.success());
    // It has a value by now; this only adds to it.
    assert!(set(&["settings/k", "--label", "a=b"]).await.status.success());
}
