//! What the store holds of one resource: a masked spec, and the ids of the secrets that belong into it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use chrono::{DateTime, Utc};

use super::{Epoch, KindName, ResourceName, Revision};
pub use crate::proto::v1::resource::Spec;

/// Labels of a resource, by key.
pub type Labels = BTreeMap<String, String>;

/// Identity of a resource for its whole life. A UUID.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Uid(pub String);

/// Path of a field from the resource: proto field names joined by dots, a map's key in the place of its entry,
/// for example `api_key.secret` or `provider.headers.X-Token.secret`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct FieldPath(pub String);

/// Names one sealed value. A new value is a new id. A UUID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct SecretId(pub String);

/// A value as it lies in the store. Nothing but its own place can open it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedSecret {
    /// Its name.
    pub id: SecretId,
    /// The data key that it is sealed with.
    pub data_key: String,
    /// A Fernet token.
    pub token: String,
}

/// One resource at one revision, without secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its name.
    pub name: ResourceName,
    /// Its kind, which follows from the name.
    pub kind: KindName,
    /// Its identity.
    pub uid: Uid,
    /// Its labels.
    pub labels: Labels,
    /// Counts its changes from 1.
    pub version: u64,
    /// Revision of its creation.
    pub create_revision: Revision,
    /// Time of its creation.
    pub create_time: DateTime<Utc>,
    /// Revision of its last change.
    pub update_revision: Revision,
    /// Time of its last change.
    pub update_time: DateTime<Utc>,
    /// Subject that last changed it.
    pub updated_by: String,
    /// Its content, masked.
    pub spec: Spec,
    /// Exactly the bytes of the content that the store holds and the log hashes: canonical proto JSON, keys sorted.
    pub spec_json: Arc<str>,
    /// Which secrets belong into which fields.
    pub secrets: BTreeMap<FieldPath, SecretId>,
}

/// Opaque mark of one version of one resource in one life of the store.
///
/// It holds the epoch, a part of the identity and the version, and nothing of the content, so that it tells a reader
/// who may not see a secret nothing about it. The identity keeps a resource that was deleted and created again apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Etag(String);

impl Record {
    /// The mark of this version.
    #[must_use]
    pub fn etag(&self, epoch: Epoch) -> Etag {
        let identity: String = self.uid.0.chars().filter(char::is_ascii_hexdigit).collect();
        // The end of a time-ordered UUID is its random part.
        let tail = &identity[identity.len().saturating_sub(8)..];
        Etag(format!("{epoch}-{tail}-{}", self.version))
    }
}

impl Etag {
    /// As clients hold it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
