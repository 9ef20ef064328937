//! What can go wrong, with what the server says about it decoded.
//!
//! Owns the client's errors and the reading of `google.rpc` details. Must not know what a caller does about them.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{cache::CacheError, validation::Rejection};

/// An error of somebody else's making, such as a token callback's.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong in the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The options contradict the rules of [`ClientOptions`](super::ClientOptions).
    #[error("invalid client options: {0}")]
    Options(String),
    /// The client was made outside of a tokio runtime.
    #[error("the client needs a tokio runtime to run in")]
    NoRuntime,
    /// The token can't be read from where it is kept.
    #[error("can't read the token: {0}")]
    Token(BoxError),
    /// The authorities to trust can't be read, or there are none in the file.
    #[error("can't use the authorities in {}: {cause}", path.display())]
    CaFile {
        /// The file, as the options have it.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// This client's certificate or its key can't be read, or the key is that of another certificate.
    #[error("can't use this client's certificate or key in {}: {cause}", path.display())]
    IdentityFile {
        /// The file, as the options have it.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// The key of the cache on disk can't be read.
    #[error("can't read the key of the cache in {}: {cause}", path.display())]
    CacheKey {
        /// The file, as the options have it.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// The cache on disk can't be removed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A server can't be reached, or TLS can't be agreed on.
    #[error("can't connect to {endpoint}: {cause}")]
    Connect {
        /// The endpoint, as the options have it.
        endpoint: String,
        /// The whole chain of causes.
        cause: String,
    },
    /// The server answered with an error.
    #[error(transparent)]
    Rpc(Box<RpcError>),
    /// Nothing was heard on a stream for this long, so it was given up.
    #[error("nothing was heard from the server for {0:?}")]
    Silent(Duration),
    /// A stream brought no fresh word of the store for this long, so it was given up: its server is cut off from the store, or
    /// says other things only.
    #[error("the server has confirmed nothing for {0:?}")]
    Unconfirmed(Duration),
    /// The server ended the stream without saying why.
    #[error("the server ended the stream")]
    Ended,
    /// The cache can't follow the stream and is built anew, while the old state is served on.
    #[error("the cache is built anew: {0}")]
    Desync(String),
    /// The newest revision is not accepted by [`ClientOptions::validate`](super::ClientOptions::validate).
    #[error("revision {} is not accepted: {}", .0.revision, .0.reason)]
    Rejected(Rejection),
    /// The first snapshot has not come in time.
    #[error("not ready in time{}", because(.last_error.as_ref()))]
    NotReady {
        /// What stood in the way last, if anything did.
        last_error: Option<Arc<Error>>,
    },
    /// A revision has not come in time.
    #[error("revision {wanted} has not come in time; the cache is at {reached}")]
    RevisionNotReached {
        /// The revision that was waited for.
        wanted: u64,
        /// The revision of the cache.
        reached: u64,
    },
}

impl Error {
    /// Whether only a person can mend this: wrong options, or rights that the token does not have. The client goes on
    /// trying all the same, slowly.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Options(_) | Self::NoRuntime | Self::CacheKey { .. } => true,
            Self::Rpc(error) => {
                matches!(error.code, Code::PermissionDenied | Code::InvalidArgument)
            }
            Self::NotReady { last_error } => last_error.as_ref().is_some_and(|error| error.is_fatal()),
            _ => false,
        }
    }

    /// The server's answer, where there is one.
    #[must_use]
    pub fn rpc(&self) -> Option<&RpcError> {
        match self {
            Self::Rpc(error) => Some(error),
            Self::NotReady { last_error } => last_error.as_ref().and_then(|error| error.rpc()),
            _ => None,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Rpc(Box::new(RpcError::from(&status)))
    }
}

/// An error that a server answered with. No caller has to parse the message.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}: {message}", code.description())]
#[non_exhaustive]
pub struct RpcError {
    /// The gRPC code.
    pub code: Code,
    /// For people.
    pub message: String,
    /// The stable reason, where Signalbox itself answered (and not a proxy, say).
    pub reason: Option<String>,
    /// What belongs to the reason, for example the current etag, or a correlation id.
    pub metadata: BTreeMap<String, String>,
    /// Every field that was refused.
    pub field_violations: Vec<FieldViolation>,
    /// Every precondition that does not hold.
    pub precondition_violations: Vec<PreconditionViolation>,
    /// How long to wait before another attempt.
    pub retry_delay: Option<Duration>,
}

/// A field of a request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldViolation {
    /// Its path, for example `resource.provider.base_url`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// A precondition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreconditionViolation {
    /// The sort of precondition.
    pub kind: String,
    /// The name of the resource it is about.
    pub subject: String,
    /// What is wrong.
    pub description: String,
}

/// The domain of reasons that Signalbox owns.
const DOMAIN: &str = "signalbox";

impl From<&Status> for RpcError {
    fn from(status: &Status) -> Self {
        // Details that can't be read are as good as none: code and message still count.
        let details = status.check_error_details().unwrap_or_default();
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        let fields = details.bad_request().map(|bad| bad.field_violations.as_slice());
        let fields = fields.unwrap_or_default().iter().map(|violation| FieldViolation {
            field: violation.field.clone(),
            description: violation.description.clone(),
        });
        let failures = details.precondition_failure().map(|failure| failure.violations.as_slice());
        let failures = failures.unwrap_or_default().iter().map(|violation| PreconditionViolation {
            kind: violation.r#type.clone(),
            subject: violation.subject.clone(),
            description: violation.description.clone(),
        });
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason: info.map(|info| info.reason.clone()),
            metadata: info.map(|info| info.metadata.clone().into_iter().collect()).unwrap_or_default(),
            field_violations: fields.collect(),
            precondition_violations: failures.collect(),
            retry_delay: details.retry_info().and_then(|retry| retry.retry_delay),
        }
    }
}

/// An error with its causes: the transport's own says only "transport error". What only wraps another one says the same.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

fn because(error: Option<&Arc<Error>>) -> String {
    error.map(|error| format!(": {error}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::{Arc, Code, Duration, Error, Status, StatusExt};

    #[test]
    fn details_are_decoded() {
        let mut details = ErrorDetails::new();
        details
            .set_error_info("STALE_ETAG", "signalbox", [("etag".to_owned(), "e7".to_owned())])
            .add_bad_request_violation("resource.name", "is empty")
            .add_precondition_failure_violation("IN_USE", "providers/groq", "is active")
            .set_retry_info(Some(Duration::from_secs(2)));
        let error = Error::from(Status::with_error_details(Code::Aborted, "stale", details));
        let rpc = error.rpc().unwrap();
        assert_eq!((rpc.code, rpc.reason.as_deref()), (Code::Aborted, Some("STALE_ETAG")));
        assert_eq!(rpc.metadata["etag"], "e7");
        assert_eq!(
            (rpc.field_violations[0].field.as_str(), rpc.field_violations.len()),
            ("resource.name", 1)
        );
        assert_eq!(rpc.precondition_violations[0].subject, "providers/groq");
        assert_eq!(rpc.retry_delay, Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_proxys_reason_is_not_ours() {
        let details =
            ErrorDetails::with_error_info("QUOTA", "proxy.example", [("a".to_owned(), "b".to_owned())]);
        let error = Error::from(Status::with_error_details(Code::Unavailable, "", details));
        assert_eq!(error.rpc().unwrap().reason, None);
        assert!(error.rpc().unwrap().metadata.is_empty());
    }

    #[test]
    fn garbled_details_leave_code_and_message() {
        let status = Status::with_details(Code::PermissionDenied, "no", vec![0xff; 7].into());
        let error = Error::NotReady { last_error: Some(Arc::new(status.into())) };
        assert!(error.is_fatal());
        assert!(error.to_string().ends_with(": no"), "{error}");
    }
}
