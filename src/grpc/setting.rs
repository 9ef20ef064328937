//! `SettingService`: which value of a setting counts.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::to_status;
use crate::{
    auth::Caller,
    proto::v1::{
        ExplainSettingRequest, ExplainSettingResponse, ResolveSettingsRequest, ResolveSettingsResponse,
        setting_service_server::SettingService,
    },
    service::Service,
};

/// The service, on its use cases.
pub struct Setting {
    service: Arc<Service>,
}

impl Setting {
    pub fn new(service: Arc<Service>) -> Self {
        Self { service }
    }
}

#[tonic::async_trait]
impl SettingService for Setting {
    async fn resolve_settings(
        &self,
        request: Request<ResolveSettingsRequest>,
    ) -> Result<Response<ResolveSettingsResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let answer = self.service.resolve_settings(caller, request.get_ref()).await;
        answer.map(Response::new).map_err(to_status)
    }

    async fn explain_setting(
        &self,
        request: Request<ExplainSettingRequest>,
    ) -> Result<Response<ExplainSettingResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let answer = self.service.explain_setting(caller, request.get_ref()).await;
        answer.map(Response::new).map_err(to_status)
    }
}
