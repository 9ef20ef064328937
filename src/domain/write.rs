//! A write as the service plans it and the store applies it.
//!
//! The service plans on the view and declares what it read. The store checks that under the head row's lock; if it no
//! longer holds, nothing is written, and the service plans again on the newer state.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

use super::{
    Action, FieldPath, KindName, Labels, ResourceName, Revision, RevisionToken, Revocation, SealedSecret,
    SecretId, TraceContext, Uid,
};

/// Something that the plan relies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The resource is there, and last changed at this revision.
    Unchanged {
        /// Its name.
        name: ResourceName,
        /// Its update revision.
        revision: Revision,
    },
    /// There is no such resource.
    Absent {
        /// Its name.
        name: ResourceName,
    },
    /// Nothing beneath the prefix was created after this revision.
    NoneCreatedAfter {
        /// The prefix, ending in `/`.
        prefix: String,
        /// The revision that was planned on.
        revision: Revision,
    },
    /// Nothing beneath the prefix was created or changed after this revision.
    NoneChangedAfter {
        /// The prefix, ending in `/`.
        prefix: String,
        /// The revision that was planned on.
        revision: Revision,
    },
    /// The log still holds this revision, and with it the sealed values of then: it is not below the floor.
    Held {
        /// The past revision that was read.
        revision: Revision,
    },
    /// Nothing at all was written after this revision: the head still stands there.
    NothingAfter {
        /// The revision that was planned on.
        revision: Revision,
    },
}

/// One change that the store is to make. Revision, time and actor are the store's to fill in.
#[derive(Clone, Debug)]
pub enum PlannedChange {
    /// Write a resource.
    Put(Box<PlannedPut>),
    /// Delete a resource that is there.
    Delete {
        /// Its name.
        name: ResourceName,
        /// Its kind.
        kind: KindName,
        /// What the history calls it.
        action: Action,
    },
}

impl PlannedChange {
    /// The resource that it changes.
    #[must_use]
    pub fn name(&self) -> &ResourceName {
        match self {
            PlannedChange::Put(put) => &put.name,
            PlannedChange::Delete { name, .. } => name,
        }
    }
}

/// A resource as it is to be written.
#[derive(Clone, Debug)]
pub struct PlannedPut {
    /// Its name.
    pub name: ResourceName,
    /// Its kind.
    pub kind: KindName,
    /// Its identity.
    pub uid: Uid,
    /// Its labels.
    pub labels: Labels,
    /// Its new version. A creation has 1, and one that comes back under its old identity goes on counting.
    pub version: u64,
    /// Its content: canonical proto JSON, masked.
    pub spec_json: Arc<str>,
    /// Which secrets belong into which fields.
    pub secrets: BTreeMap<FieldPath, SecretId>,
    /// What the history calls it.
    pub action: Action,
}

/// Makes a write idempotent: the same principal, id and body is answered once more as it was.
#[derive(Clone, Debug)]
pub struct RequestKey {
    /// Subject of the caller.
    pub principal: String,
    /// The caller's id of the request, or one that the server made.
    pub id: String,
    /// Keyed MAC of the request's body; another body under the same id is refused.
    pub mac: [u8; 32],
    /// What the service wants back on a replay: masked, what is shown once sealed; opaque to the store.
    pub outcome: Vec<u8>,
}

/// Everything that is to become one revision, or nothing. Without a change and a revocation only the request is
/// remembered, at the current revision.
#[derive(Clone, Debug)]
pub struct WriteSet {
    /// What the plan relies on.
    pub reads: Vec<Read>,
    /// The changes; no resource twice.
    pub changes: Vec<PlannedChange>,
    /// Values that the changes refer to.
    pub sealed: Vec<SealedSecret>,
    /// A revocation that is written with them.
    pub revocation: Option<Revocation>,
    /// Who writes.
    pub actor: String,
    /// When, by the service's clock.
    pub time: DateTime<Utc>,
    /// Why, in the caller's words; may be empty.
    pub reason: String,
    /// The idempotency key.
    pub request: RequestKey,
    /// Which span writes it, where traces are made: the log hands it on to whoever tells of the revision.
    pub trace: Option<TraceContext>,
}

/// A write that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was written now.
    Committed {
        /// The token of its revision.
        token: RevisionToken,
        /// The time in the log.
        time: DateTime<Utc>,
    },
    /// It had been written before, under the same request.
    Replayed {
        /// The token of its revision, then.
        token: RevisionToken,
        /// The time in the log, then.
        time: DateTime<Utc>,
        /// The outcome that was kept.
        outcome: Vec<u8>,
    },
}

impl Applied {
    /// The token of the revision.
    #[must_use]
    pub fn token(&self) -> RevisionToken {
        match self {
            Applied::Committed { token, .. } | Applied::Replayed { token, .. } => *token,
        }
    }
}

/// A write that did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Something that the plan read has changed by this revision: plan again.
    #[error("the plan's reads no longer hold at revision {at}")]
    Stale {
        /// A revision at which the newer state can be seen.
        at: Revision,
    },
    /// The request id was used with another body.
    #[error("the request id was used with another body")]
    RequestMismatch,
    /// The store can't be reached, is full or is busy; nothing was written.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// For the log and for an operator; holds no statement, path or address.
        reason: String,
    },
    /// The store holds what was never written: nothing is written on top of that. Trying again does not help.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// What is wrong with it. May be shown to anyone.
        what: String,
    },
    /// The store was told to commit, and could not be asked in time whether it has: the write is there as a whole or not
    /// at all. The same request under the same id says which.
    #[error("what became of the write is not known: {reason}")]
    Unknown {
        /// Why not, in words for an operator; holds no statement, path or address.
        reason: String,
    },
    /// The store broke its own rules.
    #[error("the store failed: {detail}")]
    Internal {
        /// For the log only.
        detail: String,
    },
}
