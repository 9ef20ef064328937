//! The script that starts a PostgreSQL to work with by hand.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    harness::{command, end, lines, within},
    postgres,
};

/// Far less than the command that it runs, and than what it waits for without one.
const SOON: std::time::Duration = std::time::Duration::from_secs(20);

/// Told to stop, it stops PostgreSQL, and is not kept by what it runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_the_script_ends_promptly_and_takes_its_database_along() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for arguments in [&[][..], &["sh", "-c", "echo $DATABASE_URL; exec sleep 1000"]] {
        let mut script = command(root.join("scripts/postgres"), root);
        let mut child = script.args(arguments).stdout(Stdio::piped()).spawn().expect("the script runs");
        let mut told = lines(child.stdout.take().expect("a pipe"));
        let url = within(SOON * 3, "the URL", told.recv()).await.expect("a line");
        assert_eq!(postgres::count(&url, "SELECT 1::bigint").await, 1, "it can be worked with");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it is there");
        let ended = within(SOON, "the script's end", end(child)).await;
        assert_eq!(ended.status.code(), Some(143), "{arguments:?}");
        let port = postgres::port_of(&url);
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "PostgreSQL still listens");
    }
}
