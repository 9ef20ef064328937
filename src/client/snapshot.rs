//! The state of one revision in memory, indexed for the getters.
//!
//! Owns the persistent maps and the digest over them. A snapshot that has been published never changes; the next one
//! shares all but what differs. Must not know streams, tasks or time.

use std::{fmt, ops::Bound, sync::Arc};

use foldhash::fast::RandomState;
use imbl::{GenericHashMap, OrdMap, shared_ptr::DefaultSharedPtr};

use super::{
    entry::{Entry, Held, SecretError},
    secret::SecretText,
    selector::{Kind, Selector},
    settings::Overrides,
    staleness::Aging,
};
use crate::{
    digest::ViewDigest,
    proto::v1::{Resource, resource::Spec},
};

// `Arc<str>`, because a persistent map copies the keys of each node that it changes.
type Index = OrdMap<Arc<str>, Arc<Entry>>;
/// Who reads asks by name, and a look into a tree compares names all the way down: each is a miss of the machine's cache.
type ByName = GenericHashMap<Arc<str>, Arc<Entry>, RandomState, DefaultSharedPtr>;

/// All resources that the client sees, at one revision. Cheap to clone; reading it takes no lock and does no I/O.
///
/// Holding one for long means reading the past, secrets revoked since included: take a new one for each piece of work.
#[derive(Clone, Default)]
#[must_use]
pub struct Snapshot {
    pub(super) revision: u64,
    /// Counts published snapshots, so that a subscriber knows which changes a snapshot already holds.
    pub(super) sequence: u64,
    pub(super) revoked: OrdMap<Arc<str>, u64>,
    pub(super) overrides: Arc<Overrides>,
    /// What is not to be read of it any more.
    aging: Arc<Aging>,
    /// In bytewise order.
    entries: Index,
    /// The same.
    by_name: ByName,
    providers: Index,
    api_keys: OrdMap<Arc<str>, Index>,
    settings: Index,
    user_settings: OrdMap<Arc<str>, Index>,
    /// By the public id that a presented key carries.
    virtual_keys: Index,
    digest: ViewDigest,
    /// What the resources take, about.
    pub(super) bytes: usize,
}

impl Snapshot {
    /// One that holds nothing yet.
    pub(super) fn new(overrides: Arc<Overrides>) -> Self {
        Self { overrides, ..Self::default() }
    }

    /// The revision of the store that this is the state of; 0 before the first.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Resources in it, of kinds that this client knows and of others.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The digest over the names and update revisions in it, as `Progress` carries it.
    pub fn digest(&self) -> ViewDigest {
        self.digest
    }

    /// The kinds of which nothing is shown, because the cache is older than their limit: their getters find nothing, and
    /// settings tell it as an error. Empty unless [`Staleness::kind`](super::Staleness::kind) has set such limits.
    #[must_use]
    pub fn refused_kinds(&self) -> &[Kind] {
        &self.aging.kinds
    }

    /// A resource by its full name, for example `providers/groq`, with its secrets masked.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Resource>> {
        let entry = self.by_name.get(name)?;
        self.shows(entry).then(|| entry.resource.clone())
    }

    /// A secret field by its resource and its path, for example `api_key.secret` or `provider.headers.x-key.secret`.
    ///
    /// # Errors
    /// Says why there is none; [`SecretError::Absent`] for an unknown name too.
    pub fn secret(&self, name: &str, path: &str) -> Result<SecretText, SecretError> {
        let entry = self.by_name.get(name).ok_or(SecretError::Absent)?;
        if !self.shows(entry) {
            return Err(SecretError::Stale);
        }
        self.hold(entry).secret(path)
    }

    /// The resources that a selector picks, by name in bytewise order. Looks at all of them.
    pub fn select<'a>(&'a self, selector: &'a Selector) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.resources().filter(|resource| selector.matches(resource))
    }

    /// The resources of a kind, by name in bytewise order. Looks at all resources.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources().filter(move |resource| Kind::of(resource) == Some(kind))
    }

    /// The resources whose name begins with a prefix, in bytewise order. Looks at these only.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.entries
            .range::<_, str>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(name, _)| name.starts_with(prefix))
            .map(|(_, entry)| entry)
            .filter(|entry| self.shows(entry))
            .map(|entry| &entry.resource)
    }

    fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.with_prefix("")
    }

    pub(super) fn entries(&self) -> &Index {
        &self.entries
    }

    /// A resource of a collection by its id; whether it is of the collection's kind, the caller sees.
    pub(super) fn held(&self, collection: &str, id: &str) -> Option<Held> {
        let entry = with_joined(collection, id, |name| self.by_name.get(name));
        entry.filter(|entry| self.shows(entry)).map(|entry| self.hold(entry))
    }

    pub(super) fn held_provider(&self, id: &str) -> Option<Held> {
        self.providers.get(id).filter(|entry| self.shows(entry)).map(|entry| self.hold(entry))
    }

    pub(super) fn held_providers(&self) -> impl Iterator<Item = Held> {
        self.providers.values().filter(|entry| self.shows(entry)).map(|entry| self.hold(entry))
    }

    pub(super) fn held_api_key(&self, provider: &str, id: &str) -> Option<Held> {
        let entry = self.api_keys.get(provider)?.get(id)?;
        self.shows(entry).then(|| self.hold(entry))
    }

    pub(super) fn held_api_keys(&self, provider: &str) -> impl Iterator<Item = Held> {
        let keys = self.api_keys.get(provider).into_iter().flat_map(OrdMap::values);
        keys.filter(|entry| self.shows(entry)).map(|entry| self.hold(entry))
    }

    pub(super) fn held_setting(&self, key: &str) -> Option<Held> {
        self.settings.get(key).map(|entry| self.hold(entry))
    }

    pub(super) fn held_user_setting(&self, user: &str, key: &str) -> Option<Held> {
        self.user_settings.get(user)?.get(key).map(|entry| self.hold(entry))
    }

    pub(super) fn held_virtual_key(&self, key_id: &str) -> Option<Held> {
        self.virtual_keys.get(key_id).filter(|entry| self.shows(entry)).map(|entry| self.hold(entry))
    }

    fn hold(&self, entry: &Arc<Entry>) -> Held {
        Held {
            entry: entry.clone(),
            revoked: !self.revoked.is_empty() && self.revoked.contains_key(entry.resource.name.as_str()),
            stale: self.aging.secrets,
        }
    }

    /// Whether a resource may be read: this client knows its kind, and the cache is not too old for it.
    fn shows(&self, entry: &Entry) -> bool {
        known(entry) && (self.aging.kinds.is_empty() || !self.refuses(Kind::of(&entry.resource)))
    }

    /// Whether nothing of a kind may be read.
    pub(super) fn refuses(&self, kind: Option<Kind>) -> bool {
        kind.is_some_and(|kind| self.aging.kinds.contains(&kind))
    }

    pub(super) fn aging(&self) -> &Aging {
        &self.aging
    }

    /// The same resources at another revision.
    pub(super) fn at(self, revision: u64) -> Self {
        Self { revision, ..self }
    }

    /// The same state with what may be read of it at some age.
    pub(super) fn at_age(&self, aging: Aging) -> Self {
        Self { aging: Arc::new(aging), ..self.clone() }
    }

    /// Puts a resource in, in place of one of that name, which it returns.
    pub(super) fn upsert(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let previous = self.remove(&entry.resource.name);
        self.digest.add(&entry.resource.name, entry.resource.update_revision);
        self.bytes += entry.bytes;
        match place(&entry.resource) {
            Place::Provider(id) => drop(self.providers.insert(id.into(), entry.clone())),
            Place::ApiKey(provider, id) => insert_below(&mut self.api_keys, provider, id, &entry),
            Place::Setting(key) => drop(self.settings.insert(key.into(), entry.clone())),
            Place::UserSetting(user, key) => insert_below(&mut self.user_settings, user, key, &entry),
            Place::VirtualKey(key_id) => drop(self.virtual_keys.insert(key_id.into(), entry.clone())),
            Place::NameOnly => {}
        }
        let name: Arc<str> = entry.resource.name.as_str().into();
        self.by_name.insert(name.clone(), entry.clone());
        self.entries.insert(name, entry);
        previous
    }

    /// Takes a resource out, and returns it.
    pub(super) fn remove(&mut self, name: &str) -> Option<Arc<Entry>> {
        let entry = self.entries.remove(name)?;
        self.by_name.remove(name);
        self.digest.remove(name, entry.resource.update_revision);
        self.bytes -= entry.bytes;
        match place(&entry.resource) {
            Place::Provider(id) => drop(self.providers.remove(id)),
            Place::ApiKey(provider, id) => remove_below(&mut self.api_keys, provider, id),
            Place::Setting(key) => drop(self.settings.remove(key)),
            Place::UserSetting(user, key) => remove_below(&mut self.user_settings, user, key),
            Place::VirtualKey(key_id) => drop(self.virtual_keys.remove(key_id)),
            Place::NameOnly => {}
        }
        Some(entry)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Snapshot({} resources at revision {})", self.len(), self.revision)
    }
}

/// Whether this client knows the kind; what it does not know is counted in the digest and otherwise ignored.
pub(super) fn known(entry: &Entry) -> bool {
    entry.resource.spec.is_some()
}

/// Reads by the name that a collection and an id make. It lies on the stack, where it is as short as names are: a read is to
/// cost no allocation.
fn with_joined<T>(collection: &str, id: &str, read: impl FnOnce(&str) -> T) -> T {
    let mut place = [0_u8; 128];
    let parts = [collection.as_bytes(), b"/", id.as_bytes()];
    let mut end = 0;
    for part in parts {
        let Some(here) = place.get_mut(end..end + part.len()) else {
            return read(&format!("{collection}/{id}"));
        };
        here.copy_from_slice(part);
        end += part.len();
    }
    match place.get(..end).map(std::str::from_utf8) {
        Some(Ok(name)) => read(name),
        // It can't be: what was joined is text.
        _ => read(&format!("{collection}/{id}")),
    }
}

/// Where a resource is indexed beside its name.
enum Place<'a> {
    Provider(&'a str),
    ApiKey(&'a str, &'a str),
    Setting(&'a str),
    UserSetting(&'a str, &'a str),
    VirtualKey(&'a str),
    NameOnly,
}

fn place(resource: &Resource) -> Place<'_> {
    let segments: Vec<_> = resource.name.split('/').collect();
    match (segments.as_slice(), &resource.spec) {
        (["providers", id], Some(Spec::Provider(_))) => Place::Provider(id),
        (["providers", provider, "apiKeys", id], Some(Spec::ApiKey(_))) => Place::ApiKey(provider, id),
        (["settings", key], Some(Spec::Setting(_))) => Place::Setting(key),
        (["users", user, "settings", key], Some(Spec::Setting(_))) => Place::UserSetting(user, key),
        (["virtualKeys", _], Some(Spec::VirtualKey(key))) => Place::VirtualKey(&key.key_id),
        _ => Place::NameOnly,
    }
}

fn insert_below(map: &mut OrdMap<Arc<str>, Index>, outer: &str, inner: &str, entry: &Arc<Entry>) {
    map.entry(outer.into()).or_default().insert(inner.into(), entry.clone());
}

fn remove_below(map: &mut OrdMap<Arc<str>, Index>, outer: &str, inner: &str) {
    if let Some(below) = map.get_mut(outer) {
        below.remove(inner);
        if below.is_empty() {
            map.remove(outer);
        }
    }
}
