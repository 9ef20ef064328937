//! The rows about what is sent: it is what the store holds, and nothing that the reader may not see.

use std::collections::BTreeMap;

use prost::Message;
use signalbox::proto::v1::{Changes, Resource, watch_config_response::Event};

use super::{Case, Verdict};
use crate::support::{
    record::{Read, token_of},
    resources::{CANARY, holds, masked, values_in},
    shown,
    truth::{Expected, Truth, digest},
    view::View,
};

/// A cache replayed from the stream equals the store's state at each revision, digest for digest.
pub fn true_to_the_store(case: &Case<'_>) -> Verdict {
    let mut cache: BTreeMap<String, Resource> = BTreeMap::new();
    for (_, events) in &case.events {
        let (mut staged, mut parts) = (None, Vec::new());
        for (_, event) in events {
            match event {
                Event::Snapshot(event) => {
                    let staged = staged.get_or_insert_with(BTreeMap::new);
                    staged.extend(event.resources.iter().map(|one| (one.name.clone(), masked(one))));
                }
                Event::Synced(event) => {
                    cache = staged.take().unwrap_or(cache);
                    same_state(case, &cache, event.revision)?;
                }
                Event::Changes(event) => {
                    parts.push(event);
                    if event.last {
                        parts.drain(..).try_for_each(|part| apply(case, &mut cache, part))?;
                    }
                }
                Event::Progress(event) => {
                    let own = digest(cache.iter().map(|(name, one)| (name.as_str(), one.update_revision)));
                    if own[..] != event.digest[..] {
                        return Err(format!(
                            "the digest at revision {} is not that of the cache",
                            event.revision
                        ));
                    }
                }
                _ => {}
            }
        }
        // What never became whole is dropped with the stream, as a client drops it.
        if let Some(at) = events.iter().rev().find_map(|(_, event)| Some(token_of(event)?.0)) {
            same_state(case, &cache, at)?;
        }
    }
    case.reader.reads.iter().try_for_each(|read| {
        let listed = read.resources.iter().map(|resource| (resource.name.clone(), masked(resource)));
        same(case.truth, &read.view, &listed.collect(), read.revision)
    })
}

fn apply(case: &Case<'_>, cache: &mut BTreeMap<String, Resource>, event: &Changes) -> Verdict {
    for change in &event.changes {
        let due = case.expected.get(&event.revision).and_then(|due| due.get(change.name.as_str()));
        let Some(Expected { change_type, entry }) = due else { continue };
        let at = format!("{} in revision {}", change.name, event.revision);
        if change.r#type() != *change_type {
            return Err(format!("{at} is {:?} to the view, not {:?}", change_type, change.r#type()));
        }
        let given = change.resource.as_ref().map(masked);
        if given.as_ref() != entry.map(|entry| &entry.masked) {
            return Err(format!(
                "{at} came as {}, and was written as {}",
                shown(&given),
                shown(&entry.map(|entry| &entry.masked))
            ));
        }
        match given {
            Some(resource) => cache.insert(change.name.clone(), resource),
            None => cache.remove(&change.name),
        };
    }
    Ok(())
}

fn same_state(case: &Case<'_>, cache: &BTreeMap<String, Resource>, revision: u64) -> Verdict {
    same(case.truth, &case.reader.view, cache, revision)
}

fn same(truth: &Truth, view: &View, held: &BTreeMap<String, Resource>, revision: u64) -> Verdict {
    let store = truth.view_at(view, revision);
    if let Some(name) = held.keys().find(|name| !store.contains_key(name.as_str())) {
        return Err(format!("at revision {revision} the reader holds {name}, and the store does not"));
    }
    for (name, entry) in store {
        match held.get(name) {
            Some(resource) if *resource == entry.masked => {}
            given => {
                return Err(format!(
                    "at revision {revision} {name} is {} to the reader, and {}",
                    shown(&given),
                    shown(&entry.masked)
                ));
            }
        }
    }
    Ok(())
}

/// A stream never carries a value that its caller may not read; who may, gets the one that is current.
pub fn private(case: &Case<'_>) -> Verdict {
    let (reader, leak) = (case.reader, |what: String| Err(format!("a secret where none may be: {what}")));
    // Reads of the past open no secrets for anybody.
    let masked = |read: &&Read| !reader.view.secrets || read.at != 0;
    let listed = reader.reads.iter().filter(masked).flat_map(|read| &read.resources);
    if let Some(resource) = listed.into_iter().find(|resource| holds(&resource.encode_to_vec(), CANARY)) {
        return leak(shown(resource));
    }
    let current = reader.reads.iter().filter(|read| !masked(read));
    for read in current {
        // A page that came after its secret was replaced does not open the old one.
        let replaced = |resource: &&Resource| {
            let (then, now) = (
                case.truth.at(&resource.name, read.revision),
                case.truth.at(&resource.name, case.truth.head()),
            );
            values_in(resource).is_empty()
                && then.map(|entry| &entry.secrets) != now.map(|entry| &entry.secrets)
        };
        let mut opened = read.resources.iter().filter(|resource| !replaced(resource));
        opened.try_for_each(|resource| values(case, resource, read.revision))?;
    }
    if !reader.view.secrets {
        let seen =
            reader.streams.iter().flat_map(|stream| &stream.seen).find(|seen| holds(&seen.raw, CANARY));
        return seen.map_or(Ok(()), |seen| leak(shown(&seen.event())));
    }
    for (_, event) in case.events.iter().flat_map(|(_, events)| events) {
        match event {
            Event::Snapshot(event) => {
                event.resources.iter().try_for_each(|resource| values(case, resource, event.revision))?;
            }
            Event::Changes(event) => {
                let upserts = event.changes.iter().filter_map(|change| change.resource.as_ref());
                upserts.into_iter().try_for_each(|resource| values(case, resource, event.revision))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn values(case: &Case<'_>, resource: &Resource, revision: u64) -> Verdict {
    let shown = values_in(resource);
    match case.truth.at(&resource.name, revision) {
        Some(entry) if case.reader.view.shows(&entry.masked) => {
            let same = entry.secrets == shown;
            same.then_some(()).ok_or_else(|| {
                format!(
                    "{} at revision {revision} has other secrets: {shown:?} instead of {:?}",
                    resource.name, entry.secrets
                )
            })
        }
        _ if shown.is_empty() => Ok(()),
        _ => {
            Err(format!("secrets of {}, which the view does not show at revision {revision}", resource.name))
        }
    }
}
