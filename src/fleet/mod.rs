//! Who runs what: the streams of workers and what these report, as this replica knows them of all replicas.
//!
//! Sessions are told by the replica that serves them, reports by the one that took them; each keeps them in memory, writes
//! once a second what is new, and reads what the others wrote when somebody asks. It decides nothing of what is read or
//! written as configuration. It must not know tonic or SQL.

mod judge;
mod keeper;
mod known;
mod name;
mod stream;
mod view;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

pub use judge::{Goal, State};
pub use known::Worker;
pub use stream::{Hello, Stream};
pub use view::{View, within};

use self::{
    known::Known,
    name::{Names, Whose},
};
use crate::{
    crypto::Vault,
    domain::{Clock, Error, Principal, ReplicaId, Report, Result, SessionId},
    store::{Store, StoreError},
};

/// How long a session whose stream has ended is kept.
pub const GRACE: Duration = Duration::from_secs(60);
/// How long one is kept whose replica vanished: its stream may be open still. For as long as clients use secrets without a word
/// of the store, if nothing else is set.
const ORPHANED: Duration = Duration::from_secs(3600);
/// How often is written.
const EVERY: Duration = Duration::from_secs(1);
/// Reports that wait for the store at most.
const WAITING: usize = 100_000;

/// The fleet, as this replica knows it.
pub struct Fleet {
    own: ReplicaId,
    names: Names,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
    /// Held by whoever reads what the others wrote.
    reading: tokio::sync::Mutex<()>,
    /// Something is to be written.
    news: Notify,
    /// Grows with everything that this replica is told.
    changed: watch::Sender<u64>,
    /// Revisions that workers have refused, as far as this replica was told first.
    rejections: AtomicU64,
    /// Workers' streams of this replica for which there was no room: nobody knows what they run.
    uncounted: AtomicU64,
}

/// A report, behind its place in the call.
pub type Placed = (u32, Report);

/// A report as it came: by the name of its session.
pub struct Told {
    /// The session's name.
    pub session: String,
    /// What it says; the session in there is not known yet.
    pub report: Report,
}

impl Fleet {
    /// Begins to know nobody.
    #[must_use]
    pub fn new(own: ReplicaId, vault: Arc<Vault>, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self {
            own,
            names: Names::new(vault),
            store,
            clock,
            known: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            news: Notify::new(),
            changed: watch::Sender::new(0),
            rejections: AtomicU64::new(0),
            uncounted: AtomicU64::new(0),
        }
    }

    /// Reads of which sessions a caller tells: the reports with their places, and the places of those whose sessions are not
    /// known.
    ///
    /// # Errors
    /// `PermissionDenied` for a session of another subject, with the report's place.
    pub fn identify(&self, caller: &Principal, told: Vec<Told>) -> Result<(Vec<Placed>, Vec<u32>)> {
        let (mut reports, mut unknown) = (Vec::with_capacity(told.len()), Vec::new());
        for (index, Told { session, report }) in (0..).zip(told) {
            match self.names.whose(&session, caller) {
                Whose::Own(id) => reports.push((index, Report { session: id, ..report })),
                Whose::Unknown => unknown.push(index),
                Whose::Foreign => return Err(foreign().at(format!("reports[{index}].session_id"))),
            }
        }
        Ok((reports, unknown))
    }

    /// Takes reports, all or none. Whoever calls has seen to it that there are the revisions that they tell of.
    ///
    /// # Errors
    /// `Exhausted` when more is told than can be written.
    pub fn take(&self, reports: Vec<Report>) -> Result<()> {
        let mut known = self.known.lock();
        if known.waiting() + reports.len() > WAITING {
            return Err(Error::Exhausted {
                reason: "TOO_MANY_REPORTS",
                description: "more is reported than can be written; report less often".into(),
                retry_after: EVERY,
            });
        }
        let mut new = false;
        for report in reports {
            let refuses = report.standing_rejection().is_some();
            let told = known.hear(report, true);
            self.rejections.fetch_add(u64::from(told && refuses), Relaxed);
            new |= told;
        }
        drop(known);
        if new {
            self.ring();
        }
        Ok(())
    }

    /// Every worker that is there, or went less than [`GRACE`] ago and has not said that it would, or whose replica vanished in the
    /// last hour.
    #[must_use]
    pub fn workers(&self) -> Vec<Worker> {
        self.known.lock().workers(self.clock.now())
    }

    /// Revisions that workers have refused, as far as this replica was told first.
    #[must_use]
    pub fn rejections(&self) -> u64 {
        self.rejections.load(Relaxed)
    }

    /// Workers' streams of this replica that are open and not counted, because there are too many.
    #[must_use]
    pub fn uncounted(&self) -> u64 {
        self.uncounted.load(Relaxed)
    }

    /// Whether there may be workers that nobody knows of: there is no room for more, or there was none for one that is here.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.uncounted() > 0 || self.known.lock().is_full()
    }

    /// Told of everything that this replica is told.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Sees to it that what the other replicas wrote is known, as it was at most `age` ago.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn refresh(&self, age: Duration) -> Result<(), StoreError> {
        let _only = self.reading.lock().await;
        if self.known.lock().read_within(age) {
            return Ok(());
        }
        let asked = Instant::now();
        let members = self.store.fleet(&self.own).await?;
        let again = self.known.lock().take_in(members, &self.own, asked);
        if again {
            self.news.notify_one();
        }
        Ok(())
    }

    /// What is new here is to be written, and whoever waits looks again.
    fn ring(&self) {
        self.news.notify_one();
        self.changed.send_modify(|count| *count += 1);
    }

    /// A session is over, whatever it ran.
    fn leave(&self, session: SessionId) {
        self.known.lock().hear(Report::leaving(session), true);
        self.ring();
    }
}

/// The error for a session of another subject. It does not say whose it is.
fn foreign() -> Error {
    Error::PermissionDenied {
        reason: "FOREIGN_SESSION",
        description: "the session is of another subject; report what your own streams gave you".into(),
    }
}
