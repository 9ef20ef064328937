//! `deploy/signalbox.toml`: a server starts with it, and what is commented out in it is known as well.

use std::fs;

use super::{
    binary::{self, Server},
    path, text,
};

#[test]
fn a_server_starts_with_the_sample_settings() {
    let folder = tempfile::tempdir().unwrap();
    let sample = path("deploy/signalbox.toml");
    let environment = [("SIGNALBOX_CONFIG".to_owned(), sample.to_string_lossy().into_owned())];
    // Flags go before the file: the ports that it names may be taken.
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
    let server = Server::start(folder.path(), &environment, &arguments).unwrap();
    assert!(server.serves(server.address("gRPC"), "readiness", &[]));
    assert!(folder.path().join("data/signalbox.db").exists(), "the data directory is the one in the file");
}

#[test]
fn what_is_commented_out_in_the_sample_exists_too() {
    let sample = text("deploy/signalbox.toml");
    let setting = |line: &str| {
        line.split(' ').next().is_some_and(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let whole: Vec<&str> = sample
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") && setting(rest) => rest,
            _ => line,
        })
        .collect();
    let added = whole.iter().filter(|line| !line.starts_with('#') && line.contains(" = ")).count();
    assert!(added >= 20, "{added}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("whole.toml");
    fs::write(&file, whole.join("\n") + "\nnot_there = 1\n").unwrap();
    let refused = binary::run(&["serve", "--config", &file.to_string_lossy()]);
    let told = String::from_utf8_lossy(&refused.stderr);
    let unknown: Vec<&str> = told.lines().filter(|line| line.contains("is not a setting")).collect();
    assert!(unknown.len() == 1 && unknown[0].contains("not_there"), "{told}");
}
