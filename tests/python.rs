//! Runs what is tested in Python against the real binary: the black-box tests in `tests/python`, and the Python client.

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::panic)]

mod harness;

use std::path::Path;

use harness::{Server, command, run, tool};

/// The tests that there are at least: a runner that finds none would pass as well.
const AT_LEAST: usize = 20;

#[tokio::test]
async fn a_client_that_knows_only_reflection_finds_what_is_promised() {
    let server = Server::start().await;
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python");
    let mut python = command(tool("python/bin/python"), &tests);
    python
        .args(["-B", "-m", "unittest", "--verbose"])
        .env("SIGNALBOX_TEST_ADDRESS", server.address())
        .env("SIGNALBOX_TEST_ADMIN_TOKEN_FILE", server.home().path("data/admin.token"));
    let output = run(&mut python).await;
    let printed = String::from_utf8_lossy(&output.stdout);
    let report = String::from_utf8_lossy(&output.stderr);
    print!("{printed}");
    assert!(output.status.success(), "{printed}\n{report}");
    let ran = report
        .lines()
        .find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse().ok())
        .unwrap_or(0);
    assert!(ran >= AT_LEAST, "only {ran} tests ran:\n{report}");
    assert!(!report.contains("skipped"), "{report}");
}

/// The tests of the Python client that there are at least.
const CLIENT_AT_LEAST: usize = 400;

#[tokio::test]
async fn the_python_client_keeps_its_promises() {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python");
    let python = tool("python-client/bin/python");
    let generated = run(command(&python, &client).arg("codegen.py")).await;
    assert!(generated.status.success(), "{}", String::from_utf8_lossy(&generated.stderr));
    let mut tests = command(&python, &client);
    tests
        .args(["-B", "-m", "pytest", "--quiet", "--durations=5"])
        .env("PYTHONPATH", "src")
        .env("SIGNALBOX_TEST_BINARY", env!("CARGO_BIN_EXE_signalbox"))
        .env("SIGNALBOX_TEST_WHEELS", tool("python-client/wheels"));
    let output = run(&mut tests).await;
    let report = String::from_utf8_lossy(&output.stdout);
    print!("{report}");
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
    let passed = report.lines().last().and_then(|line| line.split(' ').next()?.parse().ok()).unwrap_or(0);
    assert!(
        passed >= CLIENT_AT_LEAST && !report.contains("skipped"),
        "only {passed} tests passed:\n{report}"
    );
}
