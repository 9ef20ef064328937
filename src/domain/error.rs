//! The errors that a caller can act on. `grpc` maps them to the wire in one place.

use std::time::Duration;

use super::{Revision, write::ApplyError};

/// Short for results of this crate's engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field from the request, for example `resource.provider.base_url`.
    pub field: String,
    /// What is wrong and what would be right, in a sentence that can stand alone.
    pub description: String,
    /// Stable word for programs, for example `REQUIRED`, `OUT_OF_RANGE`.
    pub reason: &'static str,
}

/// One thing that a write needs and that the state does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// Path of the field of the request that needs it.
    pub field: String,
    /// Stable word: `PARENT_MISSING`, `REFERENCE_MISSING`, `SECRET_REQUIRED`, `IN_USE`.
    pub reason: &'static str,
    /// Name of what is not there, of what holds a secret that is not given again, or of what is used as it is.
    pub subject: String,
    /// What is wrong and what to do, in a sentence that can stand alone.
    pub description: String,
}

/// Why a call failed. Everything in it may be shown to the caller, but for `Internal`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such resource.
    #[error("there is no {name}")]
    NotFound {
        /// What was asked for.
        name: String,
    },
    /// The resource is there already.
    #[error("{name} exists already")]
    AlreadyExists {
        /// What was to be created.
        name: String,
    },
    /// The caller's etag is not the current one.
    #[error("{name} has changed: its etag is now {current}")]
    EtagMismatch {
        /// The resource.
        name: String,
        /// Its etag now.
        current: String,
    },
    /// The state does not allow it.
    #[error("{description}")]
    FailedPrecondition {
        /// Stable word, for example `PARENT_MISSING`, `NO_SIGNING_KEY`.
        reason: &'static str,
        /// What it is about, mostly a resource name.
        subject: String,
        /// What is wrong and what to do.
        description: String,
    },
    /// What a write needs is not there, or stands against it; all of it is listed, at least one thing.
    #[error("{description}")]
    Missing {
        /// All of it in one sentence, and what to do.
        description: String,
        /// Each for itself.
        unmet: Vec<Unmet>,
    },
    /// The request is wrong; every violation is listed.
    #[error("the request is not valid: {}", summary(.0))]
    Invalid(Vec<FieldViolation>),
    /// There is no valid token.
    #[error("{description}")]
    Unauthenticated {
        /// Stable word: `TOKEN_MISSING`, `TOKEN_INVALID`, `TOKEN_EXPIRED`, `TOKEN_REVOKED`.
        reason: &'static str,
        /// What is wrong and what to do.
        description: String,
    },
    /// The token does not allow it.
    #[error("{description}")]
    PermissionDenied {
        /// Stable word: `ROLE_DENIED`, `ROLE_UNKNOWN`, `GRANT_UNKNOWN`, `NOT_GRANTED`, `SECRETS_DENIED`,
        /// `SECRETS_GRANT_DENIED`.
        reason: &'static str,
        /// What is denied, and what is granted.
        description: String,
    },
    /// A limit is reached.
    #[error("{description}")]
    Exhausted {
        /// Stable word, for example `TOO_MANY_STREAMS`.
        reason: &'static str,
        /// Which limit.
        description: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// It can't be done now.
    #[error("{description}")]
    Unavailable {
        /// Stable word, for example `STORE_UNAVAILABLE`, `REPLICA_BEHIND`, `OUTCOME_UNKNOWN`.
        reason: &'static str,
        /// What is the matter.
        description: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// A past revision that the log no longer has, or one ahead of the store.
    #[error("{description}")]
    OutOfRange {
        /// Stable word: `COMPACTED`, `AHEAD`.
        reason: &'static str,
        /// What is the matter.
        description: String,
        /// The oldest revision that can be read.
        floor: Revision,
    },
    /// What went wrong with one part of a request that may have several.
    #[error("{cause}")]
    At {
        /// Path of the field that it is about, for example `operations[3].update.resource.etag`.
        field: String,
        /// What went wrong; never `At` itself.
        cause: Box<Error>,
    },
    /// A defect. The detail goes to the log under a correlation id, never to the caller.
    #[error("internal error")]
    Internal {
        /// For the log only; must not hold a secret.
        detail: String,
    },
}

impl Error {
    /// An internal error with what the log should say.
    #[allow(clippy::needless_pass_by_value, reason = "taken by value, so that it serves `map_err` as it is")]
    pub fn internal(detail: impl ToString) -> Self {
        Error::Internal { detail: detail.to_string() }
    }

    /// The same error, with the field of the request that it is about.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        match self {
            Error::At { .. } | Error::Invalid(_) | Error::Internal { .. } => self,
            cause => Error::At { field: field.into(), cause: Box::new(cause) },
        }
    }

    /// What went wrong, wherever in the request.
    #[must_use]
    pub fn cause(&self) -> &Error {
        match self {
            Error::At { cause, .. } => cause,
            other => other,
        }
    }

    /// A request with one thing wrong.
    pub fn invalid(field: impl Into<String>, reason: &'static str, description: impl Into<String>) -> Self {
        Error::Invalid(vec![FieldViolation::new(field, reason, description)])
    }
}

impl FieldViolation {
    /// One thing that is wrong.
    pub fn new(field: impl Into<String>, reason: &'static str, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into(), reason }
    }
}

impl From<ApplyError> for Error {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Stale { .. } => Error::Unavailable {
                reason: "CONTENTION",
                description: "other writes kept changing what this one builds on; try again".into(),
                retry_after: Duration::from_millis(200),
            },
            ApplyError::RequestMismatch => Error::invalid(
                "request_id",
                "REQUEST_ID_REUSED",
                "was used for another request within the last day; use a new id for a new request",
            ),
            ApplyError::Unavailable { reason } => Error::Unavailable {
                reason: "STORE_UNAVAILABLE",
                description: format!("the store can't take the write now: {reason}"),
                retry_after: Duration::from_secs(1),
            },
            ApplyError::Damaged { what } => Error::FailedPrecondition {
                reason: "STORE_DAMAGED",
                subject: "store".into(),
                description: format!(
                    "the store is damaged ({what}) and takes no write, now or later: an operator has to run \
                     `signalbox doctor`"
                ),
            },
            ApplyError::Unknown { reason } => Error::Unavailable {
                reason: "OUTCOME_UNKNOWN",
                description: format!(
                    "{reason}; the write may have been made: repeat it with the same request_id to learn of it"
                ),
                retry_after: Duration::from_secs(1),
            },
            ApplyError::Internal { detail } => Error::Internal { detail },
        }
    }
}

fn summary(violations: &[FieldViolation]) -> String {
    let listed: Vec<_> = violations
        .iter()
        .take(5)
        .map(|violation| format!("{} {}", violation.field, violation.description))
        .collect();
    let more = violations.len().saturating_sub(listed.len());
    let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{tail}", listed.join("; "))
}
