//! The first start: what a new store begins with is read from around the process, put together, written once, and told.
//!
//! A variable that is not valid is told, and stops nothing: the starters and everything else are written without it, and it is
//! not looked at again, because the store is new only once. Should the store refuse the whole, nothing is written, the server
//! serves an empty store, and the next start tries again, until something has been written by whomever. What is to be made of
//! a variable is the importer's to say; that it is written once is the service's.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{
    crypto::SecretText,
    domain::{Error, limits},
    import::{
        Environment, Imported, Item, Outcome, Problem, Problems,
        env::{self, Variables},
        starters::{self, Beginning},
        summary,
    },
    service::{FirstStart, Service, Warnings},
    settings::{Database, Settings},
};

/// The largest `.env` that is read.
const DOT_ENV_BYTES: u64 = 1024 * 1024;
/// Its name, in the working directory.
const DOT_ENV: &str = ".env";
/// Permissions of others than the owner to read.
const OTHERS_READ: u32 = 0o044;
const NOT_TAKEN: &str = "these are not valid, and were not taken over; mend them, and bring them with `signalbox import --from env FILE`, \
                         because a store begins only once";
const RETRY: &str = "nothing was written, and the server serves an empty store; the next start tries again, unless \
                     something was written by then, and --starters off stops that";

/// What a first start may take over of the world around the process.
#[derive(Default)]
pub struct Surroundings {
    /// The variables of the environment that say something of providers and databases.
    environment: Variables,
    /// The directory of `.env`.
    folder: Option<PathBuf>,
}

impl Surroundings {
    /// The environment, and the directory that `.env` may lie in.
    #[must_use]
    pub fn new(environment: Environment<'_>, folder: &Path) -> Self {
        Self { environment: Variables::of_environment(environment), folder: Some(folder.to_owned()) }
    }
}

/// Gives a new store what it begins with. It never fails the start: what went wrong is logged, and told by the status.
pub(super) async fn begin(settings: &Settings, around: Surroundings, service: &Service, warnings: &Warnings) {
    if !settings.store.starters || !service.is_new() {
        return;
    }
    let warn = |warning: String| {
        tracing::warn!("{warning}");
        warnings.add(warning);
    };
    let failed = |what: String| {
        tracing::error!("the first start failed: {RETRY}\n{what}");
        warnings.add(format!("the first start failed: {what}; {RETRY}"));
    };
    let beginning = match starters::begin(gather(settings, around, warn)) {
        Ok(beginning) => beginning,
        Err(problems) => return failed(problems.to_string()),
    };
    let (table, reason) = (summary::table(&beginning), summary::reason(&beginning, limits::REASON_CHARS));
    match service.begin(beginning.resources.clone(), reason).await {
        Ok(FirstStart::Written(revision)) => {
            tracing::info!(%revision, "first start: the store is new, and begins with\n{table}");
            if let Some(refused) = summary::refused(&beginning) {
                warn(format!("first start: {NOT_TAKEN}: {refused}"));
            }
            if let Some(provider) = beginning.without_default_model() {
                warn(format!(
                    "first start: {provider} is active and has no default model: calls have to name one until it has \
                     (`signalbox set {provider} --field default_model=MODEL`)"
                ));
            }
        }
        Ok(FirstStart::NotTheFirst) => tracing::info!("first start: another replica was first"),
        Err(error) => failed(told(&error, &beginning)),
    }
}

/// What is found around the process: the environment, and of `.env` what it does not set.
fn gather(settings: &Settings, around: Surroundings, warn: impl Fn(String)) -> Imported {
    let Surroundings { environment, folder } = around;
    let file = folder.map(|folder| dot_env(&folder.join(DOT_ENV), warn).unwrap_or_else(Variables::unread));
    let mut variables = environment.or(file.unwrap_or_default());
    let own = variables.take(|name, value| is_own(settings, name, value));
    let mut imported = env::convert(variables);
    let why = "leads to this server's own store, which is no business of workers";
    imported.items.extend(own.into_iter().map(|from| Item::new(from, "", Outcome::LeftOut, why)));
    imported
}

/// Whether a variable is, or was, about the database of the store itself: this server connects by the variables of libpq too.
fn is_own(settings: &Settings, name: &str, value: &str) -> bool {
    match &settings.store.database {
        // What this server's store was called by earlier tools.
        _ if name.starts_with("SUPABASE_DB_") => true,
        Database::Postgres(at) => name.starts_with("PG") || value == at.url.expose(),
        Database::Sqlite(_) => false,
    }
}

/// The variables of `.env`; none if it is not there, or if this server may not look: in a container the working
/// directory may be somebody else's.
fn dot_env(path: &Path, warn: impl Fn(String)) -> Result<Variables, Problems> {
    let unread = |error: io::Error| {
        warn(format!(
            "{} can't be read ({error}): what it may hold was not taken over; let this server's user read it, and give it to \
             `signalbox import --from env`",
            path.display()
        ));
        Ok(Variables::default())
    };
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Variables::default()),
        Err(error) => return unread(error),
    };
    // A pipe might never end.
    if !found.is_file() {
        warn(format!("{} is no regular file, and was not read", path.display()));
        return Ok(Variables::default());
    }
    if found.len() > DOT_ENV_BYTES {
        return Err(Problems::one(DOT_ENV, "is larger than 1 MiB, and was not read"));
    }
    if found.permissions().mode() & OTHERS_READ != 0 {
        warn(format!("{} can be read by others than its owner: chmod 600 it", path.display()));
    }
    let read = match fs::read(path) {
        Ok(read) => read,
        Err(error) => return unread(error),
    };
    let text = SecretText::from_utf8(read);
    let text = text.ok_or_else(|| Problems::one(DOT_ENV, "is not valid UTF-8"))?;
    Ok(Variables::of_file(DOT_ENV, text.expose()))
}

/// What the service refused, by the variable that each resource is from where it is from one.
fn told(error: &Error, beginning: &Beginning) -> String {
    let Error::Invalid(violations) = error.cause() else { return error.to_string() };
    let problems = violations.iter().map(|violation| {
        let (resource, field) = place(&violation.field, beginning);
        let from =
            beginning.items.iter().find(|item| item.to == resource).map_or(resource, |item| &item.from);
        Problem {
            place: from.to_owned(),
            what: format!("{resource} can't be made: {field} {}", violation.description),
        }
    });
    Problems(problems.collect()).to_string()
}

/// The resource and the field in it that a path of the request names: `operations[3].create.resource.provider.base_url`.
fn place<'a>(path: &'a str, beginning: &'a Beginning) -> (&'a str, &'a str) {
    let parts = path.strip_prefix("operations[").and_then(|rest| rest.split_once("].create.resource."));
    let found = parts.and_then(|(index, field)| {
        let resource = beginning.resources.get(index.parse::<usize>().ok()?)?;
        Some((resource.name.as_str(), field))
    });
    found.unwrap_or(("the first start", path))
}
