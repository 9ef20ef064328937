//! Who calls, and what they may do.

use chrono::{DateTime, Utc};

use super::{KindName, Pattern, ResourceName};

/// Name of a caller: the `sub` of the token.
pub type Subject = String;

/// What a caller is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Role {
    /// Writes everything, reads secrets as masks.
    Admin,
    /// Reads and watches what it is granted, with secrets where its token says so.
    Worker,
    /// Reads and watches, never a secret.
    Viewer,
}

/// A caller whose token was verified. Only `auth` makes one, but for [`Principal::service`]; a use case that needs a caller
/// takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who it is.
    pub subject: Subject,
    /// Who vouches for it.
    pub issuer: String,
    /// What it is.
    pub role: Role,
    /// What it reaches; fixed for the token's life.
    pub grants: Vec<Pattern>,
    /// Whether it may read secrets (`secrets:read`). Only ever true for workers.
    pub reads_secrets: bool,
    /// Whether it may make tokens that read secrets (`secrets:grant`). Only ever true for admins.
    pub grants_secrets: bool,
    /// Id of the token, if it has one.
    pub token_id: Option<String>,
    /// When the token was issued, if it says so.
    pub issued_at: Option<DateTime<Utc>>,
    /// When the token expires.
    pub expires_at: DateTime<Utc>,
}

impl Role {
    /// The word that tokens hold.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Worker => "worker",
            Role::Viewer => "viewer",
        }
    }

    /// Reads the word that tokens hold.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Role::Admin, Role::Worker, Role::Viewer].into_iter().find(|role| role.as_str() == word)
    }
}

impl Principal {
    /// The service itself, for what it does when nobody calls. It has no issuer, which no token is without, so that nobody
    /// can call as it.
    #[must_use]
    pub fn service() -> Self {
        Self {
            subject: "signalbox".to_owned(),
            issuer: String::new(),
            role: Role::Admin,
            grants: vec![Pattern::All],
            reads_secrets: false,
            grants_secrets: false,
            token_id: None,
            issued_at: None,
            expires_at: DateTime::<Utc>::MAX_UTC,
        }
    }

    /// Whether it is the service itself.
    #[must_use]
    pub fn is_service(&self) -> bool {
        self.issuer.is_empty()
    }

    /// Whether the caller may see that this resource exists.
    #[must_use]
    pub fn reaches(&self, name: &ResourceName, kind: KindName) -> bool {
        self.grants.iter().any(|grant| grant.matches(name, kind))
    }

    /// Whether a grant names something beneath this resource, so that its name is known to the caller.
    #[must_use]
    pub fn is_granted_within(&self, name: &ResourceName) -> bool {
        let beneath = name.beneath();
        self.grants.iter().any(|grant| match grant {
            Pattern::Name(name) => name.as_str().starts_with(&beneath),
            Pattern::Prefix(prefix) => prefix.starts_with(&beneath),
            Pattern::All | Pattern::Kind(_) => false,
        })
    }

    /// What is granted, as text for an error.
    #[must_use]
    pub fn granted(&self) -> String {
        if self.grants.is_empty() {
            return "nothing".to_owned();
        }
        self.grants.iter().map(Pattern::to_text).collect::<Vec<_>>().join(", ")
    }
}
