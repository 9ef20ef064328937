//! Writes what is new at most once a second, looks at what the others wrote now and then, and forgets what is over.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{EVERY, Fleet, GRACE, ORPHANED};
use crate::store::{FLEET, Keep, StoreError};

/// What comes together is written together: workers hear of a change at about the same time.
const GATHER: Duration = Duration::from_millis(100);
/// How often is looked at what the others wrote though nobody asks, and tidied.
const TIDY: Duration = Duration::from_secs(5);

impl Fleet {
    /// Writes and tidies until `stop`.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut tidied: Option<Instant> = None;
        while !stop.is_cancelled() {
            if tidied.is_none_or(|tidied| tidied.elapsed() >= TIDY) {
                tidied = Some(Instant::now());
                self.look_after().await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.news.notified() => sleep(GATHER).await,
                () = sleep(TIDY) => continue,
            }
            if let Err(error) = self.write().await {
                tracing::warn!(%error, "what workers report can't be written now");
                self.news.notify_one();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(EVERY - GATHER) => {}
            }
        }
    }

    /// Writes what is new now, in as few commits as hold it. What comes meanwhile, and what the store does not take, goes on
    /// waiting.
    ///
    /// # Errors
    /// When the store does not take it now.
    pub async fn write(&self) -> Result<(), StoreError> {
        let groups = self.known.lock().groups();
        for _ in 0..groups {
            let Some(writing) = self.known.lock().news() else { return Ok(()) };
            self.store.tell(writing.news.clone()).await?;
            self.known.lock().written(writing);
        }
        Ok(())
    }

    async fn look_after(&self) {
        // Also where they are too many to be read: what is tidied away are those that are over.
        let read = self.refresh(Duration::ZERO).await;
        let tidied = async {
            if self.store.acquire(FLEET, &self.own, TIDY * 3).await?.is_some() {
                let keep = Keep { ended: GRACE, orphaned: ORPHANED };
                self.store.tidy_fleet(&self.own, keep).await?;
            }
            Ok::<_, StoreError>(())
        };
        for (what, done) in [("read", read), ("tidied", tidied.await)] {
            if let Err(error) = done {
                tracing::warn!(%error, "the workers of the fleet can't be {what} now");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::{
        crypto::{KeySources, Keyring, Vault},
        domain::{ReplicaId, Report, Revision, SessionId, SystemClock},
        store::sqlite::SqliteDatabase,
    };

    async fn fleet(path: &std::path::Path) -> Arc<Fleet> {
        let mut database = SqliteDatabase::open(path, true).await.unwrap();
        let key = "3q2-7wABAgMEmQYHCAnKCwwNDg_fEBESExQ7FhcYGRo=";
        let sources = KeySources { env: Some(key.into()), ..KeySources::default() };
        let keyring = Keyring::load(&sources, database.identity()).unwrap().keyring;
        let unlocked = Vault::unlock(keyring, database.identity()).unwrap();
        database.initialise(unlocked.first_keys.unwrap()).await.unwrap();
        let clock = Arc::new(SystemClock);
        let store = Arc::new(database.into_store(&unlocked.log_key, clock.clone()).unwrap());
        Arc::new(Fleet::new(ReplicaId("r".into()), Arc::new(unlocked.vault), store, clock))
    }

    fn report(session: &str, applied: u64) -> Report {
        let session = SessionId(session.to_owned());
        Report { session, applied: Revision(applied), rejection: None, left: false }
    }

    /// As long as workers kept reporting, one writing followed the other without a pause: it came to no end.
    #[tokio::test(flavor = "multi_thread")]
    async fn regression_one_writing_ends_while_workers_keep_reporting() {
        let folder = tempfile::tempdir().unwrap();
        let fleet = fleet(&folder.path().join("data/signalbox.db")).await;
        fleet.take(vec![report("s", 1)]).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let (reporting, stop) = (Arc::clone(&fleet), Arc::clone(&ended));
        let reporter = std::thread::spawn(move || {
            let tell = |applied| reporting.take(vec![report("s", applied)]).unwrap();
            (2..).take_while(|_| !stop.load(Ordering::Relaxed)).for_each(tell);
        });
        let written = tokio::time::timeout(Duration::from_secs(20), fleet.write()).await;
        ended.store(true, Ordering::Relaxed);
        reporter.join().unwrap();
        written.expect("it ends").unwrap();
        fleet.write().await.unwrap();
        assert_eq!(fleet.known.lock().waiting(), 0, "what came meanwhile is written by the next");
    }
}
