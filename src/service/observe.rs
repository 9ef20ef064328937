//! What is seen of resources: taken into memory, written in groups at most once a second, merged into reads on request.
//!
//! Nothing waits for it. What was taken in the last second is lost when the process is killed; a stop in good order writes
//! it. Of one resource and matter only the newest is kept, so that memory is bounded by the resources that are seen.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::Service;
use crate::{
    domain::{Error, Matter, Observation, Result, Uid, limits},
    proto::v1::{self, Resource},
    store::{Observations, StoreError},
    watch::timestamp,
};

/// How often is written.
const EVERY: Duration = Duration::from_secs(1);
/// How long a read waits for what was seen of its resources, before it goes without.
const OBSERVED_PATIENCE: Duration = Duration::from_millis(250);
/// Calls whose observations wait to be taken in.
const BUFFER: usize = 256;
/// Observations that are written at once.
const GROUP: usize = 1000;
/// Observations that wait for the store at most; beyond that no more are taken.
const WAITING: usize = 100_000;

/// Takes observations. Cheap to clone.
#[derive(Clone)]
pub struct Observer(mpsc::Sender<Vec<Observation>>);

/// Writes what observers took.
pub struct ObservationWriter {
    taken: mpsc::Receiver<Vec<Observation>>,
    store: Arc<dyn Observations>,
    waiting: HashMap<(Uid, Matter), Observation>,
}

impl Observer {
    /// An observer, and the writer that has to be run for it.
    #[must_use]
    pub fn new(store: Arc<dyn Observations>) -> (Self, ObservationWriter) {
        let (sender, taken) = mpsc::channel(BUFFER);
        (Self(sender), ObservationWriter { taken, store, waiting: HashMap::new() })
    }

    /// Takes observations without waiting for them to be written.
    ///
    /// # Errors
    /// `Exhausted` when more come than can be written.
    pub fn take(&self, seen: Vec<Observation>) -> Result<()> {
        if seen.is_empty() {
            return Ok(());
        }
        self.0.try_send(seen).map_err(|_| Error::Exhausted {
            reason: "TOO_MANY_OBSERVATIONS",
            description: "more is told than can be written; tell it less often".into(),
            retry_after: EVERY,
        })
    }
}

impl ObservationWriter {
    /// Writes until every observer is gone, and then what is left.
    pub async fn run(mut self) {
        let mut open = true;
        while open {
            open = self.gather().await;
            self.write().await;
        }
    }

    /// Takes in what comes, for as long as a group may be gathered. Says whether more may come.
    async fn gather(&mut self) -> bool {
        let mut deadline = (!self.waiting.is_empty()).then(|| Instant::now() + EVERY);
        loop {
            if self.waiting.len() >= WAITING {
                // The store has to take some first. Meanwhile the buffer fills up, and callers are told.
                if let Some(deadline) = deadline {
                    tokio::time::sleep_until(deadline).await;
                }
                return true;
            }
            let next = match deadline {
                Some(deadline) => timeout_at(deadline, self.taken.recv()).await,
                None => Ok(self.taken.recv().await),
            };
            match next {
                Err(_) => return true,
                Ok(None) => return false,
                Ok(Some(seen)) => seen.into_iter().for_each(|one| self.keep(one)),
            }
            deadline.get_or_insert_with(|| Instant::now() + EVERY);
        }
    }

    fn keep(&mut self, seen: Observation) {
        let place = (seen.uid.clone(), seen.what.clone());
        match self.waiting.get(&place) {
            Some(kept) if kept.time > seen.time => {}
            _ => drop(self.waiting.insert(place, seen)),
        }
    }

    /// Writes all that waits; what the store does not take goes on waiting.
    async fn write(&mut self) {
        let all: Vec<Observation> = self.waiting.values().cloned().collect();
        for group in all.chunks(GROUP) {
            match self.store.observe(group.to_vec()).await {
                Ok(()) => group
                    .iter()
                    .for_each(|done| drop(self.waiting.remove(&(done.uid.clone(), done.what.clone())))),
                Err(error) => {
                    tracing::warn!(%error, waiting = self.waiting.len(), "observations can't be written now");
                    return;
                }
            }
        }
    }
}

impl Service {
    /// Adds to resources what was seen of them. Where the store is away, they are left as they are: reads go on.
    ///
    /// # Errors
    /// `Internal` when what the store holds can't be read.
    pub(super) async fn add_observations(&self, resources: &mut [Resource]) -> Result<()> {
        let uids = resources.iter().map(|resource| Uid(resource.uid.clone())).collect();
        // Who reads from memory must not wait for a store that may be away.
        let patience =
            if self.parts.view.confirmed().freshness().stale { Duration::ZERO } else { OBSERVED_PATIENCE };
        let seen = match timeout(patience, self.parts.store.observed(uids)).await {
            Ok(Ok(seen)) => seen,
            Err(_) | Ok(Err(StoreError::Unavailable(_))) => return Ok(()),
            Ok(Err(error)) => return Err(super::store_error(error)),
        };
        let mut by_uid: HashMap<String, Vec<v1::Observation>> = HashMap::new();
        for Observation { uid, what, value_json, time } in seen {
            let shown =
                v1::Observation { what: what.0.into_owned(), time: Some(timestamp(time)), value_json };
            by_uid.entry(uid.0).or_default().push(shown);
        }
        for resource in resources {
            resource.observations = by_uid.remove(&resource.uid).unwrap_or_default();
        }
        Ok(())
    }
}

/// How many of the resources of a page still fit into a message with what was seen of them: one at least.
pub(super) fn fitting(resources: &[Resource]) -> usize {
    let mut bytes = 0;
    let within = |resource: &&Resource| {
        bytes += prost::Message::encoded_len(*resource) + 8;
        bytes <= limits::MESSAGE_OUT_BYTES * 3 / 4
    };
    resources.iter().take_while(within).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps what is written, and refuses it for as long as it is told to.
    #[derive(Default)]
    struct Memory {
        away: std::sync::atomic::AtomicBool,
        written: parking_lot::Mutex<Vec<Vec<Observation>>>,
    }

    #[async_trait::async_trait]
    impl Observations for Memory {
        async fn observe(&self, seen: Vec<Observation>) -> Result<(), StoreError> {
            if self.away.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(StoreError::Unavailable("away".into()));
            }
            self.written.lock().push(seen);
            Ok(())
        }

        async fn observed(&self, _: Vec<Uid>) -> Result<Vec<Observation>, StoreError> {
            Ok(Vec::new())
        }
    }

    fn used(uid: &str, seconds: i64) -> Observation {
        let time = chrono::DateTime::from_timestamp(seconds, 0).unwrap();
        Observation { uid: Uid(uid.into()), what: Matter::LAST_USED, value_json: String::new(), time }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_within_a_second_is_one_group_and_the_newest_time_wins() {
        let store = Arc::new(Memory::default());
        let (observer, writer) = Observer::new(store.clone());
        let running = tokio::spawn(writer.run());
        observer.take(vec![used("a", 5), used("b", 1)]).unwrap();
        observer.take(vec![used("a", 3)]).unwrap();
        tokio::time::sleep(EVERY * 2).await;
        assert_eq!(store.written.lock().len(), 1);
        observer.take(vec![used("c", 1)]).unwrap();
        // A stop writes what waits, and does not wait for the second to be over.
        drop(observer);
        running.await.unwrap();
        let mut written = store.written.lock().clone();
        assert_eq!(written.pop().unwrap(), [used("c", 1)]);
        let mut first = written.pop().unwrap();
        first.sort_by(|one, other| one.uid.0.cmp(&other.uid.0));
        assert_eq!(first, [used("a", 5), used("b", 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_store_does_not_take_waits_and_what_is_too_much_is_refused() {
        let store = Arc::new(Memory::default());
        store.away.store(true, std::sync::atomic::Ordering::Relaxed);
        let (observer, writer) = Observer::new(store.clone());
        let running = tokio::spawn(writer.run());
        let many: Vec<_> = (0..WAITING).map(|number| used(&number.to_string(), 1)).collect();
        observer.take(many).unwrap();
        tokio::time::sleep(EVERY * 3).await;
        let refused = (0..=BUFFER).find_map(|_| observer.take(vec![used("late", 1)]).err());
        assert!(matches!(refused, Some(Error::Exhausted { reason: "TOO_MANY_OBSERVATIONS", .. })));
        store.away.store(false, std::sync::atomic::Ordering::Relaxed);
        tokio::time::sleep(EVERY * 3).await;
        drop(observer);
        running.await.unwrap();
        let written: usize = store.written.lock().iter().map(Vec::len).sum();
        assert_eq!(written, WAITING + 1, "and the late one, once there was room");
    }
}
