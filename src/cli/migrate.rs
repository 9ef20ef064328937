//! `migrate`: moves the store of stopped servers to another database. One line of results; how far it is goes to standard
//! error.

use std::path::Path;

use serde::Serialize;

use super::{
    args::Migrate,
    failure::{Exit, Failure, Outcome},
    serve,
    server_flags::ServerFlags,
    session::Session,
};
use crate::{
    app::{self, Abandoned, AppError, Contents, Course, Moved, Progress},
    settings::{Database, Settings},
};

/// The flag of the server that names its database.
const DATABASE_URL: &str = "database-url";

/// What a move came to, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    from: String,
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    resources: u64,
    revision: u64,
    log_rows: u64,
    secrets: u64,
    audit_events: u64,
}

/// Moves the store, says what would be moved, or gives a move up.
pub async fn migrate(session: &mut Session<'_>, args: &Migrate) -> Outcome {
    let course = course(session, args)?;
    if args.abandon {
        return abandon(session, &course).await;
    }
    if args.dry_run {
        let found = Box::pin(app::survey(&course)).await.map_err(|error| failure(&error))?;
        return report(session, &course, found, None, "would move");
    }
    let mut tell = |progress| {
        match progress {
        Progress::Copied { rows: 0, .. } => {}
        Progress::Copied { what, rows } => session.remark(&format!("copied {rows} {what}")),
        Progress::Waiting { end } => session.remark(&format!(
            "the {end} has not yet answered that what was written there is committed; it is waited for, up to two minutes"
        )),
    }
    };
    let moved = Box::pin(app::migrate(&course, &mut tell)).await.map_err(|error| failure(&error))?;
    let Moved { contents, epoch, before, signing_key } = moved;
    if before {
        session.remark("it was there already; the source knows now");
    }
    if let Some(path) = signing_key {
        session.remark(&format!("the key that signs tokens was written to {}", path.display()));
    }
    if let Database::Sqlite(file) = &course.to.store.database {
        session.remark(&start_on(file, &course.to));
    }
    report(session, &course, contents, Some(epoch.to_string()), "moved")
}

/// How a server on the new file is started: with the same encryption key, which it does not look for in the database.
fn start_on(file: &Path, to: &Settings) -> String {
    let data = to.store.data_dir.display();
    format!(
        "start the server with --database-url sqlite://{} --data-dir {data}, and with the same encryption key as until now",
        file.display()
    )
}

async fn abandon(session: &mut Session<'_>, course: &Course) -> Outcome {
    let done = Box::pin(app::abandon(course)).await.map_err(|error| failure(&error))?;
    let from = &course.from.store.database;
    session.line(&match done {
        Abandoned::Lifted { new_life: false } => format!("given up: {from} can be served again"),
        Abandoned::Lifted { new_life: true } => format!(
            "given up: {from} can be served again, in a new life, because it may have been served elsewhere since"
        ),
        Abandoned::Nothing => format!("no move of {from} has begun: it can be served"),
    })
}

fn report(
    session: &mut Session<'_>,
    course: &Course,
    contents: Contents,
    epoch: Option<String>,
    done: &str,
) -> Outcome {
    let (from, to) = (course.from.store.database.to_string(), course.to.store.database.to_string());
    let Contents { resources, revision, log_rows, secrets, audit_events } = contents;
    let life = epoch.as_ref().map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
    let line = format!(
        "{done} {resources} resources at revision {revision}, {log_rows} rows of history, {secrets} secrets and \
         {audit_events} audit events from {from} to {to}{life}"
    );
    let summary = Summary { from, to, epoch, resources, revision, log_rows, secrets, audit_events };
    if session.document(&summary)? {
        return Ok(());
    }
    session.line(&line)
}

/// The settings of a server at either end.
fn course(session: &Session<'_>, args: &Migrate) -> Result<Course, Failure> {
    if args.flags.0.contains_key(DATABASE_URL) {
        return Err(Failure::usage("--database-url: is not for this command; give --from and --to"));
    }
    Ok(Course { from: end(session, args, "--from", &args.from)?, to: end(session, args, "--to", &args.to)? })
}

fn end(session: &Session<'_>, args: &Migrate, flag: &str, given: &str) -> Result<Settings, Failure> {
    let url = match given.strip_prefix("env:") {
        None => given.to_owned(),
        Some(name) => {
            let value = session.variable(name).and_then(|value| value.into_string().ok());
            value.ok_or_else(|| Failure::usage(format!("{flag}: the variable {name} is not set")))?
        }
    };
    let mut flags = args.flags.0.clone();
    flags.insert(DATABASE_URL, url);
    serve::settings(session, &ServerFlags(flags)).map_err(|failure| {
        let exit = failure.exit();
        Failure::told(exit, format!("{flag}: {failure}"))
    })
}

fn failure(error: &AppError) -> Failure {
    Failure::told(Exit::of(error), error.to_string())
}
