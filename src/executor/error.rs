//! What can go wrong with a call, attempt by attempt.
//!
//! Owns the errors, and the words of routers for them. No message holds a key: a provider's words come without parts of it.

use std::{fmt, time::Duration};

use crate::{
    client::SecretError,
    proto::v1::CallFailure,
    wire::{Failure, Malformed, Problem, Reason, StreamFailure},
};

/// The statuses of a provider that is overloaded or away; others of the 500s are errors of its own.
const AWAY: [u16; 4] = [502, 503, 504, 529];

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CompletionError {
    /// The call itself is wrong, whoever it goes to; with everything that is.
    Call(Vec<Problem>),
    /// There is nobody to ask: the provider that is named, or the active one, is not configured or is disabled.
    NotConfigured(Vec<String>),
    /// No provider has answered; with what became of each attempt.
    NobodyAnswered {
        /// Whether it was for the time that no other was asked.
        late: bool,
        /// What became of each attempt, in order.
        failures: Vec<AttemptFailure>,
    },
    /// The answer broke off after it had begun, so that nobody else was asked.
    BrokeOff {
        /// What became of each attempt; the last is the one that broke off.
        failures: Vec<AttemptFailure>,
    },
}

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AttemptFailure {
    /// Id of the provider that was asked.
    pub provider: String,
    /// What happened.
    pub error: AttemptError,
}

/// Why one attempt failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// The call is wrong, or is nothing that this provider can be asked.
    #[error("the call is refused: {}", listed(.0))]
    Call(Vec<Problem>),
    /// The provider's configuration does not say how to speak to it.
    #[error("the provider's configuration: {}", listed(.0))]
    Mapping(Vec<Problem>),
    /// A secret that it takes can't be had.
    #[error("{name}: {error}")]
    Secret {
        /// Name of the resource that has it, or should have.
        name: String,
        /// Why.
        error: SecretError,
    },
    /// A secret would go over the network in the clear.
    #[error("no secret goes to {host} over plain http; use https, or allow the host")]
    Plaintext {
        /// Where to.
        host: String,
    },
    /// The request can't be put together.
    #[error("the request is none: {0}")]
    Request(String),
    /// No connection came about, or it broke.
    #[error("the connection failed: {0}")]
    Connection(String),
    /// It has not answered in time.
    #[error("no answer in time")]
    TimedOut,
    /// The provider has refused.
    #[error("HTTP {status}, {reason:?}: {words}{wait}", reason = failure.reason, words = failure.words(), wait = wait(failure))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why, with the provider's words.
        failure: Failure,
    },
    /// What it says is no answer.
    #[error(transparent)]
    Answer(#[from] Malformed),
    /// What it streams is no answer, or not a whole one.
    #[error(transparent)]
    Stream(#[from] StreamFailure),
    /// The answer is longer than what is taken.
    #[error("the provider's answer is too large")]
    TooLarge,
}

impl AttemptError {
    /// The failure in the words of routers; `None` where asking again can't help, since the call or the configuration is what
    /// is wrong.
    #[must_use]
    pub fn kind(&self) -> Option<CallFailure> {
        match self {
            Self::Call(_)
            | Self::Mapping(_)
            | Self::Secret { .. }
            | Self::Plaintext { .. }
            | Self::Request(_) => None,
            Self::Connection(_) | Self::Stream(StreamFailure::CutOff) => Some(CallFailure::Connection),
            Self::TimedOut => Some(CallFailure::Timeout),
            Self::Answer(_)
            | Self::TooLarge
            | Self::Stream(StreamFailure::Malformed(_) | StreamFailure::TooLarge) => {
                Some(CallFailure::BadAnswer)
            }
            Self::Stream(StreamFailure::Failed(failure)) => kind_of(failure.reason, CallFailure::Unavailable),
            Self::Refused { status, failure } if AWAY.contains(status) => {
                kind_of(failure.reason, CallFailure::Unavailable)
            }
            Self::Refused { failure, .. } => kind_of(failure.reason, CallFailure::ServerError),
        }
    }

    /// How long the provider asks to be left alone, where it says so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { failure, .. } | Self::Stream(StreamFailure::Failed(failure)) => {
                failure.retry_after
            }
            _ => None,
        }
    }
}

/// A provider's reason in the words of routers; troubles of its own are those that are given.
fn kind_of(reason: Reason, trouble: CallFailure) -> Option<CallFailure> {
    match reason {
        Reason::BadKey | Reason::PermissionDenied => Some(CallFailure::Authentication),
        Reason::Unavailable => Some(trouble),
        Reason::RateLimited => Some(CallFailure::RateLimited),
        Reason::Timeout => Some(CallFailure::Timeout),
        Reason::NotFound | Reason::InvalidRequest => None,
    }
}

impl CompletionError {
    /// How long it is until one of the providers may be asked again, where they have said so: the shortest that any asks for.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.failures().iter().filter_map(|failure| failure.error.retry_after()).min()
    }

    /// What became of each attempt.
    #[must_use]
    pub fn failures(&self) -> &[AttemptFailure] {
        match self {
            Self::Call(_) | Self::NotConfigured(_) => &[],
            Self::NobodyAnswered { failures, .. } | Self::BrokeOff { failures } => failures,
        }
    }
}

impl std::error::Error for CompletionError {}

impl fmt::Display for CompletionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(problems) => return write!(formatter, "the call is refused: {}", listed(problems)),
            Self::NotConfigured(names) if names.is_empty() => {
                return formatter.write_str("there is no active provider");
            }
            Self::NotConfigured(names) => {
                return write!(formatter, "{}: not configured, or disabled", names.join(", "));
            }
            Self::NobodyAnswered { late: true, .. } => {
                formatter.write_str("no provider has answered in time")?;
            }
            Self::NobodyAnswered { .. } => formatter.write_str("no provider has answered")?,
            Self::BrokeOff { .. } => formatter.write_str("the answer broke off")?,
        }
        let told: Vec<_> = self.failures().iter().map(ToString::to_string).collect();
        if told.is_empty() { Ok(()) } else { write!(formatter, ": {}", told.join("; ")) }
    }
}

impl fmt::Display for AttemptFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.provider, self.error)
    }
}

fn listed(problems: &[Problem]) -> String {
    let told = problems.iter().map(|problem| format!("`{}` {}", problem.path, problem.description));
    told.collect::<Vec<_>>().join("; ")
}

fn wait(failure: &Failure) -> String {
    let asked =
        failure.retry_after.map(|asked| format!(" (asks to be left alone for {} s)", asked.as_secs_f64()));
    asked.unwrap_or_default()
}
