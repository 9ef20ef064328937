//! Runs what is tested in Python against the real binary: the black-box tests in `tests/python`, the Python client, and REST
//! by its description.

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::panic)]

mod harness;

use std::path::Path;

use harness::{Server, command, http::get, run, tool};

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

/// Requests that the tester makes at least; it has a minute.
const REQUESTS_AT_LEAST: usize = 300;
const SECONDS: &str = "60";

/// What is left out: a watch never ends, a wait not soon, and a revocation could take the tester's own token.
const LEFT_OUT: &str = "(:watch|:wait|tokens:revoke)$";
#[tokio::test]
async fn rest_does_what_its_description_says() {
    let server = Server::start_with(&["--http-listen", "127.0.0.1:0"]).await;
    let page = get(server.http_address(), "/openapi.json", "").await;
    let file = server.home().path("openapi.json");
    std::fs::write(&file, page.body).expect("a file");
    let valid =
        run(command(tool("openapi/bin/openapi-spec-validator"), server.home().folder()).arg(&file)).await;
    assert!(valid.status.success(), "{}", String::from_utf8_lossy(&valid.stdout));
    let mut tester = command(tool("openapi/bin/schemathesis"), server.home().folder());
    tester
        .arg("--config-file")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi/schemathesis.toml"))
        .args(["run", "openapi.json", "--url"])
        .arg(format!("http://{}", server.http_address()))
        .args(["--header", &format!("Authorization: Bearer {}", server.admin_token())])
        .args(["--phases", "examples,coverage,fuzzing", "--max-time", SECONDS, "--max-examples", "20"])
        .args(["--exclude-path-regex", LEFT_OUT])
        .args([
            "--seed",
            "1",
            "--continue-on-failure",
            "--suppress-health-check",
            "all",
            "--warnings",
            "off",
        ]);
    let output = run(&mut tester).await;
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
    let ran = report
        .lines()
        .find_map(|line| line.trim().split(" generated").next()?.trim().parse().ok())
        .unwrap_or(0);
    assert!(ran >= REQUESTS_AT_LEAST, "only {ran} requests were made:\n{report}");
}
