//! What a database's errors mean for those who wait: one map, so that no statement, path, address or message of a driver
//! gets out.
//!
//! The codes of each database stand in its own file; what the driver says for all of them stands here.

use std::io::ErrorKind;

use sqlx::{error::DatabaseError, postgres::PgDatabaseError};

use super::{StoreError, postgres, rows::RowDefect, sqlite};
use crate::domain::ApplyError;

/// Why the database did not do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It can't now; trying again may help. The text may be shown to anyone.
    Unavailable(&'static str),
    /// It holds what was never written, or is no database any more. The text may be shown to anyone.
    Damaged(String),
    /// A constraint refused what was to be written: the fault of one write, not of the database.
    Refused(String),
    /// It was told to commit and did not say whether it has.
    Unknown,
    /// A defect of this program. For the log only.
    Internal(String),
}

impl Failure {
    /// What an answer of the database itself means.
    fn of_answer(error: &dyn DatabaseError) -> Self {
        match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => postgres::failure_of(error.code(), error.message()),
            None => {
                let code = error.code().and_then(|code| code.parse().ok()).unwrap_or_default();
                sqlite::failure_of(code, error.message())
            }
        }
    }
}

/// Holds for SQLite never.
const NO_TLS: &str =
    "no TLS could be agreed on with the database: look at sslmode, sslrootcert and its certificate";

/// What is said where no connection could be opened.
pub const UNREACHABLE: &str = "the database can't be reached";

/// Whether nobody answered where the database should be.
pub fn is_unreachable(kind: ErrorKind) -> bool {
    use ErrorKind::{
        AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable, NotConnected,
        TimedOut,
    };
    matches!(
        kind,
        AddrNotAvailable
            | ConnectionRefused
            | HostUnreachable
            | NetworkDown
            | NetworkUnreachable
            | NotConnected
            | TimedOut
    )
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => Failure::of_answer(&**database),
            // What rustls says comes as this.
            sqlx::Error::Io(error) if error.kind() == ErrorKind::InvalidData => Failure::Unavailable(NO_TLS),
            sqlx::Error::Io(error) if is_unreachable(error.kind()) => Failure::Unavailable(UNREACHABLE),
            sqlx::Error::Io(_) => Failure::Unavailable("the database can't be read or written"),
            sqlx::Error::Tls(_) => Failure::Unavailable(NO_TLS),
            sqlx::Error::Protocol(_) => Failure::Unavailable("the database's answer was not understood"),
            // Of PostgreSQL the pool is asked first, whether it is that.
            sqlx::Error::PoolTimedOut => Failure::Unavailable("too many reads wait"),
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Failure::Unavailable("the database is closed")
            }
            sqlx::Error::RowNotFound => Failure::Damaged("a row that always is there is missing".into()),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                Failure::Damaged("a row can't be read".into())
            }
            _ => Failure::Internal(error.to_string()),
        }
    }
}

impl From<sqlx::error::BoxDynError> for Failure {
    /// An argument could not be encoded: the types of this program don't allow it.
    fn from(error: sqlx::error::BoxDynError) -> Self {
        Failure::Internal(error.to_string())
    }
}

impl From<RowDefect> for Failure {
    fn from(defect: RowDefect) -> Self {
        Failure::Damaged(defect.0)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(reason) => StoreError::Unavailable(reason.into()),
            Failure::Unknown => StoreError::Unavailable("the database did not say whether it is done".into()),
            Failure::Damaged(what) => StoreError::Damaged(what),
            Failure::Refused(detail) | Failure::Internal(detail) => StoreError::Internal(detail),
        }
    }
}

impl From<Failure> for ApplyError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(reason) => ApplyError::Unavailable { reason: reason.into() },
            Failure::Unknown => ApplyError::Unknown,
            Failure::Damaged(what) => ApplyError::Damaged { what },
            Failure::Refused(detail) | Failure::Internal(detail) => ApplyError::Internal { detail },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_a_database_that_refuses_connections_is_said_to_be_out_of_reach() {
        let refused = || sqlx::Error::Io(ErrorKind::ConnectionRefused.into());
        assert_eq!(Failure::from(refused()), Failure::Unavailable(UNREACHABLE));
        let broken = sqlx::Error::Io(ErrorKind::UnexpectedEof.into());
        assert_eq!(Failure::from(broken), Failure::Unavailable("the database can't be read or written"));
        assert_eq!(Failure::from(sqlx::Error::PoolTimedOut), Failure::Unavailable("too many reads wait"));
    }

    #[test]
    fn regression_a_damaged_store_does_not_ask_to_try_again() {
        let told =
            crate::domain::Error::from(ApplyError::from(Failure::Damaged("its head row is missing".into())));
        let crate::domain::Error::FailedPrecondition { reason, description, .. } = told else {
            panic!("{told:?}")
        };
        assert_eq!(reason, "STORE_DAMAGED");
        assert!(
            description.contains("its head row is missing") && description.contains("doctor"),
            "{description}"
        );
    }
}
