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

/// How a provider is spoken to is more than a hundred fields, all of which are filled in.
#[tokio::test]
async fn regression_a_provider_is_told_in_a_few_lines() {
    let server = Server::start().await;
    let told = async |arguments: &[&str]| {
        let output = run(&mut server.signalbox(arguments)).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let set = told(&["set", "providers/x", "--field", "type=openai", "--field", "display_name=X"]).await;
    let get = told(&["get", "providers/x"]).await;
    let changed = told(&["set", "providers/x", "--field", "display_name=Y"]).await;
    let whole = told(&["get", "providers/x", "-o", "yaml"]).await;
    let deleted = told(&["delete", "--yes", "providers/x"]).await;
    for (what, text) in [("set", &set), ("get", &get), ("delete", &deleted)] {
        assert!(text.lines().count() < 40, "{what}: {text}");
        assert!(
            text.contains("request_builder") && text.contains("fields; -o yaml shows them"),
            "{what}: {text}"
        );
        assert!(text.contains("display_name"), "{what}: {text}");
    }
    assert_eq!(changed.lines().count(), 2, "{changed}");
    assert!(whole.lines().count() > 60 && whole.contains("payloadStructure"), "{whole}");
}

#[tokio::test]
async fn regression_a_dry_run_of_an_import_says_what_would_be() {
    let server = Server::start().await;
    fs::write(server.home().path("a.yaml"), "{name: settings/a, setting: {stringValue: x}}").unwrap();
    let import = async |more: &[&str]| {
        let output = run(server.signalbox(&["import", "a.yaml"]).args(more)).await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let dry = import(&["--dry-run"]).await;
    assert!(dry.contains("1 would be created") && !dry.contains("revision"), "{dry}");
    assert!(import(&[]).await.contains("1 created"));
}
