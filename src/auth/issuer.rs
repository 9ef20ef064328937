//! Makes tokens of our own: HS256, signed with `jwt.key`.
//!
//! The secret is the text of the file, without white space around it: 32 random bytes in base64, of which nothing is decoded. So
//! the same text works as a file, as a setting, and with other tools.

use std::{path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::keys::{TokenKeyError, checked_secret};
use crate::{
    crypto::{
        self, SecretText,
        private_file::{self, FileError},
    },
    domain::{Clock, Error, Pattern, Role, Text, Violations, limits},
};

/// `iss` and `aud` of our own tokens.
pub const OWN_NAME: &str = "signalbox";

/// Characters of a subject at most.
pub const SUBJECT_CHARS: usize = 128;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a token may do beyond its role.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Read secrets. Only for workers.
    SecretsRead,
    /// Make tokens that read secrets. Only for admins.
    SecretsGrant,
}

/// A token to be made. What its maker may give away is for the use case to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Whom it is for; 1 to 128 characters.
    pub subject: String,
    /// Its role.
    pub role: Role,
    /// What it reaches. Empty: nothing for a worker, everything for others.
    pub grants: Vec<Pattern>,
    /// What it may do beyond its role.
    pub scopes: Vec<Scope>,
    /// How long it is good for; 1 s to 366 days, in whole seconds.
    pub ttl: Duration,
}

/// A token that was made.
pub struct IssuedToken {
    /// The token. It is shown once.
    pub token: SecretText,
    /// Its id (`jti`), for revoking it.
    pub token_id: String,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
}

/// Makes tokens.
pub struct TokenIssuer {
    key: EncodingKey,
    clock: Arc<dyn Clock>,
}

/// Why the first admin token was not written.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The file can't be made.
    #[error("admin token: {0}")]
    File(#[from] FileError),
    /// The token can't be made.
    #[error("admin token: {0}")]
    Issue(#[from] Error),
}

impl Scope {
    /// The word that tokens hold.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::SecretsRead => "secrets:read",
            Scope::SecretsGrant => "secrets:grant",
        }
    }

    /// The only role that it counts for.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Scope::SecretsRead => Role::Worker,
            Scope::SecretsGrant => Role::Admin,
        }
    }
}

impl TokenIssuer {
    /// An issuer that signs with this secret.
    ///
    /// # Errors
    /// When the secret is too short or one that everybody knows.
    pub fn new(secret: &SecretText, clock: Arc<dyn Clock>) -> Result<Self, TokenKeyError> {
        let key = EncodingKey::from_secret(checked_secret(secret)?.expose().as_bytes());
        Ok(Self { key, clock })
    }

    /// Makes a token, now.
    ///
    /// # Errors
    /// As [`TokenIssuer::issue_at`].
    pub fn issue(&self, new: NewToken) -> Result<IssuedToken, Error> {
        self.issue_at(new, self.clock.now())
    }

    /// Makes a token that says that it was made then.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every field that is out of bounds, or `grants` when they do not fit into 8 KiB.
    pub fn issue_at(&self, new: NewToken, now: DateTime<Utc>) -> Result<IssuedToken, Error> {
        new.violations().into_result()?;
        let NewToken { subject, role, grants, scopes, ttl } = new;
        let issued_at = now.timestamp();
        // With its fraction: a token made in the second of a revocation, but after it, is not revoked by it.
        #[allow(clippy::cast_precision_loss, reason = "a NumericDate is a JSON number; a microsecond fits")]
        let issued_exactly = now.timestamp_micros() as f64 / 1e6;
        let expires_at = i64::try_from(ttl.as_secs())
            .ok()
            .and_then(TimeDelta::try_seconds)
            .and_then(|ttl| DateTime::from_timestamp(issued_at, 0)?.checked_add_signed(ttl))
            .ok_or_else(|| Error::internal("the clock is beyond all times"))?;
        let token_id = uuid::Uuid::new_v4().to_string();
        let mut claims = json!({
            "iss": OWN_NAME, "aud": OWN_NAME, "sub": subject, "iat": issued_exactly, "exp": expires_at.timestamp(),
            "jti": token_id, "role": role.as_str(),
        });
        if !grants.is_empty() {
            claims["grants"] = grants.iter().map(Pattern::to_text).collect();
        }
        if !scopes.is_empty() {
            claims["scope"] = scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ").into();
        }
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.key)
            .map(SecretText::new)
            .map_err(|_| Error::internal("a token could not be signed"))?;
        if token.expose().len() > limits::TOKEN_BYTES {
            return Err(Error::invalid(
                "grants",
                "TOO_LONG",
                "do not fit into a token of 8 KiB; use prefixes",
            ));
        }
        Ok(IssuedToken { token, token_id, expires_at })
    }
}

impl NewToken {
    /// Everything that is out of bounds.
    fn violations(&self) -> Violations {
        let mut violations = Violations::default();
        violations.required("subject", &self.subject, Text::Line, SUBJECT_CHARS);
        check_ttl(self.ttl, &mut violations);
        violations.at_most("grants", self.grants.len(), limits::SELECTORS, "selectors");
        check_scopes(self.role, &self.scopes, &mut violations);
        violations
    }
}

/// How long a token lives at most.
pub const LONGEST_TTL: Duration = Duration::from_secs(366 * 86_400);

/// Notes a life that no token may have.
pub fn check_ttl(ttl: Duration, violations: &mut Violations) {
    if !(Duration::from_secs(1)..=LONGEST_TTL).contains(&ttl) {
        violations.add("ttl", "OUT_OF_RANGE", "must be from 1 s to 366 days");
    }
}

/// Notes scopes that do not go with a role.
pub fn check_scopes(role: Role, scopes: &[Scope], violations: &mut Violations) {
    for scope in scopes.iter().filter(|scope| scope.role() != role) {
        let (field, description) = match scope {
            Scope::SecretsRead => ("include_secrets", "is only for workers"),
            Scope::SecretsGrant => ("grant_secrets", "is only for admins"),
        };
        violations.add(field, "ROLE_MISMATCH", description);
    }
}

/// The signing secret in this file, which is made (mode 0600) if there is none. Blocks.
///
/// # Errors
/// When the file is exposed, or can't be read or made.
pub fn load_or_create_secret(path: &Path) -> Result<SecretText, FileError> {
    match private_file::read(path) {
        Err(FileError::Missing(_)) => {}
        read => return read,
    }
    let secret = crypto::generate_key().map_err(|error| FileError::Io {
        path: path.to_owned(),
        action: "made",
        error: std::io::Error::other(error),
    })?;
    match private_file::create(path, &secret) {
        Ok(()) => Ok(secret),
        // Another process was faster: its secret is the one.
        Err(FileError::Exists(_)) => private_file::read(path),
        Err(error) => Err(error),
    }
}

/// Writes the first admin token, good for a year, into a new private file. `None` if the file is there already.
/// Blocks.
///
/// # Errors
/// When the token or the file can't be made.
pub fn bootstrap_admin(issuer: &TokenIssuer, path: &Path) -> Result<Option<IssuedToken>, BootstrapError> {
    if path.exists() {
        return Ok(None);
    }
    let issued = issuer.issue(NewToken {
        subject: "admin".to_owned(),
        role: Role::Admin,
        grants: Vec::new(),
        scopes: vec![Scope::SecretsGrant],
        ttl: 365 * DAY,
    })?;
    match private_file::create(path, &issued.token) {
        Ok(()) => Ok(Some(issued)),
        Err(FileError::Exists(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
