//! Somebody who writes, and keeps every answer. An attempt whose outcome is not known is repeated under its request id
//! until there is one.

use std::time::Duration;

use signalbox::proto::v1::{
    BatchOperation, BatchResult, BatchWriteRequest, BatchWriteResponse, ChangeType, CreateResourceRequest,
    DeleteResourceRequest, ListResourcesRequest, Resource, UpdateResourceRequest, batch_operation,
};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    caller::Caller,
    resources::{Secrets, values_in},
    shown,
    truth::{Answer, Recorder, Told},
};
use crate::harness::PATIENCE;

/// One thing to write.
#[derive(Clone, Debug)]
pub enum Op {
    Create(Resource),
    Update { resource: Resource, mask: Vec<String>, allow_missing: bool },
    Delete { name: String, etag: String, allow_missing: bool },
}

/// One call.
#[derive(Clone, Debug, Default)]
pub struct Job {
    pub request_id: String,
    pub ops: Vec<Op>,
    /// As a batch, also when it is a single one.
    pub batch: bool,
    pub validate_only: bool,
}

/// Somebody who writes.
pub struct Writer {
    caller: Caller,
    recorder: Recorder,
    /// The token of its newest write.
    token: String,
}

impl Op {
    pub fn update(resource: Resource, mask: &[&str]) -> Self {
        let mask = mask.iter().map(|&path| path.to_owned()).collect();
        Op::Update { resource, mask, allow_missing: false }
    }

    pub fn delete(name: &str) -> Self {
        Op::Delete { name: name.to_owned(), etag: String::new(), allow_missing: false }
    }

    pub fn name(&self) -> &str {
        match self {
            Op::Create(resource) | Op::Update { resource, .. } => &resource.name,
            Op::Delete { name, .. } => name,
        }
    }

    fn secrets(&self) -> Secrets {
        match self {
            Op::Create(resource) | Op::Update { resource, .. } => values_in(resource),
            Op::Delete { .. } => Secrets::new(),
        }
    }

    pub fn in_batch(self) -> BatchOperation {
        use batch_operation::{Create, Delete, Operation, Update};
        let operation = match self {
            Op::Create(resource) => Operation::Create(Create { resource: Some(resource) }),
            Op::Update { resource, mask, allow_missing } => Operation::Update(Update {
                resource: Some(resource),
                update_mask: (!mask.is_empty()).then_some(prost_types::FieldMask { paths: mask }),
                allow_missing,
            }),
            Op::Delete { name, etag, allow_missing } => {
                Operation::Delete(Delete { name, etag, allow_missing })
            }
        };
        BatchOperation { operation: Some(operation) }
    }
}

impl Job {
    /// A call with one write, under an id of its own.
    pub fn one(op: Op) -> Self {
        Self { request_id: format!("one-{:x}", rand::random::<u128>()), ops: vec![op], ..Self::default() }
    }

    /// A batch, under an id of its own.
    pub fn batch(ops: Vec<Op>) -> Self {
        Self {
            request_id: format!("batch-{:x}", rand::random::<u128>()),
            ops,
            batch: true,
            ..Self::default()
        }
    }
}

impl Writer {
    pub fn new(caller: Caller, recorder: Recorder) -> Self {
        Self { caller, recorder, token: String::new() }
    }

    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Writes one thing that must succeed.
    pub async fn write(&mut self, op: Op) -> BatchWriteResponse {
        let job = Job::one(op);
        self.carry_out(&job).await.unwrap_or_else(|status| panic!("{}: {status:?}", shown(&job)))
    }

    /// Writes a batch that must succeed.
    pub async fn batch(&mut self, ops: Vec<Op>) -> BatchWriteResponse {
        self.carry_out(&Job::batch(ops)).await.unwrap_or_else(|status| panic!("{status:?}"))
    }

    /// Calls until there is an outcome, and keeps it.
    pub async fn carry_out(&mut self, job: &Job) -> Result<BatchWriteResponse, Status> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match call(&self.caller, job).await {
                Ok(response) => {
                    if !job.validate_only {
                        self.keep(job, &response);
                        self.token.clone_from(&response.revision_token);
                    }
                    return Ok(response);
                }
                Err(status) if unknown(&status) => {
                    assert!(
                        Instant::now() < deadline,
                        "no outcome within {PATIENCE:?}: {}: {status:?}",
                        shown(job)
                    );
                    sleep(Duration::from_millis(20)).await;
                    self.caller = self.caller.reconnected();
                    self.arrive(deadline).await;
                }
                Err(status) => return Err(status),
            }
        }
    }

    /// On to the next server, if there are several.
    pub async fn move_on(&mut self) {
        self.caller = self.caller.elsewhere();
        self.arrive(Instant::now() + PATIENCE).await;
    }

    /// Waits, on one of several servers, until it knows of what was written through another: what is only checked there
    /// is checked against what it knows.
    async fn arrive(&mut self, deadline: Instant) {
        while self.caller.roams() && Instant::now() < deadline {
            let min_revision_token = self.token.clone();
            let request = ListResourcesRequest { page_size: 1, min_revision_token, ..Default::default() };
            match self.caller.config().list_resources(request).await {
                Ok(_) => return,
                Err(status) if unknown(&status) => {}
                Err(status) => panic!("after a move: {status:?}"),
            }
            sleep(Duration::from_millis(20)).await;
            self.caller = self.caller.reconnected();
        }
    }

    fn keep(&self, job: &Job, response: &BatchWriteResponse) {
        assert_eq!(response.results.len(), job.ops.len(), "one result for each operation");
        let results = job.ops.iter().zip(&response.results);
        let changes: Vec<Told> = results.flat_map(|(op, result)| told(op, result)).collect();
        // What changed nothing answers with the revision that it found.
        if !changes.is_empty() {
            let (revision, token) = (response.revision, response.revision_token.clone());
            self.recorder.keep(Answer { revision, token, changes });
        }
    }
}

/// Whether it is not known what became of a call, or whether it could not be taken at this moment.
pub fn unknown(status: &Status) -> bool {
    match status.get_details_error_info() {
        Some(_) => status.code() == Code::Unavailable,
        None => matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal),
    }
}

async fn call(caller: &Caller, job: &Job) -> Result<BatchWriteResponse, Status> {
    let (request_id, validate_only) = (job.request_id.clone(), job.validate_only);
    let [op] = job.ops.as_slice() else { return batch(caller, job).await };
    if job.batch {
        return batch(caller, job).await;
    }
    let (result, revision, revision_token, warnings) = match op.clone() {
        Op::Create(resource) => {
            let request = CreateResourceRequest {
                resource: Some(resource),
                validate_only,
                request_id,
                ..Default::default()
            };
            let answer = caller.config().create_resource(request).await?.into_inner();
            let diffs = answer.diff.into_iter().collect();
            (
                BatchResult { resource: answer.resource, diffs, ..BatchResult::default() },
                answer.revision,
                answer.revision_token,
                answer.warnings,
            )
        }
        Op::Update { resource, mask, allow_missing } => {
            let request = UpdateResourceRequest {
                resource: Some(resource),
                update_mask: (!mask.is_empty()).then_some(prost_types::FieldMask { paths: mask }),
                allow_missing,
                validate_only,
                request_id,
                ..Default::default()
            };
            let answer = caller.config().update_resource(request).await?.into_inner();
            let diffs = answer.diff.into_iter().collect();
            (
                BatchResult { resource: answer.resource, diffs, ..BatchResult::default() },
                answer.revision,
                answer.revision_token,
                answer.warnings,
            )
        }
        Op::Delete { name, etag, allow_missing } => {
            let request = DeleteResourceRequest {
                name,
                etag,
                allow_missing,
                validate_only,
                request_id,
                ..Default::default()
            };
            let answer = caller.config().delete_resource(request).await?.into_inner();
            let result = BatchResult { diffs: answer.diffs, ..BatchResult::default() };
            (result, answer.revision, answer.revision_token, answer.warnings)
        }
    };
    Ok(BatchWriteResponse { results: vec![result], revision, revision_token, warnings })
}

async fn batch(caller: &Caller, job: &Job) -> Result<BatchWriteResponse, Status> {
    let request = BatchWriteRequest {
        operations: job.ops.iter().cloned().map(Op::in_batch).collect(),
        validate_only: job.validate_only,
        request_id: job.request_id.clone(),
        ..Default::default()
    };
    caller.config().batch_write(request).await.map(tonic::Response::into_inner)
}

/// What one operation changed, by its answer. An update whose diff is empty changed nothing.
fn told(op: &Op, result: &BatchResult) -> Vec<Told> {
    let deleted = result.diffs.iter().filter(|diff| diff.r#type() == ChangeType::Deleted);
    let mut told: Vec<Told> = deleted
        .map(|diff| Told { name: diff.name.clone(), resource: None, secrets: Secrets::new() })
        .collect();
    let changed = |diff: &&signalbox::proto::v1::ResourceDiff| {
        diff.r#type() == ChangeType::Created
            || (diff.r#type() == ChangeType::Updated && !diff.fields.is_empty())
    };
    if let (Some(resource), Some(_)) = (&result.resource, result.diffs.iter().find(changed)) {
        let resource = Some(resource.clone());
        told.push(Told { name: op.name().to_owned(), resource, secrets: op.secrets() });
    }
    told
}
