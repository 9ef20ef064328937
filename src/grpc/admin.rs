//! `AdminService`: running the service itself.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status};

use super::{config::parse_selectors, to_status};
use crate::{
    auth::{Caller, NewToken},
    domain::{Error, Result, Revocation, Role},
    proto::v1::{
        self, CompactLogRequest, CompactLogResponse, CreateTokenRequest, CreateTokenResponse,
        GetStatusRequest, GetStatusResponse, LogDefect, RevokeTokenRequest, RevokeTokenResponse,
        VerifyLogRequest, VerifyLogResponse, admin_service_server::AdminService,
    },
    service::{NewGrant, Service},
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
            digest: status.digest.to_vec(),
            watchers: status.watchers,
            stale: status.freshness.stale,
            confirmed_age: prost_types::Duration::try_from(status.freshness.confirmed_age).ok(),
            key_ids: status.key_ids,
            undecryptable: status.undecryptable,
            start_time: Some(timestamp(status.started)),
            warnings: status.warnings,
        }))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let grant = parse_grant(request.get_ref()).map_err(to_status)?;
        let issued = self.service.create_token(caller, grant).await.map_err(to_status)?;
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
        let wire = request.get_ref();
        let revocation = parse_revocation(&self.service, wire).map_err(to_status)?;
        let revision =
            self.service.revoke(caller, revocation, wire.reason.clone()).await.map_err(to_status)?;
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

    async fn verify_log(
        &self,
        request: Request<VerifyLogRequest>,
    ) -> Result<Response<VerifyLogResponse>, Status> {
        let caller = Caller::of(&request).map_err(to_status)?;
        let anchor = &request.get_ref().anchor_token;
        let found = self.service.verify(caller, anchor).await.map_err(to_status)?;
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
        }))
    }
}

fn parse_grant(wire: &CreateTokenRequest) -> Result<NewGrant> {
    let role = match wire.role() {
        v1::Role::Admin => Role::Admin,
        v1::Role::Worker => Role::Worker,
        v1::Role::Viewer => Role::Viewer,
        v1::Role::Unspecified => {
            return Err(Error::invalid("role", "REQUIRED", "must be ROLE_ADMIN, ROLE_WORKER or ROLE_VIEWER"));
        }
    };
    let selectors = parse_selectors(&wire.grants, "grants")?;
    if let Some(index) = selectors.iter().position(|selector| !selector.labels.is_empty()) {
        let field = format!("grants[{index}].labels");
        return Err(Error::invalid(field, "NOT_ALLOWED", "must be empty: labels never grant anything"));
    }
    let ttl = wire.ttl.ok_or_else(|| Error::invalid("ttl", "REQUIRED", "is required, for example 86400s"))?;
    let ttl =
        Duration::try_from(ttl).map_err(|_| Error::invalid("ttl", "OUT_OF_RANGE", "must not be negative"))?;
    Ok(NewGrant {
        role,
        subject: wire.subject.clone(),
        grants: selectors.into_iter().map(|selector| selector.pattern).collect(),
        include_secrets: wire.include_secrets,
        grant_secrets: wire.grant_secrets,
        ttl,
    })
}

/// The token that a request asks for, for whoever signs it without a server.
///
/// # Errors
/// `Invalid`, as CreateToken has it.
pub fn new_token(wire: &CreateTokenRequest) -> Result<NewToken> {
    parse_grant(wire).map(NewGrant::into_token)
}

fn parse_revocation(service: &Service, wire: &RevokeTokenRequest) -> Result<Revocation> {
    let bounded = |text: &str| text.chars().count() <= 256 && !text.chars().any(char::is_control);
    for (field, text) in [("token_id", &wire.token_id), ("subject", &wire.subject), ("issuer", &wire.issuer)]
    {
        if !bounded(text) {
            let description = "must have at most 256 characters, none of them a control character";
            return Err(Error::invalid(field, "INVALID_TEXT", description));
        }
    }
    if wire.reason.chars().count() > crate::domain::limits::REASON_CHARS
        || wire.reason.chars().any(char::is_control)
    {
        return Err(Error::invalid(
            "reason",
            "INVALID_TEXT",
            "must have at most 1,024 characters, none of them a control character",
        ));
    }
    match (wire.token_id.as_str(), wire.subject.as_str()) {
        ("", "") => Err(Error::invalid("token_id", "REQUIRED", "or `subject` is required")),
        (token_id, "") => Ok(Revocation::Token { token_id: token_id.to_owned() }),
        ("", subject) => {
            let issuer = if wire.issuer.is_empty() { service.own_issuer()? } else { wire.issuer.clone() };
            Ok(Revocation::Subject { issuer, subject: subject.to_owned(), issued_until: service.now() })
        }
        _ => Err(Error::invalid("subject", "NOT_ALLOWED", "must be empty when `token_id` is given")),
    }
}
