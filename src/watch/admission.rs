//! The places of the open streams: how many there may be, and what can be done about one that is stuck.
//!
//! A cursor ends by itself when its token does, but only when it is asked for more. A client that does not read asks
//! for nothing; so each stream leaves a lease here, and one that outlives its rights has its connection cut.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::StreamLimits;
use crate::domain::{Error, Principal, Result};

/// How long a stream has for ending by itself.
const GRACE: Duration = Duration::from_secs(2);

/// The open streams.
#[derive(Default)]
pub(super) struct OpenStreams {
    by_subject: HashMap<String, usize>,
    leases: HashMap<u64, Lease>,
    next: u64,
}

/// What a stream may, and how to end it from outside.
pub(super) struct Lease {
    principal: Arc<Principal>,
    expires: Instant,
    scissors: CancellationToken,
    /// Since when it is known to have lost its rights.
    doomed: Option<Instant>,
}

/// One place among the open streams; given back when dropped.
pub(super) struct Admission {
    id: u64,
    open: Arc<Mutex<OpenStreams>>,
}

impl Lease {
    /// A lease until `expires`; `scissors` cut the connection.
    pub fn new(principal: Arc<Principal>, expires: Instant, scissors: CancellationToken) -> Self {
        Self { principal, expires, scissors, doomed: None }
    }
}

impl OpenStreams {
    /// How many streams are open.
    pub fn count(&self) -> usize {
        self.leases.len()
    }

    /// Cuts the connections of streams that have outlived their rights. To be called about once a second.
    pub fn cut_stuck(&mut self, is_revoked: impl Fn(&Principal) -> bool) {
        let now = Instant::now();
        for lease in self.leases.values_mut() {
            if now < lease.expires && !is_revoked(&lease.principal) {
                continue;
            }
            if now >= *lease.doomed.get_or_insert(now) + GRACE && !lease.scissors.is_cancelled() {
                let subject = &lease.principal.subject;
                tracing::warn!(
                    subject,
                    "a stream has lost its rights and does not read; its connection is cut"
                );
                lease.scissors.cancel();
            }
        }
    }
}

impl Admission {
    /// Takes a place.
    ///
    /// # Errors
    /// `Exhausted` when there is none.
    pub fn to(open: &Arc<Mutex<OpenStreams>>, limits: &StreamLimits, lease: Lease) -> Result<Self> {
        let mut streams = open.lock();
        let total = streams.count();
        let subject = lease.principal.subject.clone();
        let own = streams.by_subject.get(&subject).copied().unwrap_or_default();
        if total >= limits.total || own >= limits.per_subject {
            return Err(Error::Exhausted {
                reason: "TOO_MANY_STREAMS",
                description: format!(
                    "{own} of {} streams of this subject and {total} of {} streams in all are open",
                    limits.per_subject, limits.total
                ),
                retry_after: Duration::from_secs(5),
            });
        }
        let id = streams.next;
        streams.next += 1;
        *streams.by_subject.entry(subject).or_default() += 1;
        streams.leases.insert(id, lease);
        Ok(Self { id, open: Arc::clone(open) })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut streams = self.open.lock();
        let Some(lease) = streams.leases.remove(&self.id) else { return };
        let subject = &lease.principal.subject;
        if let Some(count) = streams.by_subject.get_mut(subject) {
            *count -= 1;
            if *count == 0 {
                streams.by_subject.remove(subject);
            }
        }
    }
}
