//! Reads the cache when a client starts, and keeps it up to date from then on.
//!
//! Owns when it is written: soon after a change, at once after a revocation, and once in a while, so that its age is told right.
//! What the service has refuted is taken away at once, and nothing is written until a whole state has taken its place. What is
//! written is of the subject whose stream brought it, whatever token was read since. Must not know what stands in the file.

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

use super::{CacheError, DiskCache, format::Saved};
use crate::client::{
    clock::{Clock, Moment, wall},
    error::Error,
    options::ClientOptions,
    replica::{Applied, Cursor, Replica, Signal},
    settings::Overrides,
    snapshot::Snapshot,
    token::Subject,
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
    /// Whom the token speaks for with which came what is served.
    subject: Subject,
    /// Whether what is served is known to be wrong, or nobody's any more.
    refuted: bool,
}

/// Where lies what is to be written.
type Desk = Arc<Mutex<Option<Due>>>;

/// What is to be done, and when.
struct Due {
    at: Instant,
    /// Whether what lies there is taken away first.
    remove: bool,
    write: Option<Page>,
}

/// What is to be written.
struct Page {
    subject: Subject,
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
        Self { files, desk, bell, subject: Subject::default(), refuted: false }
    }

    /// What is kept, and when the store confirmed it.
    pub(in crate::client) async fn load(&mut self, overrides: Arc<Overrides>) -> Option<(Saved, Moment)> {
        let saved = match timeout(TOKEN_LIMIT, self.files.options.token.read()).await {
            Ok(Ok(token)) => {
                self.subject = Subject::of(token.as_ref());
                self.files.load(&self.subject, overrides).await
            }
            Ok(Err(error)) => Err(CacheError::Token(Box::new(error))),
            Err(_) => Err(CacheError::Token(Box::new(Error::Silent(TOKEN_LIMIT)))),
        };
        let saved = self.files.note(saved)??;
        let confirmed = self.files.clock.now().before(wall().saturating_sub(saved.confirmed));
        Some((saved, confirmed))
    }

    /// What is served now is a whole state, which came with a token of this subject.
    pub(in crate::client) fn vouch(&mut self, subject: &Subject) {
        if self.subject != *subject {
            self.subject.clone_from(subject);
        }
        self.refuted = false;
    }

    /// What is served now must not be begun with again: whoever starts waits for a whole state.
    pub(in crate::client) fn refute(&mut self) {
        self.refuted = true;
        self.put(Due { at: Instant::now(), remove: true, write: None });
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
        let Some(confirmed) = confirmed.filter(|_| !self.refuted) else { return };
        let (snapshot, cursor) = (replica.served().clone(), replica.served_at().clone());
        let page = Page { subject: self.subject.clone(), snapshot, cursor, confirmed };
        self.put(Due { at: Instant::now() + delay, remove: false, write: Some(page) });
    }

    /// Puts something on the desk, in place of what lies there. A removal stays due before it.
    fn put(&self, mut new: Due) {
        {
            let mut due = lock(&self.desk);
            if let Some(old) = due.take() {
                new.at = new.at.min(old.at);
                new.remove |= old.remove;
            }
            *due = Some(new);
        }
        // An error says that the runtime has ended, and the task with it.
        let _ = self.bell.send(());
    }
}

impl Files {
    async fn load(&self, subject: &Subject, overrides: Arc<Overrides>) -> Result<Option<Saved>, CacheError> {
        let (cache, identity) = (self.cache.clone(), self.options.identity(subject));
        let work = move || {
            cache.sweep();
            cache.load(&identity, overrides, wall())
        };
        // A panic in there would be a defect, and is as good as no cache.
        spawn_blocking(work).await.unwrap_or(Ok(None))
    }

    async fn settle(&self, due: Due) {
        let cache = self.cache.clone();
        let write = due.write.map(|page| {
            let confirmed = wall().saturating_sub(self.clock.now().since(page.confirmed));
            let saved = Saved { snapshot: page.snapshot, cursor: page.cursor, confirmed };
            (self.options.identity(&page.subject), saved)
        });
        let work = move || {
            if due.remove {
                cache.remove()?;
            }
            write.map_or(Ok(()), |(identity, saved)| cache.save(&identity, &saved))
        };
        self.note(spawn_blocking(work).await.unwrap_or(Ok(())));
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
            files.settle(due).await;
        }
        if !goes_on {
            return;
        }
    }
}

fn lock(desk: &Desk) -> MutexGuard<'_, Option<Due>> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}
