//! A model of the store: a map of what is there and a list of what happened, driven by a seeded generator.

use std::{collections::BTreeMap, sync::Arc};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use signalbox::{
    domain::{Applied, ApplyError, ChangeType, PlannedChange, Read, ResourceName, Revision, WriteSet},
    store::{Log as _, LogPage, Store},
};

use crate::fixture::{DEADLINE, Place, apply, delete, log_after, name, page_after, put, spec_json, write};

/// One resource of the model: version, text, update revision.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    version: u64,
    text: String,
    revision: u64,
}

type State = BTreeMap<ResourceName, Known>;

#[derive(Default)]
struct Model {
    /// The state after every revision since the place was empty; the first is the one found.
    states: Vec<State>,
    /// Revision that `states[0]` is at.
    base: u64,
    floor: u64,
    /// Writes that were committed, with their revisions.
    done: Vec<(WriteSet, u64)>,
}

impl Model {
    fn now(&self) -> &State {
        self.states.last().unwrap()
    }

    fn revision(&self) -> u64 {
        self.base + self.states.len() as u64 - 1
    }
}

pub async fn run(place: &impl Place, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut store = place.open().await;
    let found = store.snapshot().await.unwrap();
    let known = |record: &signalbox::domain::Record| Known {
        version: record.version,
        text: record.spec_json.to_string(),
        revision: record.update_revision.0,
    };
    let first: State = found.records.iter().map(|record| (record.name.clone(), known(record))).collect();
    let mut model =
        Model { states: vec![first], base: found.head.revision.0, floor: found.head.floor.0, done: vec![] };
    for _ in 0..150 {
        match random.random_range(0..100) {
            0..80 => write_something(&*store, &mut model, &mut random).await,
            80..86 => replay_something(&*store, &model, &mut random).await,
            86..90 => compact(&*store, &mut model, &mut random).await,
            90..93 => {
                store.close(DEADLINE).await;
                store = place.open().await;
            }
            _ => compare(&*store, &model, &mut random).await,
        }
    }
    compare(&*store, &model, &mut random).await;
    assert_eq!(store.verify(None).await.unwrap().defects, []);
    store.close(DEADLINE).await;
    drop(Arc::into_inner(store));
}

/// One to four changes; now and then with a read that does not hold.
async fn write_something(store: &impl Store, model: &mut Model, random: &mut StdRng) {
    let revision = model.revision() + 1;
    let (mut next, mut changes, mut reads) = (model.now().clone(), vec![], vec![]);
    for _ in 0..random.random_range(1..=4) {
        let at = name(&format!("settings/k{}", random.random_range(0..12)));
        if reads
            .iter()
            .any(|read| matches!(read, Read::Unchanged { name, .. } | Read::Absent { name } if *name == at))
        {
            continue;
        }
        match next.get(&at).cloned() {
            Some(known) => {
                reads.push(Read::Unchanged { name: at.clone(), revision: Revision(known.revision) });
                if random.random_bool(0.3) {
                    changes.push(delete(at.as_str()));
                    next.remove(&at);
                    continue;
                }
            }
            None => reads.push(Read::Absent { name: at.clone() }),
        }
        let version = next.get(&at).map_or(0, |known| known.version) + 1;
        let text = random.random::<u32>().to_string();
        changes.push(PlannedChange::Put(Box::new(put(at.as_str(), version, &text))));
        next.insert(at, Known { version, text: spec_json(&text).to_string(), revision });
    }
    let mut write = write(changes);
    write.reads = reads;
    if random.random_bool(0.15) {
        write.reads.push(Read::Unchanged { name: name("settings/never"), revision: Revision(1) });
        let at = Revision(model.revision());
        assert_eq!(store.apply(write).await, Err(ApplyError::Stale { at }));
        return;
    }
    assert_eq!(apply(store, write.clone()).await.revision.0, revision);
    model.states.push(next);
    model.done.push((write, revision));
}

async fn replay_something(store: &impl Store, model: &Model, random: &mut StdRng) {
    let Some((write, revision)) = model.done.get(random.random_range(0..model.done.len().max(1))) else {
        return;
    };
    match store.apply(write.clone()).await {
        Ok(Applied::Replayed { token, outcome, .. }) => {
            assert_eq!((token.revision.0, outcome), (*revision, write.request.outcome.clone()));
        }
        other => panic!("{other:?}"),
    }
}

async fn compact(store: &impl Store, model: &mut Model, random: &mut StdRng) {
    let floor = random.random_range(model.base..=model.revision());
    let (stands, _) = store.compact(Revision(floor)).await.unwrap();
    model.floor = model.floor.max(floor);
    assert_eq!(stands.0, model.floor);
}

/// The state now, a state of the past, and the log replayed from there.
async fn compare(store: &impl Store, model: &Model, random: &mut StdRng) {
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!((snapshot.head.revision.0, &snapshot.defect), (model.revision(), &None));
    let to_state = |records: Vec<signalbox::domain::Record>| -> State {
        let known = |record: signalbox::domain::Record| Known {
            version: record.version,
            text: record.spec_json.to_string(),
            revision: record.update_revision.0,
        };
        records.into_iter().map(|record| (record.name.clone(), known(record))).collect()
    };
    assert_eq!(&to_state(snapshot.records), model.now());
    let past = random.random_range(model.floor.max(model.base)..=model.revision());
    let mut state = to_state(store.records_at(Revision(past)).await.unwrap());
    assert_eq!(state, model.states[(past - model.base) as usize], "at {past}");
    for batch in log_after(store, Revision(past)).await {
        for change in batch.changes {
            let before = state.get(&change.name).map(|known| known.revision);
            assert_eq!(before, change.previous.map(|previous| previous.update_revision.0));
            assert_eq!(change.record.is_none(), change.change_type == ChangeType::Deleted);
            match change.record {
                Some(record) => state.extend(to_state(vec![(*record).clone()])),
                None => drop(state.remove(&change.name)),
            }
        }
        assert_eq!(state, model.states[(batch.revision.0 - model.base) as usize], "at {}", batch.revision);
    }
    if model.floor > 0 {
        let below = page_after(store, model.floor - 1, 10).await;
        assert!(matches!(below, LogPage::Compacted { floor } if floor.0 == model.floor));
    }
}
