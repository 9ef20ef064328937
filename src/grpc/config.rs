//! `ConfigService`: reads and writes of every kind.

use std::sync::Arc;

use prost::Message;
use tonic::{Request, Response, Status};

use super::to_status;
use crate::{
    auth::Caller,
    domain::{Error, Result},
    proto::v1::{
        self, BatchResult, BatchWriteRequest, BatchWriteResponse, CreateResourceRequest,
        CreateResourceResponse, DeleteResourceRequest, DeleteResourceResponse, DiffRevisionsRequest,
        DiffRevisionsResponse, GetResourceRequest, GetResourceResponse, ListHistoryRequest,
        ListHistoryResponse, ListResourcesRequest, ListResourcesResponse, RollbackAllRequest,
        RollbackAllResponse, RollbackResourceRequest, RollbackResourceResponse, UpdateResourceRequest,
        UpdateResourceResponse, WatchConfigRequest, WatchConfigResponse, batch_operation,
        config_service_server::ConfigService,
    },
    service::{GetRequest, ListRequest, Operation, OperationKind, Service, WriteRequest},
};

/// The service, on its use cases.
pub struct Config {
    service: Arc<Service>,
}

impl Config {
    pub fn new(service: Arc<Service>) -> Self {
        Self { service }
    }

    async fn write<T>(
        &self,
        request: &Request<T>,
        write: WriteRequest,
    ) -> Result<BatchWriteResponse, Status> {
        let caller = Caller::of(request).map_err(to_status)?;
        self.service.write(caller, write).await.map_err(to_status)
    }
}

#[tonic::async_trait]
impl ConfigService for Config {
    async fn get_resource(
        &self,
        request: Request<GetResourceRequest>,
    ) -> Result<Response<GetResourceResponse>, Status> {
        let GetResourceRequest { name, revision, min_revision_token, include_secrets, include_observations } =
            request.get_ref().clone();
        let get = GetRequest { name, revision, min_revision_token, include_secrets, include_observations };
        let caller = Caller::of(&request).map_err(to_status)?;
        self.service.get(caller, get).await.map(Response::new).map_err(to_status)
    }

    async fn list_resources(
        &self,
        request: Request<ListResourcesRequest>,
    ) -> Result<Response<ListResourcesResponse>, Status> {
        let wire = request.get_ref().clone();
        let list = ListRequest {
            selectors: wire.selectors,
            filter: wire.filter,
            page_size: wire.page_size,
            page_token: wire.page_token,
            revision: wire.revision,
            min_revision_token: wire.min_revision_token,
            include_secrets: wire.include_secrets,
            include_observations: wire.include_observations,
        };
        let caller = Caller::of(&request).map_err(to_status)?;
        self.service.list(caller, list).await.map(Response::new).map_err(to_status)
    }

    async fn create_resource(
        &self,
        request: Request<CreateResourceRequest>,
    ) -> Result<Response<CreateResourceResponse>, Status> {
        let body = request.get_ref().encode_to_vec();
        let wire = request.get_ref().clone();
        let action = OperationKind::Create(wire.resource.unwrap_or_default());
        let write = single(action, wire.validate_only, wire.request_id, wire.reason, body);
        let answer = self.write(&request, write).await?;
        let (result, revision, revision_token, warnings) = take_apart(answer);
        Ok(Response::new(CreateResourceResponse {
            resource: result.resource,
            revision,
            revision_token,
            diff: result.diffs.into_iter().next(),
            warnings,
            one_time_secret: result.one_time_secret,
        }))
    }

    async fn update_resource(
        &self,
        request: Request<UpdateResourceRequest>,
    ) -> Result<Response<UpdateResourceResponse>, Status> {
        let body = request.get_ref().encode_to_vec();
        let wire = request.get_ref().clone();
        let action = OperationKind::Update {
            resource: wire.resource.unwrap_or_default(),
            mask: wire.update_mask.map(|mask| mask.paths).unwrap_or_default(),
            allow_missing: wire.allow_missing,
        };
        let write = single(action, wire.validate_only, wire.request_id, wire.reason, body);
        let answer = self.write(&request, write).await?;
        let (result, revision, revision_token, warnings) = take_apart(answer);
        let diff = result.diffs.into_iter().next();
        Ok(Response::new(UpdateResourceResponse {
            resource: result.resource,
            revision,
            revision_token,
            diff,
            warnings,
            one_time_secret: result.one_time_secret,
        }))
    }

    async fn delete_resource(
        &self,
        request: Request<DeleteResourceRequest>,
    ) -> Result<Response<DeleteResourceResponse>, Status> {
        let body = request.get_ref().encode_to_vec();
        let wire = request.get_ref().clone();
        let action =
            OperationKind::Delete { name: wire.name, etag: wire.etag, allow_missing: wire.allow_missing };
        let write = single(action, wire.validate_only, wire.request_id, wire.reason, body);
        let answer = self.write(&request, write).await?;
        let (result, revision, revision_token, warnings) = take_apart(answer);
        Ok(Response::new(DeleteResourceResponse { revision, revision_token, diffs: result.diffs, warnings }))
    }

    async fn batch_write(
        &self,
        request: Request<BatchWriteRequest>,
    ) -> Result<Response<BatchWriteResponse>, Status> {
        let body = request.get_ref().encode_to_vec();
        let wire = request.get_ref().clone();
        let write = WriteRequest {
            operations: parse_operations(wire.operations),
            validate_only: wire.validate_only,
            request_id: wire.request_id,
            reason: wire.reason,
            body,
        };
        self.write(&request, write).await.map(Response::new)
    }

    async fn list_history(
        &self,
        request: Request<ListHistoryRequest>,
    ) -> Result<Response<ListHistoryResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let history = self.service.list_history(caller, request.get_ref()).await;
        history.map(Response::new).map_err(to_status)
    }

    async fn diff_revisions(
        &self,
        request: Request<DiffRevisionsRequest>,
    ) -> Result<Response<DiffRevisionsResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let diff = self.service.diff_revisions(caller, request.get_ref()).await;
        diff.map(Response::new).map_err(to_status)
    }

    async fn rollback_resource(
        &self,
        request: Request<RollbackResourceRequest>,
    ) -> Result<Response<RollbackResourceResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let done = self.service.rollback_resource(caller, request.get_ref()).await;
        done.map(Response::new).map_err(to_status)
    }

    async fn rollback_all(
        &self,
        request: Request<RollbackAllRequest>,
    ) -> Result<Response<RollbackAllResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let done = self.service.rollback_all(caller, request.get_ref()).await;
        done.map(Response::new).map_err(to_status)
    }

    type WatchConfigStream = tokio_stream::Pending<Result<WatchConfigResponse, Status>>;

    /// `WatchTransport` answers this path before the generated server sees it, because a codec can't share frames.
    async fn watch_config(
        &self,
        _request: Request<WatchConfigRequest>,
    ) -> Result<Response<Self::WatchConfigStream>, Status> {
        Err(to_status(Error::internal("WatchConfig reached the generated server")))
    }
}

fn single(
    action: OperationKind,
    validate_only: bool,
    request_id: String,
    reason: String,
    body: Vec<u8>,
) -> WriteRequest {
    let operations = vec![Operation { path: String::new(), action }];
    WriteRequest { operations, validate_only, request_id, reason, body }
}

fn take_apart(answer: BatchWriteResponse) -> (BatchResult, u64, String, Vec<String>) {
    let BatchWriteResponse { results, revision, revision_token, warnings } = answer;
    (results.into_iter().next().unwrap_or_default(), revision, revision_token, warnings)
}

fn parse_operations(operations: Vec<v1::BatchOperation>) -> Vec<Operation> {
    use batch_operation::{Create, Delete, Operation as Wire, Update};
    let parse = |(index, operation): (usize, v1::BatchOperation)| {
        let path = |word: &str| format!("operations[{index}].{word}.");
        match operation.operation {
            Some(Wire::Create(Create { resource })) => {
                let action = OperationKind::Create(resource.unwrap_or_default());
                Operation { path: path("create"), action }
            }
            Some(Wire::Update(Update { resource, update_mask, allow_missing })) => {
                let mask = update_mask.map(|mask| mask.paths).unwrap_or_default();
                let resource = resource.unwrap_or_default();
                let action = OperationKind::Update { resource, mask, allow_missing };
                Operation { path: path("update"), action }
            }
            Some(Wire::Delete(Delete { name, etag, allow_missing })) => {
                let action = OperationKind::Delete { name, etag, allow_missing };
                Operation { path: path("delete"), action }
            }
            None => Operation { path: format!("operations[{index}]"), action: OperationKind::Missing },
        }
    };
    operations.into_iter().enumerate().map(parse).collect()
}
