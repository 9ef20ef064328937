//! Reads the cache when a client starts, and keeps it up to date from then on.
//!
//! Owns when it is written: soon after a change, at once after a revocation, and once in a while, so that its age is told right.
//! Must not know what stands in the file.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};

use super::{CacheError, DiskCache, Identity, format::Saved};
use crate::client::{
    clock::{Clock, Moment, wall},
    error::Error,
    options::ClientOptions,
    replica::{Applied, Cursor, Replica, Signal},
    settings::Overrides,
    snapshot::Snapshot,
};

/// A burst of changes is written once.
const SETTLE: Duration = Duration::from_secs(1);
/// Without a change the time of confirmation is written so often.
const REFRESH: Duration = Duration::from_secs(30);
/// How long a start waits for the token that says whose the cache has to be.
const TOKEN_LIMIT: Duration = Duration::from_secs(1);

/// Where the last trouble with the cache is told.
pub(in crate::client) type Trouble = Arc<ArcSwapOption<CacheError>>;

/// The watcher's end.
pub(in crate::client) struct Keeper {
    files: Files,
    desk: Desk,
    bell: watch::Sender<()>,
}

/// Where lies what is to be written.
type Desk = Arc<Mutex<Option<Due>>>;

/// What is to be written, and when.
struct Due {
    at: Instant,
    snapshot: Arc<Snapshot>,
    cursor: Cursor,
    confirmed: Moment,
}

#[derive(Clone)]
struct Files {
    cache: DiskCache,
    options: ClientOptions,
    clock: Clock,
    trouble: Trouble,
}

impl Keeper {
    /// Starts the task that writes. It ends with the keeper, and writes what is due before that.
    pub(in crate::client) fn start(
        runtime: &Handle,
        cache: DiskCache,
        options: &ClientOptions,
        clock: Clock,
        trouble: Trouble,
    ) -> Self {
        let files = Files { cache, options: options.clone(), clock, trouble };
        let (bell, rung) = watch::channel(());
        let desk = Desk::default();
        runtime.spawn(write_for_ever(files.clone(), desk.clone(), rung));
        Self { files, desk, bell }
    }

    /// What is kept, and when the store confirmed it.
    pub(in crate::client) async fn load(&self, overrides: Arc<Overrides>) -> Option<(Saved, Moment)> {
        let saved = match timeout(TOKEN_LIMIT, self.files.options.token.read()).await {
            Ok(Ok(_)) => self.files.load(overrides).await,
            Ok(Err(error)) => Err(CacheError::Token(Box::new(error))),
            Err(_) => Err(CacheError::Token(Box::new(Error::Silent(TOKEN_LIMIT)))),
        };
        let saved = self.files.note(saved)??;
        let confirmed = self.files.clock.now().before(wall().saturating_sub(saved.confirmed));
        Some((saved, confirmed))
    }

    /// Takes note of what an event has made of the replica.
    pub(in crate::client) fn take_note(
        &self,
        replica: &Replica,
        applied: &Applied,
        changed: bool,
        confirmed: Option<Moment>,
    ) {
        let delay = match &applied.signal {
            Signal::Revoked => Duration::ZERO,
            Signal::Synced(_) => SETTLE,
            _ if changed => SETTLE,
            _ if applied.confirmed_age.is_some() => REFRESH,
            _ => return,
        };
        let Some(confirmed) = confirmed else { return };
        let (snapshot, cursor) = (replica.served().clone(), replica.served_at().clone());
        let at = Instant::now() + delay;
        {
            let mut due = lock(&self.desk);
            let at = due.as_ref().map_or(at, |due| due.at.min(at));
            *due = Some(Due { at, snapshot, cursor, confirmed });
        }
        // An error says that the runtime has ended, and the task with it.
        let _ = self.bell.send(());
    }
}

impl Files {
    async fn load(&self, overrides: Arc<Overrides>) -> Result<Option<Saved>, CacheError> {
        let (cache, identity) = (self.cache.clone(), self.identity());
        // A panic in there would be a defect, and is as good as no cache.
        spawn_blocking(move || cache.load(&identity, overrides, wall())).await.unwrap_or(Ok(None))
    }

    async fn save(&self, due: Due) {
        let (cache, identity) = (self.cache.clone(), self.identity());
        let confirmed = wall().saturating_sub(self.clock.now().since(due.confirmed));
        let saved = Saved { snapshot: due.snapshot, cursor: due.cursor, confirmed };
        let written = spawn_blocking(move || cache.save(&identity, &saved)).await;
        self.note(written.unwrap_or(Ok(())));
    }

    /// The token that was read last says whose the cache is.
    fn identity(&self) -> Identity {
        self.options.identity()
    }

    /// Tells of trouble, or that there is none any more.
    fn note<T>(&self, outcome: Result<T, CacheError>) -> Option<T> {
        match outcome {
            Ok(value) => {
                self.trouble.store(None);
                Some(value)
            }
            Err(error) => {
                tracing::warn!(%error, "the cache on disk");
                self.trouble.store(Some(Arc::new(error)));
                None
            }
        }
    }
}

async fn write_for_ever(files: Files, desk: Desk, mut rung: watch::Receiver<()>) {
    loop {
        let at = lock(&desk).as_ref().map(|due| due.at);
        let comes_due = async {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let goes_on = tokio::select! {
            changed = rung.changed() => changed.is_ok(),
            () = comes_due => true,
        };
        let is_due = |due: &mut Due| !goes_on || due.at <= Instant::now();
        let due = lock(&desk).take_if(is_due);
        if let Some(due) = due {
            files.save(due).await;
        }
        if !goes_on {
            return;
        }
    }
}

fn lock(desk: &Desk) -> MutexGuard<'_, Option<Due>> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}
