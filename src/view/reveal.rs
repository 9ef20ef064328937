//! Turns what is stored into what is shown: masked, or with its secrets opened for a caller that may read them.
//!
//! The only place where stored secrets are opened. What can't be opened is shown as such, fails closed, and is
//! remembered, so that the status can name it.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::RwLock;
use zeroize::Zeroizing;

use super::State;
use crate::{
    crypto::{OpenError, SecretText, Vault},
    domain::{Epoch, FieldPath, Record, ResourceName, SealedSecret, SecretId, Uid},
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
    undecryptable: RwLock<HashMap<Place, Unopened>>,
}

/// Why a secret can't be opened, as far as it matters for what to do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unopened {
    /// Its key was not given.
    NoKey,
    /// It is not what was sealed there. An alarm.
    Altered,
    /// There is no sealed value. An alarm.
    Missing,
}

/// A secret that can't be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Undecryptable {
    /// Name of its resource.
    pub name: ResourceName,
    /// Its field.
    pub field: FieldPath,
    /// Why not.
    pub reason: Unopened,
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
            observations: Vec::new(),
            spec: Some(spec),
        }
    }

    /// Whether the secret in a field of a resource has this value. Compared in constant time.
    #[must_use]
    pub fn holds(&self, record: &Record, sealed: &[SealedSecret], field: &FieldPath, value: &str) -> bool {
        match self.view_of(record, sealed, field, Reveal::Plain) {
            SecretView::Value(stored) => SecretText::from(stored.as_str()) == SecretText::from(value),
            _ => false,
        }
    }

    /// The value of the secret in a field of a resource, if there is one that opens.
    #[must_use]
    pub fn open(&self, record: &Record, sealed: &[SealedSecret], field: &FieldPath) -> Option<SecretText> {
        match self.view_of(record, sealed, field, Reveal::Plain) {
            SecretView::Value(value) => Some(SecretText::from(value.as_str())),
            _ => None,
        }
    }

    /// The secrets of a resource that open, by field, and the fields of those that don't.
    #[must_use]
    pub fn open_all(
        &self,
        record: &Record,
        sealed: &[SealedSecret],
    ) -> (Vec<(FieldPath, SecretText)>, Vec<FieldPath>) {
        let (mut opened, mut closed) = (Vec::new(), Vec::new());
        for field in record.secrets.keys() {
            match self.view_of(record, sealed, field, Reveal::Plain) {
                SecretView::Value(value) => opened.push((field.clone(), SecretText::from(value.as_str()))),
                _ => closed.push(field.clone()),
            }
        }
        (opened, closed)
    }

    /// Tries to open every secret of `state`, and remembers what can't be: for the start, in the background.
    pub fn check(&self, state: &State) {
        for entry in state.resources.values().filter(|entry| !entry.record.secrets.is_empty()) {
            for path in entry.record.secrets.keys() {
                let _ = self.view_of(&entry.record, &entry.sealed, path, Reveal::Plain);
            }
        }
    }

    /// The secrets of `state` that could not be opened, by name.
    #[must_use]
    pub fn undecryptable(&self, state: &State) -> Vec<Undecryptable> {
        let failed = self.undecryptable.read();
        if failed.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for record in state.resources.values().map(|entry| &entry.record) {
            for (path, id) in &record.secrets {
                if let Some(reason) = failed.get(&place(record, path, id)) {
                    let (name, field) = (record.name.clone(), path.clone());
                    found.push(Undecryptable { name, field, reason: *reason });
                }
            }
        }
        found
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
            return if self.undecryptable.read().contains_key(&place(record, path, id)) {
                SecretView::Undecryptable
            } else {
                SecretView::Present
            };
        }
        let found = sealed.iter().find(|secret| secret.id == *id);
        let opened = match found {
            Some(secret) => self
                .vault
                .open(&record.uid, path, secret)
                .map_err(|error| (Unopened::of(&error), error.to_string())),
            None => Err((Unopened::Missing, Unopened::Missing.to_string())),
        };
        match opened {
            Ok(value) => SecretView::Value(Zeroizing::new(value.expose().to_owned())),
            Err((reason, detail)) => {
                if self.undecryptable.write().insert(place(record, path, id), reason).is_none() {
                    tracing::error!(name = %record.name, field = %path, reason = detail, "a secret can't be decrypted");
                }
                SecretView::Undecryptable
            }
        }
    }
}

impl Unopened {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::NoKey, Self::Altered, Self::Missing];

    fn of(error: &OpenError) -> Self {
        match error {
            OpenError::LockedDataKey(_) => Self::NoKey,
            // A key that was not given is known by its id all the same.
            OpenError::UnknownDataKey(_) | OpenError::Tampered | OpenError::Malformed => Self::Altered,
        }
    }
}

impl fmt::Display for Unopened {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoKey => "no key that was given opens it",
            Self::Altered => "it was altered, or moved here from another place",
            Self::Missing => "its sealed value is missing from the store",
        })
    }
}

impl fmt::Display for Undecryptable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, field, reason } = self;
        write!(out, "{name}: {field} can't be decrypted: {reason}")
    }
}

fn place(record: &Record, path: &FieldPath, id: &SecretId) -> Place {
    (record.uid.clone(), path.clone(), id.clone())
}

fn timestamp(time: chrono::DateTime<chrono::Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}
