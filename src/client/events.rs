//! What changed: events, the sets they come in, and the difference of two snapshots.
//!
//! Owns the shape of a notification. Must not know how it is delivered, or streams.

use std::sync::Arc;

use imbl::ordmap::DiffItem;

use super::{
    entry::Entry,
    selector::Selector,
    snapshot::{Snapshot, known},
};
use crate::{
    proto::v1::Resource,
    trace_context::{TraceParent, TraceState},
};

/// What happened to a resource, as this client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// It is new, or has come into view.
    Created,
    /// It has changed.
    Updated,
    /// It is gone, or has left the view.
    Deleted,
    /// Its secrets must not be used any more; the change that replaces them is still to come.
    Revoked,
}

/// One resource that changed. Carries no secret: read these from the snapshot.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChangeEvent {
    /// What happened.
    pub kind: EventKind,
    /// Name of the resource.
    pub name: String,
    /// Revision of the store that the client's cache has with this event. For `Revoked`, the revision that revokes.
    pub revision: u64,
    /// The resource as it was in the cache before, masked.
    pub before: Option<Arc<Resource>>,
    /// The resource as it is in the cache now, masked.
    pub after: Option<Arc<Resource>>,
    /// The audit action, for example `rotated`; empty when the event comes from a comparison of snapshots.
    pub action: String,
    /// Who made the change; empty when the event comes from a comparison of snapshots.
    pub actor: String,
    /// The span that told of the change, where the servers make traces: what is done with the change is its child.
    pub traceparent: Option<TraceParent>,
    /// What tracing systems say of that trace to each other; mostly nothing. It belongs to every call that goes on with it.
    pub tracestate: TraceState,
}

impl ChangeEvent {
    /// Whether a selector picks the resource as it was or as it is.
    #[must_use]
    pub fn matches(&self, selector: &Selector) -> bool {
        [&self.before, &self.after].into_iter().flatten().any(|resource| selector.matches(resource))
    }

    /// The event that tells of a revocation.
    pub(super) fn revoked(entry: &Entry, revision: u64) -> Self {
        Self {
            kind: EventKind::Revoked,
            name: entry.resource.name.clone(),
            revision,
            before: Some(entry.resource.clone()),
            after: Some(entry.resource.clone()),
            action: "revoked".to_owned(),
            actor: String::new(),
            traceparent: None,
            tracestate: TraceState::default(),
        }
    }

    /// The event that leads from one entry to another; `None` when there is nothing to tell.
    pub(super) fn between(
        name: &str,
        revision: u64,
        before: Option<&Arc<Entry>>,
        after: Option<&Arc<Entry>>,
    ) -> Option<Self> {
        let before = before.filter(|entry| known(entry)).map(|entry| entry.resource.clone());
        let after = after.filter(|entry| known(entry)).map(|entry| entry.resource.clone());
        let kind = match (&before, &after) {
            (None, None) => return None,
            (None, Some(_)) => EventKind::Created,
            (Some(_), Some(_)) => EventKind::Updated,
            (Some(_), None) => EventKind::Deleted,
        };
        Some(Self {
            kind,
            name: name.to_owned(),
            revision,
            before,
            after,
            action: String::new(),
            actor: String::new(),
            traceparent: None,
            tracestate: TraceState::default(),
        })
    }
}

/// Everything that one step of the cache changed: one revision, one new snapshot, or one revocation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChangeSet {
    /// The events; never empty.
    pub events: Vec<ChangeEvent>,
    /// The cache with these events.
    pub snapshot: Arc<Snapshot>,
}

/// The events that lead from one snapshot to another: by name in bytewise order, and then the new revocations.
///
/// Costs a walk over both, and next to nothing where they share their maps.
#[must_use]
pub fn difference(before: &Snapshot, after: &Snapshot) -> Vec<ChangeEvent> {
    let revision = after.revision();
    let differences = before.entries().diff(after.entries());
    let changed = differences.filter_map(|item| match item {
        DiffItem::Add(name, entry) => ChangeEvent::between(name, revision, None, Some(entry)),
        DiffItem::Update { old, new } => ChangeEvent::between(new.0, revision, Some(old.1), Some(new.1)),
        DiffItem::Remove(name, entry) => ChangeEvent::between(name, revision, Some(entry), None),
    });
    let revoked = before.revoked.diff(&after.revoked).filter_map(|item| match item {
        DiffItem::Add(name, revision) => Some((name, revision)),
        DiffItem::Update { .. } | DiffItem::Remove(..) => None,
    });
    let revoked = revoked.filter_map(|(name, revision)| {
        let entry = after.entries().get(name.as_ref()).filter(|entry| known(entry))?;
        Some(ChangeEvent::revoked(entry, *revision))
    });
    changed.chain(revoked).collect()
}

#[cfg(test)]
mod tests {
    use super::{Arc, Entry, EventKind, Selector, Snapshot, difference};
    use crate::proto::v1::{ProviderSpec, Resource, resource::Spec};

    fn entry(name: &str, revision: u64, known: bool) -> Arc<Entry> {
        Arc::new(Entry::new(Resource {
            name: name.to_owned(),
            update_revision: revision,
            spec: known.then(|| Spec::Provider(ProviderSpec::default())),
            ..Resource::default()
        }))
    }

    fn snapshot(entries: &[Arc<Entry>]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for entry in entries {
            snapshot.upsert(entry.clone());
        }
        snapshot
    }

    #[test]
    fn tells_what_came_changed_and_went() {
        let before = snapshot(&[
            entry("providers/a", 1, true),
            entry("providers/b", 2, true),
            entry("providers/c", 3, true),
        ]);
        let after = snapshot(&[
            entry("providers/b", 4, true),
            entry("providers/c", 3, true),
            entry("providers/d", 5, true),
        ]);
        let events = difference(&before, &after);
        let told: Vec<_> = events.iter().map(|event| (event.name.as_str(), event.kind)).collect();
        let expected = [
            ("providers/a", EventKind::Deleted),
            ("providers/b", EventKind::Updated),
            ("providers/d", EventKind::Created),
        ];
        assert_eq!(told, expected, "an equal resource in another allocation is no change");
        assert!(events[0].matches(&Selector::name("providers/a")), "a deleted one matches as it was");
    }

    #[test]
    fn kinds_that_are_not_known_are_not_told() {
        let after = snapshot(&[entry("novelties/a", 1, false)]);
        assert!(difference(&Snapshot::default(), &after).is_empty());
        assert_eq!(after.len(), 1);
        assert!(after.get("novelties/a").is_none());
    }
}
