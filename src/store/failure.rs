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
    /// It was told to commit and did not say whether it has. The text may be shown to anyone.
    Unknown(&'static str),
    /// A defect of this program. For the log only.
    Internal(String),
}

impl Failure {
    /// Whether nobody answered who could have taken or refused it: that ends when the database is heard from again.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unavailable(UNREACHABLE | BROKEN)) || postgres::is_away(self)
    }

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

/// What of TLS went wrong with PostgreSQL, as far as it is known.
const TLS_NOT_OFFERED: &str =
    "the database offers no TLS: switch it on there (ssl = on), or choose another sslmode";
const TLS_UNKNOWN_CA: &str =
    "the database's certificate is signed by nobody who is trusted: name its authority with sslrootcert=FILE";
const TLS_WRONG_NAME: &str = "the database's certificate is not for the host that the URL names: name one that it is for, or \
                              have it check the authority alone (sslmode=verify-ca)";
const TLS_EXPIRED: &str =
    "the database's certificate is not valid at this time: replace it, or look at the clocks";
const NO_TLS: &str =
    "no TLS could be agreed on with the database: look at sslmode, sslrootcert and its certificate";

/// What is said where no connection could be opened.
pub const UNREACHABLE: &str = "the database can't be reached";
/// What is said where one broke.
const BROKEN: &str = "the database can't be read or written";

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

/// What rustls found wrong.
fn of_tls(error: Option<&(dyn std::error::Error + Send + Sync + 'static)>) -> &'static str {
    let Some(rustls::Error::InvalidCertificate(wrong)) = error.and_then(|error| error.downcast_ref()) else {
        return NO_TLS;
    };
    use rustls::CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    match wrong {
        // The second: of an authority that is called the same and is another one.
        UnknownIssuer | BadSignature => TLS_UNKNOWN_CA,
        NotValidForName | NotValidForNameContext { .. } => TLS_WRONG_NAME,
        Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => TLS_EXPIRED,
        _ => NO_TLS,
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => Failure::of_answer(&**database),
            // What rustls says comes as this.
            sqlx::Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
                Failure::Unavailable(of_tls(error.get_ref()))
            }
            sqlx::Error::Io(error) if is_unreachable(error.kind()) => Failure::Unavailable(UNREACHABLE),
            sqlx::Error::Io(_) => Failure::Unavailable(BROKEN),
            // The driver's own sentence: there is no kind of its own for it.
            sqlx::Error::Tls(error) if error.to_string() == "server does not support TLS" => {
                Failure::Unavailable(TLS_NOT_OFFERED)
            }
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
            Failure::Unknown(reason) => {
                StoreError::Unavailable(format!("{reason}; it did not say whether it is done"))
            }
            Failure::Damaged(what) => StoreError::Damaged(what),
            Failure::Refused(detail) | Failure::Internal(detail) => StoreError::Internal(detail),
        }
    }
}

impl From<Failure> for ApplyError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(reason) => ApplyError::Unavailable { reason: reason.into() },
            Failure::Unknown(reason) => ApplyError::Unknown { reason: reason.into() },
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
    fn what_of_tls_went_wrong_is_told_apart() {
        let told = |wrong| {
            let error = rustls::Error::InvalidCertificate(wrong);
            Failure::from(sqlx::Error::Io(std::io::Error::new(ErrorKind::InvalidData, error)))
        };
        assert_eq!(told(rustls::CertificateError::UnknownIssuer), Failure::Unavailable(TLS_UNKNOWN_CA));
        assert_eq!(told(rustls::CertificateError::NotValidForName), Failure::Unavailable(TLS_WRONG_NAME));
        assert_eq!(told(rustls::CertificateError::Expired), Failure::Unavailable(TLS_EXPIRED));
        assert_eq!(told(rustls::CertificateError::Revoked), Failure::Unavailable(NO_TLS));
        let none = Failure::from(sqlx::Error::Tls("server does not support TLS".into()));
        assert_eq!(none, Failure::Unavailable(TLS_NOT_OFFERED));
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
