//! The ids of providers that a source has no names for, in a store that has providers already.
//!
//! One that points where the source's does is the same provider. One that points elsewhere is somebody else's: it stays, and
//! the source's gets the next free id. Must not know any format.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Decision, IMPORTED_AS, IMPORTED_FROM, Imported, decide,
    edited::{filled, moves},
    gather::Numbered,
    starters,
};
use crate::{
    domain::record::Spec,
    proto::v1::{ProviderSpec, Resource},
};

/// How near a stored provider is to one of a source, the nearest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Near {
    /// It was made of just this.
    Made,
    /// Both are called in the same way.
    Called,
    /// Both are at the same base URL.
    There,
    /// It came with this binary, and nobody has made anything of it.
    Nobodys,
}

/// The ids that differ from those that were made up, by the latter. `stored` is what there is beneath `providers/`, masked. One that is to be
/// `replaced` keeps its id where none points to the same place.
#[must_use]
pub fn ids(imported: &Imported, stored: &[Resource], replaced: bool) -> Vec<(String, String)> {
    let named = |id: &str| stored.iter().find(|one| one.name.strip_prefix("providers/") == Some(id));
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (id, other) in pairs(imported, stored) {
        if !found.contains_key(id) && !taken.contains(other) {
            found.insert(id, other.to_owned());
            taken.insert(other.to_owned());
        }
    }
    let mut numbered = Numbered::default();
    for (id, wanted) in &imported.made_up {
        if found.contains_key(id.as_str()) {
            continue;
        }
        let stays = replaced && !taken.contains(id);
        let free = match stays {
            true => id.clone(),
            false => numbered.free(wanted, |free| taken.contains(free) || named(free).is_some()),
        };
        taken.insert(free.clone());
        found.insert(id, free);
    }
    let differ = found.into_iter().filter(|(id, own)| id != own);
    differ.map(|(id, own)| (id.to_owned(), own)).collect()
}

/// The providers of the source with the stored ones that they may be, the nearest pairs first.
fn pairs<'a>(imported: &'a Imported, stored: &'a [Resource]) -> Vec<(&'a str, &'a str)> {
    let mut pairs = Vec::new();
    for new in &imported.resources {
        let Some(id) = new.name.strip_prefix("providers/") else { continue };
        let Some(wanted) = imported.made_up.get(id) else { continue };
        for old in stored {
            let other =
                old.name.strip_prefix("providers/").and_then(|other| Some((other, number(other, wanted)?)));
            let Some((other, number)) = other else { continue };
            let near = near(new, old, has_secrets(old, stored));
            pairs.extend(near.map(|near| ((near, id != other, number), (id, other))));
        }
    }
    pairs.sort();
    pairs.into_iter().map(|(_, pair)| pair).collect()
}

/// The number behind a wanted id, 1 where there is none; `None` where it is no such id.
fn number(id: &str, wanted: &str) -> Option<u32> {
    match id.strip_prefix(wanted)? {
        "" => Some(1),
        rest => rest.strip_prefix('-')?.parse().ok(),
    }
}

fn near(new: &Resource, old: &Resource, has_secrets: bool) -> Option<Near> {
    if old.labels.get(IMPORTED_AS).is_some_and(|mark| new.labels.get(IMPORTED_AS) == Some(mark)) {
        return Some(Near::Made);
    }
    let (new_spec, old_spec) = (new.spec.as_ref()?, old.spec.as_ref()?);
    if !moves(new, old_spec, new_spec) {
        let same = endpoint(new).is_some_and(|path| Some(path) == endpoint(old));
        return Some(if same { Near::Called } else { Near::There });
    }
    let is_starter = old.labels.get(IMPORTED_FROM).is_some_and(|format| format == starters::FORMAT);
    (is_starter && decide(new, Some(old), has_secrets) == Decision::Write).then_some(Near::Nobodys)
}

fn endpoint(provider: &Resource) -> Option<String> {
    match filled(provider)? {
        Spec::Provider(ProviderSpec { endpoint_path, .. }) => Some(endpoint_path),
        _ => None,
    }
}

/// Whether something beneath a resource holds a secret.
#[must_use]
pub fn has_secrets(resource: &Resource, stored: &[Resource]) -> bool {
    let beneath = |one: &&Resource| {
        one.name.strip_prefix(resource.name.as_str()).is_some_and(|rest| rest.starts_with('/'))
    };
    stored.iter().filter(beneath).filter_map(|one| one.spec.as_ref()).any(super::edited::holds_secret)
}
