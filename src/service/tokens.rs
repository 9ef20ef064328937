//! Tokens: made within what their maker holds, and revoked for every replica. Both are audited.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Service, store_error, write::DEADLINE};
use crate::{
    auth::{
        IssuedToken, LONGEST_TTL, NewToken, OWN_NAME, SUBJECT_CHARS, Scope, check_scopes, check_ttl, told_id,
    },
    domain::{
        ApplyError, Error, Pattern, Principal, Result, Revision, Revocation, Role, Text, Violations,
        WriteSet, limits, write::RequestKey,
    },
    duration, kinds,
    proto::v1::{self, CreateTokenRequest, RevokeTokenRequest},
    watch::not_granted,
};

/// Characters of what names a token, its subject or its issuer: other issuers have names of their own making.
const FOREIGN_CHARS: usize = 256;

impl Service {
    /// Makes a token. Nobody grants more than he holds.
    ///
    /// # Errors
    /// `Invalid` with every violation, `PermissionDenied`, `FailedPrecondition` where this server has no signing key.
    pub async fn create_token(&self, caller: &Principal, wire: &CreateTokenRequest) -> Result<IssuedToken> {
        let Some(issuer) = &self.parts.issuer else {
            return Err(Error::FailedPrecondition {
                reason: "NO_SIGNING_KEY",
                subject: "jwt".into(),
                description: "this server only verifies tokens; have your identity provider make one".into(),
            });
        };
        let mut violations = Violations::default();
        let ttl = wire.ttl.and_then(duration::read);
        let left = (caller.expires_at - self.parts.clock.now()).to_std().unwrap_or_default();
        check_life(left, ttl.unwrap_or_default(), &mut violations);
        let new = violations.take(parse_token(wire, left))?;
        let new = violations.allow(new)?;
        check_grants(caller, &new)?;
        let detail = format!(
            "{} {} for {:?}, scopes {:?}, grants {}",
            new.role.as_str(),
            new.subject,
            new.ttl,
            new.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
            new.grants.iter().map(Pattern::to_text).collect::<Vec<_>>().join(", "),
        );
        self.audit(caller, "token_created", detail).await?;
        issuer.issue(new, self.common_time().await?)
    }

    /// The time of tokens: by the clock that all replicas share, where there is one. By clocks of their own a revocation
    /// would miss the tokens that were made on a replica that is ahead.
    async fn common_time(&self) -> Result<DateTime<Utc>> {
        let common = self.parts.store.clock().await.map_err(store_error)?;
        Ok(common.unwrap_or_else(|| self.parts.clock.now()))
    }

    /// Revokes tokens. The revocation is a record of the log, so that every replica honours it.
    ///
    /// # Errors
    /// `Invalid` with every violation, `Unavailable`.
    pub async fn revoke_token(&self, caller: &Principal, wire: &RevokeTokenRequest) -> Result<Revision> {
        let now = self.common_time().await?;
        let write = WriteSet {
            reads: Vec::new(),
            changes: Vec::new(),
            sealed: Vec::new(),
            revocation: Some(self.parse_revocation(wire, now)?),
            actor: caller.subject.clone(),
            time: self.parts.clock.now(),
            reason: wire.reason.clone(),
            request: RequestKey {
                principal: format!("{}\n{}", caller.issuer, caller.subject),
                id: uuid::Uuid::new_v4().to_string(),
                mac: [0; 32],
                outcome: Vec::new(),
            },
            trace: None,
        };
        let token = match self.apply(caller, write).await {
            Ok(applied) => applied.token(),
            Err(ApplyError::Stale { .. }) => {
                return Err(Error::internal("a revocation reads nothing, and was stale"));
            }
            Err(error) => return Err(error.into()),
        };
        self.parts.view.reached(token.revision, DEADLINE).await;
        Ok(token.revision)
    }

    fn parse_revocation(&self, wire: &RevokeTokenRequest, now: DateTime<Utc>) -> Result<Revocation> {
        let RevokeTokenRequest { token_id, subject, issuer, reason } = wire;
        let mut violations = Violations::default();
        for (field, text) in [("token_id", token_id), ("subject", subject), ("issuer", issuer)] {
            match told_id(text) {
                Some(id) => violations.add(field, "INVALID_FORMAT", whole_token(&id)),
                None => violations.text(field, text, Text::Value, FOREIGN_CHARS),
            }
        }
        violations.text("reason", reason, Text::Line, limits::REASON_CHARS);
        match (token_id.as_str(), subject.as_str()) {
            ("", "") => violations.add("token_id", "REQUIRED", "or `subject` is required"),
            ("", _) if issuer.is_empty() && self.parts.issuer.is_none() => {
                let description = "is required, because this server makes no tokens itself";
                violations.add("issuer", "REQUIRED", description);
            }
            ("", _) | (_, "") => {}
            (_, _) => violations.add("subject", "NOT_ALLOWED", "must be empty when `token_id` is given"),
        }
        violations.into_result()?;
        if !token_id.is_empty() {
            return Ok(Revocation::Token { token_id: token_id.clone() });
        }
        // The subject of no issuer is one of this server's own.
        let issuer = if issuer.is_empty() { OWN_NAME.to_owned() } else { issuer.clone() };
        Ok(Revocation::Subject { issuer, subject: subject.clone(), issued_until: now })
    }
}

/// What is said where a whole token stands in place of its id: by its own word, which nobody has verified.
fn whole_token(id: &str) -> String {
    match id {
        "" => "is a whole token; give its id, which is its claim `jti`".to_owned(),
        id => format!("is a whole token; give its id, which is {id} by its own word"),
    }
}

/// Nobody gives away more time than he has.
fn check_life(left: Duration, ttl: Duration, violations: &mut Violations) {
    if ttl > left {
        let description = format!(
            "must not outlive the token that asks, which is good for {} more; with `longest` (`--ttl max`) it lives as long",
            humantime::format_duration(Duration::from_secs(left.as_secs()))
        );
        violations.add("ttl", "OUT_OF_RANGE", description);
    }
}

/// The token that a request asks for, by a maker who has so much time `left`; whether he may give it away is another
/// question.
///
/// # Errors
/// `Invalid` with every violation.
pub fn parse_token(wire: &CreateTokenRequest, left: Duration) -> Result<NewToken> {
    let mut violations = Violations::default();
    let role = match wire.role() {
        v1::Role::Admin => Some(Role::Admin),
        v1::Role::Worker => Some(Role::Worker),
        v1::Role::Viewer => Some(Role::Viewer),
        v1::Role::Unspecified => {
            violations.add("role", "REQUIRED", "must be ROLE_ADMIN, ROLE_WORKER or ROLE_VIEWER");
            None
        }
    };
    violations.required("subject", &wire.subject, Text::Line, SUBJECT_CHARS);
    let scopes = [(wire.include_secrets, Scope::SecretsRead), (wire.grant_secrets, Scope::SecretsGrant)];
    let scopes: Vec<Scope> = scopes.into_iter().filter_map(|(asked, scope)| asked.then_some(scope)).collect();
    if let Some(role) = role {
        check_scopes(role, &scopes, &mut violations);
    }
    let ttl = parse_ttl(wire, left, &mut violations);
    let grants = parse_grants(&wire.grants, &mut violations)?;
    let (role, ttl) = violations.allow(role.zip(ttl))?;
    Ok(NewToken { subject: wire.subject.clone(), role, grants, scopes, ttl })
}

fn parse_ttl(wire: &CreateTokenRequest, left: Duration, violations: &mut Violations) -> Option<Duration> {
    let ttl = match (wire.ttl, wire.longest) {
        (Some(ttl), false) => ttl,
        // In whole seconds, as tokens have it.
        (None, true) => return Some(Duration::from_secs(left.min(LONGEST_TTL).as_secs())),
        (Some(_), true) => {
            violations.add("ttl", "NOT_ALLOWED", "stands beside `longest`; set one of the two");
            return None;
        }
        (None, false) => {
            let description = "is required, for example 86400s; or `longest`, for as long as may be";
            violations.add("ttl", "REQUIRED", description);
            return None;
        }
    };
    // Less than nothing is less than a second.
    let ttl = duration::read(ttl).unwrap_or_default();
    check_ttl(ttl, violations);
    Some(ttl)
}

fn parse_grants(wire: &[v1::Selector], violations: &mut Violations) -> Result<Vec<Pattern>> {
    for (index, selector) in wire.iter().take(limits::SELECTORS).enumerate() {
        if !selector.labels.is_empty() {
            let field = format!("grants[{index}].labels");
            violations.add(field, "NOT_ALLOWED", "must be empty: labels never grant anything");
        }
    }
    let selectors = violations.take(kinds::parse_selectors(wire, "grants"))?.unwrap_or_default();
    Ok(selectors.into_iter().map(|selector| selector.pattern).collect())
}

/// Whether the maker of a token holds all that it gives away.
fn check_grants(caller: &Principal, new: &NewToken) -> Result<()> {
    if !new.scopes.is_empty() && !caller.grants_secrets {
        let field = if new.role == Role::Worker { "include_secrets" } else { "grant_secrets" };
        return Err(Error::PermissionDenied {
            reason: "SECRETS_GRANT_DENIED",
            description: "a token that reads secrets can only be made with the scope secrets:grant".into(),
        }
        .at(field));
    }
    let everything = [Pattern::All];
    let wanted = match (new.grants.is_empty(), new.role) {
        (true, Role::Worker) => &[][..],
        (true, Role::Admin | Role::Viewer) => &everything[..],
        (false, _) => &new.grants[..],
    };
    for (index, pattern) in wanted.iter().enumerate() {
        if !caller.grants.iter().any(|held| held.contains(pattern, kinds::kind_of_pattern)) {
            let field = if new.grants.is_empty() { "grants".to_owned() } else { format!("grants[{index}]") };
            return Err(not_granted(caller, &pattern.to_text()).at(field));
        }
    }
    Ok(())
}
