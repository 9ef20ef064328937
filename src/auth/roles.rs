//! From claims to roles: our own words, or those of somebody else's identity provider.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::claims::Claims;
use crate::{
    crypto::private_file::{self, FileError},
    domain::Role,
};

/// Where an issuer's tokens say the role, and in which words.
///
/// ```
/// use signalbox::{auth::RoleClaim, domain::Role};
/// let claim = RoleClaim::new("realm_access.roles", vec![("sb-ops".into(), Role::Admin), ("sb-app".into(), Role::Worker)]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleClaim {
    path: String,
    values: Vec<(String, Role)>,
}

/// Gives roles to callers whose tokens can't carry them, for example Kubernetes service accounts.
///
/// The file is TOML, one table for each caller. An entry says all that the caller may do; role, grants and scopes
/// of the token do not count then:
///
/// ```toml
/// [[identity]]
/// issuer = "https://kubernetes.default.svc"
/// subject = "system:serviceaccount:apps:worker"
/// audience = "signalbox"
/// role = "worker"
/// selectors = ["providers/*", "routers/*"]
/// scopes = ["secrets:read"]
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityMap {
    #[serde(default)]
    identity: Vec<MappedIdentity>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MappedIdentity {
    issuer: String,
    subject: String,
    audience: String,
    #[serde(deserialize_with = "role_word")]
    pub(super) role: Role,
    pub(super) selectors: Option<Vec<String>>,
    #[serde(default)]
    pub(super) scopes: Vec<String>,
}

/// Why there is no identity map.
#[derive(Debug, thiserror::Error)]
pub enum IdentityMapError {
    /// The file is missing, may be written by others, or can't be read.
    #[error("identity map: {0}")]
    File(#[from] FileError),
    /// It is not such a file.
    #[error("identity map: {0}")]
    Format(#[from] toml::de::Error),
}

impl Default for RoleClaim {
    /// As our own tokens have it: `role`, with our own words.
    fn default() -> Self {
        let roles = [Role::Admin, Role::Worker, Role::Viewer];
        Self::new("role", roles.map(|role| (role.as_str().to_owned(), role)).to_vec())
    }
}

impl RoleClaim {
    /// `path` leads through objects by dots; a name that holds dots itself is found too. `values` is ordered: if a token
    /// has several, the first that is listed here counts.
    #[must_use]
    pub fn new(path: impl Into<String>, values: Vec<(String, Role)>) -> Self {
        Self { path: path.into(), values }
    }

    /// The role that a token says; `None` if it says none that is listed.
    pub(super) fn role(&self, claims: &Claims) -> Option<Role> {
        let said = lookup(claims, &self.path)?;
        let says = |word: &str| match said {
            Value::String(one) => one == word,
            Value::Array(many) => many.iter().any(|one| one.as_str() == Some(word)),
            _ => false,
        };
        self.values.iter().find(|(word, _)| says(word)).map(|(_, role)| *role)
    }
}

/// `a.b` is the member `a.b`, or else the member `b` of the member `a`.
fn lookup<'a>(object: &'a Claims, path: &str) -> Option<&'a Value> {
    object.get(path).or_else(|| {
        path.match_indices('.').find_map(|(dot, _)| {
            object.get(&path[..dot])?.as_object().and_then(|inner| lookup(inner, &path[dot + 1..]))
        })
    })
}

impl IdentityMap {
    /// Reads the file. Blocks.
    ///
    /// # Errors
    /// When it is missing, when others may write to it, or when it is not such a file.
    pub fn load(path: &Path) -> Result<Self, IdentityMapError> {
        Self::parse(private_file::read_public(path)?.expose())
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// When it is not one; the message tells the line.
    pub fn parse(text: &str) -> Result<Self, IdentityMapError> {
        Ok(toml::from_str(text)?)
    }

    /// The entry of a caller.
    pub(super) fn find(&self, issuer: &str, subject: &str, audiences: &[String]) -> Option<&MappedIdentity> {
        self.identity.iter().find(|entry| {
            entry.issuer == issuer && entry.subject == subject && audiences.contains(&entry.audience)
        })
    }
}

fn role_word<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
    let word = String::deserialize(deserializer)?;
    Role::parse(&word)
        .ok_or_else(|| serde::de::Error::custom("the role must be `admin`, `worker` or `viewer`"))
}
