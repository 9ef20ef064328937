//! Replicas that vanished: they were heard of, are heard of no more, and said no goodbye.
//!
//! Who stops takes its own row away while it is young. One that dies leaves it behind, and whoever tells of itself next takes it
//! away once it has been silent for [`LIFETIME`], and notes it for those that start later. So the age of a row that is gone says how
//! its replica went, also where an older binary took it away, which notes nothing.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{BEAT, TOLD};
use crate::{
    domain::ReplicaId,
    store::{LIFETIME, MOST_REPLICAS, Replica, Vanished},
};

/// A row that is gone and was older did not go by itself. Its age is known as well as heartbeats come.
const SILENT: Duration = LIFETIME.saturating_sub(BEAT.saturating_mul(2));

/// How long one may be missed before it is told of: after an outage whoever comes back first takes the rows of the others away.
const MISSED: Duration = LIFETIME;

/// What was heard of whom.
#[derive(Default)]
pub(super) struct Silence {
    heard: HashMap<ReplicaId, Heard>,
    gone: HashMap<ReplicaId, Gone>,
}

struct Heard {
    address: String,
    first: Instant,
    last: Instant,
}

struct Gone {
    address: String,
    last: Instant,
    missed: Instant,
}

impl Silence {
    /// Takes note of all that there are now, and of those that are noted as vanished: who has only started has not heard of them.
    pub fn note(&mut self, replicas: &[Replica], vanished: &[Vanished], now: Instant) {
        let mut before = std::mem::take(&mut self.heard);
        for Replica { heartbeat, age } in replicas {
            let first = before.remove(&heartbeat.id).map_or(now, |heard| heard.first);
            let last = now.checked_sub(*age).unwrap_or(now);
            self.heard
                .insert(heartbeat.id.clone(), Heard { address: heartbeat.address.clone(), first, last });
        }
        // Of more than that only some are listed, each time others.
        if replicas.len() < MOST_REPLICAS {
            let silent = before.into_iter().filter(|(_, heard)| now - heard.last >= SILENT);
            self.gone.extend(
                silent.map(|(id, Heard { address, last, .. })| (id, Gone { address, last, missed: now })),
            );
        }
        for Vanished { id, address, age } in vanished {
            let last = now.checked_sub(*age).unwrap_or(now);
            self.gone.entry(id.clone()).or_insert_with(|| Gone {
                address: address.clone(),
                last,
                missed: now,
            });
        }
        let heard = &self.heard;
        self.gone.retain(|id, gone| {
            let is_back = |other: &Heard| other.address == gone.address && other.first > gone.last;
            now - gone.missed < TOLD && !heard.contains_key(id) && !heard.values().any(is_back)
        });
        // As many as there are forged rows, otherwise.
        while self.gone.len() > MOST_REPLICAS {
            let oldest = self.gone.iter().min_by_key(|(_, gone)| gone.missed).map(|(id, _)| id.clone());
            oldest.and_then(|id| self.gone.remove(&id));
        }
    }

    /// Every one that vanished, by id.
    pub fn alarms(&self, now: Instant) -> impl Iterator<Item = String> {
        let missed = |(_, gone): &(&ReplicaId, &Gone)| now - gone.missed >= MISSED;
        let mut told: Vec<(&ReplicaId, &Gone)> = self.gone.iter().filter(missed).collect();
        told.sort_by_key(|(id, _)| *id);
        let text = |(id, gone): (&ReplicaId, &Gone)| {
            format!(
                "replica {} at {} fell silent and did not say goodbye: look whether its process died, or its machine, or what \
                 lies between it and the database. This is told for an hour, or until one is back at its address; if it was \
                 taken away on purpose, nothing has to be done",
                id.0.escape_debug(),
                gone.address.escape_debug()
            )
        };
        told.into_iter().map(text).collect::<Vec<_>>().into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Epoch, FeatureLevel, Revision},
        store::Heartbeat,
    };

    fn at(id: &str, address: &str, age: u64) -> Replica {
        let heartbeat = Heartbeat {
            id: ReplicaId(id.into()),
            address: address.into(),
            version: "1".into(),
            feature_level: FeatureLevel::FIRST,
            epoch: Epoch(7),
            revision: Revision(1),
            digest: [0; 16],
            key_ids: vec![],
            doorbell: "notify".into(),
            watchers: 0,
            environment: vec![],
            verification: vec![],
        };
        Replica { heartbeat, age: Duration::from_secs(age) }
    }

    /// Heartbeats of this replica, two seconds apart, with what each found of the others.
    fn heard(rounds: impl IntoIterator<Item = Vec<Replica>>) -> (Silence, Instant) {
        let (mut silence, mut now) = (Silence::default(), Instant::now());
        for replicas in rounds {
            now += BEAT;
            silence.note(&replicas, &[], now);
        }
        (silence, now)
    }

    fn dying() -> Vec<Vec<Replica>> {
        (0..=5).map(|round| vec![at("own", "a:1", 0), at("other", "b:1", 2 * round)]).collect()
    }

    #[test]
    fn only_one_that_was_silent_before_its_row_was_gone_has_vanished() {
        let alone = || vec![at("own", "a:1", 0)];
        let (silence, now) = heard(dying().into_iter().chain([alone()]));
        assert_eq!(silence.alarms(now).count(), 0, "it may be back yet");
        let told: Vec<String> = silence.alarms(now + MISSED).collect();
        assert!(matches!(&told[..], [told] if told.contains("replica other at b:1")), "{told:?}");

        let (silence, now) = heard([vec![at("own", "a:1", 0), at("other", "b:1", 1)], alone()]);
        assert_eq!(silence.alarms(now + MISSED).count(), 0, "it said goodbye");
    }

    #[test]
    fn it_is_told_of_until_it_is_back_or_for_an_hour() {
        let alone = || vec![at("own", "a:1", 0)];
        let after = |then: Vec<Replica>| heard(dying().into_iter().chain([alone(), then]));
        let told = |(silence, now): (Silence, Instant)| silence.alarms(now + MISSED).count();
        assert_eq!(told(after(alone())), 1);
        assert_eq!(
            told(after(vec![at("own", "a:1", 0), at("other", "b:1", 0)])),
            0,
            "it was cut off for a while"
        );
        assert_eq!(told(after(vec![at("own", "a:1", 0), at("new", "b:1", 0)])), 0, "it was started anew");
        assert_eq!(told(after(vec![at("own", "a:1", 0), at("new", "c:1", 0)])), 1, "somebody else came");
        let (mut silence, now) = after(alone());
        silence.note(&alone(), &[], now + TOLD);
        assert_eq!(silence.alarms(now + TOLD).count(), 0);
    }

    #[test]
    fn regression_one_that_starts_knows_of_those_whose_rows_it_takes_away() {
        let told = |address: &str| {
            let (mut silence, now) = (Silence::default(), Instant::now() + TOLD);
            let age = Duration::from_secs(60);
            let gone = Vanished { id: ReplicaId("other".into()), address: "b:1".into(), age };
            silence.note(&[at("own", address, 0)], &[gone], now);
            silence.alarms(now + MISSED).count()
        };
        assert_eq!(told("a:1"), 1);
        assert_eq!(told("b:1"), 0, "it is itself the one that came back");
    }

    /// One that is started anew within seconds is there before the row of the one that died is gone.
    #[test]
    fn one_that_came_back_at_once_has_not_vanished() {
        let back = |round: u64| vec![at("own", "a:1", 0), at("other", "b:1", 2 * round), at("new", "b:1", 0)];
        let first = vec![at("own", "a:1", 0), at("other", "b:1", 0)];
        let last = vec![at("own", "a:1", 0), at("new", "b:1", 0)];
        let (silence, now) = heard([first].into_iter().chain((1..=5).map(back)).chain([last]));
        assert_eq!(silence.alarms(now + MISSED).count(), 0);
    }

    #[test]
    fn forged_rows_take_a_bounded_place() {
        let (mut silence, mut now) = (Silence::default(), Instant::now());
        for round in 0..50 {
            let forged = |index: u64| at(&format!("{round} {index}"), "x:1", 9);
            silence.note(&(0..100).map(forged).collect::<Vec<_>>(), &[], now);
            now += BEAT;
        }
        assert!(silence.gone.len() <= MOST_REPLICAS && silence.heard.len() <= MOST_REPLICAS);
    }
}
