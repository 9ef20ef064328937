//! `ProviderService`: what is done with providers beyond reading and writing them.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::to_status;
use crate::{
    auth::Caller,
    proto::v1::{
        DiscoverModelsRequest, DiscoverModelsResponse, GetActiveProviderRequest, GetActiveProviderResponse,
        GetDefaultProviderRequest, GetDefaultProviderResponse, RenderRequestRequest, RenderRequestResponse,
        SetDefaultProviderRequest, SetDefaultProviderResponse, SwitchActiveProviderRequest,
        SwitchActiveProviderResponse, TestProviderRequest, TestProviderResponse,
        provider_service_server::ProviderService,
    },
    service::Service,
};

/// The service, on its use cases.
pub struct Provider {
    service: Arc<Service>,
}

impl Provider {
    pub fn new(service: Arc<Service>) -> Self {
        Self { service }
    }
}

#[tonic::async_trait]
impl ProviderService for Provider {
    async fn get_active_provider(
        &self,
        request: Request<GetActiveProviderRequest>,
    ) -> Result<Response<GetActiveProviderResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        self.service.active_provider(caller, request.get_ref()).await.map(Response::new).map_err(to_status)
    }

    async fn switch_active_provider(
        &self,
        request: Request<SwitchActiveProviderRequest>,
    ) -> Result<Response<SwitchActiveProviderResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let switched = self.service.switch_active_provider(caller, request.get_ref()).await;
        switched.map(Response::new).map_err(to_status)
    }

    async fn get_default_provider(
        &self,
        request: Request<GetDefaultProviderRequest>,
    ) -> Result<Response<GetDefaultProviderResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        self.service.default_provider(caller, request.get_ref()).await.map(Response::new).map_err(to_status)
    }

    async fn set_default_provider(
        &self,
        request: Request<SetDefaultProviderRequest>,
    ) -> Result<Response<SetDefaultProviderResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let set = self.service.set_default_provider(caller, request.get_ref()).await;
        set.map(Response::new).map_err(to_status)
    }

    async fn test_provider(
        &self,
        request: Request<TestProviderRequest>,
    ) -> Result<Response<TestProviderResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        self.service.test_provider(caller, request.get_ref()).await.map(Response::new).map_err(to_status)
    }

    async fn discover_models(
        &self,
        request: Request<DiscoverModelsRequest>,
    ) -> Result<Response<DiscoverModelsResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        self.service.discover_models(caller, request.get_ref()).await.map(Response::new).map_err(to_status)
    }

    async fn render_request(
        &self,
        request: Request<RenderRequestRequest>,
    ) -> Result<Response<RenderRequestResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        self.service.render_request(caller, request.get_ref()).map(Response::new).map_err(to_status)
    }
}
