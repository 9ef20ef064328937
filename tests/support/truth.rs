//! The ground truth: what every revision changed, by the answers that the writers were given.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Instant,
};

use sha2::{Digest, Sha256};
use signalbox::proto::v1::{ChangeType, Resource};

use super::{
    resources::{Secrets, opened, secrets_in},
    view::View,
};

/// One acknowledged write.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub revision: u64,
    pub token: String,
    /// What it changed; nothing for a revocation.
    pub changes: Vec<Told>,
}

/// One change, as its writer was told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub name: String,
    /// The resource after it, masked; `None` for a deletion.
    pub resource: Option<Resource>,
    /// The secrets that the writer gave; others stay.
    pub secrets: Secrets,
}

/// A compaction that was asked for. It may have been carried out at any moment after.
#[derive(Clone, Copy, Debug)]
pub struct Compaction {
    pub asked: Instant,
    pub floor: u64,
}

/// Collects answers while the test runs. Clones write into the same record.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Collected>>);

#[derive(Default)]
struct Collected {
    answers: BTreeMap<u64, Answer>,
    compactions: Vec<Compaction>,
    contradictions: Vec<String>,
}

/// A resource at one of its revisions.
#[derive(Clone, Debug)]
pub struct Entry {
    pub masked: Resource,
    pub secrets: Secrets,
}

/// What a name was from each of its revisions on.
type History = Vec<(u64, Option<Arc<Entry>>)>;

/// What happened, once all is over.
pub struct Truth {
    /// The revision that the store had before the first write.
    base: u64,
    answers: Vec<Answer>,
    histories: BTreeMap<String, History>,
    pub compactions: Vec<Compaction>,
}

/// A change as a view has to be shown it.
pub struct Expected<'a> {
    pub change_type: ChangeType,
    /// The resource after it, where the view shows it.
    pub entry: Option<&'a Arc<Entry>>,
}

impl Recorder {
    /// Keeps an answer. A second one for the same revision has to say the same.
    pub fn keep(&self, answer: Answer) {
        let mut collected = self.0.lock().expect("nobody panics under this lock");
        let revision = answer.revision;
        let contradiction = match collected.answers.get(&revision) {
            Some(kept) if *kept != answer => {
                Some(format!("revision {revision} was given to two writes: {kept:?} and {answer:?}"))
            }
            _ => None,
        };
        collected.contradictions.extend(contradiction);
        collected.answers.insert(revision, answer);
    }

    pub fn compacting(&self, floor: u64) {
        let compaction = Compaction { asked: Instant::now(), floor };
        self.0.lock().expect("nobody panics under this lock").compactions.push(compaction);
    }

    /// The newest revision that was acknowledged, and its token.
    pub fn newest(&self) -> Option<(u64, String)> {
        let collected = self.0.lock().expect("nobody panics under this lock");
        collected.answers.last_key_value().map(|(revision, answer)| (*revision, answer.token.clone()))
    }

    /// Everything, if each revision from `base` to `head` belongs to exactly one write.
    pub fn truth(&self, base: u64, head: u64) -> Result<Truth, String> {
        let collected = self.0.lock().expect("nobody panics under this lock");
        if let Some(contradiction) = collected.contradictions.first() {
            return Err(contradiction.clone());
        }
        let answers: Vec<Answer> = collected.answers.values().cloned().collect();
        let revisions: Vec<u64> = answers.iter().map(|answer| answer.revision).collect();
        let missing: Vec<u64> =
            (base + 1..=head).filter(|revision| !collected.answers.contains_key(revision)).collect();
        if !missing.is_empty() || revisions.last().is_some_and(|last| *last > head) {
            let last = revisions.last();
            return Err(format!(
                "of the revisions {}..={head} no answer owns {missing:?}; the last is {last:?}",
                base + 1
            ));
        }
        Truth::of(base, answers, collected.compactions.clone())
    }
}

impl Truth {
    /// Folds the answers into the history of each name.
    pub fn of(base: u64, answers: Vec<Answer>, compactions: Vec<Compaction>) -> Result<Self, String> {
        let mut histories: BTreeMap<String, History> = BTreeMap::new();
        for answer in &answers {
            for told in &answer.changes {
                let history = histories.entry(told.name.clone()).or_default();
                let before = history.last().and_then(|(_, entry)| entry.as_ref());
                let entry =
                    told.resource.as_ref().map(|resource| entry(resource, &told.secrets, before)).transpose();
                let entry = entry
                    .map_err(|problem| format!("revision {}, {}: {problem}", answer.revision, told.name))?;
                if entry.is_none() && before.is_none() {
                    return Err(format!(
                        "revision {} deleted {}, which was not there",
                        answer.revision, told.name
                    ));
                }
                history.push((answer.revision, entry.map(Arc::new)));
            }
        }
        Ok(Self { base, answers, histories, compactions })
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    pub fn head(&self) -> u64 {
        self.answers.last().map_or(self.base, |answer| answer.revision)
    }

    /// The write that a revision is.
    pub fn answer(&self, revision: u64) -> Option<&Answer> {
        let index = usize::try_from(revision.checked_sub(self.base + 1)?).ok()?;
        self.answers.get(index)
    }

    /// A resource as it was at a revision.
    pub fn at(&self, name: &str, revision: u64) -> Option<&Arc<Entry>> {
        let history = self.histories.get(name)?;
        let known = history.partition_point(|(at, _)| *at <= revision);
        history[..known].last()?.1.as_ref()
    }

    /// A key that was there without its provider, and when: a plan that had been overtaken would leave one.
    pub fn orphan(&self) -> Option<String> {
        let keys = self.histories.keys().filter_map(|key| Some((key, key.split_once("/apiKeys/")?.0)));
        keys.into_iter().find_map(|(key, provider)| {
            let moments = [key.as_str(), provider].into_iter().filter_map(|name| self.histories.get(name));
            let mut moments = moments.flatten().map(|(revision, _)| *revision);
            let at = moments.find(|at| self.at(key, *at).is_some() && self.at(provider, *at).is_none())?;
            Some(format!("{key} is there at revision {at}, and {provider} is not"))
        })
    }

    /// What a view shows at a revision, by name.
    pub fn view_at(&self, view: &View, revision: u64) -> BTreeMap<&str, &Arc<Entry>> {
        let present =
            self.histories.keys().filter_map(|name| Some((name.as_str(), self.at(name, revision)?)));
        present.filter(|(_, entry)| view.shows(&entry.masked)).collect()
    }

    /// What a view has to be shown of each revision; revisions that do not concern it are not listed.
    pub fn expected(&self, view: &View) -> HashMap<u64, BTreeMap<&str, Expected<'_>>> {
        let mut expected: HashMap<u64, BTreeMap<&str, Expected<'_>>> = HashMap::new();
        for (name, history) in &self.histories {
            let mut before = None;
            for (revision, now) in history {
                let before_it = before.map(|entry: &Arc<Entry>| &entry.masked);
                let effect = view.effect(before_it, now.as_ref().map(|entry| &entry.masked));
                if let Some(change_type) = effect {
                    let entry = now.as_ref().filter(|_| change_type != ChangeType::Deleted);
                    expected.entry(*revision).or_default().insert(name, Expected { change_type, entry });
                }
                before = now.as_ref();
            }
        }
        expected
    }
}

impl Entry {
    /// The resource as a view shows it.
    pub fn shown(&self, view: &View) -> Resource {
        if view.secrets { opened(&self.masked, &self.secrets) } else { self.masked.clone() }
    }
}

/// The digest of a set of resources, by the words of watch.md.
pub fn digest<'a>(resources: impl Iterator<Item = (&'a str, u64)>) -> [u8; 16] {
    let term = |(name, update_revision): (&str, u64)| {
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        text.extend_from_slice(&update_revision.to_le_bytes());
        let hash: [u8; 32] = Sha256::digest(&text).into();
        u128::from_le_bytes(hash[..16].try_into().expect("half of a hash"))
    };
    resources.map(term).fold(0, u128::wrapping_add).to_le_bytes()
}

/// The new state of a resource: secrets that were not given stay as they are.
fn entry(resource: &Resource, given: &Secrets, before: Option<&Arc<Entry>>) -> Result<Entry, String> {
    let mut masked = resource.clone();
    let mut secrets = Secrets::new();
    for (path, secret) in secrets_in(&mut masked) {
        if secret.value.take().is_some() {
            return Err(format!("the answer shows the secret {path}"));
        }
        let kept = || before.and_then(|entry| entry.secrets.get(&path));
        match given.get(&path).or_else(kept) {
            Some(value) => secrets.insert(path, value.clone()),
            None => return Err(format!("nobody knows the secret {path}")),
        };
    }
    Ok(Entry { masked, secrets })
}
