//! `DatabaseService`: what is done with databases beyond reading and writing them.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::to_status;
use crate::{
    auth::Caller,
    proto::v1::{TestDatabaseRequest, TestDatabaseResponse, database_service_server::DatabaseService},
    service::Service,
};

/// The service, on its use cases.
pub struct Database {
    service: Arc<Service>,
}

impl Database {
    pub fn new(service: Arc<Service>) -> Self {
        Self { service }
    }
}

#[tonic::async_trait]
impl DatabaseService for Database {
    async fn test_database(
        &self,
        request: Request<TestDatabaseRequest>,
    ) -> Result<Response<TestDatabaseResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        self.service.test_database(caller, request.get_ref()).await.map(Response::new).map_err(to_status)
    }
}
