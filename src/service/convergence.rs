//! How workers stand to a revision, in numbers; and waiting until enough of them run it.

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{
    Service,
    fleet::{FRESH, Scope, fitting},
    other_life, parse_revision_token, store_error,
};
use crate::{
    domain::{Epoch, Error, Principal, Result, Revision, Subject, Violations},
    duration,
    fleet::{Goal, State, View, Worker},
    proto::v1::{
        Convergence, GetConvergenceRequest, GetConvergenceResponse, WaitForConvergenceRequest,
        WaitForConvergenceResponse, WaitOutcome, wait_for_convergence_request::Quorum,
    },
    store::StoreError,
};

/// Who may wait on one replica at the same time.
const WAITS: usize = 64;
/// How many of these one subject may have.
const WAITS_OF_ONE: usize = 8;
/// Workers that are named.
const NAMED: usize = 100;
/// How long is waited, if nothing is asked for, and at most. By default for longer than for a worker that was killed.
const TIMEOUT: (Duration, Duration) = (Duration::from_secs(90), Duration::from_secs(3600));
/// How often it is told where it stands though nothing has changed.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Reports that come together are looked at together.
const GATHER: Duration = Duration::from_millis(30);

/// How many workers are enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Enough {
    All,
    Count(u32),
    Percent(u32),
}

/// Which workers are to run which revision.
struct Target {
    caller: Principal,
    scope: Scope,
    epoch: Epoch,
    revision: Revision,
}

/// Somebody who waits. What is told next is asked for one after the other.
pub struct Wait {
    service: Arc<Service>,
    target: Target,
    enough: Enough,
    stop_on_rejection: bool,
    deadline: Instant,
    changes: watch::Receiver<u64>,
    /// Where it stood when that was told last.
    told: Option<(Convergence, Instant)>,
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
    over: bool,
    _place: Place,
}

/// A place of those who wait, of which nobody may have all.
struct Place {
    subject: Subject,
    waiting: Arc<Waiting>,
    _permit: OwnedSemaphorePermit,
}

/// Who waits for workers on this replica.
pub(super) struct Waiting {
    places: Arc<Semaphore>,
    of_subjects: Mutex<HashMap<Subject, usize>>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(WAITS)), of_subjects: Mutex::default() }
    }
}

impl Waiting {
    fn enter(self: &Arc<Self>, subject: &Subject) -> Result<Place> {
        let exhausted = |description| Error::Exhausted {
            reason: "TOO_MANY_WAITS",
            description,
            retry_after: Duration::from_secs(5),
        };
        let mut of_subjects = self.of_subjects.lock();
        if of_subjects.get(subject).is_some_and(|waits| *waits >= WAITS_OF_ONE) {
            return Err(exhausted(format!(
                "{WAITS_OF_ONE} calls of yours wait for workers on this replica already"
            )));
        }
        let permit = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| exhausted(format!("{WAITS} calls wait for workers on this replica already")))?;
        *of_subjects.entry(subject.clone()).or_default() += 1;
        Ok(Place { subject: subject.clone(), waiting: Arc::clone(self), _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of_subjects = self.waiting.of_subjects.lock();
        if let Some(waits) = of_subjects.get_mut(&self.subject) {
            *waits -= 1;
            if *waits == 0 {
                of_subjects.remove(&self.subject);
            }
        }
    }
}

impl Service {
    /// How the workers that the caller sees stand to a revision.
    ///
    /// # Errors
    /// `Invalid`, `OutOfRange`, `Unavailable`.
    pub async fn convergence(
        &self,
        caller: &Principal,
        request: &GetConvergenceRequest,
    ) -> Result<GetConvergenceResponse> {
        let GetConvergenceRequest { revision, workers, resources, min_revision_token } = request;
        let mut violations = Violations::default();
        let scope = Scope::parse(workers.as_ref(), resources, &mut violations)?;
        let least = violations.take(parse_revision_token("min_revision_token", min_revision_token))?;
        let least = violations.allow(Some(least.flatten()))?;
        let (epoch, revision) = self.goal_revision(*revision, least).await?;
        self.parts.fleet.refresh(FRESH).await.map_err(store_error)?;
        let target = Target { caller: caller.clone(), scope, epoch, revision };
        Ok(GetConvergenceResponse { convergence: Some(self.stand(&target, true)) })
    }

    /// Begins to wait until enough workers run a revision.
    ///
    /// # Errors
    /// `Invalid`, `OutOfRange`, `Unavailable`, `Exhausted` when too many wait.
    pub async fn wait_for_convergence(
        self: Arc<Self>,
        caller: &Principal,
        request: &WaitForConvergenceRequest,
    ) -> Result<Wait> {
        let WaitForConvergenceRequest {
            revision,
            workers,
            resources,
            min_revision_token,
            quorum,
            timeout,
            stop_on_rejection,
        } = request;
        let mut violations = Violations::default();
        let scope = Scope::parse(workers.as_ref(), resources, &mut violations)?;
        let least = violations.take(parse_revision_token("min_revision_token", min_revision_token))?;
        let enough = parse_quorum(*quorum, &mut violations);
        let timeout = parse_timeout(timeout.as_ref(), &mut violations);
        let least = violations.allow(Some(least.flatten()))?;
        let place = self.waits.enter(&caller.subject)?;
        let deadline = Instant::now() + timeout;
        let (epoch, revision) = self.goal_revision(*revision, least).await?;
        let streams = Arc::clone(&self.parts.streams);
        Ok(Wait {
            changes: self.parts.fleet.changes(),
            service: self,
            target: Target { caller: caller.clone(), scope, epoch, revision },
            enough,
            stop_on_rejection: *stop_on_rejection,
            deadline,
            told: None,
            draining: Box::pin(async move { streams.draining().await }),
            over: false,
            _place: place,
        })
    }

    /// How the workers stand to a target; with names, or without.
    fn stand(&self, target: &Target, named: bool) -> Convergence {
        let Target { caller, scope, epoch, revision } = target;
        let state = self.parts.view.state();
        let unchanged = |view: &View| self.unchanged_since(view, *epoch, *revision);
        let goal = Goal::new(*epoch, *revision, &unchanged);
        let incomplete = self.parts.fleet.is_incomplete();
        let mut stand = Convergence { revision: revision.0, incomplete, ..Convergence::default() };
        let mut lacking: Vec<(State, Worker)> = Vec::new();
        for worker in self.parts.fleet.workers() {
            if !scope.meets(&worker, caller, &state) {
                continue;
            }
            let how = goal.state(&worker);
            let count = match how {
                State::Silent => &mut stand.silent,
                // It ran it, and is gone: nobody is to be waited for.
                State::Converged if !worker.connected => continue,
                State::Converged => &mut stand.converged,
                State::Pending => &mut stand.pending,
                State::Disconnected => &mut stand.disconnected,
                State::Rejected => &mut stand.rejected,
            };
            *count += 1;
            if !matches!(how, State::Silent | State::Converged) {
                lacking.push((how, worker));
            }
        }
        stand.total = stand.converged + stand.pending + stand.disconnected + stand.rejected;
        if named {
            lacking.sort_by_key(|(how, _)| *how != State::Rejected);
            let statuses = lacking.iter().map(|(_, worker)| self.worker_status(caller, worker, &goal));
            stand.unconverged = fitting(statuses, NAMED).0;
        }
        stand
    }
}

impl Wait {
    /// What is to be told next; `None` after the outcome, and after an error.
    pub async fn next(&mut self) -> Option<Result<WaitForConvergenceResponse>> {
        if self.over {
            return None;
        }
        let next = self.advance().await;
        self.over = next.as_ref().map_or(true, |told| told.outcome != i32::from(WaitOutcome::Unspecified));
        Some(next)
    }

    async fn advance(&mut self) -> Result<WaitForConvergenceResponse> {
        loop {
            self.service.still_allowed(&self.target.caller)?;
            if self.service.parts.view.state().epoch != self.target.epoch {
                return Err(other_life());
            }
            // Before it is looked at, so that what changes meanwhile is looked at again.
            self.changes.borrow_and_update();
            if let Some(told) = self.look().await? {
                return Ok(told);
            }
            tokio::select! {
                () = &mut self.draining => return Err(shutting_down()),
                () = sleep_until(self.deadline) => {}
                () = sleep(FRESH) => {}
                _ = self.changes.changed() => sleep(GATHER).await,
            }
        }
    }

    /// Looks where it stands; gives what is to be told of that, if anything is.
    async fn look(&mut self) -> Result<Option<WaitForConvergenceResponse>> {
        let late = Instant::now() >= self.deadline;
        match self.service.parts.fleet.refresh(FRESH).await {
            Ok(()) => {}
            // Workers of other replicas are not known for now; nothing is said of them until they are.
            Err(StoreError::Unavailable(_)) if !late => return Ok(None),
            Err(error) => return Err(store_error(error)),
        }
        let stand = self.service.stand(&self.target, false);
        let needed = self.enough.of(stand.total);
        let outcome = if late { Some(WaitOutcome::TimedOut) } else { None };
        let found = outcome_of(&stand, needed, self.stop_on_rejection);
        let is_sure = |found: &WaitOutcome| *found != WaitOutcome::Reached || self.enough.is_known(&stand);
        let outcome = found.filter(is_sure).or(outcome);
        if let Some(outcome) = outcome {
            let convergence = Some(self.service.stand(&self.target, true));
            return Ok(Some(WaitForConvergenceResponse { outcome: outcome.into(), convergence, needed }));
        }
        let news =
            self.told.as_ref().is_none_or(|(before, at)| *before != stand || at.elapsed() >= HEARTBEAT);
        if !news {
            return Ok(None);
        }
        self.told = Some((stand.clone(), Instant::now()));
        let outcome = WaitOutcome::Unspecified.into();
        Ok(Some(WaitForConvergenceResponse { outcome, convergence: Some(stand), needed }))
    }
}

impl Service {
    /// Rights are fixed for a token's life, and end with it.
    fn still_allowed(&self, caller: &Principal) -> Result<()> {
        let (reason, what) = if self.parts.clock.now() >= caller.expires_at {
            ("TOKEN_EXPIRED", "has expired; come back with a new one")
        } else if self.parts.view.state().revocations.revokes(caller) {
            ("TOKEN_REVOKED", "has been revoked")
        } else {
            return Ok(());
        };
        Err(Error::Unauthenticated { reason, description: format!("the token of this call {what}") })
    }
}

impl Enough {
    /// Whether it can be known that so many run it. Who does not know all workers does not know that all do, or a share of all.
    fn is_known(self, stand: &Convergence) -> bool {
        !stand.incomplete || matches!(self, Self::Count(_))
    }

    /// How many of so many workers are needed.
    fn of(self, total: u32) -> u32 {
        match self {
            Self::All => total,
            Self::Count(count) => count,
            Self::Percent(percent) => {
                let needed = (u64::from(total) * u64::from(percent)).div_ceil(100);
                u32::try_from(needed).unwrap_or(total)
            }
        }
    }
}

/// How it ends where it stands, if it does.
fn outcome_of(stand: &Convergence, needed: u32, stop_on_rejection: bool) -> Option<WaitOutcome> {
    let Convergence { total, converged, rejected, .. } = *stand;
    // Where workers are yet to come, those that have refused are not what it lacks.
    let hopeless = total >= needed && total - rejected < needed;
    if converged >= needed {
        Some(WaitOutcome::Reached)
    } else if rejected > 0 && (stop_on_rejection || hopeless) {
        Some(WaitOutcome::Rejected)
    } else {
        None
    }
}

fn parse_quorum(quorum: Option<Quorum>, violations: &mut Violations) -> Enough {
    match quorum {
        None => Enough::All,
        Some(Quorum::Count(count)) => {
            if count == 0 {
                violations.add("count", "OUT_OF_RANGE", "must be at least 1");
            }
            Enough::Count(count)
        }
        Some(Quorum::Percent(percent)) => {
            if !(1..=100).contains(&percent) {
                violations.add("percent", "OUT_OF_RANGE", "must be 1 to 100");
            }
            Enough::Percent(percent)
        }
    }
}

fn parse_timeout(timeout: Option<&prost_types::Duration>, violations: &mut Violations) -> Duration {
    let (default, most) = TIMEOUT;
    let Some(timeout) = timeout else { return default };
    match duration::read(*timeout) {
        Some(timeout) if !timeout.is_zero() && timeout <= most => timeout,
        _ => {
            violations.add("timeout", "OUT_OF_RANGE", "must be more than nothing, and at most an hour");
            default
        }
    }
}

fn shutting_down() -> Error {
    Error::Unavailable {
        reason: "SHUTTING_DOWN",
        description: "this replica stops; ask another one again".into(),
        retry_after: Duration::from_secs(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stand(converged: u32, pending: u32, rejected: u32) -> Convergence {
        let total = converged + pending + rejected;
        Convergence { total, converged, pending, rejected, ..Convergence::default() }
    }

    #[test]
    fn a_share_is_rounded_up() {
        assert_eq!(Enough::Percent(50).of(3), 2);
        assert_eq!(Enough::Percent(1).of(1000), 10);
        assert_eq!(Enough::Percent(100).of(u32::MAX), u32::MAX);
        assert_eq!(Enough::Percent(1).of(0), 0);
        assert_eq!((Enough::All.of(7), Enough::Count(9).of(7)), (7, 9));
    }

    /// Workers for which there was no room were as good as converged.
    #[test]
    fn regression_of_a_fleet_that_is_not_known_whole_only_a_count_is_known() {
        let some = Convergence { incomplete: true, ..stand(9, 0, 0) };
        assert!(Enough::Count(9).is_known(&some));
        assert!(!Enough::All.is_known(&some) && !Enough::Percent(50).is_known(&some));
        assert!(Enough::All.is_known(&stand(9, 0, 0)));
    }

    #[test]
    fn a_wait_ends_when_it_is_decided() {
        use WaitOutcome::{Reached, Rejected};
        let all = |stand: &Convergence| outcome_of(stand, stand.total, false);
        assert_eq!(all(&stand(0, 0, 0)), Some(Reached));
        assert_eq!(all(&stand(9, 0, 0)), Some(Reached));
        assert_eq!(all(&stand(8, 1, 0)), None);
        assert_eq!(all(&stand(8, 1, 1)), Some(Rejected), "all can't be reached any more");
        assert_eq!(outcome_of(&stand(8, 1, 1), 9, false), None, "the others are enough");
        assert_eq!(outcome_of(&stand(9, 0, 1), 9, true), Some(Reached));
        assert_eq!(outcome_of(&stand(8, 1, 1), 9, true), Some(Rejected));
        assert_eq!(outcome_of(&stand(1, 0, 1), 3, false), None, "workers may still come");
    }
}
