//! What the log says happened, revision by revision.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{ChainHash, KindName, Labels, Record, ResourceName, Revision, SealedSecret, TraceContext};

/// What happened to a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeType {
    /// It is new.
    Created,
    /// It has changed.
    Updated,
    /// It is gone.
    Deleted,
}

/// Finer than the type: what an auditor wants to read. Words of lower-case letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Action(pub &'static str);

/// What a resource was before a change, as far as streams have to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Previous {
    /// Its labels: a selector may have matched these, and match no longer.
    pub labels: Labels,
    /// Its update revision: digests count it.
    pub update_revision: Revision,
}

/// One change of one resource, as the log has it.
#[derive(Clone, Debug)]
pub struct LoggedChange {
    /// What happened.
    pub change_type: ChangeType,
    /// What happened, finer. Text, because a newer binary may have written it.
    pub action: String,
    /// The resource's name.
    pub name: ResourceName,
    /// The resource's kind.
    pub kind: KindName,
    /// Who did it.
    pub actor: String,
    /// What was there before; `None` for a creation.
    pub previous: Option<Previous>,
    /// What is there now; `None` for a deletion.
    pub record: Option<Arc<Record>>,
    /// The sealed values that `record.secrets` names, as far as the store still has them.
    pub sealed: Vec<SealedSecret>,
}

/// Everything that one revision changed.
#[derive(Clone, Debug)]
pub struct RevisionBatch {
    /// The revision.
    pub revision: Revision,
    /// Head of the hash chain after it.
    pub hash: ChainHash,
    /// When it was committed.
    pub time: DateTime<Utc>,
    /// The changes, in the order in which they were written; no resource twice.
    pub changes: Vec<LoggedChange>,
    /// Tokens that this revision revoked.
    pub revocations: Vec<Revocation>,
    /// Which span wrote it, as far as traces were made then.
    pub trace: Option<TraceContext>,
}

/// Tokens that are not accepted any more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "revoke", rename_all = "snake_case")]
pub enum Revocation {
    /// The token with this id (`jti`).
    Token {
        /// Its id.
        token_id: String,
    },
    /// All tokens of a subject that were issued up to a moment.
    Subject {
        /// Issuer of the tokens.
        issuer: String,
        /// Subject of the tokens.
        subject: String,
        /// Tokens issued at this moment or earlier are revoked.
        issued_until: DateTime<Utc>,
    },
}

impl ChangeType {
    /// The word that the database holds.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeType::Created => "created",
            ChangeType::Updated => "updated",
            ChangeType::Deleted => "deleted",
        }
    }

    /// Reads the word that the database holds.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [ChangeType::Created, ChangeType::Updated, ChangeType::Deleted]
            .into_iter()
            .find(|change_type| change_type.as_str() == word)
    }
}
