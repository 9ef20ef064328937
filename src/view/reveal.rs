//! Turns what is stored into what is shown: masked, or with its secrets opened for a caller that may read them.
//!
//! The only place where stored secrets are opened. What can't be opened is shown as such, fails closed, and is
//! remembered, so that the status can name it.

use std::{collections::HashSet, sync::Arc};

use parking_lot::RwLock;
use zeroize::Zeroizing;

use super::State;
use crate::{
    crypto::Vault,
    domain::{Epoch, FieldPath, Record, SealedSecret, SecretId, Uid},
    kinds::{SecretView, secrets},
    proto::v1::Resource,
};

/// Whether secrets are opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Reveal {
    /// Only whether there is one.
    Masked,
    /// Opened.
    Plain,
}

/// Opens and masks.
pub struct Revealer {
    vault: Arc<Vault>,
    undecryptable: RwLock<HashSet<Place>>,
}

/// Where a value is, and which: one that was moved fails where it is now, and opens where it belongs.
type Place = (Uid, FieldPath, SecretId);

impl Revealer {
    /// A revealer on the keys of `vault`.
    #[must_use]
    pub fn new(vault: Arc<Vault>) -> Self {
        Self { vault, undecryptable: RwLock::default() }
    }

    /// The resource as a caller sees it.
    #[must_use]
    pub fn resource(
        &self,
        record: &Record,
        sealed: &[SealedSecret],
        epoch: Epoch,
        reveal: Reveal,
    ) -> Resource {
        let mut spec = record.spec.clone();
        if !record.secrets.is_empty() && (reveal == Reveal::Plain || !self.undecryptable.read().is_empty()) {
            secrets::fill(&mut spec, |path| self.view_of(record, sealed, path, reveal));
        }
        let Record {
            name,
            uid,
            labels,
            version,
            create_revision,
            create_time,
            update_revision,
            update_time,
            ..
        } = record;
        Resource {
            name: name.to_string(),
            uid: uid.0.clone(),
            labels: labels.clone(),
            version: *version,
            create_revision: create_revision.0,
            update_revision: update_revision.0,
            create_time: Some(timestamp(*create_time)),
            update_time: Some(timestamp(*update_time)),
            updated_by: record.updated_by.clone(),
            etag: record.etag(epoch).as_str().to_owned(),
            spec: Some(spec),
        }
    }

    /// Tries to open every secret of `state`, and remembers what can't be: for the start, in the background.
    pub fn check(&self, state: &State) {
        for entry in state.resources.values().filter(|entry| !entry.record.secrets.is_empty()) {
            for path in entry.record.secrets.keys() {
                let _ = self.view_of(&entry.record, &entry.sealed, path, Reveal::Plain);
            }
        }
    }

    /// Names of the resources of `state` with a secret that could not be opened.
    #[must_use]
    pub fn undecryptable(&self, state: &State) -> Vec<String> {
        let failed = self.undecryptable.read();
        let fails = |record: &Record| {
            record.secrets.iter().any(|(path, id)| failed.contains(&place(record, path, id)))
        };
        let records = state.resources.values().map(|entry| &entry.record);
        records.filter(|record| fails(record)).map(|record| record.name.to_string()).collect()
    }

    fn view_of(
        &self,
        record: &Record,
        sealed: &[SealedSecret],
        path: &FieldPath,
        reveal: Reveal,
    ) -> SecretView {
        let Some(id) = record.secrets.get(path) else { return SecretView::Absent };
        if reveal == Reveal::Masked {
            return if self.undecryptable.read().contains(&place(record, path, id)) {
                SecretView::Undecryptable
            } else {
                SecretView::Present
            };
        }
        let found = sealed.iter().find(|secret| secret.id == *id);
        let opened = match found {
            Some(secret) => self.vault.open(&record.uid, path, secret).map_err(|error| error.to_string()),
            None => Err("the sealed value is missing from the store".to_owned()),
        };
        match opened {
            Ok(value) => SecretView::Value(Zeroizing::new(value.expose().to_owned())),
            Err(reason) => {
                if self.undecryptable.write().insert(place(record, path, id)) {
                    tracing::error!(name = %record.name, field = %path, reason, "a secret can't be decrypted");
                }
                SecretView::Undecryptable
            }
        }
    }
}

fn place(record: &Record, path: &FieldPath, id: &SecretId) -> Place {
    (record.uid.clone(), path.clone(), id.clone())
}

fn timestamp(time: chrono::DateTime<chrono::Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}
