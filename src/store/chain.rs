//! The keyed hash chain over the log and the keyed digest of the state: pure functions over columns.
//!
//! It must not know SQL. Four keys are derived from the log key, each under a label of its own, so that no value of one
//! purpose can stand in for another. Every column is fed with its length before it, so that no two rows read alike.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{
    StoreError,
    rows::{CheckpointRow, LogRow, ResourceColumns},
};
use crate::domain::{ChainHash, FeatureLevel, keys::LogKey};

/// Keyed, order-independent digest of the whole state: the sum of the digests of all rows, modulo 2^128.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StateDigest(u128);

/// The keys of the chain, the digest, the checkpoints and the feature level. It can't be printed.
#[derive(Clone)]
pub struct ChainKeys {
    chain: Hmac<Sha256>,
    digest: Hmac<Sha256>,
    checkpoint: Hmac<Sha256>,
    level: Hmac<Sha256>,
}

/// Feeds columns to a MAC, each behind its length.
struct Columns(Hmac<Sha256>);

impl StateDigest {
    /// The digest with one more row.
    #[must_use]
    pub fn plus(self, row: StateDigest) -> Self {
        Self(self.0.wrapping_add(row.0))
    }

    /// The digest without one row.
    #[must_use]
    pub fn minus(self, row: StateDigest) -> Self {
        Self(self.0.wrapping_sub(row.0))
    }

    /// As the database holds it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// Reads what the database holds; `None` if that is no digest.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(u128::from_le_bytes(bytes.try_into().ok()?)))
    }
}

impl ChainKeys {
    /// Derives the keys from the log key.
    ///
    /// # Errors
    /// Never in practice: the lengths are fixed ones that HKDF and HMAC allow.
    pub fn derive(key: &LogKey) -> Result<Self, StoreError> {
        let source = Hkdf::<Sha256>::new(None, &key.0);
        let derive = |label: &[u8]| {
            let mut bytes = zeroize::Zeroizing::new([0; 32]);
            source.expand(label, bytes.as_mut()).map_err(|error| StoreError::Internal(error.to_string()))?;
            Hmac::new_from_slice(bytes.as_ref()).map_err(|error| StoreError::Internal(error.to_string()))
        };
        Ok(Self {
            chain: derive(b"signalbox log chain v1")?,
            digest: derive(b"signalbox state digest v1")?,
            checkpoint: derive(b"signalbox log checkpoint v1")?,
            level: derive(b"signalbox feature level v1")?,
        })
    }

    /// The hash of a log row: over the hash before it and all its columns. The row's own `hash` is not read.
    #[must_use]
    pub fn link(&self, row: &LogRow) -> ChainHash {
        // Destructured, so that a new column breaks the build here.
        let LogRow {
            revision,
            ordinal,
            change_type,
            action,
            name,
            kind,
            uid,
            labels,
            version,
            create_revision,
            create_time,
            spec,
            secrets,
            previous_labels,
            previous_revision,
            actor,
            time,
            reason,
            request_id,
            digest,
            previous_hash,
            hash: _,
            // Says who traced the write, and nothing of what was written: a binary that knows no traces hashes the same.
            traceparent: _,
        } = row;
        let mut columns = Columns(self.chain.clone());
        columns.bytes(previous_hash).number(*revision).number(*ordinal);
        columns.text(change_type).text(action).text(name).text(kind).text(uid).text(labels);
        columns.number(*version).number(*create_revision).text(create_time);
        columns.optional(spec.as_deref()).text(secrets).optional(previous_labels.as_deref());
        columns.number(previous_revision.unwrap_or(-1)).text(actor).text(time).text(reason);
        columns.text(request_id).bytes(digest);
        ChainHash(columns.finish())
    }

    /// The digest of one resource's row.
    #[must_use]
    pub fn digest(&self, row: &ResourceColumns<'_>) -> StateDigest {
        let ResourceColumns {
            name,
            kind,
            uid,
            labels,
            version,
            create_revision,
            create_time,
            update_revision,
            update_time,
            updated_by,
            spec,
            secrets,
        } = row;
        let mut columns = Columns(self.digest.clone());
        columns.text(name).text(kind).text(uid).text(labels).number(*version);
        columns.number(*create_revision).text(create_time).number(*update_revision).text(update_time);
        columns.text(updated_by).text(spec).text(secrets);
        let mut half = [0; 16];
        half.copy_from_slice(&columns.finish()[..16]);
        StateDigest(u128::from_le_bytes(half))
    }

    /// The MAC of a checkpoint: over the one before it (empty for the first) and all its columns but the MAC.
    #[must_use]
    pub fn checkpoint(&self, previous: &[u8], row: &CheckpointRow) -> [u8; 32] {
        let CheckpointRow { floor, hash, digest, time, mac: _ } = row;
        let mut columns = Columns(self.checkpoint.clone());
        columns.bytes(previous).number(*floor).bytes(hash).bytes(digest).text(time);
        columns.finish()
    }

    /// The MAC of a feature level.
    #[must_use]
    pub fn level_mac(&self, level: FeatureLevel) -> [u8; 32] {
        self.level_columns(level).finish()
    }

    /// Whether a MAC is that of a feature level.
    #[must_use]
    pub fn signs_level(&self, level: FeatureLevel, mac: &[u8]) -> bool {
        self.level_columns(level).0.verify_slice(mac).is_ok()
    }

    fn level_columns(&self, level: FeatureLevel) -> Columns {
        let mut columns = Columns(self.level.clone());
        columns.number(level.0.into());
        columns
    }
}

impl Columns {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Nothing is not the same as an empty text: its length is one that no text has.
    fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => {
                self.0.update(&u64::MAX.to_le_bytes());
                self
            }
        }
    }

    fn number(&mut self, number: i64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    fn finish(self) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> LogRow {
        LogRow {
            revision: 2,
            ordinal: 0,
            change_type: "updated".into(),
            action: "enabled".into(),
            name: "settings/a".into(),
            kind: "setting".into(),
            uid: "u".into(),
            labels: "{}".into(),
            version: 2,
            create_revision: 1,
            create_time: "then".into(),
            spec: Some("{}".into()),
            secrets: "{}".into(),
            previous_labels: Some("{}".into()),
            previous_revision: Some(1),
            actor: "alice".into(),
            time: "now".into(),
            reason: String::new(),
            request_id: "r".into(),
            digest: vec![1; 16],
            previous_hash: vec![2; 32],
            hash: vec![],
            traceparent: None,
        }
    }

    #[test]
    fn every_column_counts() {
        let keys = ChainKeys::derive(&LogKey([1; 32])).unwrap();
        let changes: [fn(&mut LogRow); 23] = [
            |_| {},
            |row| row.revision += 1,
            |row| row.ordinal += 1,
            |row| row.change_type.push('x'),
            |row| row.action.push('x'),
            |row| row.name.push('x'),
            |row| row.kind.push('x'),
            |row| row.uid.push('x'),
            |row| row.labels.push('x'),
            |row| row.version += 1,
            |row| row.create_revision += 1,
            |row| row.create_time.push('x'),
            |row| row.spec = None,
            |row| row.spec = Some(String::new()),
            |row| row.secrets.push('x'),
            |row| row.previous_labels = None,
            |row| row.previous_revision = None,
            |row| row.actor.push('x'),
            |row| row.time.push('x'),
            |row| row.reason.push('x'),
            |row| row.request_id.push('x'),
            |row| row.digest[0] = 0,
            |row| row.previous_hash[0] = 0,
        ];
        let mut hashes: Vec<_> = changes
            .map(|change| {
                let mut row = row();
                change(&mut row);
                keys.link(&row).0
            })
            .into();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), changes.len());
        let mut own = row();
        own.hash = vec![9; 32];
        assert_eq!(keys.link(&own), keys.link(&row()), "but the row's own hash does not");
        assert_ne!(ChainKeys::derive(&LogKey([2; 32])).unwrap().link(&row()), keys.link(&row()));
    }

    #[test]
    fn text_does_not_move_between_columns() {
        let keys = ChainKeys::derive(&LogKey([1; 32])).unwrap();
        let (mut left, mut right) = (row(), row());
        (left.actor, left.time) = ("ab".into(), "c".into());
        (right.actor, right.time) = ("a".into(), "bc".into());
        assert_ne!(keys.link(&left), keys.link(&right));
    }

    #[test]
    fn the_digest_is_of_the_set_and_not_of_its_order() {
        let keys = ChainKeys::derive(&LogKey([1; 32])).unwrap();
        let digest = |name: &str| keys.digest(&LogRow { name: name.into(), ..row() }.columns().unwrap());
        let (one, two) = (digest("settings/a"), digest("settings/b"));
        assert_ne!(one, two);
        assert_eq!(StateDigest::default().plus(one).plus(two).minus(one), StateDigest::default().plus(two));
        assert_eq!(StateDigest::from_bytes(&one.to_bytes()), Some(one));
        assert_eq!(StateDigest::from_bytes(&[0; 15]), None);
    }
}
