//! What the store was at each revision of each of its lives, and what a worker may therefore say.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::support::truth::{Recorder, Truth, digest};

use super::asked::Answer;

/// A life of the store: from one restore to the next.
#[derive(Default)]
pub struct Life {
    pub recorder: Recorder,
    /// When a revision was known to be committed.
    known: Mutex<Vec<(Instant, u64)>>,
    /// When the store was taken away, to come back as an older copy.
    ended: Mutex<Option<Instant>>,
}

/// A life that is told from its end.
pub struct Told {
    digests: HashMap<u64, String>,
    known: Vec<(Instant, u64)>,
    ended: Option<Instant>,
}

impl Life {
    /// The life that begins with an older copy of this one.
    pub fn restored_at(&self, base: u64, revision: u64) -> Self {
        let newest = self.newest().unwrap_or(base);
        let truth = self.recorder.truth(base, newest).expect("the answers agree");
        let life = Self::default();
        (base + 1..=revision)
            .for_each(|kept| life.recorder.keep(truth.answer(kept).expect("an answer").clone()));
        life
    }

    /// The newest revision that was acknowledged.
    pub fn newest(&self) -> Option<u64> {
        self.recorder.newest().map(|(revision, _)| revision)
    }

    /// Takes note that what was acknowledged by now is committed.
    pub fn note(&self) {
        if let Some(newest) = self.newest() {
            self.known.lock().unwrap().push((Instant::now(), newest));
        }
    }

    /// It is over: nothing of it is confirmed any more.
    pub fn end(&self) {
        *self.ended.lock().unwrap() = Some(Instant::now());
    }

    /// Tells it.
    pub fn told(&self, base: u64) -> Told {
        let truth = self.recorder.truth(base, self.newest().unwrap_or(base));
        Told {
            digests: digests(&truth.expect("the answers agree")),
            known: self.known.lock().unwrap().clone(),
            ended: *self.ended.lock().unwrap(),
        }
    }
}

impl Told {
    /// What is wrong with an answer that says it is fresh, if it was given in this life.
    pub fn objection(&self, answer: &Answer, bound: Duration) -> Option<String> {
        let said = &answer.said;
        match self.digests.get(&said.revision) {
            None => return Some(format!("there was no revision {}", said.revision)),
            Some(digest) if *digest != said.digest => {
                return Some(format!("revision {} had the digest {digest}", said.revision));
            }
            Some(_) => {}
        }
        let earliest = answer.asked.checked_sub(bound)?;
        if self.ended.is_some_and(|ended| earliest > ended) {
            return Some("that life was over for longer than the bound".to_owned());
        }
        let known = self.known.iter().take_while(|(at, _)| *at < earliest).map(|(_, revision)| *revision);
        let least = known.max().unwrap_or_default();
        (said.revision < least).then(|| format!("revision {least} was older than the bound"))
    }

    /// By how much the age that an answer tells falls short of the true one, at least.
    pub fn understated(&self, answer: &Answer) -> Duration {
        let age = Duration::from_secs_f64(answer.said.age.unwrap_or_default());
        let missed = self.known.iter().find(|(_, revision)| *revision > answer.said.revision);
        let confirmed = answer.asked.checked_sub(age);
        missed
            .zip(confirmed)
            .map_or(Duration::ZERO, |((at, _), confirmed)| confirmed.saturating_duration_since(*at))
    }
}

/// The digest at each revision, in hex.
fn digests(truth: &Truth) -> HashMap<u64, String> {
    let mut held = BTreeMap::<&str, u64>::new();
    let told = |held: &BTreeMap<&str, u64>| hex::encode(digest(held.iter().map(|(name, at)| (*name, *at))));
    let mut digests = HashMap::from([(truth.base(), told(&held))]);
    for revision in truth.base() + 1..=truth.head() {
        for change in &truth.answer(revision).expect("an answer").changes {
            match &change.resource {
                Some(resource) => held.insert(&change.name, resource.update_revision),
                None => held.remove(change.name.as_str()),
            };
        }
        digests.insert(revision, told(&held));
    }
    digests
}
