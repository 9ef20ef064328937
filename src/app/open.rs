//! Opens and unlocks the store: the key first, so that nothing is written with a wrong one.

use std::{sync::Arc, time::Duration};

use super::{AppError, access};
use crate::{
    crypto::{KeySources, Keyring, Unlocked, Vault},
    domain::{Clock, RevisionToken, SystemClock},
    settings::{Database, Settings},
    store::{Defect, Store, Verification, sqlite::SqliteDatabase},
    view::{Revealer, State, Undecryptable},
};

/// How long the store may take to close.
const CLOSING: Duration = Duration::from_secs(5);

/// What a store is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To serve it: it may be made, with its key.
    Serve,
    /// To look at it: it has to be there.
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

/// Opens the store that the settings name.
///
/// # Errors
/// When there is no key, when it does not fit, when the store is in use, damaged or of a newer version; nothing has
/// been written then.
pub async fn open(settings: &Settings, purpose: Purpose, clock: &Arc<dyn Clock>) -> Result<Opened, AppError> {
    let mut warnings = settings.warnings();
    let Database::Sqlite(path) = &settings.store.database;
    let create = purpose == Purpose::Serve;
    let mut database = SqliteDatabase::open(path, create).await?;
    let identity = database.identity().clone();
    if identity.fresh && purpose == Purpose::Serve {
        refuse_to_begin_anew(settings)?;
    }
    let sources = key_sources(settings, purpose);
    let loading = identity.clone();
    // A password is stretched for a good part of a second.
    let loaded = tokio::task::spawn_blocking(move || Keyring::load(&sources, &loading))
        .await
        .map_err(|error| AppError::Auth(error.to_string()))??;
    let remarks = loaded.warnings;
    let Unlocked { vault, log_key, first_keys } = match Vault::unlock(loaded.keyring, &identity) {
        Ok(unlocked) => unlocked,
        Err(error) => return Err(AppError::Unlock { error, remarks }),
    };
    warnings.extend(remarks);
    if let Some(keys) = first_keys {
        database.initialise(keys).await?;
    }
    let store = database.into_store(&log_key, Arc::clone(clock))?;
    Ok(Opened { store: Arc::new(store), vault, warnings })
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
    KeySources {
        file: keys.encryption_key_file.clone(),
        env: keys.encryption_key.as_ref().map(|key| key.secret().clone()),
        password: keys.encryption_password.as_ref().map(|password| password.secret().clone()),
        generate_into: (purpose == Purpose::Serve || made.exists()).then_some(made),
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
/// As [`open`].
pub async fn inspect(settings: &Settings, anchor: Option<RevisionToken>) -> Result<Inspection, AppError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Opened { store, vault, .. } = open(settings, Purpose::Inspect, &clock).await?;
    let found = look(&*store, vault, anchor).await;
    store.close(CLOSING).await;
    found
}

async fn look(
    store: &dyn Store,
    vault: Vault,
    anchor: Option<RevisionToken>,
) -> Result<Inspection, AppError> {
    let corruption = store.integrity().await?;
    let state = State::from_snapshot(store.snapshot().await?);
    let same_life = |token: &RevisionToken| token.epoch == state.epoch;
    let known = anchor.as_ref().filter(|token| same_life(token));
    let mut verification = store.verify(known.map(|token| (token.revision, token.hash))).await?;
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
