//! What replicas find out about each other that an operator has to look at.
//!
//! Heartbeats come from a table that others write: however many there are, and whatever they say, what is told of them stays
//! short.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::{Heartbeat, MOST_REPLICAS, Replica};

/// Alarms of a kind, and replicas of an alarm, that are named. Of the others only the number is told.
const NAMED: usize = 4;

/// Something that an operator has to look at.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Alarm {
    /// A replica holds another state at the same revision.
    Differs(String),
    /// A replica fell silent and did not say goodbye.
    Vanished(String),
    /// A replica has not loaded a key that is in use.
    LacksKey(String),
    /// Replicas have different settings in their environments.
    Environment(String),
    /// Replicas verify tokens with different keys.
    Verification(String),
    /// More replicas are told of than are listed.
    Crowd(String),
    /// Heartbeats were of a time that was still to come.
    Ahead(String),
    /// This replica's heartbeats are not taken.
    Unheard(String),
}

/// How many alarms there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AlarmCounts {
    /// Replicas that hold another state at the same revision.
    pub differ: usize,
    /// Replicas that fell silent and did not say goodbye.
    pub vanished: usize,
    /// Replicas that have not loaded a key that is in use.
    pub lack_key: usize,
    /// Whether replicas have different settings in their environments: 1, or 0.
    pub environment: usize,
    /// Whether replicas verify tokens with different keys: 1, or 0.
    pub verification: usize,
    /// Whether more replicas are told of than are listed: 1, or 0.
    pub crowd: usize,
    /// Whether there were heartbeats of a time that was still to come: 1, or 0.
    pub ahead: usize,
    /// Whether this replica's heartbeats are not taken: 1, or 0.
    pub unheard: usize,
}

impl Alarm {
    fn text(&self) -> &str {
        match self {
            Self::Differs(text)
            | Self::Vanished(text)
            | Self::LacksKey(text)
            | Self::Environment(text)
            | Self::Verification(text)
            | Self::Crowd(text)
            | Self::Ahead(text)
            | Self::Unheard(text) => text,
        }
    }
}

/// Their number by kind.
pub(super) fn count(alarms: &[Alarm]) -> AlarmCounts {
    let mut counts = AlarmCounts::default();
    for alarm in alarms {
        *match alarm {
            Alarm::Differs(_) => &mut counts.differ,
            Alarm::Vanished(_) => &mut counts.vanished,
            Alarm::LacksKey(_) => &mut counts.lack_key,
            Alarm::Environment(_) => &mut counts.environment,
            Alarm::Verification(_) => &mut counts.verification,
            Alarm::Crowd(_) => &mut counts.crowd,
            Alarm::Ahead(_) => &mut counts.ahead,
            Alarm::Unheard(_) => &mut counts.unheard,
        } += 1;
    }
    counts
}

/// Them in words: the first few of each kind, and how many more there are.
pub(super) fn texts<'a>(alarms: impl Iterator<Item = &'a Alarm>) -> Vec<String> {
    let mut kinds: Vec<Vec<&Alarm>> = vec![];
    for alarm in alarms {
        let same = |kind: &&mut Vec<&Alarm>| std::mem::discriminant(kind[0]) == std::mem::discriminant(alarm);
        match kinds.iter_mut().find(same) {
            Some(kind) => kind.push(alarm),
            None => kinds.push(vec![alarm]),
        }
    }
    let told = |kind: Vec<&Alarm>| {
        let (named, others) = kind.split_at(kind.len().min(NAMED));
        let mut texts: Vec<String> = named.iter().map(|alarm| alarm.text().to_owned()).collect();
        if !others.is_empty() {
            texts.push(format!("{} more replicas alike: the `replicas` table tells which", others.len()));
        }
        texts
    };
    kinds.into_iter().flat_map(told).collect()
}

/// All that comes of comparing what replicas tell.
pub(super) fn between(replicas: &[Replica]) -> impl Iterator<Item = Alarm> {
    let lacking = lacking_keys(replicas).map(Alarm::LacksKey);
    let environments = differing_environments(replicas).map(Alarm::Environment);
    let verifications = differing_verifications(replicas).map(Alarm::Verification);
    let crowd = crowd(replicas).map(Alarm::Crowd);
    lacking.chain(environments).chain(verifications).chain(crowd)
}

/// Nobody runs so many: somebody else writes heartbeats.
fn crowd(replicas: &[Replica]) -> Option<String> {
    (replicas.len() >= MOST_REPLICAS).then(|| {
        format!(
            "the `replicas` table tells of {MOST_REPLICAS} replicas or more, and only the newest are listed: if these \
             are not yours, find out who else writes to the database"
        )
    })
}

/// Replicas that can't load the key that another one seals with: what that one writes stays closed to them.
fn lacking_keys(replicas: &[Replica]) -> impl Iterator<Item = String> {
    let sealing = |replica: &Replica| replica.heartbeat.key_ids.first().cloned();
    let in_use: BTreeSet<String> = replicas.iter().filter_map(sealing).collect();
    let lacks = move |replica: &Replica| {
        let heartbeat = &replica.heartbeat;
        let missing = in_use.iter().find(|key| !heartbeat.key_ids.contains(key))?;
        // From a table that others write: it must not begin a line of the log.
        let (id, address) = (heartbeat.id.0.escape_debug(), heartbeat.address.escape_debug());
        let missing = missing.escape_debug();
        Some(format!(
            "replica {id} at {address} has not loaded the key {missing}, which another one seals with"
        ))
    };
    replicas.iter().filter_map(lacks).collect::<Vec<_>>().into_iter()
}

/// Replicas whose environments say different things of settings: which value counts then depends on which one is asked.
fn differing_environments(replicas: &[Replica]) -> Option<String> {
    let groups = differing(replicas, |heartbeat| &heartbeat.environment)?;
    Some(format!(
        "replicas have different SIGNALBOX_SETTING_ variables, so that ResolveSettings depends on which one is asked: \
         {groups}; start them with the same"
    ))
}

/// Replicas that verify tokens with different keys: a token that one of them made or takes another one refuses.
fn differing_verifications(replicas: &[Replica]) -> Option<String> {
    let groups = differing(replicas, |heartbeat| &heartbeat.verification)?;
    Some(format!(
        "replicas verify tokens with different keys, so that a token is refused by some of them: {groups}; give all the \
         same SIGNALBOX_JWT_ settings"
    ))
}

/// The addresses of replicas, in groups that tell the same hash, if there are several.
fn differing(replicas: &[Replica], hash: impl Fn(&Heartbeat) -> &Vec<u8>) -> Option<String> {
    let mut groups: BTreeMap<&[u8], Vec<String>> = BTreeMap::new();
    for heartbeat in replicas.iter().map(|replica| &replica.heartbeat) {
        // An older binary tells nothing.
        if !hash(heartbeat).is_empty() {
            let address = heartbeat.address.escape_debug().to_string();
            groups.entry(hash(heartbeat)).or_default().push(address);
        }
    }
    let mut groups: Vec<String> = groups.into_values().map(|addresses| first_of(addresses, ", ")).collect();
    groups.sort();
    (groups.len() > 1).then(|| first_of(groups, " differ from "))
}

/// The first few of a list, and how many more there are.
fn first_of(mut list: Vec<String>, between: &str) -> String {
    let others = list.len().saturating_sub(NAMED);
    list.truncate(NAMED);
    let named = list.join(between);
    if others == 0 { named } else { format!("{named} and {others} more") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{Epoch, FeatureLevel, ReplicaId, Revision};

    fn replica(id: &str, keys: &[&str]) -> Replica {
        let heartbeat = Heartbeat {
            id: ReplicaId(id.into()),
            address: format!("{id}:1"),
            version: "1".into(),
            feature_level: FeatureLevel::FIRST,
            epoch: Epoch(7),
            revision: Revision(1),
            digest: [0; 16],
            key_ids: keys.iter().map(|key| (*key).to_owned()).collect(),
            doorbell: "notify".into(),
            watchers: 0,
            environment: vec![],
            verification: vec![],
        };
        Replica { heartbeat, age: Duration::ZERO }
    }

    #[test]
    fn replicas_with_other_environments_are_named() {
        let with = |id: &str, environment: &[u8]| {
            let mut replica = replica(id, &[]);
            replica.heartbeat.environment = environment.to_vec();
            replica
        };
        assert_eq!(differing_environments(&[with("a", b"1"), with("b", b"1"), with("old", b"")]), None);
        let alarm = differing_environments(&[with("b", b"2"), with("a", b"1"), with("c", b"1")]).unwrap();
        assert!(alarm.contains("a:1, c:1 differ from b:1"), "{alarm}");
    }

    #[test]
    fn replicas_that_verify_with_other_keys_are_named() {
        let with = |id: &str, verification: &[u8]| {
            let mut replica = replica(id, &[]);
            replica.heartbeat.verification = verification.to_vec();
            replica
        };
        assert_eq!(differing_verifications(&[with("a", b"1"), with("b", b"1"), with("old", b"")]), None);
        let alarm = differing_verifications(&[with("a", b"1"), with("b", b"2")]).unwrap();
        assert!(alarm.contains("a:1 differ from b:1") && alarm.contains("SIGNALBOX_JWT_"), "{alarm}");
    }

    #[test]
    fn a_replica_without_a_key_that_is_in_use_is_named() {
        assert_eq!(lacking_keys(&[replica("a", &["k1"]), replica("b", &["k1"])]).count(), 0);
        // In the middle of a rotation both have both keys, in another order.
        assert_eq!(lacking_keys(&[replica("a", &["k2", "k1"]), replica("b", &["k1", "k2"])]).count(), 0);
        let alarms: Vec<_> = lacking_keys(&[replica("a", &["k2", "k1"]), replica("b", &["k1"])]).collect();
        assert_eq!(alarms.len(), 1);
        assert!(alarms[0].contains("replica b") && alarms[0].contains("k2"), "{alarms:?}");
    }

    #[test]
    fn regression_what_a_row_says_begins_no_line_of_the_log() {
        let forged = "k\n2026-11-27T00:00:00Z ERROR forged";
        let replicas = [replica("a\nb", &[forged]), replica("c\nd", &["k1"])];
        let alarms: Vec<_> = lacking_keys(&replicas).collect();
        assert_eq!(alarms.len(), 2);
        assert!(alarms.iter().all(|alarm| !alarm.contains(char::is_control)), "{alarms:?}");
    }

    #[test]
    fn regression_what_is_told_of_many_replicas_stays_short() {
        let forged = |index: usize| {
            let mut replica = replica(&format!("r{index}"), &[&format!("k{index}")]);
            replica.heartbeat.environment = index.to_string().into_bytes();
            replica
        };
        let replicas: Vec<Replica> = (0..MOST_REPLICAS).map(forged).collect();
        let alarms: Vec<Alarm> = between(&replicas).collect();
        let counts = count(&alarms);
        assert_eq!((counts.lack_key, counts.environment, counts.crowd), (MOST_REPLICAS, 1, 1));
        let texts = texts(alarms.iter());
        assert_eq!(texts.len(), NAMED + 3, "{texts:?}");
        assert!(texts.iter().map(String::len).sum::<usize>() < 2000, "{texts:?}");
        assert_eq!(between(&replicas[1..]).filter(|alarm| matches!(alarm, Alarm::Crowd(_))).count(), 0);
    }
}
