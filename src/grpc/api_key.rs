//! `ApiKeyService`: what is done with keys of providers beyond reading and writing them.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::to_status;
use crate::{
    auth::Caller,
    proto::v1::{
        GetActiveApiKeyRequest, GetActiveApiKeyResponse, RecordApiKeyUsageRequest, RecordApiKeyUsageResponse,
        RotateApiKeyRequest, RotateApiKeyResponse, api_key_service_server::ApiKeyService,
    },
    service::Service,
};

/// The service, on its use cases.
pub struct ApiKey {
    service: Arc<Service>,
}

impl ApiKey {
    pub fn new(service: Arc<Service>) -> Self {
        Self { service }
    }
}

#[tonic::async_trait]
impl ApiKeyService for ApiKey {
    async fn rotate_api_key(
        &self,
        request: Request<RotateApiKeyRequest>,
    ) -> Result<Response<RotateApiKeyResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        self.service.rotate_api_key(caller, request.get_ref()).await.map(Response::new).map_err(to_status)
    }

    async fn get_active_api_key(
        &self,
        request: Request<GetActiveApiKeyRequest>,
    ) -> Result<Response<GetActiveApiKeyResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        self.service.active_api_key(caller, request.get_ref()).await.map(Response::new).map_err(to_status)
    }

    async fn record_api_key_usage(
        &self,
        request: Request<RecordApiKeyUsageRequest>,
    ) -> Result<Response<RecordApiKeyUsageResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        self.service.record_api_key_usage(caller, request.get_ref()).map(Response::new).map_err(to_status)
    }
}
