//! What the integration tests share: servers, callers, the record of what happened, and the checkers of the contract.
//!
//! A test writes through a [`Writer`](writer::Writer), which keeps every acknowledged answer as the ground truth, reads
//! through a [`Watcher`](watcher::Watcher), which keeps every raw message, and holds the one against the other with
//! [`rows`], one checker for each row of the guarantees' table in `watch.md`.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code, clippy::expect_used, clippy::unwrap_used, clippy::panic)]

pub mod active;
pub mod caller;
pub mod examples;
pub mod fleet;
pub mod keys;
pub mod load;
pub mod model;
pub mod narrowing;
pub mod plan;
pub mod raw;
pub mod record;
pub mod resources;
pub mod rotation;
pub mod rows;
pub mod server;
pub mod truth;
pub mod upstream;
pub mod view;
pub mod watcher;
pub mod writer;

use std::{future::Future, thread, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use crate::harness::within;

/// A number from the environment, for budgets.
pub fn from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// The seed of a run: given, or random. Failures name it.
pub fn seed() -> u64 {
    from_env("SIGNALBOX_TEST_SEED", rand::random::<u32>().into())
}

/// Tells at once that one of many tasks has panicked, where its end would only be found out much later.
#[derive(Clone, Default)]
pub struct Alarm(watch::Sender<bool>);

struct Guard(Alarm);

impl Alarm {
    /// Runs a task whose panic raises the alarm.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let guard = Guard(self.clone());
        tokio::spawn(async move {
            let _guard = guard;
            task.await
        })
    }

    /// Waits for something, for as long as there is no alarm.
    pub async fn unless<T>(&self, limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
        let mut raised = self.0.subscribe();
        tokio::select! {
            done = within(limit, what, future) => done,
            _ = raised.wait_for(|raised| *raised) => panic!("{what}: a task panicked, see above"),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.0.send_replace(true);
        }
    }
}

/// The debug form of something, without the middle of what is long.
pub fn shown(what: &impl std::fmt::Debug) -> String {
    let text = format!("{what:?}");
    let (mut short, mut run) = (String::new(), (' ', 0));
    for letter in text.chars() {
        run = if letter == run.0 { (letter, run.1 + 1) } else { (letter, 1) };
        match run.1 {
            ..=8 => short.push(letter),
            9 => short.push('…'),
            _ => {}
        }
    }
    short.chars().take(4000).collect()
}
