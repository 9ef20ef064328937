//! pgbouncer in transaction mode before a server.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code, clippy::expect_used, clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// A pooler, gone when it is dropped.
pub struct Pooler {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Pooler {
    /// Starts one before the server on a port of the loopback.
    pub fn before(server: u16) -> Self {
        let program =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|at| Path::new(at).exists());
        let program = program.expect("pgbouncer is needed: scripts/tools installs it");
        let directory = tempfile::Builder::new().prefix("signalbox-pooler-").tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = directory.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 5\nmax_client_conn = 500\n"
        );
        // `any` logs everybody in as the user of the database's line.
        let text = text.replace(&format!("port={server}"), &format!("port={server} user=signalbox"));
        fs::write(&settings, text).unwrap();
        let mut command = Command::new(program);
        if rustix::process::geteuid().is_root() {
            // It refuses root.
            let nobody = Command::new("chown").args(["-R", "nobody"]).arg(directory.path()).status().unwrap();
            assert!(nobody.success());
            command.args(["-u", "nobody"]);
        }
        let mut child = command.arg("-q").arg(&settings).stderr(Stdio::null()).spawn().unwrap();
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                child.try_wait().unwrap().is_none() && begin.elapsed() < Duration::from_secs(10),
                "pgbouncer"
            );
            sleep(Duration::from_millis(20));
        }
        Self { child, port, _directory: directory }
    }

    /// The port on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
