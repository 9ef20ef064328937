//! The places of the open streams: how many there may be, and what can be done about one that is stuck.
//!
//! A cursor ends by itself when its token does, but only when it is asked for more. A client that does not read asks
//! for nothing; so each stream leaves a lease here, and one that outlives its rights, or has not read for long, has its
//! connection cut. It may come back, and go on from its resume token.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{StreamLimits, tally::Cut};
use crate::domain::{Error, Principal, Result};

/// How long a stream has for ending by itself.
const GRACE: Duration = Duration::from_secs(2);

/// The open streams.
#[derive(Default)]
pub(super) struct OpenStreams {
    /// By issuer and subject: what one issuer calls `ci` is not what another does.
    by_caller: HashMap<(String, String), usize>,
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
    pulse: Arc<Pulse>,
}

/// Whether the client reads: the transport asks for more once what it was handed is on its way.
struct Pulse {
    born: Instant,
    /// Milliseconds after `born` at which something was handed over that is not followed by a question; 0 for none.
    handed: AtomicU64,
}

/// One place among the open streams; given back when dropped.
pub(super) struct Admission {
    id: u64,
    pulse: Arc<Pulse>,
    open: Arc<Mutex<OpenStreams>>,
}

impl Lease {
    /// A lease until `expires`; `scissors` cut the connection.
    pub fn new(principal: Arc<Principal>, expires: Instant, scissors: CancellationToken) -> Self {
        let pulse = Arc::new(Pulse { born: Instant::now(), handed: AtomicU64::new(0) });
        Self { principal, expires, scissors, doomed: None, pulse }
    }

    /// Why the stream has to go though it does not end by itself, if it has.
    fn overdue(&mut self, stall: Duration, is_revoked: impl Fn(&Principal) -> bool) -> Option<Cut> {
        let now = Instant::now();
        if now >= self.expires || is_revoked(&self.principal) {
            let over = now >= *self.doomed.get_or_insert(now) + GRACE;
            return over.then_some(Cut::Rights);
        }
        (self.pulse.stalled(now) >= stall).then_some(Cut::Stalled)
    }
}

impl Pulse {
    /// How long what was handed over lies there.
    fn stalled(&self, now: Instant) -> Duration {
        match self.handed.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            handed => now.saturating_duration_since(self.born + Duration::from_millis(handed)),
        }
    }
}

impl OpenStreams {
    /// How many streams are open.
    pub fn count(&self) -> usize {
        self.leases.len()
    }

    /// Cuts the connections of streams that have outlived their rights, or have not read for `stall`, and says why it
    /// was for each. To be called about once a second.
    pub fn cut_stuck(&mut self, stall: Duration, is_revoked: impl Fn(&Principal) -> bool) -> Vec<Cut> {
        let mut cut = Vec::new();
        for lease in self.leases.values_mut() {
            if let Some(why) = lease.overdue(stall, &is_revoked)
                && !lease.scissors.is_cancelled()
            {
                tracing::warn!(subject = lease.principal.subject, "{why}; its connection is cut");
                lease.scissors.cancel();
                cut.push(why);
            }
        }
        cut
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
        let caller = (lease.principal.issuer.clone(), lease.principal.subject.clone());
        let own = streams.by_caller.get(&caller).copied().unwrap_or_default();
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
        *streams.by_caller.entry(caller).or_default() += 1;
        let pulse = Arc::clone(&lease.pulse);
        streams.leases.insert(id, lease);
        Ok(Self { id, pulse, open: Arc::clone(open) })
    }

    /// The transport asks for more.
    pub fn asked(&self) {
        self.pulse.handed.store(0, Ordering::Relaxed);
    }

    /// The transport was given something, which it now has to get rid of.
    pub fn handed(&self) {
        let millis = u64::try_from(self.pulse.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.pulse.handed.store(millis.max(1), Ordering::Relaxed);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut streams = self.open.lock();
        let Some(lease) = streams.leases.remove(&self.id) else { return };
        let caller = (lease.principal.issuer.clone(), lease.principal.subject.clone());
        if let Some(count) = streams.by_caller.get_mut(&caller) {
            *count -= 1;
            if *count == 0 {
                streams.by_caller.remove(&caller);
            }
        }
    }
}
