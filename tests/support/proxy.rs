//! A proxy before PostgreSQL, or before a server, that loses what it is told to lose.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code, clippy::expect_used, clippy::unwrap_used, clippy::panic)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
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
    /// How often the last write that rang went to the server, its beginning and its COMMIT among it.
    ways: Arc<AtomicU64>,
    closed: Arc<AtomicBool>,
    /// Whether it leads to an engine that has no notifications.
    mute: Arc<AtomicBool>,
    /// Where it leads.
    server: Arc<AtomicU16>,
    /// Counts how often every connection was cut.
    cuts: watch::Sender<u64>,
    /// Whether nothing passes, and nobody is told.
    held: watch::Sender<bool>,
    /// Milliseconds that whatever passes takes, each way.
    delay: Arc<AtomicU64>,
}

impl Proxy {
    /// Opens a port that leads to another on the loopback.
    pub async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            fault: Arc::default(),
            ways: Arc::default(),
            closed: Arc::default(),
            mute: Arc::default(),
            server: Arc::new(AtomicU16::new(server)),
            cuts: watch::Sender::new(0),
            held: watch::Sender::new(false),
            delay: Arc::default(),
        };
        let (fault, ways, closed) = (proxy.fault.clone(), proxy.ways.clone(), proxy.closed.clone());
        let (server, cuts, mute) = (proxy.server.clone(), proxy.cuts.clone(), proxy.mute.clone());
        let (held, delay) = (proxy.held.clone(), proxy.delay.clone());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if closed.load(Ordering::Relaxed) {
                    continue;
                }
                // Who is not there lets nobody in.
                let server = TcpStream::connect(("127.0.0.1", server.load(Ordering::Relaxed))).await;
                let Ok(server) = server else { continue };
                let mut cut = cuts.subscribe();
                let (fault, ways, mute) = (fault.clone(), ways.clone(), mute.clone());
                let line = Line { held: held.subscribe(), delay: delay.clone() };
                let passed = pass(client, server, fault, ways, mute, line);
                tokio::spawn(async move {
                    tokio::select! {
                        () = passed => {}
                        _ = cut.changed() => {}
                    }
                });
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

    /// Cuts every connection.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Holds whatever comes in either direction, also on new connections, until it is let go: as a network that loses
    /// everything.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Lets everything take so long from now on, each way: as a database far away.
    pub fn delay(&self, delay: Duration) {
        self.delay.store(delay.as_millis().try_into().unwrap(), Ordering::Relaxed);
    }

    /// How often the last write that rang went to the server and back, from its beginning to its COMMIT.
    pub fn ways(&self) -> u64 {
        self.ways.load(Ordering::Relaxed)
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Leads to another port from now on.
    pub fn lead_to(&self, server: u16) {
        self.server.store(server, Ordering::Relaxed);
        self.cut();
    }

    /// What stands behind it does not know LISTEN and NOTIFY from now on, as other engines that speak the protocol: they
    /// are syntax errors, and `pg_notify` is no function.
    pub fn unlearn_notifications(&self) {
        self.mute.store(true, Ordering::Relaxed);
    }

    /// Lets nobody in any more, or again.
    pub fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
    }
}

/// Carries what the server says, until it is let go of.
struct Answers {
    task: JoinHandle<()>,
    muted: Arc<AtomicBool>,
}

impl Answers {
    fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: Line) -> Self {
        let muted = Arc::new(AtomicBool::new(false));
        let silent = muted.clone();
        let task = tokio::spawn(async move {
            let mut bytes = vec![0; 65_536];
            while let Ok(read @ 1..) = from.read(&mut bytes).await {
                line.pass().await;
                if !silent.load(Ordering::Relaxed) && to.write_all(&bytes[..read]).await.is_err() {
                    break;
                }
            }
        });
        Self { task, muted }
    }

    /// Nothing is heard any more, and the connection stays open.
    fn mute(&self) {
        self.muted.store(true, Ordering::Relaxed);
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What lies between the two.
#[derive(Clone)]
struct Line {
    held: watch::Receiver<bool>,
    delay: Arc<AtomicU64>,
}

impl Line {
    /// Waits until something has passed.
    async fn pass(&mut self) {
        drop(self.held.wait_for(|held| !held).await);
        let delay = Duration::from_millis(self.delay.load(Ordering::Relaxed));
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    fault: Arc<parking_lot::Mutex<Option<Fault>>>,
    ways: Arc<AtomicU64>,
    mute: Arc<AtomicBool>,
    mut line: Line,
) {
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let answers = Answers::carry(from_server, to_client, line.clone());
    let (mut bytes, mut said) = (vec![0; 65_536], 0);
    loop {
        let read = match from_client.read(&mut bytes).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        line.pass().await;
        if mute.load(Ordering::Relaxed) {
            garble(&mut bytes[..read]);
        }
        let message = &bytes[..read];
        let has = |text: &[u8]| message.windows(text.len()).any(|window| window == text);
        said = if has(b"FROM head WHERE id = 1 FOR UPDATE") { 1 } else { said + 1 };
        if has(b"NOTIFY signalbox; COMMIT") {
            ways.store(said, Ordering::Relaxed);
            let now = fault.lock().take();
            match now {
                None => {}
                Some(Fault::LoseCommit) => break,
                Some(Fault::LoseAnswer) => {
                    answers.mute();
                    to_server.write_all(message).await.unwrap();
                    // Until it is done there.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    return;
                }
                Some(Fault::Silence) => {
                    answers.mute();
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
}

/// Misspells what other engines don't know, at the same length.
fn garble(message: &mut [u8]) {
    for word in [b"LISTEN".as_slice(), b"NOTIFY", b"notify"] {
        while let Some(at) = message.windows(word.len()).position(|window| window == word) {
            message[at] = b'X';
        }
    }
}
