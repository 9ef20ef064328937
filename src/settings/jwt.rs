//! Whose tokens the server accepts, and how it reads them.
//!
//! It must not know how tokens are verified: that is `auth`'s.

use std::{path::PathBuf, time::Duration};

use crate::domain::Role;

use super::{
    options::{Opt, Problem},
    reader::Reader,
    secret::SecretText,
    values::{self, Wrong},
};

const SECRET: Opt =
    Opt::secret("SIGNALBOX_JWT_SECRET", "Secret that signs and verifies tokens (HS256), at least 32 bytes");
const SECRET_FILE: Opt = Opt::new(
    "jwt-secret-file",
    "SIGNALBOX_JWT_SECRET_FILE",
    "jwt.secret_file",
    "FILE",
    "File with the secret that signs and verifies tokens; by default a generated jwt.key in the key directory",
);
const PUBLIC_KEY_FILE: Opt = Opt::new(
    "jwt-public-key-file",
    "SIGNALBOX_JWT_PUBLIC_KEY_FILE",
    "jwt.public_key_file",
    "FILE",
    "PEM file with the public key of another issuer; this server then makes no tokens",
);
const JWKS_FILE: Opt = Opt::new(
    "jwt-jwks-file",
    "SIGNALBOX_JWT_JWKS_FILE",
    "jwt.jwks_file",
    "FILE",
    "JWKS file with the public keys of another issuer; this server then makes no tokens",
);
const ISSUER: Opt =
    Opt::new("jwt-issuer", "SIGNALBOX_JWT_ISSUER", "jwt.issuer", "TEXT", "The `iss` that tokens must have")
        .or("signalbox");
const AUDIENCE: Opt = Opt::new(
    "jwt-audience",
    "SIGNALBOX_JWT_AUDIENCE",
    "jwt.audience",
    "TEXT",
    "The `aud` that tokens must have",
)
.or("signalbox");
const ROLE_CLAIM: Opt = Opt::new(
    "jwt-role-claim",
    "SIGNALBOX_JWT_ROLE_CLAIM",
    "jwt.role_claim",
    "PATH",
    "Path of the claim that holds the role, for example realm_access.roles",
)
.or("role");
const ROLE_MAP: Opt = Opt::new(
    "jwt-role-map",
    "SIGNALBOX_JWT_ROLE_MAP",
    "jwt.role_map",
    "VALUE=ROLE,...",
    "What the values of the role claim mean, for example ops=admin,app=worker",
);
const LEEWAY: Opt = Opt::new(
    "jwt-leeway",
    "SIGNALBOX_JWT_LEEWAY",
    "jwt.leeway",
    "TIME",
    "How far the clocks of issuer and server may differ",
)
.or("5s");
const PRINCIPAL_MAP_FILE: Opt = Opt::new(
    "jwt-principal-map-file",
    "SIGNALBOX_JWT_PRINCIPAL_MAP_FILE",
    "jwt.principal_map_file",
    "FILE",
    "File that maps issuer, subject and audience to role, selectors and scopes",
);

/// The options of this section.
pub static OPTIONS: [&Opt; 10] = [
    &SECRET,
    &SECRET_FILE,
    &PUBLIC_KEY_FILE,
    &JWKS_FILE,
    &ISSUER,
    &AUDIENCE,
    &ROLE_CLAIM,
    &ROLE_MAP,
    &LEEWAY,
    &PRINCIPAL_MAP_FILE,
];

/// Shorter secrets are weaker than the signature.
const SECRET_BYTES: usize = 32;

/// The key that tokens are verified with. It alone fixes the algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwtKey {
    /// `jwt.key` in the key directory, generated on the first start.
    Generated,
    /// A secret from the environment; signs too.
    Secret(SecretText),
    /// A file with a secret; signs too.
    SecretFile(PathBuf),
    /// A PEM file with a public key; only verifies.
    PublicKeyFile(PathBuf),
    /// A JWKS file; only verifies.
    JwksFile(PathBuf),
}

/// Whose tokens the server accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwt {
    /// The key that tokens are verified with.
    pub key: JwtKey,
    /// The `iss` that tokens must have.
    pub issuer: String,
    /// The `aud` that tokens must have.
    pub audience: String,
    /// Path of the claim that holds the role.
    pub role_claim: String,
    /// What the values of the role claim mean; empty: the role's own word.
    pub role_map: Vec<(String, Role)>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// File that maps (iss, sub, aud) to role, selectors and scopes.
    pub principal_map_file: Option<PathBuf>,
}

impl Jwt {
    /// Reads the section.
    pub fn read(from: &mut Reader<'_>) -> Option<Self> {
        let key = key(from);
        let issuer = from.get(&ISSUER, values::text);
        let audience = from.get(&AUDIENCE, values::text);
        let role_claim = from.get(&ROLE_CLAIM, values::text);
        let role_map = from.optional(&ROLE_MAP, role_map);
        let leeway = from.get(&LEEWAY, values::duration);
        let principal_map_file = from.optional(&PRINCIPAL_MAP_FILE, values::path);
        Some(Self {
            key: key?,
            issuer: issuer?,
            audience: audience?,
            role_claim: role_claim?,
            role_map: role_map?.unwrap_or_default(),
            leeway: leeway?,
            principal_map_file: principal_map_file?,
        })
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let key = match &self.key {
            JwtKey::Generated => None,
            JwtKey::Secret(secret) => (secret.expose().len() < SECRET_BYTES).then(|| {
                Problem::with(
                    &SECRET,
                    format_args!("is too short; give at least {SECRET_BYTES} random bytes"),
                )
            }),
            JwtKey::SecretFile(path) => Problem::unless_file(&SECRET_FILE, path),
            JwtKey::PublicKeyFile(path) => Problem::unless_file(&PUBLIC_KEY_FILE, path),
            JwtKey::JwksFile(path) => Problem::unless_file(&JWKS_FILE, path),
        };
        let empty =
            |option: &Opt, text: &str| text.is_empty().then(|| Problem::with(option, "must not be empty"));
        let broken_path = (self.role_claim.split('.').any(str::is_empty)).then(|| {
            Problem::with(&ROLE_CLAIM, "must be names joined by dots, for example realm_access.roles")
        });
        let bounds = (Duration::ZERO, Duration::from_secs(300));
        let leeway = Problem::unless_between(&LEEWAY, self.leeway, bounds, values::show_duration);
        let map = self
            .principal_map_file
            .as_deref()
            .and_then(|path| Problem::unless_file(&PRINCIPAL_MAP_FILE, path));
        let found =
            [key, empty(&ISSUER, &self.issuer), empty(&AUDIENCE, &self.audience), broken_path, leeway, map];
        found.into_iter().flatten().collect()
    }
}

fn key(from: &mut Reader<'_>) -> Option<JwtKey> {
    let secret = from.secret(&SECRET);
    let secret_file = from.optional(&SECRET_FILE, values::path);
    let public_key_file = from.optional(&PUBLIC_KEY_FILE, values::path);
    let jwks_file = from.optional(&JWKS_FILE, values::path);
    let given = [
        (&SECRET, secret?.map(JwtKey::Secret)),
        (&SECRET_FILE, secret_file?.map(JwtKey::SecretFile)),
        (&PUBLIC_KEY_FILE, public_key_file?.map(JwtKey::PublicKeyFile)),
        (&JWKS_FILE, jwks_file?.map(JwtKey::JwksFile)),
    ];
    let mut given = given.into_iter().filter_map(|(option, key)| Some((option, key?)));
    let Some((first, key)) = given.next() else { return Some(JwtKey::Generated) };
    let others: Vec<&str> = given.map(|(option, _)| option.env).collect();
    if !others.is_empty() {
        let what = format!(
            "is given together with {}; one key alone decides how tokens are verified",
            others.join(" and ")
        );
        from.complain(Problem::with(first, what));
        return None;
    }
    Some(key)
}

fn role_map(text: &str) -> Result<Vec<(String, Role)>, Wrong> {
    let pair = |entry: &str| {
        let (value, role) = entry.split_once('=')?;
        Some((value.trim().to_owned(), Role::parse(role.trim())?)).filter(|(value, _)| !value.is_empty())
    };
    text.split(',')
        .map(|entry| {
            pair(entry).ok_or_else(|| {
                format!("`{}` is not VALUE=ROLE with the role admin, worker or viewer", entry.trim())
            })
        })
        .collect()
}
