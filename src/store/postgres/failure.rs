//! What PostgreSQL's own codes mean, and whether a server that failed has answered at all.

use std::time::Duration;

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use super::awaited::{LOCKED, SILENT};
use crate::store::{failure::Failure, rows::RowDefect};

const LOST: &str = "the connection to the database was lost";
const RESTARTS: &str = "the database is shutting down or starting up";

/// What is said where there is none: trying again does not make it.
pub const NO_DATABASE: &str = "there is no such database (`createdb` makes one)";

/// Whether a server did not answer, or only that it is not there now.
pub fn is_away(failure: &Failure) -> bool {
    matches!(failure, Failure::Unavailable(SILENT | LOST | RESTARTS))
}

/// What a code of PostgreSQL means. The message is for the log only.
pub fn failure_of(code: &str, message: &str) -> Failure {
    match code {
        "55P03" => Failure::Unavailable(LOCKED),
        "57014" => Failure::Unavailable("the database took too long"),
        "25006" => Failure::Unavailable("the database can only be read: it is a standby, or was set so"),
        "53100" => Failure::Unavailable("the database's disk is full"),
        "53300" => Failure::Unavailable("the database takes no further connection"),
        "42501" => Failure::Unavailable(
            "the database's user lacks a right: it has to own the database and what is in there, or to be granted CREATE in its \
             schema (public, unless the URL names another)",
        ),
        "3D000" => Failure::Unavailable(NO_DATABASE),
        "3F000" => Failure::Unavailable(
            "there is no such schema: make it (`CREATE SCHEMA`), or name one that is there as the search_path of the URL's options",
        ),
        "42P07" | "42723" => Failure::Unavailable(
            "another program's tables are in the way: give Signalbox a database or a schema of its own",
        ),
        "42P01" | "42703" | "42883" => Failure::Damaged("its schema is not the one of this signalbox".into()),
        "XX001" | "XX002" => Failure::Damaged("its pages contradict each other".into()),
        _ => failure_of_class(code, message),
    }
}

/// By the first two characters, which name the class.
fn failure_of_class(code: &str, message: &str) -> Failure {
    match code.get(..2).unwrap_or_default() {
        "40" => Failure::Unavailable("other transactions got in the way"),
        "08" => Failure::Unavailable(LOST),
        "25" => Failure::Unavailable("the database ended the transaction"),
        "28" => Failure::Unavailable("the database refuses this user or password"),
        "53" => Failure::Unavailable("the database has no resources left"),
        "57" => Failure::Unavailable(RESTARTS),
        "58" => Failure::Unavailable("the database's disk does not read or write"),
        // Constraints and triggers, values that no column takes, and what is too large.
        "22" | "23" | "54" => Failure::Refused(message.to_owned()),
        // A prepared statement that another one of a pooler's clients made, or that it took away.
        "26" => Failure::Unavailable("a pooler stands in the way"),
        _ => Failure::Internal(format!("database error {code}: {message}")),
    }
}

/// A statement that failed.
#[derive(Debug)]
pub struct Trouble {
    /// What it means.
    pub failure: Failure,
    /// Whether the server answered that it did not do it. If not, it may have done it, and the connection is lost.
    pub answered: bool,
}

impl Trouble {
    /// A server that said nothing for so long.
    pub fn silence(_: tokio::time::error::Elapsed) -> Self {
        Self { failure: Failure::Unavailable(SILENT), answered: false }
    }
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        let answer = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
        // What is worse than an error ends the session: a commit may have come through before.
        let answered = answer.is_some_and(|answer| answer.severity() == PgSeverity::Error);
        Self { failure: error.into(), answered }
    }
}

impl From<RowDefect> for Trouble {
    fn from(defect: RowDefect) -> Self {
        Self { failure: defect.into(), answered: true }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        trouble.failure
    }
}

/// Waits for the server's next word, but not for ever: a server that was frozen keeps its connections open.
pub async fn bounded<T>(
    patience: Duration,
    word: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Trouble> {
    Ok(tokio::time::timeout(patience, word).await.map_err(Trouble::silence)??)
}
