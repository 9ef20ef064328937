//! What a command ends with: an exit code, and one line that names what is wrong and what would be right.
//!
//! It owns the reading of `google.rpc` details. It must not know any command.

use std::{fmt, io};

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::scalar::with_words;
use crate::app::{AppError, MoveError, StoreError};

/// What a process ends with; the numbers are documented in `--help` and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It was done.
    Ok = 0,
    /// A call failed, or a check found something.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// There is no such resource.
    NotFound = 3,
    /// The token is missing, or does not allow it.
    Denied = 4,
    /// Somebody else was faster, or the state does not allow it.
    Conflict = 5,
    /// The server can't be reached, or can't do it now.
    Unavailable = 6,
    /// It was written, and not enough workers run it.
    Unconverged = 7,
}

/// The reason of a server that does not know what became of a write.
pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";

/// The exit codes as the help shows them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  a call failed, or a check found something
  2  the command line or the settings are wrong
  3  there is no such resource
  4  the token is missing or does not allow it
  5  conflict: somebody else was faster, or the state does not allow it
  6  the server can't be reached or can't do it now; trying again may help
  7  it was written, and not enough workers run it (--wait)";

impl Exit {
    /// What a command ends with that works on the store itself.
    #[must_use]
    pub fn of(error: &AppError) -> Self {
        match error {
            AppError::Move(MoveError::Refused(_)) => Self::Conflict,
            AppError::Store(StoreError::Unavailable(_))
            | AppError::Move(
                MoveError::Source(StoreError::Unavailable(_))
                | MoveError::Target(StoreError::Unavailable(_))
                | MoveError::Fencing(_)
                | MoveError::Telling(_)
                | MoveError::Unknown(_),
            ) => Self::Unavailable,
            _ => Self::Failed,
        }
    }
}

/// Why a command did not come to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// To be told to the user.
    Told {
        /// What the process ends with.
        exit: Exit,
        /// What is wrong, the first line a sentence of its own.
        text: String,
    },
    /// The connection was cut while the server was asked.
    Lost(
        /// The last cause of the transport's error.
        String,
    ),
    /// Nobody knows whether the server did it: it said so.
    Unknown(
        /// What it said.
        String,
    ),
    /// Nobody reads the output any more; that is no error.
    Pipe,
    /// A check has already told what it found.
    Found,
}

/// What a command returns.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// Something to tell, with its exit code.
    pub fn told(exit: Exit, text: impl Into<String>) -> Self {
        Self::Told { exit, text: text.into() }
    }

    /// A wrong command line.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::told(Exit::Usage, text)
    }

    /// The same behind a write that was done: what is not known is no longer whether it was.
    #[must_use]
    pub fn behind_what_is_done(self) -> Self {
        match self {
            Self::Lost(cause) | Self::Unknown(cause) => Self::told(Exit::Unavailable, cause),
            other => other,
        }
    }

    /// The same of a write with a request id, by which whoever heard no answer learns what became of it.
    #[must_use]
    pub fn of_request(self, id: &str) -> Self {
        let how = format!(
            "\nit is not known whether it was done, and it may be: repeat the same command with --request-id {id}, which does it if \
             it was not, and otherwise tells what it did"
        );
        match self {
            Self::Lost(cause) => Self::Lost(cause + &how),
            Self::Unknown(text) => Self::Unknown(text + &how),
            other => other,
        }
    }

    /// What the process ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Told { exit, .. } => *exit,
            Self::Lost(_) | Self::Unknown(_) => Exit::Unavailable,
            Self::Pipe => Exit::Ok,
            Self::Found => Exit::Failed,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told { text, .. } | Self::Unknown(text) => out.write_str(text),
            Self::Lost(cause) => write!(out, "the connection to the server was lost: {cause}"),
            Self::Pipe | Self::Found => Ok(()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Pipe,
            _ => Self::told(Exit::Failed, format!("can't write the output: {error}")),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if let Some(cause) = lost(&status) {
            return Self::Lost(cause);
        }
        let text = describe(&status);
        match status.get_details_error_info() {
            Some(info) if info.reason == OUTCOME_UNKNOWN => Self::Unknown(text),
            _ => Self::told(exit_of(&status), text),
        }
    }
}

fn exit_of(status: &Status) -> Exit {
    match status.code() {
        Code::NotFound => Exit::NotFound,
        Code::Unauthenticated | Code::PermissionDenied => Exit::Denied,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => Exit::Conflict,
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => Exit::Unavailable,
        _ => Exit::Failed,
    }
}

fn describe(status: &Status) -> String {
    let details = status.get_error_details();
    let mut lines = Vec::new();
    let violations = details.bad_request().map_or(&[][..], |bad| bad.field_violations.as_slice());
    let metadata = |key: &str| details.error_info().and_then(|info| info.metadata.get(key));
    match violations {
        [] => match metadata("field") {
            // A batch has many parts; of a single request the sentence says enough.
            Some(field)
                if ["operations[", "items[", "resources["].iter().any(|many| field.starts_with(many)) =>
            {
                lines.push(format!("{field}: {}", sentence(status)));
            }
            _ => lines.push(sentence(status)),
        },
        [only] => lines.push(format!("{}: {}", only.field, with_words(&only.description))),
        many => {
            let count = metadata("violations").and_then(|count| count.parse().ok()).unwrap_or(many.len());
            lines.push(format!("{count} things are wrong with the request"));
            lines.extend(
                many.iter().map(|violation| {
                    format!("  {}: {}", violation.field, with_words(&violation.description))
                }),
            );
            let unlisted = count.saturating_sub(many.len());
            lines.extend((unlisted > 0).then(|| format!("  and {unlisted} more")));
        }
    }
    if let Some(reason) =
        details.error_info().map(|info| info.reason.as_str()).filter(|reason| !reason.is_empty())
    {
        lines[0].push_str(&format!(" [{reason}]"));
    }
    let wait = details.retry_info().and_then(|retry| retry.retry_delay);
    lines.extend(wait.map(|wait| format!("hint: try again in {}", humantime::format_duration(wait))));
    lines.extend(hint(status.code()).map(|hint| format!("hint: {hint}")));
    lines.join("\n")
}

/// Why the connection was lost, if the status is no answer of the server but the transport's error: the last of its
/// causes, because the others only say that there was one.
fn lost(status: &Status) -> Option<String> {
    let first = std::error::Error::source(status)?;
    std::iter::successors(Some(first), |error| error.source()).last().map(ToString::to_string)
}

fn sentence(status: &Status) -> String {
    if status.message().is_empty() {
        return format!("the server answered {:?}: {}", status.code(), status.code().description());
    }
    with_words(status.message())
}

fn hint(code: Code) -> Option<&'static str> {
    match code {
        Code::Unauthenticated => Some(
            "a token is taken from --token-file, SIGNALBOX_TOKEN, SIGNALBOX_TOKEN_FILE, or admin.token in the data \
             directory; a server on SQLite writes that file on its first start, and `signalbox token create` makes others: on PostgreSQL \
             with --local, where the database and the encryption key are at hand",
        ),
        Code::Aborted => Some("read it again (`signalbox get`), and repeat the change on what is there now"),
        Code::Unimplemented => Some("is that a Signalbox server, and as new as this command?"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;

    fn of(code: Code) -> Failure {
        Failure::from(Status::new(code, "it failed"))
    }

    #[test]
    fn codes_become_exit_codes() {
        let cases = [
            (Code::NotFound, 3),
            (Code::Unauthenticated, 4),
            (Code::PermissionDenied, 4),
            (Code::Aborted, 5),
            (Code::AlreadyExists, 5),
            (Code::FailedPrecondition, 5),
            (Code::Unavailable, 6),
            (Code::DeadlineExceeded, 6),
            (Code::ResourceExhausted, 6),
            (Code::InvalidArgument, 1),
            (Code::OutOfRange, 1),
            (Code::Internal, 1),
            (Code::Unknown, 1),
        ];
        for (code, exit) in cases {
            assert_eq!(of(code).exit() as u8, exit, "{code:?}");
        }
        let cut = Status::from_error(Box::new(io::Error::other("connection reset")));
        assert_eq!(Failure::from(cut).exit(), Exit::Unavailable);
    }

    #[test]
    fn a_broken_pipe_is_no_error() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit(), failure.to_string()), (Exit::Ok, String::new()));
    }

    #[test]
    fn every_violation_has_a_line() {
        let mut details = ErrorDetails::with_error_info("REQUIRED", "signalbox", []);
        details.add_bad_request_violation("resource.provider.type", "is required");
        let status =
            |details| Failure::from(Status::with_error_details(Code::InvalidArgument, "no", details));
        assert_eq!(status(details.clone()).to_string(), "resource.provider.type: is required [REQUIRED]");
        details.add_bad_request_violation("resource.name", "is empty");
        assert_eq!(
            status(details).to_string(),
            "2 things are wrong with the request [REQUIRED]\n  resource.provider.type: is required\n  \
             resource.name: is empty"
        );
    }

    #[test]
    fn hints_say_what_to_do() {
        let mut details = ErrorDetails::with_error_info("STORE_UNAVAILABLE", "signalbox", []);
        details.set_retry_info(Some(Duration::from_secs(3)));
        let text = Failure::from(Status::with_error_details(Code::Unavailable, "the store is away", details))
            .to_string();
        assert_eq!(text, "the store is away [STORE_UNAVAILABLE]\nhint: try again in 3s");
        assert!(of(Code::Unauthenticated).to_string().contains("SIGNALBOX_TOKEN_FILE"));
    }
}
