//! The life of the process: in which phase it is, tasks that are tracked, and a stop in two stages.
//!
//! Soft: nothing new is begun, streams are told to go. Hard: whatever is left is dropped. It must not know what the
//! tasks do.

use std::{future::Future, time::Duration};

use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How far the process is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The store is opened and read.
    Starting,
    /// It can't start, because the store can't be reached: it is waited for.
    StoreAway,
    /// It takes calls.
    Serving,
    /// It is about to stop. Calls may still be taken for a while, but nobody new should be sent here.
    Draining,
}

/// Tells in which phase the process is, to who asks and to who waits for news. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Standing(watch::Sender<Phase>);

impl Default for Standing {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }
}

impl Standing {
    /// The phase that it is in.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Goes on to another phase.
    pub fn set(&self, phase: Phase) {
        self.0.send_replace(phase);
    }

    /// Hears of every phase, the present one first.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Phase> {
        let mut phases = self.0.subscribe();
        phases.mark_changed();
        phases
    }
}

/// Tracks tasks and stops them.
///
/// Listeners are waited for when the stop begins; what works for them in the background goes on until they are done,
/// because a write that is just being answered still needs it.
#[derive(Clone, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    listeners: TaskTracker,
    background: TaskTracker,
    broken: CancellationToken,
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

    /// Runs a listener until its end or the hard stop, whichever comes first.
    pub fn listen(&self, listener: impl Future<Output = ()> + Send + 'static) {
        self.listeners.spawn(self.until_hard(listener));
    }

    /// Runs something in the background until its end or the hard stop, whichever comes first.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(self.until_hard(task));
    }

    fn until_hard(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let hard = self.hard.clone();
        self.vital(async move {
            tokio::select! {
                () = hard.cancelled() => {}
                () = task => {}
            }
        })
    }

    /// A task without which the process must not go on: it would look well, and do only a part of its work. Where it ends by
    /// a panic, [`Lifecycle::broken`] tells.
    pub fn vital<T>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        // A panic drops what the task holds, and nothing disarms it then.
        let guard = self.broken.clone().drop_guard();
        async move {
            let outcome = task.await;
            guard.disarm();
            outcome
        }
    }

    /// Tells it of a part that looks after its own tasks, once that has died.
    pub async fn broken_by(self, died: CancellationToken) {
        died.cancelled().await;
        self.broken.cancel();
    }

    /// Resolves when a part of the process has died.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Stops softly, and hard once all listeners have ended or `grace` is over; nothing runs when it returns.
    /// Says whether the listeners ended by themselves.
    pub async fn stop(&self, grace: Duration) -> bool {
        self.soft.cancel();
        self.listeners.close();
        self.background.close();
        let orderly = timeout(grace, self.listeners.wait()).await.is_ok();
        self.hard.cancel();
        self.listeners.wait().await;
        self.background.wait().await;
        orderly
    }
}

/// Has a file that grows beyond the process's limit answered with an error, as a full disk is, instead of by the
/// signal that would end the process.
///
/// # Errors
/// When the handler can't be installed.
pub fn survive_file_size_limit() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let number = rustix::process::Signal::XFSZ.as_raw();
    // Once installed the handler stays, though nobody listens to it.
    signal(SignalKind::from_raw(number)).map(drop)
}

/// Raises the number of files that this process may have open as far as it is allowed to, and says how many they are; `None`
/// where there is no bound.
///
/// # Errors
/// When the system refuses.
pub fn raise_open_files() -> std::io::Result<Option<u64>> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_told_and_one_that_ends_or_is_stopped_is_not() {
        let lifecycle = Lifecycle::default();
        lifecycle.spawn(async {});
        lifecycle.spawn(std::future::pending());
        lifecycle.listen(std::future::pending());
        assert!(!lifecycle.stop(Duration::ZERO).await);
        assert!(!lifecycle.broken.is_cancelled());
        let lifecycle = Lifecycle::default();
        lifecycle.spawn(async { panic!("a defect, on purpose") });
        timeout(Duration::from_secs(5), lifecycle.broken()).await.unwrap();
        let (lifecycle, died) = (Lifecycle::default(), CancellationToken::new());
        lifecycle.spawn(lifecycle.clone().broken_by(died.clone()));
        died.cancel();
        timeout(Duration::from_secs(5), lifecycle.broken()).await.unwrap();
    }
}
