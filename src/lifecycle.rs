//! The life of the process: tasks that are tracked, and a stop in two stages.
//!
//! Soft: nothing new is begun, streams are told to go. Hard: whatever is left is dropped. It must not know what the
//! tasks do.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Tracks tasks and stops them.
#[derive(Clone, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
}

impl Lifecycle {
    /// Told when nothing new is to be begun.
    #[must_use]
    pub fn soft(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Told when whatever is left is to be dropped.
    #[must_use]
    pub fn hard(&self) -> CancellationToken {
        self.hard.clone()
    }

    /// Runs a task until its end or the hard stop, whichever comes first.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let hard = self.hard.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = hard.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Stops softly, and hard after `grace`; tasks are gone when it returns. Says whether all ended by themselves.
    pub async fn stop(&self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        self.soft.cancel();
        self.tasks.close();
        let orderly = timeout_at(deadline, self.tasks.wait()).await.is_ok();
        self.hard.cancel();
        self.tasks.wait().await;
        orderly
    }
}

/// Resolves on SIGTERM or SIGINT. A second signal ends the process at once, for whoever can't wait.
///
/// # Errors
/// When the handlers can't be installed.
pub fn signals() -> std::io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(130);
        });
    })
}
