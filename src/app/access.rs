//! Whose tokens are believed, and whether this server makes some itself.

use std::{path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use super::{AppError, Opened, Purpose, open};
use crate::{
    auth::{
        Authenticator, IdentityMap, KeySource, OWN_NAME, RevocationCheck, RoleClaim, TokenIssuer, Trust,
        TrustedIssuer, VerificationKeys, bootstrap_admin, load_or_create_secret,
    },
    crypto::{
        KeyError, SecretText, Vault, generate_key,
        private_file::{self, FileError},
    },
    domain::{Clock, FieldPath, Role, SealedSecret, Uid},
    kinds,
    lifecycle::Standing,
    settings::{Database, Jwt, JwtKey, Settings},
    store::Store,
};

/// Name of the signing key that the first start makes, in the key directory.
pub(super) const SIGNING_KEY: &str = "jwt.key";
/// Its name among the secrets of the service, where replicas share it, and its place there.
pub(super) const SHARED_KEY: &str = "signing_key";
const SHARED_PLACE: &str = "service";
/// How long the store may take to close after a look at it.
const CLOSING: Duration = Duration::from_secs(5);
/// What to do when it is gone.
const LOST: &str = "; the server makes it on its first start only: restore it, or give another with \
                    SIGNALBOX_JWT_SECRET_FILE, and the tokens that it signed are refused from then on";
/// Name of the first admin's token, in the data directory.
pub(super) const ADMIN_TOKEN: &str = "admin.token";

/// Verifies tokens, and makes them where this server may.
pub(super) struct Access {
    pub authenticator: Arc<Authenticator>,
    pub issuer: Option<TokenIssuer>,
    /// What tokens are verified with, the same for the same keys and for no others: hashes, to be hashed with a key.
    pub verification: Vec<u8>,
}

/// The store as it is found at the start, for what concerns tokens.
pub(super) struct Found<'a> {
    pub store: &'a dyn Store,
    pub vault: &'a Vault,
    /// Whether nothing was ever written to it.
    pub empty: bool,
}

/// Puts together what verifies tokens. On an empty store it makes the signing key and, in a file, the first admin's token;
/// never later: a token that was taken away must not come back, nor a new key void every token without a word.
pub(super) async fn build(
    settings: &Settings,
    found: Found<'_>,
    clock: &Arc<dyn Clock>,
    is_revoked: RevocationCheck,
) -> Result<Access, AppError> {
    let jwt = &settings.jwt;
    let own_files = matches!(settings.store.database, Database::Sqlite(_));
    let generated = jwt.key == JwtKey::Generated;
    if found.empty && generated && own_files {
        load_or_create_secret(&settings.keys.dir.join(SIGNING_KEY)).map_err(auth)?;
    }
    let signing = match generated && !own_files {
        true => Some(shared_secret(found.store, found.vault, found.empty).await?),
        false => signing_secret(jwt, &settings.keys.dir)?,
    };
    let issuer = signing.as_ref().map(TokenIssuer::new).transpose().map_err(auth)?;
    if let (Some(_), true, false) = (&issuer, found.empty, own_files) {
        tracing::info!(
            "the store is new: `signalbox token create --local --role admin --grant-secrets --ttl 8760h` makes the first token, where \
             SIGNALBOX_DATABASE_URL and ENCRYPTION_KEY_FILE are set as they are for this server"
        );
    }
    if let (Some(issuer), true, true) = (&issuer, found.empty, own_files) {
        let path = settings.store.data_dir.join(ADMIN_TOKEN);
        if bootstrap_admin(issuer, &path, clock.now()).map_err(auth)?.is_some() {
            tracing::info!(path = %path.display(), "the first admin's token was written; it is good for a year");
        }
    }
    let identities = match &jwt.principal_map_file {
        Some(path) => IdentityMap::load(path).map_err(auth)?,
        None => IdentityMap::default(),
    };
    let trust = Trust { issuers: issuers(jwt, signing.as_ref())?, identities, leeway: jwt.leeway };
    let verification = trust.fingerprint();
    let parse_grant = Arc::new(|text: &str| kinds::parse_pattern(text));
    let authenticator = Arc::new(Authenticator::new(trust, parse_grant, is_revoked, Arc::clone(clock)));
    Ok(Access { authenticator, issuer, verification })
}

/// A token made without a server, by whoever can read the signing key: from its file, or from the database that replicas
/// share, together with the encryption key. With the time at which it is made: the database's, where it was asked anyhow.
///
/// # Errors
/// When there is no signing key, or it is not good enough.
pub async fn local_issuer(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
) -> Result<(TokenIssuer, DateTime<Utc>), AppError> {
    let shared = matches!(settings.store.database, Database::Postgres(_));
    let mut now = None;
    let secret = match shared && settings.jwt.key == JwtKey::Generated {
        true => {
            let opened = open(settings, Purpose::Inspect, clock, &Standing::default()).await;
            let Opened { store, vault, .. } = opened.map_err(|error| name_what_to_set(error, shared))?;
            let secret = shared_secret(&*store, &vault, false).await;
            now = store.clock().await?;
            store.close(CLOSING).await;
            secret?
        }
        false => signing_secret(&settings.jwt, &settings.keys.dir)
            .map_err(|error| name_what_to_set(error, shared))?
            .ok_or_else(|| AppError::Auth("only a verification key is set; it can't sign".into()))?,
    };
    let issuer = TokenIssuer::new(&secret).map_err(auth)?;
    Ok((issuer, now.unwrap_or_else(|| clock.now())))
}

/// What to set before a token is made, where the server's settings seem not to be there.
fn name_what_to_set(error: AppError, shared: bool) -> AppError {
    match (error, shared) {
        (AppError::Key(KeyError::Missing { .. }), true) => AppError::Auth(
            "the signing key lies sealed in the database, and no encryption key was given to open it: set \
             ENCRYPTION_KEY_FILE (or ENCRYPTION_KEY, ENCRYPTION_PASSWORD) as it is set for the servers"
                .into(),
        ),
        (AppError::Auth(text), false) if text.ends_with(LOST) => AppError::Auth(format!(
            "{text}; if the server runs on PostgreSQL, or elsewhere, set SIGNALBOX_DATABASE_URL and ENCRYPTION_KEY_FILE, or \
             SIGNALBOX_DATA_DIR, as they are set for it"
        )),
        (error, _) => error,
    }
}

/// The secret that all replicas sign with: sealed in the store, made by the first of them.
async fn shared_secret(store: &dyn Store, vault: &Vault, make: bool) -> Result<SecretText, AppError> {
    let mut shared = store.share_secret(SHARED_KEY, None).await?;
    if shared.is_none() && make {
        let offer = seal_shared(vault, &generate_key().map_err(auth)?);
        shared = store.share_secret(SHARED_KEY, Some(offer)).await?;
    }
    let sealed = shared.ok_or_else(|| {
        AppError::Auth(
            "the store has no signing key: the first server that starts on an empty one makes it, and never later, because that would void every token without a word; put its row back from a backup, or give every replica one with SIGNALBOX_JWT_SECRET_FILE".into(),
        )
    })?;
    open_shared(vault, &sealed)
}

/// Where the signing key is sealed, as if it were a field of a resource.
fn shared_place() -> (Uid, FieldPath) {
    (Uid(SHARED_PLACE.to_owned()), FieldPath(SHARED_KEY.to_owned()))
}

/// The signing key as replicas share it.
pub(super) fn seal_shared(vault: &Vault, secret: &SecretText) -> SealedSecret {
    let (uid, field) = shared_place();
    vault.seal(&uid, &field, secret)
}

/// The signing key that replicas share.
pub(super) fn open_shared(vault: &Vault, sealed: &SealedSecret) -> Result<SecretText, AppError> {
    let (uid, field) = shared_place();
    let unopened = |error| AppError::Auth(format!("the signing key in the store can't be opened: {error}"));
    vault.open(&uid, &field, sealed).map_err(unopened)
}

/// The secret that signs our own tokens; none where only a verification key is set.
pub(super) fn signing_secret(jwt: &Jwt, key_dir: &Path) -> Result<Option<SecretText>, AppError> {
    match &jwt.key {
        JwtKey::Generated => private_file::read(&key_dir.join(SIGNING_KEY)).map(Some).map_err(|error| {
            let missing = matches!(error, FileError::Missing(_));
            let advice = if missing { LOST } else { "" };
            AppError::Auth(format!("{error}{advice}"))
        }),
        JwtKey::Secret(secret) => Ok(Some(secret.secret().clone())),
        JwtKey::SecretFile(path) => private_file::read(path).map(Some).map_err(auth),
        JwtKey::PublicKeyFile(_) | JwtKey::JwksFile(_) => Ok(None),
    }
}

fn issuers(jwt: &Jwt, signing: Option<&SecretText>) -> Result<Vec<TrustedIssuer>, AppError> {
    let own_words = [Role::Admin, Role::Worker, Role::Viewer].map(|role| (role.as_str().to_owned(), role));
    let words = if jwt.role_map.is_empty() { own_words.to_vec() } else { jwt.role_map.clone() };
    let configured = RoleClaim::new(jwt.role_claim.clone(), words);
    let mut issuers = Vec::new();
    if let Some(secret) = signing {
        issuers.push(TrustedIssuer {
            issuer: OWN_NAME.to_owned(),
            audiences: vec![OWN_NAME.to_owned()],
            keys: VerificationKeys::of_secret(secret).map_err(auth)?,
            role: RoleClaim::default(),
        });
    }
    let source = match &jwt.key {
        JwtKey::Generated => return Ok(issuers),
        JwtKey::Secret(secret) => KeySource::Secret(secret.secret().clone()),
        JwtKey::SecretFile(path) => KeySource::SecretFile(path.clone()),
        JwtKey::PublicKeyFile(path) => KeySource::PublicKeyFile(path.clone()),
        JwtKey::JwksFile(path) => KeySource::JwksFile(path.clone()),
    };
    // Our own issuer with the same secret under another name would only be a second way to say the same.
    if jwt.issuer != OWN_NAME || signing.is_none() || jwt.audience != OWN_NAME {
        issuers.push(TrustedIssuer {
            issuer: jwt.issuer.clone(),
            audiences: vec![jwt.audience.clone()],
            keys: VerificationKeys::load(&source).map_err(auth)?,
            role: configured,
        });
    }
    Ok(issuers)
}

fn auth(error: impl std::fmt::Display) -> AppError {
    AppError::Auth(error.to_string())
}
