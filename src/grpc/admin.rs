//! `AdminService`: running the service itself.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::{
    to_status,
    transfer::{self, ExportStream},
};
use crate::{
    auth::Caller,
    domain::Result,
    proto::v1::{
        CompactLogRequest, CompactLogResponse, CreateTokenRequest, CreateTokenResponse, ExportConfigRequest,
        GetStatusRequest, GetStatusResponse, ImportConfigRequest, ImportConfigResponse, LogDefect,
        RaiseFeatureLevelRequest, RaiseFeatureLevelResponse, Replica, RevokeTokenRequest,
        RevokeTokenResponse, VerifyLogRequest, VerifyLogResponse, admin_service_server::AdminService,
    },
    replica::Seen,
    service::{ExportRequest, Service},
    watch::timestamp,
};

/// The service, on its use cases.
pub struct Admin {
    service: Arc<Service>,
}

impl Admin {
    pub fn new(service: Arc<Service>) -> Self {
        Self { service }
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let status = self.service.status(caller).await;
        Ok(Response::new(GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store_id: status.store_id.0,
            epoch: status.epoch.to_string(),
            store_kind: status.store_kind.to_owned(),
            schema_version: status.schema_version,
            revision: status.token.revision.0,
            revision_token: status.token.to_string(),
            floor_revision: status.floor.unwrap_or_default().0,
            resources: status.resources as u64,
            digest: status.digest.map(Vec::from).unwrap_or_default(),
            watchers: status.watchers,
            stale: status.freshness.stale,
            confirmed_age: prost_types::Duration::try_from(status.freshness.confirmed_age).ok(),
            key_ids: status.key_ids,
            undecryptable: status.undecryptable,
            start_time: Some(timestamp(status.started)),
            warnings: status.warnings,
            replicas: status.replicas.into_iter().map(replica).collect(),
            doorbell: status.doorbell.to_string(),
            feature_level: status.feature_level.0,
        }))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let issued = self.service.create_token(caller, request.get_ref()).await.map_err(to_status)?;
        Ok(Response::new(CreateTokenResponse {
            token: issued.token.expose().to_owned(),
            token_id: issued.token_id,
            expire_time: Some(timestamp(issued.expires_at)),
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let revision = self.service.revoke_token(caller, request.get_ref()).await.map_err(to_status)?;
        Ok(Response::new(RevokeTokenResponse { revision: revision.0 }))
    }

    async fn compact_log(
        &self,
        request: Request<CompactLogRequest>,
    ) -> Result<Response<CompactLogResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let done = self.service.compact(caller, request.get_ref().revision).await.map_err(to_status)?;
        Ok(Response::new(CompactLogResponse {
            floor_revision: done.floor.0,
            removed_rows: done.removed_rows,
        }))
    }

    async fn raise_feature_level(
        &self,
        request: Request<RaiseFeatureLevelRequest>,
    ) -> Result<Response<RaiseFeatureLevelResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let level = self.service.raise_feature_level(caller).await.map_err(to_status)?;
        Ok(Response::new(RaiseFeatureLevelResponse { feature_level: level.0 }))
    }

    async fn import_config(
        &self,
        request: Request<Streaming<ImportConfigRequest>>,
    ) -> Result<Response<ImportConfigResponse>, Status> {
        let (caller, import) = transfer::receive(request).await?;
        let caller = Caller::of(&caller).map_err(to_status)?;
        self.service.import(caller, import).await.map(Response::new).map_err(to_status)
    }

    type ExportConfigStream = ExportStream;

    async fn export_config(
        &self,
        request: Request<ExportConfigRequest>,
    ) -> Result<Response<Self::ExportConfigStream>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let ExportConfigRequest { selectors, revision, export_key } = request.get_ref().clone();
        let export = ExportRequest { selectors, revision, export_key };
        let export = self.service.export(caller, export).await.map_err(to_status)?;
        Ok(Response::new(transfer::send(export)))
    }

    async fn verify_log(
        &self,
        request: Request<VerifyLogRequest>,
    ) -> Result<Response<VerifyLogResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let anchor = &request.get_ref().anchor_token;
        let (found, digest) = self.service.verify(caller, anchor).await.map_err(to_status)?;
        let defects: Vec<_> = found
            .defects
            .into_iter()
            .map(|defect| LogDefect {
                reason: defect.reason.to_owned(),
                revision: defect.revision.unwrap_or_default().0,
                name: defect.name.unwrap_or_default(),
                description: defect.description,
            })
            .collect();
        Ok(Response::new(VerifyLogResponse {
            intact: defects.is_empty(),
            checked_rows: found.checked_rows,
            revision: found.revision.0,
            defects,
            digest: digest.map(Vec::from).unwrap_or_default(),
        }))
    }
}

fn replica(seen: Seen) -> Replica {
    let Seen { heartbeat, age, own } = seen;
    Replica {
        id: heartbeat.id.0,
        address: heartbeat.address,
        version: heartbeat.version,
        feature_level: heartbeat.feature_level.0,
        revision: heartbeat.revision.0,
        digest: heartbeat.digest.to_vec(),
        key_ids: heartbeat.key_ids,
        doorbell: heartbeat.doorbell,
        watchers: heartbeat.watchers,
        age: prost_types::Duration::try_from(age).ok(),
        answering: own,
    }
}
