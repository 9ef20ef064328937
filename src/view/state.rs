//! The state of the store at one revision, immutable and cheap to copy.

use std::sync::Arc;

use imbl::OrdMap;

use crate::{
    digest::ViewDigest,
    domain::{
        ChainHash, Epoch, KindName, LoggedChange, Record, ResourceName, Revision, RevisionBatch,
        RevisionToken, RevocationSet, SealedSecret,
    },
    store::StateSnapshot,
};

/// A resource and the sealed values that belong into it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The resource, masked.
    pub record: Arc<Record>,
    /// The values that it names, as far as the store has them.
    pub sealed: Arc<[SealedSecret]>,
}

/// Everything at one revision. Copies share what they have in common.
#[derive(Clone, Debug)]
pub struct State {
    /// The store's life.
    pub epoch: Epoch,
    /// The revision.
    pub revision: Revision,
    /// Head of the hash chain there.
    pub hash: ChainHash,
    /// The resources, by name in bytewise order.
    pub resources: OrdMap<ResourceName, Entry>,
    /// Tokens that are not accepted.
    pub revocations: RevocationSet,
    /// Digest of all resources.
    pub digest: ViewDigest,
}

impl State {
    /// Builds the state that a store answered.
    #[must_use]
    pub fn from_snapshot(snapshot: StateSnapshot) -> Self {
        let sealed: std::collections::HashMap<_, _> =
            snapshot.sealed.into_iter().map(|secret| (secret.id.clone(), secret)).collect();
        let mut digest = ViewDigest::default();
        let mut resources = OrdMap::new();
        for record in snapshot.records {
            digest.add(record.name.as_str(), record.update_revision.0);
            // Cloned: whoever points a second record at a value by hand must not take it from the first.
            let own = record.secrets.values().filter_map(|id| sealed.get(id).cloned()).collect();
            resources.insert(record.name.clone(), Entry { record: Arc::new(record), sealed: own });
        }
        let revocations = snapshot.revocations.iter().collect();
        let head = snapshot.head;
        Self { epoch: head.epoch, revision: head.revision, hash: head.hash, resources, revocations, digest }
    }

    /// The state after one more revision.
    #[must_use]
    pub fn after(&self, batch: &RevisionBatch) -> Self {
        let mut next = self.clone();
        next.revision = batch.revision;
        next.hash = batch.hash;
        batch.changes.iter().for_each(|change| next.apply(change));
        batch.revocations.iter().for_each(|revocation| next.revocations.insert(revocation));
        next
    }

    fn apply(&mut self, change: &LoggedChange) {
        let LoggedChange { name, record, sealed, .. } = change;
        let before = match record {
            Some(record) => {
                self.digest.add(name.as_str(), record.update_revision.0);
                let entry = Entry { record: Arc::clone(record), sealed: sealed.clone().into() };
                self.resources.insert(name.clone(), entry)
            }
            None => self.resources.remove(name),
        };
        if let Some(before) = before {
            self.digest.remove(name.as_str(), before.record.update_revision.0);
        }
    }

    /// The token of this revision.
    #[must_use]
    pub fn token(&self) -> RevisionToken {
        RevisionToken::new(self.epoch, self.revision, &self.hash)
    }

    /// Whether it is of the token's life, and no older.
    #[must_use]
    pub fn has(&self, token: &RevisionToken) -> bool {
        self.epoch == token.epoch && self.revision >= token.revision
    }

    /// The resource with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.resources.get(name)
    }

    /// Every resource whose name begins with `prefix`, in order.
    pub fn beneath<'a>(&'a self, prefix: &str) -> impl Iterator<Item = &'a Entry> {
        use std::ops::Bound;
        self.resources
            .range::<_, str>((Bound::Included(prefix), Bound::Unbounded))
            .map(|(_, entry)| entry)
            .take_while(move |entry| entry.record.name.as_str().starts_with(prefix))
    }
}

impl Entry {
    /// The kind of the resource.
    #[must_use]
    pub fn kind(&self) -> KindName {
        self.record.kind
    }
}
