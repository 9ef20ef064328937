//! Writes: authorised by the policy table, planned on the view, made durable by the store, answered once they are seen.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::{sync::RwLockWriteGuard, time::Instant};
use tracing::Instrument as _;

use super::{
    PATIENCE, Service, behind,
    fit::fit,
    outcome,
    plan::{Mode, Plan, Planner, Refusal, Rollback, RotateKey},
    store_error,
};
use crate::{
    crypto::Vault,
    domain::{
        Applied, ApplyError, Error, FieldViolation, Principal, Result, Revision, RevisionToken, Text,
        Violations, WriteSet, limits, write::RequestKey,
    },
    kinds,
    proto::v1::{BatchWriteResponse, Resource},
    view::State,
    watch::{not_granted, timestamp},
};

/// A write that keeps losing against others gives up after this time.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// Attempts that a write makes beside the others of this server; from then on it has its turn alone.
const ATTEMPTS_BESIDE_OTHERS: u32 = 3;

/// Operations with which a write is large: others that the thread serves would notice the time that it takes to plan.
const LARGE: usize = 16;

/// One thing to write, and where in the request it stands.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Path of the operation's fields in the request: `` or `operations[3].update.`; of one that is missing, its own.
    pub path: String,
    /// What to do.
    pub action: OperationKind,
}

/// What to do with one resource.
#[derive(Clone, Debug)]
pub enum OperationKind {
    /// Create it.
    Create(Resource),
    /// Change the fields that the mask names.
    Update {
        /// The new content.
        resource: Resource,
        /// The fields; empty means the populated ones.
        mask: Vec<String>,
        /// Create it if it is not there.
        allow_missing: bool,
    },
    /// Delete it.
    Delete {
        /// Its name.
        name: String,
        /// The etag it must have, if any.
        etag: String,
        /// Succeed if it is not there.
        allow_missing: bool,
    },
    /// Take it in as it comes from elsewhere.
    Import {
        /// The resource.
        resource: Resource,
        /// The fields to change where it is there; empty means the populated ones.
        mask: Vec<String>,
        /// What becomes of one that is there.
        mode: Mode,
        /// Whether one that is there stays as it is where what uses it would no longer fit.
        yields: bool,
    },
    /// Turn a key over to another value.
    Rotate(RotateKey),
    /// Bring resources back to what they were.
    Rollback(Rollback),
    /// The request does not say.
    Missing,
}

/// A write as a caller asks for it.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    /// What to do, all or nothing.
    pub operations: Vec<Operation>,
    /// Check and answer, but change nothing.
    pub validate_only: bool,
    /// The caller's id of the request; may be empty.
    pub request_id: String,
    /// Why; may be empty.
    pub reason: String,
    /// The encoded request, for telling a replay from another request under the same id.
    pub body: Vec<u8>,
}

impl Operation {
    /// How many resources it writes itself.
    fn resources(&self) -> usize {
        match &self.action {
            OperationKind::Rollback(rollback) => rollback.steps.len(),
            _ => 1,
        }
    }
}

impl Service {
    /// Carries out a write: one revision, or none.
    ///
    /// # Errors
    /// Those of api.md; nothing is changed when there is one, but for `Unavailable` after a commit whose outcome is
    /// not known, which a repetition under the same request id settles.
    pub async fn write(&self, caller: &Principal, request: WriteRequest) -> Result<BatchWriteResponse> {
        let done = if request.validate_only { "nothing was done" } else { "the write is done" };
        self.carry_out(caller, request).await.map(|answer| fit(answer, self.parts.max_answer_bytes, done))
    }

    pub(super) async fn carry_out(
        &self,
        caller: &Principal,
        request: WriteRequest,
    ) -> Result<BatchWriteResponse> {
        let span = tracing::info_span!(
            "write",
            signalbox.operations = request.operations.len().cast_signed(),
            signalbox.validate_only = request.validate_only,
        );
        self.plan_and_apply(caller, request).instrument(span).await
    }

    async fn plan_and_apply(
        &self,
        caller: &Principal,
        mut request: WriteRequest,
    ) -> Result<BatchWriteResponse> {
        let found = check_frame(&request);
        let replay = Replay::of(caller, &request, &self.parts.vault);
        // Also what was answered before is answered only to who may still have it.
        authorise(caller, &request.operations)?;
        if found.is_empty()
            && let Some(answer) = self.replayed(caller, &replay, request.validate_only).await?
        {
            return Ok(answer);
        }
        let deadline = Instant::now() + DEADLINE;
        let operations: Arc<[Operation]> = std::mem::take(&mut request.operations).into();
        let (mut asked, mut lost) = (None, 0);
        loop {
            let alone = self.turn_alone(lost).await?;
            let state = self.parts.view.state();
            let plan = match self.plan(&state, caller, &found, &operations, request.validate_only).await {
                Ok(plan) => plan,
                Err(Refusal { error, depends_on_state: true }) => {
                    if !self.is_current(&state, &mut asked).await? {
                        continue;
                    }
                    // The same request may have been carried out between the look-up and the plan.
                    return self.replayed(caller, &replay, request.validate_only).await?.ok_or(error);
                }
                Err(Refusal { error, .. }) => return Err(error),
            };
            if request.validate_only {
                return Ok(answer_without_write(plan.response, &state, true));
            }
            // Without an id of the caller's nobody can ask for the answer again, and nothing has to be made durable.
            if plan.is_empty() && request.request_id.is_empty() {
                self.is_whole()?;
                if !self.is_current(&state, &mut asked).await? {
                    continue;
                }
                return Ok(answer_without_write(plan.response, &state, false));
            }
            let planned = plan.response.clone();
            match self.apply_in_turn(alone, caller, self.write_set(caller, &request, plan, &replay)).await {
                Ok(Applied::Committed { token, time }) => return Ok(self.seen(planned, token, time).await),
                Ok(applied) => return self.answer(caller, &replay, applied).await,
                Err(ApplyError::Stale { at }) if Instant::now() < deadline => {
                    lost += 1;
                    self.past_still_held(&operations).await?;
                    if at == state.revision && self.is_head(&state).await? {
                        return Err(self.rows_differ().into());
                    }
                    self.parts.view.look();
                    self.parts.view.reached(at, PATIENCE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// For a write that was lost so often: waits until no other write of this server is applied, and for the view to show them. None
    /// is applied until the turn is over, so that only another replica's can come in between, however long it takes to plan.
    async fn turn_alone(&self, lost: u32) -> Result<Option<RwLockWriteGuard<'_, ()>>> {
        if lost < ATTEMPTS_BESIDE_OTHERS {
            return Ok(None);
        }
        let turn = self.turns.write().await;
        self.is_current(&self.parts.view.state(), &mut None).await?;
        Ok(Some(turn))
    }

    async fn apply_in_turn(
        &self,
        alone: Option<RwLockWriteGuard<'_, ()>>,
        caller: &Principal,
        write: WriteSet,
    ) -> Result<Applied, ApplyError> {
        match alone {
            None => self.apply(caller, write).await,
            Some(_turn) => self.apply_alone(caller, write).await,
        }
    }

    /// Plans a write; a large one where nobody else waits for the thread.
    async fn plan(
        &self,
        state: &Arc<State>,
        caller: &Principal,
        found: &[FieldViolation],
        operations: &Arc<[Operation]>,
        dry_run: bool,
    ) -> Result<Plan, Refusal> {
        let found = found.to_vec();
        if operations.iter().map(Operation::resources).sum::<usize>() < LARGE {
            return Planner::new(&self.parts, state, caller, found).plan(operations, dry_run);
        }
        let (parts, state) = (Arc::clone(&self.parts), Arc::clone(state));
        let (caller, operations) = (caller.clone(), Arc::clone(operations));
        let planned = tokio::task::spawn_blocking(move || {
            Planner::new(&parts, &state, &caller, found).plan(&operations, dry_run)
        });
        planned.await.unwrap_or_else(|error| Err(Error::internal(error).into()))
    }

    pub(super) fn write_set(
        &self,
        caller: &Principal,
        request: &WriteRequest,
        plan: Plan,
        replay: &Replay,
    ) -> WriteSet {
        let id = match replay.id.is_empty() {
            true => uuid::Uuid::new_v4().to_string(),
            false => replay.id.clone(),
        };
        let outcome = outcome::seal(&self.parts.vault, &replay.place(), &plan.response);
        WriteSet {
            reads: plan.reads,
            changes: plan.changes,
            sealed: plan.sealed,
            revocation: None,
            actor: caller.subject.clone(),
            time: self.parts.clock.now(),
            reason: request.reason.clone(),
            request: RequestKey { principal: replay.principal.clone(), id, mac: replay.mac, outcome },
            trace: None,
        }
    }

    /// Whether nothing was written to the store since a state.
    async fn is_head(&self, state: &State) -> Result<bool> {
        let head = self.parts.store.head().await.map_err(store_error)?;
        Ok(RevisionToken::new(head.epoch, head.revision, &head.hash) == state.token())
    }

    /// What was planned on the state of a revision does not fit what the store holds at the very same: no other write did that, and
    /// trying again does not help.
    fn rows_differ(&self) -> ApplyError {
        let what = "rows of the current state are not what the log says";
        tracing::error!("the store is damaged: {what}; run `signalbox doctor`");
        self.parts.view.doubt();
        ApplyError::Damaged { what: what.into() }
    }

    /// Whether the log still holds what is to be brought back: no newer state brings back what was compacted.
    async fn past_still_held(&self, operations: &[Operation]) -> Result<()> {
        for operation in operations {
            if let OperationKind::Rollback(rollback) = &operation.action {
                self.still_held(rollback.revision).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn replayed(
        &self,
        caller: &Principal,
        replay: &Replay,
        validate_only: bool,
    ) -> Result<Option<BatchWriteResponse>> {
        if replay.id.is_empty() || validate_only {
            return Ok(None);
        }
        match self.parts.store.replay(&replay.principal, &replay.id, &replay.mac).await? {
            Some(applied) => self.answer(caller, replay, applied).await.map(Some),
            None => Ok(None),
        }
    }

    /// Whether the store has held a state since the request came, so that an answer that no transaction checks is as true as
    /// if one had: this replica's view may be behind what others have acknowledged. If not, the view has been waited for,
    /// and what was planned has to be planned again. `asked` is where the store was when it was asked for this request first:
    /// one answer is enough, however fast others write.
    async fn is_current(&self, state: &State, asked: &mut Option<RevisionToken>) -> Result<bool> {
        let held = match asked {
            Some(held) => held,
            None => {
                let head = self.parts.store.head().await.map_err(store_error)?;
                asked.insert(RevisionToken::new(head.epoch, head.revision, &head.hash))
            }
        };
        if state.has(held) {
            return Ok(true);
        }
        self.parts.view.look();
        match self.parts.view.has_seen(held, PATIENCE).await {
            true => Ok(false),
            false => Err(behind(held.revision)),
        }
    }

    /// The answer that a replayed write had.
    async fn answer(
        &self,
        caller: &Principal,
        replay: &Replay,
        applied: Applied,
    ) -> Result<BatchWriteResponse> {
        let Applied::Replayed { token, time, outcome } = applied else {
            return Err(Error::internal("a look-up of a request answered with a new write"));
        };
        let response = outcome::open(&self.parts.vault, &replay.place(), &outcome)?;
        let shown = response.results.iter().filter(|result| !result.one_time_secret.is_empty());
        let names: Vec<&str> = shown
            .filter_map(|result| result.resource.as_ref())
            .map(|resource| resource.name.as_str())
            .collect();
        if !names.is_empty() {
            self.audit(caller, "one_time_secret_repeated", names.join(", ")).await?;
        }
        Ok(self.seen(response, token, time).await)
    }

    /// Completes the answer to a durable write, once this server shows it: a caller reads its own writes.
    async fn seen(
        &self,
        mut response: BatchWriteResponse,
        token: RevisionToken,
        time: DateTime<Utc>,
    ) -> BatchWriteResponse {
        stamp(&mut response, &token, timestamp(time));
        self.parts.view.reached(token.revision, PATIENCE).await;
        response
    }
}

/// What a request is known by when it comes again.
pub(super) struct Replay {
    principal: String,
    id: String,
    mac: [u8; 32],
    token_id: String,
}

impl Replay {
    pub fn of(caller: &Principal, request: &WriteRequest, vault: &Vault) -> Self {
        Self {
            principal: format!("{}\n{}", caller.issuer, caller.subject),
            id: request.request_id.clone(),
            mac: vault.request_mac(&request.body),
            token_id: caller.token_id.clone().unwrap_or_default(),
        }
    }

    /// Where an outcome belongs: to this request of this principal, and its secrets to the very token that was shown them.
    fn place(&self) -> outcome::Place<'_> {
        outcome::Place { principal: &self.principal, request_id: &self.id, token_id: &self.token_id }
    }
}

/// Whether the caller reaches everything that the request names.
fn authorise(caller: &Principal, operations: &[Operation]) -> Result<()> {
    for Operation { path, action } in operations {
        let (field, name) = match action {
            OperationKind::Create(resource)
            | OperationKind::Update { resource, .. }
            | OperationKind::Import { resource, .. } => ("resource.name", resource.name.as_str()),
            OperationKind::Delete { name, .. } => ("name", name.as_str()),
            OperationKind::Rotate(rotate) => ("resource.name", rotate.name.as_str()),
            // What it names was taken from what the caller reaches, and the plan looks at each.
            OperationKind::Rollback(_) | OperationKind::Missing => continue,
        };
        // What is no name is a violation, which the plan finds.
        let Ok((name, kind)) = kinds::parse_name(name) else { continue };
        if !caller.reaches(&name, kind.name()) {
            return Err(not_granted(caller, name.as_str()).at(format!("{path}{field}")));
        }
    }
    Ok(())
}

/// Fills in what was not known while planning: the revision and the time.
fn stamp(response: &mut BatchWriteResponse, token: &RevisionToken, time: prost_types::Timestamp) {
    response.revision = token.revision.0;
    response.revision_token = token.to_string();
    for resource in response.results.iter_mut().filter_map(|result| result.resource.as_mut()) {
        if resource.update_revision != Revision::ZERO.0 {
            continue;
        }
        resource.update_revision = token.revision.0;
        resource.update_time = Some(time);
        if resource.create_revision == Revision::ZERO.0 {
            resource.create_revision = token.revision.0;
            resource.create_time = Some(time);
        }
    }
}

/// What was not written has no revision, time or identity of its own yet; none is made up.
fn answer_without_write(
    mut response: BatchWriteResponse,
    state: &State,
    validate_only: bool,
) -> BatchWriteResponse {
    response.revision = state.revision.0;
    response.revision_token = if validate_only { String::new() } else { state.token().to_string() };
    let resources = response.results.iter_mut().filter_map(|result| result.resource.as_mut());
    for resource in resources.filter(|resource| resource.update_revision == Revision::ZERO.0) {
        resource.update_time = None;
        resource.etag.clear();
        if resource.create_revision == Revision::ZERO.0 {
            resource.create_time = None;
        }
        if resource.version == 1 {
            resource.uid.clear();
        }
    }
    response
}

/// Where the parts of a write stand in its request.
pub(super) struct RequestParts {
    /// The field of the operations.
    pub list: &'static str,
    /// What stands before the other fields.
    options: &'static str,
}

/// Where the parts of a write stand in its request.
pub(super) fn parts_of(operations: &[Operation]) -> RequestParts {
    match operations.first().map(|operation| &operation.action) {
        Some(OperationKind::Import { .. }) => RequestParts { list: "items", options: "options." },
        Some(OperationKind::Rollback(_)) => RequestParts { list: "selectors", options: "" },
        _ => RequestParts { list: "operations", options: "" },
    }
}

/// What is wrong with the request apart from its operations.
fn check_frame(request: &WriteRequest) -> Vec<FieldViolation> {
    let mut violations = Violations::default();
    let RequestParts { list, options } = parts_of(&request.operations);
    let count = request.operations.len();
    if count == 0 || count > limits::BATCH_CHANGES {
        let description = format!("holds {count} {list}; 1 to {} are allowed", limits::BATCH_CHANGES);
        violations.add(list, "OUT_OF_RANGE", description);
    }
    let mut text = |field, value, max| violations.text(&format!("{options}{field}"), value, Text::Line, max);
    text("request_id", &request.request_id, limits::REQUEST_ID_CHARS);
    text("reason", &request.reason, limits::REASON_CHARS);
    violations.into_vec()
}
