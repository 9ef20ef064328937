//! Moving a store to another database: keys checked first, both ends opened, and the key that signs tokens brought to where
//! servers on the other database look for it.
//!
//! The order that never leaves two stores to be served stands in `store::moving`.

use std::path::PathBuf;

use super::{
    AppError, Purpose,
    access::{SHARED_KEY, SIGNING_KEY, open_shared, seal_shared, signing_secret},
    open::open_keys,
};
use crate::{
    crypto::{
        SecretText, Unlocked,
        private_file::{self, FileError},
    },
    domain::{Clock as _, Epoch, SealedSecret, SecretId, SystemClock, limits},
    lifecycle,
    settings::{Database, JwtKey, Settings},
    store::{
        StoreError,
        moving::{
            self, Abandoned, Contents, MoveError, Order, Service, Tell,
            carrier::{Held, service_secret},
        },
        postgres::PostgresDatabase,
        rows::write_time,
        sqlite::SqliteDatabase,
    },
};

/// From where to where. Both are settings as for a server there.
pub struct Course {
    /// Of the source.
    pub from: Settings,
    /// Of the target.
    pub to: Settings,
}

/// A store that is in its new place.
#[derive(Debug)]
pub struct Moved {
    /// What was moved.
    pub contents: Contents,
    /// Its life there.
    pub epoch: Epoch,
    /// Whether it had been there before.
    pub before: bool,
    /// The file that the signing key was written to.
    pub signing_key: Option<PathBuf>,
}

/// Where the signing key has to be written, and that it isn't there yet.
struct KeyFile {
    path: PathBuf,
    secret: SecretText,
}

/// A source that is open and unlocked.
struct Source {
    held: Held,
    unlocked: Unlocked,
}

/// Moves a store.
///
/// # Errors
/// As [`moving::transfer`]; and when the keys are not the store's.
pub async fn migrate(course: &Course, tell: Tell<'_>) -> Result<Moved, AppError> {
    harden();
    let source = open_source(course).await?;
    let (service, file) = match signing_key(course, &source).await {
        Ok(found) => found,
        Err(error) => return Err(closed(source, error).await),
    };
    let order = order(course, &source, service);
    let to = match make(course, &source, &order).await {
        Ok(held) => held,
        Err(error) => return Err(closed(source, error).await),
    };
    let ready = || file.as_ref().map_or(Ok(()), KeyFile::write);
    let moved = Box::pin(moving::transfer(&source.held, &to, &order, ready, tell)).await;
    source.held.place.close().await;
    to.place.close().await;
    let done = moved?;
    let signing_key = file.filter(|_| !done.before).map(|file| file.path);
    Ok(Moved { contents: done.contents, epoch: done.epoch, before: done.before, signing_key })
}

/// What would be moved, if it can be; what is written for that is taken back.
///
/// # Errors
/// As [`migrate`].
pub async fn survey(course: &Course) -> Result<Contents, AppError> {
    let source = open_source(course).await?;
    let looked = async {
        let (service, _) = signing_key(course, &source).await?;
        let to = find(&course.to).await.map_err(MoveError::Target)?;
        if let (None, Database::Postgres(at)) = (&to, &course.to.store.database) {
            PostgresDatabase::rehearse(course.to.cluster.release, at.url.expose())
                .await
                .map_err(MoveError::Target)?;
        }
        let order = order(course, &source, service);
        let found = Box::pin(moving::look(&source.held, to.as_ref(), &order)).await;
        close(to).await;
        Ok::<_, AppError>(found?)
    };
    let found = looked.await;
    source.held.place.close().await;
    found
}

/// Gives up a move that has begun, so that its source can be served again.
///
/// # Errors
/// As [`moving::abandon`]; and when the keys are not the store's.
pub async fn abandon(course: &Course) -> Result<Abandoned, AppError> {
    let source = open_source(course).await?;
    let given_up = async {
        let to = find(&course.to).await.map_err(MoveError::Target)?;
        let there = course.to.store.database.to_string();
        let done = moving::abandon(&source.held, to.as_ref(), &there).await;
        close(to).await;
        Ok::<_, AppError>(done?)
    };
    let done = given_up.await;
    source.held.place.close().await;
    done
}

/// Keys are in memory, and a limit to a file's size is to be an error and no end.
fn harden() {
    if let Err(error) = crate::crypto::forbid_core_dumps() {
        tracing::warn!(%error, "core dumps can't be forbidden");
    }
    if let Err(error) = lifecycle::survive_file_size_limit() {
        tracing::warn!(%error, "a file size limit would end the process");
    }
}

async fn hold(settings: &Settings, create: bool) -> Result<Held, StoreError> {
    let release = settings.cluster.release;
    match &settings.store.database {
        Database::Sqlite(path) => SqliteDatabase::hold(release, path, create).await,
        Database::Postgres(at) => PostgresDatabase::hold(release, at.url.expose(), create).await,
    }
}

/// Opens the target. One that has no store is left as it is if nothing can be moved there.
async fn make(course: &Course, source: &Source, order: &Order<'_>) -> Result<Held, AppError> {
    if !has_store(&course.to).await.map_err(MoveError::Target)? {
        Box::pin(moving::look(&source.held, None, order)).await?;
    }
    Ok(hold(&course.to, true).await.map_err(MoveError::Target)?)
}

/// Whether there is a store in the database, be it an empty one.
async fn has_store(settings: &Settings) -> Result<bool, StoreError> {
    match &settings.store.database {
        Database::Sqlite(path) => Ok(std::fs::metadata(path).is_ok_and(|file| file.len() > 0)),
        Database::Postgres(at) => PostgresDatabase::exists(settings.cluster.release, at.url.expose()).await,
    }
}

/// The database, if there is a store in it.
async fn find(settings: &Settings) -> Result<Option<Held>, StoreError> {
    Ok(if has_store(settings).await? { Some(hold(settings, false).await?) } else { None })
}

async fn close(held: Option<Held>) {
    if let Some(held) = held {
        held.place.close().await;
    }
}

async fn closed(source: Source, error: AppError) -> AppError {
    source.held.place.close().await;
    error
}

/// Opens the source and its keys: with wrong ones nothing else is looked at.
async fn open_source(course: &Course) -> Result<Source, AppError> {
    let Course { from, to } = course;
    if from.store.database.to_string() == to.store.database.to_string() {
        let text = format!("source and target are the same: {}", from.store.database);
        return Err(MoveError::Refused(text).into());
    }
    let held = hold(from, false).await.map_err(MoveError::Source)?;
    match open_keys(from, Purpose::Inspect, &held.identity).await {
        Ok((unlocked, _)) => Ok(Source { held, unlocked }),
        Err(error) => {
            held.place.close().await;
            Err(error)
        }
    }
}

fn order<'a>(course: &Course, source: &'a Source, service: Service) -> Order<'a> {
    Order {
        from: course.from.store.database.to_string(),
        to: course.to.store.database.to_string(),
        log_key: &source.unlocked.log_key,
        level: course.from.cluster.release.level,
        time: write_time(SystemClock.now()),
        service,
    }
}

/// What becomes of the key that signs tokens: servers on SQLite have it in a file, those on PostgreSQL in the store.
async fn signing_key(course: &Course, source: &Source) -> Result<(Service, Option<KeyFile>), AppError> {
    let Course { from, to } = course;
    if from.jwt.key != JwtKey::Generated {
        return Ok((Service::Kept, None));
    }
    let vault = &source.unlocked.vault;
    match (&from.store.database, &to.store.database) {
        (Database::Sqlite(_), Database::Postgres(_)) => {
            let elsewhere = |error| match error {
                AppError::Auth(what) => AppError::Auth(format!(
                    "{what}; if the source's files lie elsewhere, name their directory with --data-dir or --key-dir"
                )),
                other => other,
            };
            let Some(secret) = signing_secret(&from.jwt, &from.keys.dir).map_err(elsewhere)? else {
                return Ok((Service::Kept, None));
            };
            let secret = SecretText::new(secret.expose().trim().to_owned());
            if secret.expose().len() > limits::SECRET_BYTES {
                return Err(AppError::Auth(format!("{SIGNING_KEY} is longer than any secret may be")));
            }
            Ok((Service::Given(SHARED_KEY, seal_shared(vault, &secret)), None))
        }
        (Database::Postgres(_), Database::Sqlite(_)) => {
            let sealed = service_secret(&*source.held.place, SHARED_KEY).await;
            let sealed = sealed.map_err(|failure| MoveError::Source(failure.into()))?;
            let Some([id, data_key, token]) = sealed else { return Ok((Service::Kept, None)) };
            let sealed = SealedSecret { id: SecretId(id), data_key, token };
            let secret = open_shared(vault, &sealed)?;
            let file = KeyFile::missing(to.keys.dir.join(SIGNING_KEY), secret)?;
            Ok((Service::LeftOut(SHARED_KEY), file))
        }
        _ => Ok((Service::Kept, None)),
    }
}

impl KeyFile {
    /// The file that has to be made; none if it is there with this key.
    fn missing(path: PathBuf, secret: SecretText) -> Result<Option<Self>, AppError> {
        match private_file::read(&path) {
            Err(FileError::Missing(_)) => Ok(Some(Self { path, secret })),
            Err(error) => Err(AppError::Auth(error.to_string())),
            Ok(found) if found.expose().trim() == secret.expose() => Ok(None),
            Ok(_) => Err(MoveError::Refused(format!(
                "{} is another key than the one that the store's tokens are signed with, and is not overwritten: move it \
                 away, or name another --key-dir",
                path.display()
            ))
            .into()),
        }
    }

    fn write(&self) -> Result<(), String> {
        private_file::create(&self.path, &self.secret).map_err(|error| error.to_string())
    }
}
