//! A proxy before PostgreSQL that loses what it is told to lose.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code, clippy::expect_used, clippy::unwrap_used, clippy::panic)]

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What happens to the next COMMIT that passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It arrives, and the connection is reset before the answer.
    LoseAnswer,
    /// It does not arrive, and the connection is reset.
    LoseCommit,
    /// It arrives, and nothing is ever heard again on this connection, which stays open.
    Silence,
    /// It does not arrive, and nothing is ever heard again on this connection, which stays open on both sides.
    Stall,
}

/// A port that leads to a server.
pub struct Proxy {
    port: u16,
    fault: Arc<parking_lot::Mutex<Option<Fault>>>,
    commits: Arc<AtomicU64>,
    closed: Arc<AtomicBool>,
}

impl Proxy {
    /// Opens a port that leads to another on the loopback.
    pub async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            fault: Arc::default(),
            commits: Arc::default(),
            closed: Arc::default(),
        };
        let (fault, commits, closed) = (proxy.fault.clone(), proxy.commits.clone(), proxy.closed.clone());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if closed.load(Ordering::Relaxed) {
                    continue;
                }
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::spawn(pass(client, server, fault.clone(), commits.clone()));
            }
        });
        proxy
    }

    /// A URL that leads through here.
    pub fn url(&self, direct: &str, server: u16) -> String {
        direct.replace(&format!(":{server}/"), &format!(":{}/", self.port))
    }

    /// Breaks the next COMMIT that rings.
    pub fn break_next(&self, fault: Fault) {
        *self.fault.lock() = Some(fault);
    }

    /// Whether the fault has happened.
    pub fn has_broken(&self) -> bool {
        self.fault.lock().is_none()
    }

    /// Lets nobody in any more, or again.
    pub fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
    }
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    fault: Arc<parking_lot::Mutex<Option<Fault>>>,
    commits: Arc<AtomicU64>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        to_client
    });
    let mut bytes = vec![0; 65_536];
    loop {
        let read = match from_client.read(&mut bytes).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let message = &bytes[..read];
        let commit = message.windows(24).any(|window| window == b"NOTIFY signalbox; COMMIT");
        if commit {
            commits.fetch_add(1, Ordering::Relaxed);
            let now = fault.lock().take();
            match now {
                None => {}
                Some(Fault::LoseCommit) => break,
                Some(Fault::LoseAnswer) => {
                    answers.abort();
                    to_server.write_all(message).await.unwrap();
                    // Until it is done there.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    return;
                }
                Some(Fault::Silence) => {
                    answers.abort();
                    to_server.write_all(message).await.unwrap();
                    std::future::pending::<()>().await;
                }
                Some(Fault::Stall) => std::future::pending::<()>().await,
            }
        }
        if to_server.write_all(message).await.is_err() {
            break;
        }
    }
    answers.abort();
}
