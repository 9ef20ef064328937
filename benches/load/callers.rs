//! Callers: one that writes at a time, and many that write or read as fast as they are answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{
    failure::Outcome,
    link::{Link, Written},
    servers::Target,
    state::State,
};

/// Callers that share a connection, as the tasks of one process do.
const CALLERS_A_CONNECTION: usize = 8;

/// Writes one after the other, each to the next resource.
pub struct Writer {
    link: Link,
    state: Arc<State>,
    number: usize,
    /// The revisions that were acknowledged.
    pub written: Vec<u64>,
}

impl Writer {
    /// A writer on a connection of its own.
    pub async fn new(target: &Target) -> Outcome<Self> {
        Ok(Self {
            link: target.admin().await?,
            state: Arc::clone(&target.state),
            number: 0,
            written: Vec::new(),
        })
    }

    /// Writes, and returns when it was called, how long it took, and the token of the revision.
    pub async fn write(&mut self) -> Outcome<(Instant, Duration, String)> {
        self.number += 1;
        let request = self.state.update(self.number, self.number);
        let called = Instant::now();
        let Written { revision, revision_token } = self.link.write(request).await?;
        let took = called.elapsed();
        self.written.push(revision);
        Ok((called, took, revision_token))
    }
}

/// When to stop.
#[derive(Clone, Copy)]
pub enum Until {
    /// After so many calls in all.
    Calls(usize),
    /// After so long.
    Time(Duration),
}

/// What many callers did.
pub struct Called {
    /// When they began.
    pub began: Instant,
    /// How long it took from there until all had their last answer.
    pub took: Duration,
    /// Calls that were answered.
    pub calls: usize,
    /// The revisions of the writes among them.
    pub written: Vec<u64>,
}

impl Called {
    /// Calls a second.
    pub fn rate(&self) -> f64 {
        self.calls as f64 / self.took.as_secs_f64()
    }
}

/// What is called.
#[derive(Clone, Copy)]
pub enum Call {
    /// Each caller writes to a resource of its own, as long as there are as many.
    Write,
    /// All read the same resource.
    Read,
}

/// Many callers, as fast as they are answered.
pub async fn call(target: &Target, call: Call, callers: usize, until: Until) -> Outcome<Called> {
    let mut links = Vec::new();
    for _ in 0..callers.div_ceil(CALLERS_A_CONNECTION) {
        links.push(target.admin().await?);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let link = links[caller % links.len()].clone();
        let (state, next) = (Arc::clone(&target.state), Arc::clone(&next));
        tasks.spawn(async move {
            let mut written = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let over = match until {
                    Until::Calls(calls) => number >= calls,
                    Until::Time(time) => began.elapsed() >= time,
                };
                if over {
                    return Outcome::Ok(written);
                }
                match call {
                    // A number of its own for each write: what changes nothing makes no revision. 0 is there already.
                    Call::Write => written.push(link.write(state.update(caller, number + 1)).await?.revision),
                    Call::Read => link.read(&state.resources[0].name).await?,
                }
            }
        });
    }
    let mut written = Vec::new();
    while let Some(done) = tasks.join_next().await {
        written.extend(done??);
    }
    let took = began.elapsed();
    // Each caller has taken one number that it did not use.
    let calls = next.load(Ordering::Relaxed) - callers;
    Ok(Called { began, took, calls, written })
}
