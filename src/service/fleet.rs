//! Who runs what: reports taken, workers listed.
//!
//! A caller sees the workers whose streams show something that its grants reach, and of each only what lies within these.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::{
    Service, parse_revision_token,
    read::{PageToken, page_size},
    store_error,
};
use crate::{
    domain::{
        Epoch, Error, Labels, Pattern, Principal, Rejection, Report, Result, Revision, RevisionToken, Role,
        Selector, SessionId, Text, Violations, limits,
    },
    fleet::{Goal, Told, View, Worker, within},
    kinds,
    proto::v1::{
        self, AppliedReport, ListWorkersRequest, ListWorkersResponse, ReportAppliedRequest,
        ReportAppliedResponse, WorkerSelector, WorkerState, WorkerStatus,
    },
    view,
    watch::timestamp,
};

/// Reports of one call.
const MAX_REPORTS: usize = 1000;
/// Characters of the reason of a rejection.
const REASON_CHARS: usize = 512;
/// Names of one rejection.
const MAX_NAMES: usize = 64;
/// Workers that are selected by their ids.
const MAX_IDS: usize = 100;
/// Characters of a worker's id.
const ID_CHARS: usize = 128;
/// How old what is known of other replicas may be.
pub(super) const FRESH: std::time::Duration = std::time::Duration::from_millis(200);

/// Which workers are meant.
pub(super) struct Scope {
    ids: BTreeSet<String>,
    labels: Labels,
    /// Empty: whatever they see.
    resources: Vec<Selector>,
}

impl Scope {
    /// Reads which workers are meant; what is wrong is noted.
    pub fn parse(
        workers: Option<&WorkerSelector>,
        resources: &[v1::Selector],
        violations: &mut Violations,
    ) -> Result<Self> {
        let WorkerSelector { ids, labels } = workers.cloned().unwrap_or_default();
        violations.at_most("workers.ids", ids.len(), MAX_IDS, "ids");
        for (index, id) in ids.iter().enumerate().take(MAX_IDS) {
            violations.text(&format!("workers.ids[{index}]"), id, Text::Line, ID_CHARS);
        }
        violations.extend(kinds::check_labels(&labels, "workers.labels"));
        let resources = violations.take(kinds::parse_selectors(resources, "resources"))?.unwrap_or_default();
        Ok(Self { ids: ids.into_iter().collect(), labels, resources })
    }

    /// Whether a worker is meant, among those that the caller sees.
    pub fn meets(&self, worker: &Worker, caller: &Principal, state: &view::State) -> bool {
        let session = &worker.session;
        (self.ids.is_empty() || self.ids.contains(&session.worker))
            && self.labels.iter().all(|(key, value)| session.labels.get(key) == Some(value))
            && (self.resources.is_empty()
                || self.resources.iter().any(|it| sees(&worker.view, it, caller, state)))
            && (caller.grants.contains(&Pattern::All) || worker.view.overlaps(&caller.grants))
    }
}

/// Whether a view shows something that a selector reaches. Of a resource that there is, its labels tell; of one that the caller
/// does not reach, not even that.
fn sees(view: &View, wanted: &Selector, caller: &Principal, state: &view::State) -> bool {
    if let Pattern::Name(name) = &wanted.pattern
        && let Some(entry) = state.get(name.as_str())
        && caller.reaches(&entry.record.name, entry.record.kind)
    {
        let record = &entry.record;
        return view.selectors.iter().any(|shown| shown.matches(&record.name, record.kind, &record.labels));
    }
    view.overlaps(std::slice::from_ref(&wanted.pattern))
}

impl Service {
    /// Takes what a worker reports of its sessions.
    ///
    /// # Errors
    /// `Invalid`, also for a revision that there is not, `PermissionDenied`, `Exhausted`, `Unavailable`; nothing is taken then.
    pub async fn report_applied(
        &self,
        caller: &Principal,
        request: ReportAppliedRequest,
    ) -> Result<ReportAppliedResponse> {
        let (reports, unknown_reports) = self.parts.fleet.identify(caller, parse_reports(request)?)?;
        self.not_ahead(&reports).await?;
        self.parts.fleet.take(reports.into_iter().map(|(_, report)| report).collect())?;
        Ok(ReportAppliedResponse { unknown_reports })
    }

    /// Refuses what is told of revisions that there are not: they would count for whatever is written next. This replica may
    /// be behind the one whose stream a worker follows, so beyond what it serves the store is asked.
    async fn not_ahead(&self, reports: &[(u32, Report)]) -> Result<()> {
        let refused = |report: &Report| report.rejection.as_ref().map(|rejection| rejection.revision);
        let newest = reports.iter().map(|(_, report)| refused(report).max(Some(report.applied))).max();
        if newest.flatten() <= Some(self.parts.view.state().revision) {
            return Ok(());
        }
        let head = self.parts.store.head().await.map_err(store_error)?.revision;
        let mut violations = Violations::default();
        for (index, report) in reports {
            for (field, revision) in
                [("applied_revision", Some(report.applied)), ("rejection.revision", refused(report))]
            {
                if let Some(revision) = revision.filter(|revision| *revision > head) {
                    let wrong =
                        format!("{revision} lies ahead of the store's {head}; report what the stream told");
                    violations.add(format!("reports[{index}].{field}"), "OUT_OF_RANGE", wrong);
                }
            }
        }
        violations.allow(Some(()))
    }

    /// Lists the workers that the caller sees.
    ///
    /// # Errors
    /// `Invalid`, `OutOfRange`, `Unavailable`.
    pub async fn list_workers(
        &self,
        caller: &Principal,
        request: &ListWorkersRequest,
    ) -> Result<ListWorkersResponse> {
        let query = fingerprint(request);
        let mut violations = Violations::default();
        let scope = Scope::parse(request.workers.as_ref(), &request.resources, &mut violations)?;
        let states = parse_states(&request.states, &mut violations);
        let size = violations.take(page_size(request.page_size))?;
        let page = violations.take(self.parse_page(&request.page_token, &query))?.flatten();
        let least = parse_revision_token("min_revision_token", &request.min_revision_token);
        let least = violations.take(least)?.flatten();
        let size = violations.allow(size)?;
        let (epoch, revision) = self.goal_revision(request.revision, least).await?;
        self.parts.fleet.refresh(FRESH).await.map_err(store_error)?;
        let after = page.and_then(|page| page.after.split_once('\n').map(owned));
        let is_after =
            |worker: &Worker| after.as_ref().is_none_or(|(id, session)| worker.place() > (id, session));
        let state = self.parts.view.state();
        let unchanged = |view: &View| self.unchanged_since(view, epoch, revision);
        let goal = Goal::new(epoch, revision, &unchanged);
        let workers = self.parts.fleet.workers();
        let found = workers.iter().filter(|worker| is_after(worker) && scope.meets(worker, caller, &state));
        let shown = found.map(|worker| self.worker_status(caller, worker, &goal));
        let shown = shown.filter(|status| states.is_empty() || states.contains(&status.state));
        let (workers, more) = fitting(shown, size);
        let next = workers.last().filter(|_| more).map(|last| PageToken {
            at: String::new(),
            after: format!("{}\n{}", last.id, last.session),
            query,
            past: false,
        });
        let next_page_token = next.map(|token| self.encode_page(&token)).transpose()?.unwrap_or_default();
        Ok(ListWorkersResponse { workers, next_page_token, revision: revision.0 })
    }

    /// The revision that is asked for, and its life; 0 is the current one.
    ///
    /// # Errors
    /// `OutOfRange` ahead of this replica, `Unavailable`.
    pub(super) async fn goal_revision(
        &self,
        asked: u64,
        least: Option<RevisionToken>,
    ) -> Result<(Epoch, Revision)> {
        self.at_least(least).await?;
        let state = self.parts.view.state();
        if asked > state.revision.0 {
            return Err(Error::OutOfRange {
                reason: "AHEAD",
                description: format!(
                    "revision {asked} lies ahead of this replica's {}; give the token of the write as \
                     min_revision_token",
                    state.revision
                ),
                floor: Revision::ZERO,
            });
        }
        Ok((state.epoch, if asked == 0 { state.revision } else { Revision(asked) }))
    }

    /// From which revision on nothing in a view has changed up to `revision`, as far as that is known.
    pub(super) fn unchanged_since(&self, view: &View, epoch: Epoch, revision: Revision) -> Revision {
        self.parts.streams.unchanged_since(&view.selectors, epoch, revision)
    }

    /// A worker, as far as the caller may see it.
    pub(super) fn worker_status(&self, caller: &Principal, worker: &Worker, goal: &Goal<'_>) -> WorkerStatus {
        let Worker { session, view, report, connected, orphaned: _, began, last_seen } = worker;
        let admin = caller.role == Role::Admin;
        let state = goal.state(worker);
        let rejection = report.as_ref().and_then(|report| report.standing_rejection());
        let rejection = rejection.filter(|_| may_read(caller, view));
        let selectors = view.selectors.iter().filter(|selector| within(selector, &caller.grants));
        let replica = |id: &crate::domain::ReplicaId| {
            let all = self.parts.replicas.all();
            let known = all.into_iter().find(|seen| seen.heartbeat.id == *id);
            known.map_or_else(|| id.to_string(), |seen| seen.heartbeat.address)
        };
        WorkerStatus {
            session: session.id.0.clone(),
            id: session.worker.clone(),
            labels: session.labels.clone(),
            client_version: session.client_version.clone(),
            subject: if admin { session.subject.clone() } else { String::new() },
            selectors: selectors.map(selector).collect(),
            include_secrets: session.secrets,
            state: told(state).into(),
            connected: *connected,
            applied_revision: report.as_ref().map_or(0, |report| report.applied.0),
            lag: if state == crate::fleet::State::Converged { 0 } else { goal.lag(worker) },
            rejection: rejection.map(|Rejection { revision, reason, names }| v1::Rejection {
                revision: revision.0,
                reason: reason.clone(),
                names: names.clone(),
            }),
            replica: if admin { replica(&session.replica) } else { String::new() },
            connect_time: Some(timestamp(*began)),
            last_seen_time: Some(timestamp(*last_seen)),
        }
    }
}

/// How many revisions behind is counted together, with the words for that.
const LAGS: [(u64, &str); 4] = [(1, "1"), (10, "10"), (100, "100"), (u64::MAX, "more")];

/// Workers, counted. Those of `states` and `lags` are the ones whose streams this replica serves, or served last, by how they stand
/// to the revision that it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerCounts {
    /// By the state's word.
    pub states: Vec<(&'static str, u64)>,
    /// Those that have not converged, by how many revisions they are behind at most.
    pub lags: Vec<(&'static str, u64)>,
    /// Revisions that were refused.
    pub rejections: u64,
    /// Streams of workers that are not counted, because there are too many.
    pub uncounted: u64,
    /// Workers of all replicas that vanished, as all replicas know them.
    pub orphaned: u64,
}

impl Service {
    /// Counts workers.
    pub(super) fn worker_counts(&self) -> WorkerCounts {
        use crate::fleet::State;
        let view = self.parts.view.state();
        let unchanged = |shown: &View| self.unchanged_since(shown, view.epoch, view.revision);
        let goal = Goal::new(view.epoch, view.revision, &unchanged);
        let mut states: Vec<_> = State::WORDS.iter().map(|(state, word)| (*state, *word, 0)).collect();
        let mut lags: Vec<_> = LAGS.iter().map(|(most, word)| (*most, *word, 0)).collect();
        let (own, mut orphaned) = (self.parts.replicas.id(), 0);
        for worker in self.parts.fleet.workers() {
            orphaned += u64::from(worker.orphaned);
            if worker.session.replica != *own {
                continue;
            }
            let state = goal.state(&worker);
            states.iter_mut().filter(|(of, ..)| *of == state).for_each(|(.., count)| *count += 1);
            if !matches!(state, State::Converged | State::Silent) {
                let lag = goal.lag(&worker);
                lags.iter_mut()
                    .find(|(most, ..)| lag <= *most)
                    .into_iter()
                    .for_each(|(.., count)| *count += 1);
            }
        }
        WorkerCounts {
            states: states.into_iter().map(|(_, word, count)| (word, count)).collect(),
            lags: lags.into_iter().map(|(_, word, count)| (word, count)).collect(),
            rejections: self.parts.fleet.rejections(),
            uncounted: self.parts.fleet.uncounted(),
            orphaned,
        }
    }
}

/// Whether a rejection, which is in the worker's own words, tells nothing that the caller can't see: whatever names it gives, it
/// may speak of all that the worker sees.
fn may_read(caller: &Principal, view: &View) -> bool {
    view.is_within(&caller.grants)
}

fn told(state: crate::fleet::State) -> WorkerState {
    use crate::fleet::State;
    match state {
        State::Converged => WorkerState::Converged,
        State::Pending => WorkerState::Pending,
        State::Disconnected => WorkerState::Disconnected,
        State::Rejected => WorkerState::Rejected,
        State::Silent => WorkerState::Silent,
    }
}

fn selector(selector: &Selector) -> v1::Selector {
    use v1::selector::Pattern as Told;
    let pattern = match &selector.pattern {
        Pattern::All => None,
        Pattern::Name(name) => Some(Told::Name(name.to_string())),
        Pattern::Prefix(prefix) => Some(Told::Prefix(prefix.clone())),
        Pattern::Kind(kind) => Some(Told::Kind(kind.to_string())),
    };
    v1::Selector { pattern, labels: selector.labels.clone() }
}

fn owned((one, other): (&str, &str)) -> (String, String) {
    (one.to_owned(), other.to_owned())
}

/// As many workers as were asked for and fit into a message, and whether there are more.
pub(super) fn fitting(workers: impl Iterator<Item = WorkerStatus>, size: usize) -> (Vec<WorkerStatus>, bool) {
    let (mut bytes, mut taken) = (0, Vec::new());
    for worker in workers {
        bytes += prost::Message::encoded_len(&worker) + 8;
        if taken.len() == size || (bytes > limits::MESSAGE_OUT_BYTES / 2 && !taken.is_empty()) {
            return (taken, true);
        }
        taken.push(worker);
    }
    (taken, false)
}

fn parse_states(states: &[i32], violations: &mut Violations) -> BTreeSet<i32> {
    for (index, number) in states.iter().enumerate().take(MAX_IDS) {
        if *number == 0 || WorkerState::try_from(*number).is_err() {
            let words: Vec<&str> = (1..)
                .map_while(|number| WorkerState::try_from(number).ok())
                .map(|state| state.as_str_name())
                .collect();
            violations.add(
                format!("states[{index}]"),
                "UNKNOWN_VALUE",
                format!("must be one of {}", words.join(", ")),
            );
        }
    }
    violations.at_most("states", states.len(), MAX_IDS, "states");
    states.iter().copied().collect()
}

/// Reads reports, with everything that is wrong with them.
fn parse_reports(request: ReportAppliedRequest) -> Result<Vec<Told>> {
    let mut violations = Violations::default();
    let count = request.reports.len();
    if count == 0 || count > MAX_REPORTS {
        let description = format!("holds {count} reports; 1 to {MAX_REPORTS} are allowed");
        violations.add("reports", "OUT_OF_RANGE", description);
    }
    let mut told = Vec::with_capacity(count.min(MAX_REPORTS));
    for (index, report) in request.reports.into_iter().enumerate().take(MAX_REPORTS) {
        told.push(parse_report(report, &format!("reports[{index}]"), &mut violations));
    }
    violations.allow(Some(told))
}

fn parse_report(report: AppliedReport, path: &str, violations: &mut Violations) -> Told {
    let AppliedReport { session_id, applied_revision, rejection, leaving } = report;
    let session_path = format!("{path}.session_id");
    violations.required(&session_path, &session_id, Text::Line, limits::SESSION_ID_CHARS);
    let applied = parse_revision(&format!("{path}.applied_revision"), applied_revision, violations);
    let rejection =
        rejection.map(|rejection| parse_rejection(rejection, &format!("{path}.rejection"), violations));
    let report = Report { session: SessionId(String::new()), applied, rejection, left: leaving };
    Told { session: session_id, report }
}

fn parse_rejection(rejection: v1::Rejection, path: &str, violations: &mut Violations) -> Rejection {
    let v1::Rejection { revision, reason, names } = rejection;
    let field = format!("{path}.revision");
    if revision == 0 {
        violations.add(field.clone(), "REQUIRED", "is required: the revision that was refused");
    }
    let revision = parse_revision(&field, revision, violations);
    violations.required(&format!("{path}.reason"), &reason, Text::Prose, REASON_CHARS);
    violations.at_most(&format!("{path}.names"), names.len(), MAX_NAMES, "names");
    for (index, name) in names.iter().enumerate().take(MAX_NAMES) {
        if let Err(why) = kinds::parse_name(name) {
            violations.add(format!("{path}.names[{index}]"), "INVALID_NAME", why);
        }
    }
    Rejection { revision, reason, names }
}

/// Revisions are counted from 1, and no store gets so far.
fn parse_revision(field: &str, revision: u64, violations: &mut Violations) -> Revision {
    if i64::try_from(revision).is_err() {
        violations.add(field, "OUT_OF_RANGE", "is no revision of any store; report what the stream told");
    }
    Revision(revision)
}

fn fingerprint(request: &ListWorkersRequest) -> String {
    let ListWorkersRequest {
        workers,
        states,
        resources,
        revision,
        min_revision_token: _,
        page_size: _,
        page_token: _,
    } = request;
    hex::encode(&Sha256::digest(format!("workers\n{workers:?}\n{states:?}\n{resources:?}\n{revision}"))[..8])
}
