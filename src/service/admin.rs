//! Running the service itself: status, tokens, compaction, verification. Every operation is audited.

use std::time::Duration;

use super::{PATIENCE, Service, store_error, write::DEADLINE};
use crate::{
    auth::{IssuedToken, NewToken, OWN_NAME, Scope},
    domain::{
        ApplyError, Epoch, Error, Pattern, Principal, Result, Revision, RevisionToken, Revocation, Role,
        StoreId, WriteSet, write::RequestKey,
    },
    store::Verification,
    view::Freshness,
};

/// How the service is.
pub struct Status {
    /// Identity of the store.
    pub store_id: StoreId,
    /// Its present life.
    pub epoch: Epoch,
    /// Which database it is.
    pub store_kind: &'static str,
    /// Version of its schema.
    pub schema_version: u32,
    /// Token of the revision that is served.
    pub token: RevisionToken,
    /// The oldest revision that can be resumed from; not known while the store is away.
    pub floor: Option<Revision>,
    /// Resources in the view.
    pub resources: usize,
    /// Their digest.
    pub digest: [u8; 16],
    /// Open streams.
    pub watchers: u64,
    /// How fresh the view is.
    pub freshness: Freshness,
    /// Ids of the loaded keys, the current one first.
    pub key_ids: Vec<String>,
    /// Resources with a secret that can't be opened; only for admins. The warnings say why.
    pub undecryptable: Vec<String>,
    /// When the server started.
    pub started: chrono::DateTime<chrono::Utc>,
    /// Things that an operator should look at; only for admins.
    pub warnings: Vec<String>,
}

/// A token that an admin wants made.
pub struct NewGrant {
    /// What it is to be.
    pub role: Role,
    /// Whom it is for.
    pub subject: String,
    /// What it reaches; empty is the default of the role.
    pub grants: Vec<Pattern>,
    /// Whether it may read secrets.
    pub include_secrets: bool,
    /// Whether it may make tokens that read secrets.
    pub grant_secrets: bool,
    /// How long it is good for.
    pub ttl: Duration,
}

impl NewGrant {
    /// The token that is to be issued.
    #[must_use]
    pub fn into_token(self) -> NewToken {
        let NewGrant { role, subject, grants, include_secrets, grant_secrets, ttl } = self;
        let scopes = [(include_secrets, Scope::SecretsRead), (grant_secrets, Scope::SecretsGrant)];
        let scopes = scopes.into_iter().filter_map(|(wanted, scope)| wanted.then_some(scope)).collect();
        NewToken { subject, role, grants, scopes, ttl }
    }
}

/// What a compaction did.
pub struct Compaction {
    /// The floor that now holds.
    pub floor: Revision,
    /// Log rows that were removed.
    pub removed_rows: u64,
}

/// Secrets of which the status says why they can't be opened: where it is one lost key it may be all, and the status
/// has to fit into one message.
const REASONS: usize = 100;

/// Tokens live from a second to a leap year.
const TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(366 * 86_400));

impl Service {
    /// Tells how the service is. Never fails: what the store can't say is left out.
    pub async fn status(&self, caller: &Principal) -> Status {
        let parts = &self.parts;
        let state = parts.view.state();
        let admin = caller.role == Role::Admin;
        let unopened = if admin { parts.revealer.undecryptable(&state) } else { Vec::new() };
        let mut warnings = if admin { parts.warnings.all() } else { Vec::new() };
        warnings.extend(unopened.iter().take(REASONS).map(ToString::to_string));
        let mut undecryptable: Vec<String> = unopened.iter().map(|secret| secret.name.to_string()).collect();
        undecryptable.dedup();
        Status {
            store_id: parts.store.store_id().clone(),
            epoch: state.epoch,
            store_kind: parts.store.kind(),
            schema_version: parts.store.schema_version(),
            token: state.token(),
            floor: parts.store.head().await.ok().map(|head| head.floor),
            resources: state.resources.len(),
            digest: state.digest.to_bytes(),
            watchers: parts.streams.watchers(),
            freshness: parts.view.freshness(),
            key_ids: parts.vault.key_ids().to_vec(),
            undecryptable,
            started: self.started,
            warnings,
        }
    }

    /// Makes a token. Nobody grants more than he holds.
    ///
    /// # Errors
    /// `Invalid`, `PermissionDenied`, `FailedPrecondition` where this server has no signing key.
    pub async fn create_token(&self, caller: &Principal, grant: NewGrant) -> Result<IssuedToken> {
        let Some(issuer) = &self.parts.issuer else {
            return Err(Error::FailedPrecondition {
                reason: "NO_SIGNING_KEY",
                subject: "jwt".into(),
                description: "this server only verifies tokens; have your identity provider make one".into(),
            });
        };
        check_grant(caller, &grant)?;
        self.check_life(caller, &grant)?;
        let detail = format!(
            "{} {} for {:?}, secrets {}, grant secrets {}, grants {}",
            grant.role.as_str(),
            grant.subject,
            grant.ttl,
            grant.include_secrets,
            grant.grant_secrets,
            grant.grants.iter().map(Pattern::to_text).collect::<Vec<_>>().join(", "),
        );
        self.audit(caller, "token_created", detail).await?;
        issuer.issue(grant.into_token())
    }

    /// Nobody gives away more time than he has.
    fn check_life(&self, caller: &Principal, grant: &NewGrant) -> Result<()> {
        let left = (caller.expires_at - self.parts.clock.now()).to_std().unwrap_or_default();
        if grant.ttl <= left {
            return Ok(());
        }
        let description =
            format!("must not outlive the token that asks, which is good for {} s", left.as_secs());
        Err(Error::invalid("ttl", "OUT_OF_RANGE", description))
    }

    /// Revokes tokens. The revocation is a record of the log, so that every replica honours it.
    ///
    /// # Errors
    /// `Invalid`, `Unavailable`.
    pub async fn revoke(
        &self,
        caller: &Principal,
        revocation: Revocation,
        reason: String,
    ) -> Result<Revision> {
        let write = WriteSet {
            reads: Vec::new(),
            changes: Vec::new(),
            sealed: Vec::new(),
            revocation: Some(revocation),
            actor: caller.subject.clone(),
            time: self.parts.clock.now(),
            reason,
            request: RequestKey {
                principal: format!("{}\n{}", caller.issuer, caller.subject),
                id: uuid::Uuid::new_v4().to_string(),
                mac: [0; 32],
                outcome: Vec::new(),
            },
        };
        let token = match self.parts.store.apply(write).await {
            Ok(applied) => applied.token(),
            Err(ApplyError::Stale { .. }) => {
                return Err(Error::internal("a revocation reads nothing, and was stale"));
            }
            Err(error) => return Err(error.into()),
        };
        self.parts.view.reached(token.revision, DEADLINE).await;
        Ok(token.revision)
    }

    /// What `subject` of no issuer means: this server's own.
    ///
    /// # Errors
    /// `Invalid` where this server makes no tokens.
    pub fn own_issuer(&self) -> Result<String> {
        match self.parts.issuer {
            Some(_) => Ok(OWN_NAME.to_owned()),
            None => Err(Error::invalid(
                "issuer",
                "REQUIRED",
                "is required, because this server makes no tokens itself",
            )),
        }
    }

    /// Forgets the log up to a revision; 0 is what the retention says.
    ///
    /// # Errors
    /// `OutOfRange` ahead of the store, `Unavailable`.
    pub async fn compact(&self, caller: &Principal, revision: u64) -> Result<Compaction> {
        let store = &self.parts.store;
        let floor = match revision {
            0 => {
                let Some(retention) = self.parts.retention else {
                    let description = "is required, because the settings keep the log for ever";
                    return Err(Error::invalid("revision", "REQUIRED", description));
                };
                let retention = chrono::Duration::from_std(retention).map_err(Error::internal)?;
                store.revision_before(self.parts.clock.now() - retention).await.map_err(store_error)?
            }
            revision => Revision(revision),
        };
        let head = store.head().await.map_err(store_error)?;
        if floor > head.revision {
            return Err(Error::OutOfRange {
                reason: "AHEAD",
                description: format!("revision {floor} lies ahead of the store's {}", head.revision),
                floor: head.floor,
            });
        }
        // A view that is compacted past has to be built anew, which would reset every stream.
        if !self.parts.view.reached(floor, PATIENCE).await {
            return Err(Error::Unavailable {
                reason: "REPLICA_BEHIND",
                description: format!("this replica has not yet seen revision {floor}"),
                retry_after: Duration::from_secs(1),
            });
        }
        self.audit(caller, "log_compacted", format!("to revision {floor}")).await?;
        let (floor, removed_rows) = store.compact(floor).await.map_err(store_error)?;
        Ok(Compaction { floor, removed_rows })
    }

    /// Checks the log, and the state against it.
    ///
    /// # Errors
    /// `Invalid` for an anchor that is no token, `Unavailable`.
    pub async fn verify(&self, caller: &Principal, anchor: &str) -> Result<Verification> {
        let anchor = match anchor {
            "" => None,
            text => Some(RevisionToken::parse(text).ok_or_else(|| {
                Error::invalid("anchor_token", "INVALID_TOKEN", "is not a token of this service")
            })?),
        };
        self.audit(caller, "log_verified", String::new()).await?;
        if let Some(token) = &anchor {
            self.same_life(token)?;
        }
        self.parts.store.verify(anchor.map(|token| (token.revision, token.hash))).await.map_err(store_error)
    }
}

fn check_grant(caller: &Principal, grant: &NewGrant) -> Result<()> {
    let (least, most) = TTL;
    if grant.ttl < least || grant.ttl > most {
        return Err(Error::invalid("ttl", "OUT_OF_RANGE", "must lie between 1 s and 366 days"));
    }
    if grant.subject.is_empty()
        || grant.subject.chars().count() > 128
        || grant.subject.chars().any(char::is_control)
    {
        return Err(Error::invalid(
            "subject",
            "REQUIRED",
            "must have 1 to 128 characters, none of them a control character",
        ));
    }
    if grant.include_secrets && grant.role != Role::Worker {
        return Err(Error::invalid("include_secrets", "NOT_ALLOWED", "is for the worker role only"));
    }
    if grant.grant_secrets && grant.role != Role::Admin {
        return Err(Error::invalid("grant_secrets", "NOT_ALLOWED", "is for the admin role only"));
    }
    let lends = grant.include_secrets || grant.grant_secrets;
    if lends && !caller.grants_secrets {
        return Err(Error::PermissionDenied {
            reason: "SECRETS_GRANT_DENIED",
            description: "a token that reads secrets can only be made with the scope secrets:grant".into(),
        });
    }
    let everything = [Pattern::All];
    let wanted = match (grant.grants.is_empty(), grant.role) {
        (true, Role::Worker) => &[][..],
        (true, Role::Admin | Role::Viewer) => &everything[..],
        (false, _) => &grant.grants[..],
    };
    for pattern in wanted {
        if !caller.grants.iter().any(|held| held.contains(pattern, crate::kinds::kind_of_pattern)) {
            return Err(crate::watch::not_granted(caller, &pattern.to_text()));
        }
    }
    Ok(())
}
