//! Opens and unlocks the store: the key first, so that nothing is written with a wrong one.

use std::{sync::Arc, time::Duration};

use super::{AppError, access};
use crate::{
    crypto::{KeySources, Keyring, Unlocked, Vault},
    domain::keys::{FirstKeys, Identity, LogKey},
    domain::{Clock, FeatureLevel, Release, RevisionToken, StoreId, SystemClock},
    lifecycle::{Phase, Standing},
    settings::{Database, Settings},
    store::{Defect, Store, StoreError, Verification, postgres::PostgresDatabase, sqlite::SqliteDatabase},
    view::{Revealer, State, Undecryptable},
};

/// How long the store may take to close.
const CLOSING: Duration = Duration::from_secs(5);

/// Pause between attempts to reach a database.
const AGAIN: Duration = Duration::from_secs(1);

/// What a store is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To serve it: it may be made, with its key.
    Serve,
    /// To look at it: it has to be there, and nothing is written.
    Inspect,
}

/// A store that is open and unlocked.
pub struct Opened {
    /// The store.
    pub store: Arc<dyn Store>,
    /// What opens and seals its secrets.
    pub vault: Vault,
    /// Things that an operator should know.
    pub warnings: Vec<String>,
}

/// A database whose store is still locked.
enum Locked {
    Sqlite(Box<SqliteDatabase>),
    Postgres(Box<PostgresDatabase>),
}

impl Locked {
    async fn open(settings: &Settings, create: bool, standing: &Standing) -> Result<Self, StoreError> {
        let release = settings.cluster.release;
        Ok(match &settings.store.database {
            Database::Postgres(at) if create => {
                Self::Postgres(Box::new(wait_for(release, at.url.expose(), standing).await?))
            }
            Database::Sqlite(path) => {
                Self::Sqlite(Box::new(SqliteDatabase::open_as(release, path, create).await?))
            }
            Database::Postgres(at) => {
                Self::Postgres(Box::new(PostgresDatabase::open_as(release, at.url.expose(), create).await?))
            }
        })
    }

    fn identity(&self) -> &Identity {
        match self {
            Self::Sqlite(database) => database.identity(),
            Self::Postgres(database) => database.identity(),
        }
    }

    /// Gives the store its first keys; `false` if another replica was first.
    async fn initialise(&mut self, first: FirstKeys) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(database) => database.initialise(first).await.map(|()| true),
            Self::Postgres(database) => database.initialise(first).await,
        }
    }

    async fn into_store(self, key: &LogKey, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Self::Sqlite(database) => Arc::new(database.into_store(key, clock)?),
            Self::Postgres(database) => Arc::new(database.into_store(key, clock).await?),
        })
    }
}

/// Opens a database that is to be served, and tries again for as long as nobody answers there, or it is just starting: a
/// machine that comes up has no order. What else is wrong is told at once.
async fn wait_for(release: Release, url: &str, standing: &Standing) -> Result<PostgresDatabase, StoreError> {
    let mut answers = false;
    loop {
        let error = match PostgresDatabase::open_as(release, url, true).await {
            Ok(database) => {
                standing.set(Phase::Starting);
                return Ok(database);
            }
            Err(error) => error,
        };
        match PostgresDatabase::out_of_reach(url).await {
            Some(why) => {
                tracing::warn!("{why}; it is tried again every second");
                standing.set(Phase::StoreAway);
                tokio::time::sleep(AGAIN).await;
                answers = false;
            }
            // It may have come up since it was opened: what is wrong then is asked once more.
            None if !answers => answers = true,
            None => return Err(error),
        }
    }
}

/// Opens the store that the settings name. One that is to be served on PostgreSQL is waited for while it can't be reached;
/// `standing` tells of that.
///
/// # Errors
/// When there is no key, when it does not fit, when the store is in use, damaged or of a newer version; nothing has
/// been written then.
pub async fn open(
    settings: &Settings,
    purpose: Purpose,
    clock: &Arc<dyn Clock>,
    standing: &Standing,
) -> Result<Opened, AppError> {
    if purpose == Purpose::Serve {
        refuse_before_it_is_made(settings).await?;
    }
    let mut database = Locked::open(settings, purpose == Purpose::Serve, standing).await?;
    if database.identity().fresh && purpose == Purpose::Serve {
        refuse_to_begin_anew(settings)?;
    }
    let (unlocked, remarks) = match unlock(settings, purpose, &mut database).await? {
        Some(unlocked) => unlocked,
        // Another replica that starts beside this one was first: its keys are the store's.
        None => unlock(settings, purpose, &mut database).await?.ok_or_else(|| {
            AppError::Store(StoreError::Unavailable("its keys were changed while it was opened".into()))
        })?,
    };
    let mut warnings = settings.warnings();
    warnings.extend(remarks);
    let store = database.into_store(&unlocked.log_key, Arc::clone(clock)).await?;
    Ok(Opened { store, vault: unlocked.vault, warnings })
}

/// Refuses to make a store in an empty PostgreSQL that it could not be served from: whoever is refused finds it as it was. One that
/// can't be reached yet is looked at when it is opened.
async fn refuse_before_it_is_made(settings: &Settings) -> Result<(), AppError> {
    let Database::Postgres(at) = &settings.store.database else { return Ok(()) };
    if PostgresDatabase::exists(settings.cluster.release, at.url.expose()).await.unwrap_or(true) {
        return Ok(());
    }
    refuse_to_begin_anew(settings)?;
    let nothing = Identity {
        store_id: StoreId(String::new()),
        fresh: true,
        key_checks: vec![],
        keys: vec![],
        password_salt: [0; 16],
        schema_version: 0,
    };
    open_keys(settings, Purpose::Serve, &nothing).await.map(drop)
}

/// Opens the store's keys, or gives it its first ones, with what an operator should know of that. `None` if another replica
/// has given it its first keys meanwhile.
async fn unlock(
    settings: &Settings,
    purpose: Purpose,
    database: &mut Locked,
) -> Result<Option<(Unlocked, Vec<String>)>, AppError> {
    let (mut unlocked, remarks) = open_keys(settings, purpose, database.identity()).await?;
    if let Some(keys) = unlocked.first_keys.take()
        && !database.initialise(keys).await?
    {
        return Ok(None);
    }
    Ok(Some((unlocked, remarks)))
}

/// Opens a store's keys with those of the settings, with what an operator should know of these. Writes nothing but, for a
/// fresh store that is to be served, the file of its first key.
pub(super) async fn open_keys(
    settings: &Settings,
    purpose: Purpose,
    identity: &Identity,
) -> Result<(Unlocked, Vec<String>), AppError> {
    if identity.fresh && purpose == Purpose::Inspect {
        return Err(AppError::Fresh);
    }
    let sources = key_sources(settings, purpose);
    let loading = identity.clone();
    // A password is stretched for a good part of a second.
    let loaded = tokio::task::spawn_blocking(move || Keyring::load(&sources, &loading))
        .await
        .map_err(|error| AppError::Auth(error.to_string()))??;
    let remarks = loaded.warnings;
    match Vault::unlock(loaded.keyring, identity) {
        Ok(unlocked) => Ok((unlocked, remarks)),
        Err(error) => Err(AppError::Unlock { error, remarks }),
    }
}

/// An empty database beside the token of its first administrator is one that was lost, not one that is new: to begin
/// anew would empty every worker's cache.
fn refuse_to_begin_anew(settings: &Settings) -> Result<(), AppError> {
    let token = settings.store.data_dir.join(access::ADMIN_TOKEN);
    if !token.exists() {
        return Ok(());
    }
    Err(AppError::Lost(format!(
        "the database is empty or missing, but {} says that it was in use: restore the database; or, to begin anew, \
         move that file, encryption.key and jwt.key away",
        token.display()
    )))
}

fn key_sources(settings: &Settings, purpose: Purpose) -> KeySources {
    let keys = &settings.keys;
    let made = keys.dir.join("encryption.key");
    let beside = matches!(settings.store.database, Database::Sqlite(_));
    let may_make = purpose == Purpose::Serve && beside;
    // A file that is named for a database elsewhere is no leftover, and does not lie beside that database.
    let named = keys.encryption_key_file.as_ref() == Some(&made);
    let leftover = made.exists() && (beside || !named);
    KeySources {
        file: keys.encryption_key_file.clone(),
        env: keys.encryption_key.as_ref().map(|key| key.secret().clone()),
        password: keys.encryption_password.as_ref().map(|password| password.secret().clone()),
        // Replicas on PostgreSQL have to have the same key: none of them makes one.
        generate_into: (may_make || leftover).then_some(made),
    }
}

/// What was learned of a store whose server is stopped.
pub struct Inspection {
    /// What the database's own check found.
    pub corruption: Vec<String>,
    /// What the check of the log found.
    pub verification: Verification,
    /// Secrets that can't be opened.
    pub undecryptable: Vec<Undecryptable>,
}

/// Looks at the store of a stopped server, and closes it again. `anchor` is a token from outside, whose revision the store
/// must have.
///
/// # Errors
/// As [`open`], and where the store holds what this binary does not know.
pub async fn inspect(settings: &Settings, anchor: Option<RevisionToken>) -> Result<Inspection, AppError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Opened { store, vault, .. } = open(settings, Purpose::Inspect, &clock, &Standing::default()).await?;
    let found = look(&*store, settings.cluster.release.level, vault, anchor).await;
    store.close(CLOSING).await;
    found
}

async fn look(
    store: &dyn Store,
    supports: FeatureLevel,
    vault: Vault,
    anchor: Option<RevisionToken>,
) -> Result<Inspection, AppError> {
    let forged = match store.feature_level().await {
        Ok(level) if level > supports => return Err(AppError::Outdated { level, supports }),
        Ok(_) => None,
        Err(StoreError::Damaged(what)) => Some(what),
        Err(error) => return Err(error.into()),
    };
    let corruption = store.integrity().await?;
    let state = State::from_snapshot(store.snapshot().await?);
    let same_life = |token: &RevisionToken| token.epoch == state.epoch;
    let known = anchor.as_ref().filter(|token| same_life(token));
    let mut verification = store.verify(known.map(|token| (token.revision, token.hash))).await?;
    verification.defects.extend(forged.map(|description| Defect {
        reason: "feature_level",
        revision: None,
        name: None,
        description,
    }));
    if let Some(token) = anchor.filter(|token| !same_life(token)) {
        verification.defects.push(Defect {
            reason: "other_life",
            revision: Some(token.revision),
            name: None,
            description: "the anchor is of another store, or of another life of this one".to_owned(),
        });
    }
    let revealer = Revealer::new(Arc::new(vault));
    revealer.check(&state);
    Ok(Inspection { corruption, verification, undecryptable: revealer.undecryptable(&state) })
}
