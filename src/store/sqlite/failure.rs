//! What SQLite's errors mean for those who wait: one map, so that no statement, path or message of the driver gets out.

use crate::{
    domain::ApplyError,
    store::{StoreError, rows::RowDefect},
};

/// Why the database did not do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It can't now; trying again may help. The text may be shown to anyone.
    Unavailable(&'static str),
    /// It holds what was never written, or is no database any more. The text may be shown to anyone.
    Damaged(String),
    /// A constraint refused what was to be written: the fault of one write, not of the database.
    Refused(String),
    /// A defect of this program. For the log only.
    Internal(String),
}

/// Primary result codes of SQLite, which extended ones hold in their low byte.
mod code {
    pub const PERM: i32 = 3;
    pub const BUSY: i32 = 5;
    pub const LOCKED: i32 = 6;
    pub const NOMEM: i32 = 7;
    pub const READONLY: i32 = 8;
    pub const IOERR: i32 = 10;
    pub const CORRUPT: i32 = 11;
    pub const FULL: i32 = 13;
    pub const CANTOPEN: i32 = 14;
    pub const PROTOCOL: i32 = 15;
    pub const TOOBIG: i32 = 18;
    pub const CONSTRAINT: i32 = 19;
    pub const NOTADB: i32 = 26;
}

impl Failure {
    fn of_code(code: i32, message: &str) -> Self {
        match code & 0xff {
            code::FULL => Failure::Unavailable("the disk is full"),
            code::IOERR => Failure::Unavailable("the disk does not read or write"),
            code::BUSY | code::LOCKED | code::PROTOCOL => {
                Failure::Unavailable("another process holds the database")
            }
            code::READONLY | code::PERM => Failure::Unavailable("the database can't be written"),
            code::CANTOPEN => Failure::Unavailable("the database can't be opened"),
            code::NOMEM => Failure::Unavailable("there is no memory left"),
            code::CORRUPT => Failure::Damaged("its pages contradict each other".into()),
            code::NOTADB => Failure::Damaged("it is no database".into()),
            code::CONSTRAINT | code::TOOBIG => Failure::Refused(message.to_owned()),
            _ => Failure::Internal(format!("database error {code}: {message}")),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().and_then(|code| code.parse().ok()).unwrap_or_default();
                Failure::of_code(code, database.message())
            }
            sqlx::Error::Io(_) => Failure::Unavailable("the disk does not read or write"),
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
            Failure::Damaged(what) => StoreError::Damaged(what),
            Failure::Refused(detail) | Failure::Internal(detail) => StoreError::Internal(detail),
        }
    }
}

impl From<Failure> for ApplyError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(reason) => ApplyError::Unavailable { reason: reason.into() },
            Failure::Damaged(what) => ApplyError::Unavailable { reason: format!("it is damaged: {what}") },
            Failure::Refused(detail) | Failure::Internal(detail) => ApplyError::Internal { detail },
        }
    }
}
