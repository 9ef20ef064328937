//! Workers that are asked how they are, all the time: one in Python, one in Rust.
//!
//! An answer is read after the question, so that the moment of the question is the earliest that it can be of.

use std::{
    io::Write as _,
    path::Path,
    process::{Child, ChildStdin, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde::Deserialize;
use signalbox::client::{Client, ClientOptions, Staleness, TokenSource};
use tempfile::NamedTempFile;
use tokio::{sync::mpsc::UnboundedReceiver, time::sleep};

use crate::{
    harness::{PATIENCE, command, lines, run, tool, within},
    support::Alarm,
};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(10);

/// What a worker says of itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Said {
    /// Whether it calls itself fresh.
    pub ready: bool,
    /// How long ago the store confirmed its cache, in seconds.
    pub age: Option<f64>,
    pub revision: u64,
    /// The digest of its cache, in hex.
    pub digest: String,
}

/// An answer, and between which moments it was given.
#[derive(Clone, Debug)]
pub struct Answer {
    pub asked: Instant,
    pub answered: Instant,
    pub said: Said,
}

/// All that a worker has said.
#[derive(Clone)]
pub struct Journal {
    pub name: &'static str,
    answers: Arc<Mutex<Vec<Answer>>>,
}

impl Journal {
    /// What it has said so far.
    pub fn answers(&self) -> Vec<Answer> {
        self.answers.lock().unwrap().clone()
    }

    /// What it said last.
    pub fn newest(&self) -> Option<Answer> {
        self.answers.lock().unwrap().last().cloned()
    }
}

enum Worker {
    Python { child: Child, questions: ChildStdin, answers: UnboundedReceiver<String>, log: NamedTempFile },
    Rust(Client),
}

/// A worker in Python, in a process of its own.
pub async fn python(alarm: &Alarm, urls: &str, token: &str, bound: Duration) -> Journal {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python");
    let python = tool("python-client/bin/python");
    let generated = run(command(&python, &client).arg("codegen.py")).await;
    assert!(generated.status.success(), "{}", String::from_utf8_lossy(&generated.stderr));
    let mut worker = command(&python, &client);
    worker.args(["-B", "-u", "tests/asked.py"]).env("PYTHONPATH", "src").env("TEST_BOUND", seconds(bound));
    worker.env("SIGNALBOX_URL", urls).env("SIGNALBOX_TOKEN", token);
    let log = NamedTempFile::new().unwrap();
    worker.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log.reopen().unwrap());
    let mut child = worker.spawn().unwrap();
    let (questions, answers) = (child.stdin.take().unwrap(), lines(child.stdout.take().unwrap()));
    keep("Python", alarm, Worker::Python { child, questions, answers, log })
}

/// A worker in Rust, in this process.
pub fn rust(alarm: &Alarm, urls: &str, token: &str, bound: Duration) -> Journal {
    let options = ClientOptions::of_urls(urls).token(TokenSource::fixed(token)).include_secrets(true);
    let bound = Staleness::default().bound(bound);
    let options = options.progress_interval(Duration::from_secs(1)).staleness(bound).worker_id("rust");
    keep("Rust", alarm, Worker::Rust(Client::connect(options).unwrap()))
}

/// Asks a worker for as long as the test lives.
fn keep(name: &'static str, alarm: &Alarm, mut worker: Worker) -> Journal {
    let journal = Journal { name, answers: Arc::default() };
    let answers = Arc::clone(&journal.answers);
    alarm.spawn(async move {
        loop {
            let asked = Instant::now();
            let said = worker.ask().await;
            answers.lock().unwrap().push(Answer { asked, answered: Instant::now(), said });
            sleep(PAUSE).await;
        }
    });
    journal
}

fn seconds(bound: Duration) -> String {
    bound.as_secs_f64().to_string()
}

impl Worker {
    async fn ask(&mut self) -> Said {
        match self {
            Self::Python { questions, answers, .. } => {
                questions.write_all(b"\n").expect("the worker lives");
                let line = within(PATIENCE, "the Python worker's answer", answers.recv()).await;
                serde_json::from_str(&line.expect("the worker lives")).unwrap()
            }
            Self::Rust(client) => {
                let (status, snapshot) = (client.status(), client.snapshot());
                Said {
                    ready: status.ready,
                    age: status.confirmed_age.map(|age| age.as_secs_f64()),
                    revision: snapshot.revision(),
                    digest: hex::encode(snapshot.digest().to_bytes()),
                }
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Self::Python { child, log, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
            let log = std::fs::read_to_string(log.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the end of the Python worker's log ---");
            lines[lines.len().saturating_sub(100)..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}
