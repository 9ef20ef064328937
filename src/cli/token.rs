//! `token`: makes and revokes tokens. The token alone goes to standard output.

use std::{sync::Arc, time::Duration};

use tonic::Status;
use tonic_types::StatusExt;

use super::{
    args::{Life, RoleWord, Target, Token, TokenCreate, TokenRevoke},
    connect::connect,
    failure::{Exit, Failure, Outcome},
    selector, serve,
    session::{Session, canonical},
    text::moment,
};
use crate::{
    app::{self, AppError, SecretText, private_file},
    domain::{Clock, SystemClock},
    proto::v1::{CreateTokenRequest, CreateTokenResponse, RevokeTokenRequest, Role},
    settings::Settings,
};

/// How long a token is good for where nobody says it.
const DEFAULT_LIFE: Life = Life::For(Duration::from_hours(24));

/// Makes or revokes.
pub async fn token(session: &mut Session<'_>, target: &Target, verb: &Token) -> Outcome {
    match verb {
        Token::Create(args) => create(session, target, args).await,
        Token::Revoke(args) => revoke(session, target, args).await,
    }
}

async fn create(session: &mut Session<'_>, target: &Target, args: &TokenCreate) -> Outcome {
    let request = request(args)?;
    // Before there is a token that would be lost.
    if let Some(path) = args.file.as_ref().filter(|path| path.exists()) {
        return Err(Failure::usage(format!("--file: {} is there already", path.display())));
    }
    let mut made = if args.local {
        local_token(&serve::settings(session, &args.flags)?, &request).await?
    } else {
        if let Some(flag) = args.flags.0.keys().next() {
            return Err(Failure::usage(format!("--{flag}: is only for --local")));
        }
        ask(session, target, args, request).await?
    };
    let expiry = made.expire_time.as_ref().map(moment).unwrap_or_default();
    session.remark(&format!("token {} expires {expiry}; it is not shown again", made.token_id));
    if let Some(path) = &args.file {
        let token = SecretText::new(std::mem::take(&mut made.token));
        private_file::create(path, &token)
            .map_err(|error| Failure::told(Exit::Failed, format!("--file: {error}; the token is lost")))?;
        session.document(&canonical(&made)?)?;
        return Ok(());
    }
    if session.document(&canonical(&made)?)? {
        return Ok(());
    }
    session.line(&made.token)
}

/// Has a server make it. How long the token that asks is good for only the server knows: where nobody said how long the new one
/// is to be, it then lives as long.
async fn ask(
    session: &mut Session<'_>,
    target: &Target,
    args: &TokenCreate,
    request: CreateTokenRequest,
) -> Result<CreateTokenResponse, Failure> {
    let mut admin = connect(session, target).await?.admin;
    match admin.create_token(request.clone()).await {
        Err(refused) if args.ttl.is_none() && is_too_long(&refused) => {
            let longest = CreateTokenRequest { ttl: None, longest: true, ..request };
            Ok(admin.create_token(longest).await?.into_inner())
        }
        answer => Ok(answer?.into_inner()),
    }
}

/// Whether nothing but the length of its life is wrong with the token that was asked for.
fn is_too_long(refused: &Status) -> bool {
    let wrong = refused.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    matches!(wrong.as_slice(), [only] if only.field == "ttl")
}

fn request(args: &TokenCreate) -> Result<CreateTokenRequest, Failure> {
    let (role, word) = match args.role {
        RoleWord::Admin => (Role::Admin, "admin"),
        RoleWord::Worker => (Role::Worker, "worker"),
        RoleWord::Viewer => (Role::Viewer, "viewer"),
    };
    if args.secrets && role != Role::Worker {
        return Err(Failure::usage("--secrets: only workers read secrets; give --role worker"));
    }
    if args.grant_secrets && role != Role::Admin {
        return Err(Failure::usage("--grant-secrets: only admins make tokens; give --role admin"));
    }
    if role == Role::Worker && args.selectors.is_empty() {
        return Err(Failure::usage(
            "--selector: a worker reaches only what it is granted; give one, or `*` for everything",
        ));
    }
    let life = args.ttl.unwrap_or(DEFAULT_LIFE);
    let ttl = match life {
        Life::Longest => None,
        Life::For(ttl) => {
            let ttl = prost_types::Duration::try_from(ttl);
            Some(ttl.map_err(|_| Failure::usage("--ttl: is too long"))?)
        }
    };
    Ok(CreateTokenRequest {
        role: role.into(),
        subject: args.subject.clone().unwrap_or_else(|| word.to_owned()),
        grants: selector::parse_all(&args.selectors, &[], &[])?,
        include_secrets: args.secrets,
        grant_secrets: args.grant_secrets,
        ttl,
        longest: life == Life::Longest,
    })
}

/// Signs without a server: whoever can read the signing key may.
async fn local_token(
    settings: &Settings,
    request: &CreateTokenRequest,
) -> Result<CreateTokenResponse, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::told(Exit::Failed, format!("--local: {error}"));
    let unopened = |error: AppError| Failure::told(Exit::of(&error), format!("--local: {error}"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (issuer, now) = app::local_issuer(settings, &clock).await.map_err(unopened)?;
    let new = app::parse_token(request, app::LONGEST_TTL).map_err(|error| failed(&error))?;
    let issued = issuer.issue(new, now).map_err(|error| failed(&error))?;
    Ok(CreateTokenResponse {
        token: issued.token.expose().to_owned(),
        token_id: issued.token_id,
        expire_time: Some(prost_types::Timestamp { seconds: issued.expires_at.timestamp(), nanos: 0 }),
    })
}

async fn revoke(session: &mut Session<'_>, target: &Target, args: &TokenRevoke) -> Outcome {
    if args.token.as_deref().is_some_and(|word| !may_be_id(word)) {
        return Err(Failure::usage(
            "ID: is not the id of a token that a server made, which is a UUID and was told by `token create`; --subject revokes all \
             tokens of a subject, --id one of another issuer's",
        ));
    }
    let request = RevokeTokenRequest {
        token_id: args.id.as_ref().or(args.token.as_ref()).cloned().unwrap_or_default(),
        subject: args.subject.clone().unwrap_or_default(),
        issuer: args.issuer.clone(),
        reason: args.reason.clone(),
    };
    let answer = connect(session, target).await?.admin.revoke_token(request).await?.into_inner();
    if session.document(&canonical(&answer)?)? || session.quiet {
        return Ok(());
    }
    session.line(&format!("revoked at revision {}", answer.revision))
}

/// Whether a bare word can be meant as the id of a token. Of a whole token the server says what is wrong.
fn may_be_id(word: &str) -> bool {
    uuid::Uuid::try_parse(word).is_ok() || is_token(word)
}

/// Whether a text looks like a token: three parts, of which the first is JSON in base64.
fn is_token(word: &str) -> bool {
    word.starts_with("eyJ") && word.matches('.').count() == 2
}
