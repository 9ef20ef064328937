//! The rows of the database as they lie there, and what they mean in the engine's words.
//!
//! One type serves every database. A row may have been edited by hand, so nothing about it is believed: reading one
//! gives a value or a text that says what is wrong, and never panics.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, SecondsFormat, Utc};

use super::{Head, chain::StateDigest, failure::Failure};
use crate::domain::{
    ChainHash, ChangeType, Epoch, FieldPath, KindName, Labels, LoggedChange, Previous, Record, ResourceName,
    Revision, Revocation, SealedSecret, SecretId, Uid, spec,
};

/// The kind under which revocations lie in the log and in the state.
pub const REVOCATION: &str = "revocation";

/// What is wrong with a row, in words for an operator; holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RowDefect(pub String);

/// The head row.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct HeadRow {
    /// Life of the store, in hexadecimal.
    pub epoch: String,
    /// Newest revision.
    pub revision: i64,
    /// Head of the chain.
    pub hash: Vec<u8>,
    /// Digest of the state.
    pub digest: Vec<u8>,
    /// Oldest revision that the log goes on from.
    pub floor: i64,
    /// Head of the chain at the floor.
    pub floor_hash: Vec<u8>,
}

/// The head row, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadState {
    /// What everyone may know.
    pub head: Head,
    /// Digest of the state.
    pub digest: StateDigest,
    /// Head of the chain at the floor.
    pub floor_hash: ChainHash,
}

/// One row of the log. The columns are those of the table.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs, reason = "the migration describes the columns")]
pub struct LogRow {
    pub revision: i64,
    pub ordinal: i64,
    pub change_type: String,
    pub action: String,
    pub name: String,
    pub kind: String,
    pub uid: String,
    pub labels: String,
    pub version: i64,
    pub create_revision: i64,
    pub create_time: String,
    pub spec: Option<String>,
    pub secrets: String,
    pub previous_labels: Option<String>,
    pub previous_revision: Option<i64>,
    pub actor: String,
    pub time: String,
    pub reason: String,
    pub request_id: String,
    pub digest: Vec<u8>,
    pub previous_hash: Vec<u8>,
    pub hash: Vec<u8>,
    /// After a blank there may be what is said beside it (W3C `tracestate`).
    pub traceparent: Option<String>,
}

/// One row of the current state. The columns are those of the table.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs, reason = "the migration describes the columns")]
pub struct ResourceRow {
    pub name: String,
    pub kind: String,
    pub uid: String,
    pub labels: String,
    pub version: i64,
    pub create_revision: i64,
    pub create_time: String,
    pub update_revision: i64,
    pub update_time: String,
    pub updated_by: String,
    pub spec: String,
    pub secrets: String,
    pub digest: Vec<u8>,
}

/// What the digest counts of a resource, borrowed from its row or from the log row that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the migration describes the columns")]
pub struct ResourceColumns<'a> {
    pub name: &'a str,
    pub kind: &'a str,
    pub uid: &'a str,
    pub labels: &'a str,
    pub version: i64,
    pub create_revision: i64,
    pub create_time: &'a str,
    pub update_revision: i64,
    pub update_time: &'a str,
    pub updated_by: &'a str,
    pub spec: &'a str,
    pub secrets: &'a str,
}

/// One request that was answered.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs, reason = "the migration describes the columns")]
pub struct RequestRow {
    pub principal: String,
    pub request_id: String,
    pub mac: Vec<u8>,
    pub revision: i64,
    pub hash: Vec<u8>,
    pub time: String,
    pub outcome: Vec<u8>,
}

/// What the log was at a floor.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs, reason = "the migration describes the columns")]
pub struct CheckpointRow {
    pub floor: i64,
    pub hash: Vec<u8>,
    pub digest: Vec<u8>,
    pub time: String,
    pub mac: Vec<u8>,
}

/// One sealed value.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs, reason = "the migration describes the columns")]
pub struct SecretRow {
    pub id: String,
    pub data_key: String,
    pub token: String,
}

impl HeadRow {
    /// Reads the row.
    ///
    /// # Errors
    /// When it was edited into something that is no head.
    pub fn read(&self) -> Result<HeadState, RowDefect> {
        let broken = || RowDefect("the head row is broken".into());
        let head = Head {
            epoch: Epoch::parse(&self.epoch).ok_or_else(broken)?,
            revision: read_revision(self.revision)?,
            hash: read_hash(&self.hash)?,
            floor: read_revision(self.floor)?,
        };
        if head.floor > head.revision {
            return Err(broken());
        }
        let digest = StateDigest::from_bytes(&self.digest).ok_or_else(broken)?;
        Ok(HeadState { head, digest, floor_hash: read_hash(&self.floor_hash)? })
    }
}

impl HeadState {
    /// Whether a compaction to `floor` has anything to do.
    ///
    /// # Errors
    /// `Failure::Refused` if the log ends before.
    pub fn may_rise_to(&self, floor: Revision) -> Result<bool, Failure> {
        if floor > self.head.revision {
            let text = format!("the log can't be compacted to {floor}: it ends at {}", self.head.revision);
            return Err(Failure::Refused(text));
        }
        Ok(floor > self.head.floor)
    }

    /// Moves the floor to that of a checkpoint.
    ///
    /// # Errors
    /// When the checkpoint can't be read.
    pub fn rise_to(&mut self, checkpoint: &CheckpointRow) -> Result<(), RowDefect> {
        self.head.floor = read_revision(checkpoint.floor)?;
        self.floor_hash = read_hash(&checkpoint.hash)?;
        Ok(())
    }
}

impl CheckpointRow {
    /// The checkpoint of a floor, from the log's hash and digest there.
    ///
    /// # Errors
    /// When the log has no such revision.
    pub fn at(
        floor: Revision,
        found: Option<(Vec<u8>, Vec<u8>)>,
        time: String,
        mac: impl FnOnce(&Self) -> [u8; 32],
    ) -> Result<Self, RowDefect> {
        let (hash, digest) = found.ok_or_else(|| RowDefect(format!("its log has no revision {floor}")))?;
        let mut row = Self { floor: write_revision(floor), hash, digest, time, mac: vec![] };
        row.mac = mac(&row).to_vec();
        Ok(row)
    }
}

impl LogRow {
    /// The state's row that this one wrote; `None` for a deletion.
    #[must_use]
    pub fn columns(&self) -> Option<ResourceColumns<'_>> {
        Some(ResourceColumns {
            name: &self.name,
            kind: &self.kind,
            uid: &self.uid,
            labels: &self.labels,
            version: self.version,
            create_revision: self.create_revision,
            create_time: &self.create_time,
            update_revision: self.revision,
            update_time: &self.time,
            updated_by: &self.actor,
            spec: self.spec.as_deref()?,
            secrets: &self.secrets,
        })
    }

    /// Whether the row is a revocation and no change of a resource.
    #[must_use]
    pub fn is_revocation(&self) -> bool {
        self.kind == REVOCATION
    }

    /// Reads the row as the revocation that it is.
    ///
    /// # Errors
    /// Says what can't be read.
    pub fn revocation(&self) -> Result<Revocation, RowDefect> {
        read_revocation(&self.name, self.spec.as_deref().unwrap_or_default())
    }

    /// Reads the row as the change that it is, without sealed values.
    ///
    /// # Errors
    /// Says what can't be read: the row was edited, or a newer binary wrote it.
    pub fn change(&self) -> Result<LoggedChange, RowDefect> {
        let change_type = ChangeType::parse(&self.change_type)
            .ok_or_else(|| RowDefect(format!("{} has no change type that is known", self.name)))?;
        let previous = match (&self.previous_labels, self.previous_revision) {
            (Some(labels), Some(revision)) => Some(Previous {
                labels: read_labels(&self.name, labels)?,
                update_revision: read_revision(revision)?,
            }),
            _ => None,
        };
        let record = self.columns().map(|columns| columns.record()).transpose()?;
        Ok(LoggedChange {
            change_type,
            action: self.action.clone(),
            name: read_name(&self.name)?,
            kind: read_kind(&self.name, &self.kind)?,
            actor: self.actor.clone(),
            previous,
            record: record.map(Arc::new),
            sealed: Vec::new(),
        })
    }
}

impl ResourceRow {
    /// What the digest counts.
    #[must_use]
    pub fn columns(&self) -> ResourceColumns<'_> {
        ResourceColumns {
            name: &self.name,
            kind: &self.kind,
            uid: &self.uid,
            labels: &self.labels,
            version: self.version,
            create_revision: self.create_revision,
            create_time: &self.create_time,
            update_revision: self.update_revision,
            update_time: &self.update_time,
            updated_by: &self.updated_by,
            spec: &self.spec,
            secrets: &self.secrets,
        }
    }

    /// Whether the row is a revocation and no resource.
    #[must_use]
    pub fn is_revocation(&self) -> bool {
        self.kind == REVOCATION
    }

    /// Reads the row as the revocation that it is.
    ///
    /// # Errors
    /// Says what can't be read.
    pub fn revocation(&self) -> Result<Revocation, RowDefect> {
        read_revocation(&self.name, &self.spec)
    }
}

impl ResourceColumns<'_> {
    /// Reads the columns as the resource that they are.
    ///
    /// # Errors
    /// Says what can't be read: the row was edited, or a newer binary wrote it.
    pub fn record(&self) -> Result<Record, RowDefect> {
        let spec = spec::from_json(self.spec)
            .map_err(|_| RowDefect(format!("{} has a content that can't be read", self.name)))?;
        let kind = read_kind(self.name, self.kind)?;
        if spec::kind_of(&spec) != kind {
            return Err(RowDefect(format!("{} has the content of another kind", self.name)));
        }
        Ok(Record {
            name: read_name(self.name)?,
            kind,
            uid: Uid(self.uid.to_owned()),
            labels: read_labels(self.name, self.labels)?,
            version: u64::try_from(self.version)
                .map_err(|_| RowDefect(format!("{} has a negative version", self.name)))?,
            create_revision: read_revision(self.create_revision)?,
            create_time: read_time(self.create_time)?,
            update_revision: read_revision(self.update_revision)?,
            update_time: read_time(self.update_time)?,
            updated_by: self.updated_by.to_owned(),
            spec,
            spec_json: Arc::from(self.spec),
            secrets: read_secrets(self.name, self.secrets)?,
        })
    }
}

impl From<SecretRow> for SealedSecret {
    fn from(row: SecretRow) -> Self {
        SealedSecret { id: SecretId(row.id), data_key: row.data_key, token: row.token }
    }
}

/// A time as the database holds it. What is finer than a microsecond is dropped.
#[must_use]
pub fn write_time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Reads a time that the database holds.
///
/// # Errors
/// When it is no time.
pub fn read_time(text: &str) -> Result<DateTime<Utc>, RowDefect> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .map_err(|_| RowDefect("a time can't be read".into()))
}

/// Reads a revision that the database holds.
///
/// # Errors
/// When it is negative.
pub fn read_revision(revision: i64) -> Result<Revision, RowDefect> {
    u64::try_from(revision).map(Revision).map_err(|_| RowDefect("a revision is negative".into()))
}

/// A revision as the database holds it. One beyond its range is taken as the last of all.
#[must_use]
pub fn write_revision(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// Reads a hash that the database holds.
///
/// # Errors
/// When it is no hash.
pub fn read_hash(bytes: &[u8]) -> Result<ChainHash, RowDefect> {
    bytes.try_into().map(ChainHash).map_err(|_| RowDefect("a hash has a wrong length".into()))
}

/// Reads the map from fields to secrets that the database holds.
///
/// # Errors
/// When it is no such map.
pub fn read_secrets(name: &str, text: &str) -> Result<BTreeMap<FieldPath, SecretId>, RowDefect> {
    let map: BTreeMap<String, String> =
        read_map(text).ok_or_else(|| RowDefect(format!("{name} has a map of secrets that can't be read")))?;
    Ok(map.into_iter().map(|(path, id)| (FieldPath(path), SecretId(id))).collect())
}

fn read_labels(name: &str, text: &str) -> Result<Labels, RowDefect> {
    read_map(text).ok_or_else(|| RowDefect(format!("{name} has labels that can't be read")))
}

fn read_map(text: &str) -> Option<BTreeMap<String, String>> {
    if text == "{}" { Some(BTreeMap::new()) } else { serde_json::from_str(text).ok() }
}

fn read_name(text: &str) -> Result<ResourceName, RowDefect> {
    ResourceName::parse(text).map_err(|_| RowDefect(format!("{text:?} is not a resource name")))
}

fn read_kind(name: &str, text: &str) -> Result<KindName, RowDefect> {
    spec::kind_named(text).ok_or_else(|| RowDefect(format!("{name} is of a kind that is not known")))
}

fn read_revocation(name: &str, text: &str) -> Result<Revocation, RowDefect> {
    serde_json::from_str(text).map_err(|_| RowDefect(format!("{name} can't be read")))
}
