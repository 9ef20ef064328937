//! `FleetService`: who runs what.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};

use super::to_status;
use crate::{
    auth::Caller,
    proto::v1::{
        GetConvergenceRequest, GetConvergenceResponse, ListWorkersRequest, ListWorkersResponse,
        ReportAppliedRequest, ReportAppliedResponse, WaitForConvergenceRequest, WaitForConvergenceResponse,
        fleet_service_server::FleetService,
    },
    service::{Service, Wait},
};

/// The service, on its use cases.
pub struct Fleet {
    service: Arc<Service>,
}

impl Fleet {
    pub fn new(service: Arc<Service>) -> Self {
        Self { service }
    }
}

#[tonic::async_trait]
impl FleetService for Fleet {
    async fn report_applied(
        &self,
        request: Request<ReportAppliedRequest>,
    ) -> Result<Response<ReportAppliedResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?.clone();
        let taken = self.service.report_applied(&caller, request.into_inner()).await;
        taken.map(Response::new).map_err(to_status)
    }

    async fn list_workers(
        &self,
        request: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        self.service.list_workers(caller, request.get_ref()).await.map(Response::new).map_err(to_status)
    }

    async fn get_convergence(
        &self,
        request: Request<GetConvergenceRequest>,
    ) -> Result<Response<GetConvergenceResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        self.service.convergence(caller, request.get_ref()).await.map(Response::new).map_err(to_status)
    }

    type WaitForConvergenceStream =
        Pin<Box<dyn Stream<Item = Result<WaitForConvergenceResponse, Status>> + Send>>;

    async fn wait_for_convergence(
        &self,
        request: Request<WaitForConvergenceRequest>,
    ) -> Result<Response<Self::WaitForConvergenceStream>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let service = Arc::clone(&self.service);
        let wait = service.wait_for_convergence(caller, request.get_ref()).await.map_err(to_status)?;
        let step = async |mut wait: Wait| Some((wait.next().await?.map_err(to_status), wait));
        Ok(Response::new(Box::pin(stream::unfold(wait, step))))
    }
}
