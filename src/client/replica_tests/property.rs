//! Random histories, held against a model.

use super::*;

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, bool)>, usize),
    Skip,
    Reconnect,
    Reset,
    Progress,
}

fn step() -> impl Strategy<Value = Step> {
    let writes = proptest::collection::vec((0_u8..12, any::<bool>()), 1..6);
    prop_oneof![
        6 => (writes, 1_usize..4).prop_map(|(writes, chunk)| Step::Write(writes, chunk)),
        1 => Just(Step::Skip),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Reset),
        2 => Just(Step::Progress),
    ]
}

/// The ground truth, and the server's side of the contract on top of it.
#[derive(Default)]
struct Truth {
    revision: u64,
    held: BTreeMap<String, u64>,
}

impl Truth {
    fn digest(&self) -> [u8; 16] {
        let mut digest = ViewDigest::default();
        self.held.iter().for_each(|(name, revision)| digest.add(name, *revision));
        digest.to_bytes()
    }

    fn write(&mut self, writes: &[(u8, bool)], chunk: usize) -> Vec<Option<Event>> {
        self.revision += 1;
        let writes: BTreeMap<_, _> = writes.iter().copied().collect();
        let mut sent = Vec::new();
        for (id, present) in writes {
            let name = format!("providers/p/apiKeys/{id}");
            if present {
                self.held.insert(name.clone(), self.revision);
                sent.push(upsert(&name, self.revision));
            } else if self.held.remove(&name).is_some() {
                sent.push(delete(&name));
            }
        }
        let parts: Vec<_> = sent.chunks(chunk).map(<[Change]>::to_vec).collect();
        let count = parts.len();
        let parts = parts.into_iter().enumerate();
        parts.map(|(index, part)| changes(self.revision, part, index + 1 == count)).collect()
    }

    fn snapshot(&self) -> Vec<Option<Event>> {
        let resources: Vec<_> = self.held.iter().map(|(name, revision)| resource(name, *revision)).collect();
        let (first, second) = resources.split_at(resources.len() / 2);
        let part = |resources: &[Resource], last| {
            let resources = resources.to_vec();
            Some(Event::Snapshot(SnapshotPart { revision: self.revision, resources, last }))
        };
        vec![part(first, false), part(second, true), synced(self.revision)]
    }
}

fn held(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    let entries = snapshot.entries().iter();
    entries.map(|(name, entry)| (name.to_string(), entry.resource.update_revision)).collect()
}

proptest! {
    #[test]
    fn replaying_any_history_gives_the_truth_digest_for_digest(steps in proptest::collection::vec(step(), 0..60)) {
        let mut truth = Truth::default();
        let mut replica = empty();
        let mut mirror = BTreeMap::new();
        let mut feed = |replica: &mut Replica, events: Vec<Option<Event>>| {
            for event in events {
                let set = replica.apply(event).unwrap().changes;
                for event in set.into_iter().flat_map(|set| set.events) {
                    match event.after {
                        Some(after) => mirror.insert(event.name, after.update_revision),
                        None => mirror.remove(&event.name),
                    };
                }
            }
            mirror.clone()
        };
        feed(&mut replica, truth.snapshot());
        for step in steps {
            let events = match step {
                Step::Write(writes, chunk) => truth.write(&writes, chunk),
                Step::Skip => { truth.revision += 1; Vec::new() }
                Step::Reconnect => { replica.begin_stream(); Vec::new() }
                Step::Reset => [vec![reset(ResetReason::Lagged)], truth.snapshot()].concat(),
                Step::Progress => vec![progress(truth.revision, &truth.digest())],
            };
            let told = feed(&mut replica, events);
            assert_eq!(held(replica.served()), truth.held);
            for (name, revision) in &truth.held {
                let found = replica.served().get(name).map(|resource| resource.update_revision);
                assert_eq!(found, Some(*revision), "by its name as in the order of all");
            }
            assert_eq!(replica.served().len(), truth.held.len(), "and nothing else");
            assert_eq!(told, truth.held, "a listener that follows the events holds the same");
            assert_eq!(replica.served().digest().to_bytes(), truth.digest());
            assert_eq!(replica.served().active_api_keys("p").len(), truth.held.len());
        }
    }

    #[test]
    fn whatever_is_refused_what_was_accepted_last_is_served(steps in proptest::collection::vec(step(), 0..60)) {
        let refuse = |snapshot: &Snapshot| if snapshot.revision() % 3 == 1 { Err("no".to_owned()) } else { Ok(()) };
        let mut truth = Truth::default();
        let mut replica = Replica { validation: Validation::new(refuse), ..empty() };
        let (mut accepted, mut told) = (BTreeMap::new(), BTreeMap::new());
        let begin = truth.snapshot();
        for events in std::iter::once(begin).chain(steps.into_iter().map(|step| match step {
            Step::Write(writes, chunk) => truth.write(&writes, chunk),
            Step::Skip => { truth.revision += 1; Vec::new() }
            Step::Reconnect => Vec::new(),
            Step::Reset => [vec![reset(ResetReason::Lagged)], truth.snapshot()].concat(),
            Step::Progress => vec![progress(truth.revision, &truth.digest())],
        }).collect::<Vec<_>>()) {
            for event in events {
                let offers = matches!(&event, Some(Event::Changes(changes)) if changes.last)
                    || matches!(&event, Some(Event::Synced(_)));
                let applied = replica.apply(event).unwrap();
                for event in applied.changes.into_iter().flat_map(|set| set.events) {
                    match event.after {
                        Some(after) => told.insert(event.name, after.update_revision),
                        None => told.remove(&event.name),
                    };
                }
                if offers && !applied.rejected {
                    accepted = held(&replica.known);
                }
                assert_eq!(applied.rejected, offers && replica.known.revision() % 3 == 1);
            }
            assert_eq!(held(replica.served()), accepted);
            assert_eq!(told, accepted, "a listener that follows the events holds the same");
            let known = held(&replica.known);
            for name in accepted.keys().filter(|name| !known.contains_key(*name)) {
                let secret = replica.served().secret(name, "api_key.secret");
                assert_eq!(secret, Err(SecretError::Revoked), "what is gone is not given out");
            }
        }
        assert_eq!((held(&replica.known), replica.known.digest().to_bytes()), (truth.held.clone(), truth.digest()));
    }
}
