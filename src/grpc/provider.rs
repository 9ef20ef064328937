//! `ProviderService`: what is done with providers beyond reading and writing them.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::to_status;
use crate::{
    auth::Caller,
    proto::v1::{RenderRequestRequest, RenderRequestResponse, provider_service_server::ProviderService},
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
    async fn render_request(
        &self,
        request: Request<RenderRequestRequest>,
    ) -> Result<Response<RenderRequestResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        self.service.render_request(caller, request.get_ref()).map(Response::new).map_err(to_status)
    }
}
