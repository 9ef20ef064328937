//! Whether replicas hold the same: digests of the state, compared where two of them stood at the same revision.

use std::collections::VecDeque;

use crate::{
    domain::{Epoch, ReplicaId, Revision},
    store::Replica,
};

/// States of its own that a replica remembers the digest of: some minutes of heartbeats.
const REMEMBERED: usize = 128;

/// A revision in one life of the store: after a failover that lost commits, another content has the same number.
type Moment = (Epoch, Revision);

/// What this replica held, and when.
#[derive(Default)]
pub(super) struct Digests {
    own: VecDeque<(Moment, [u8; 16])>,
}

impl Digests {
    /// Remembers what this replica holds at a revision.
    pub fn note(&mut self, moment: Moment, digest: [u8; 16]) {
        if self.own.back() == Some(&(moment, digest)) {
            return;
        }
        if self.own.len() == REMEMBERED {
            self.own.pop_front();
        }
        self.own.push_back((moment, digest));
    }

    /// Every replica that held something else at a revision where this one stood as well.
    pub fn alarms(&self, own: &ReplicaId, replicas: &[Replica]) -> impl Iterator<Item = String> {
        let differs = |replica: &Replica| {
            let heartbeat = &replica.heartbeat;
            let moment = (heartbeat.epoch, heartbeat.revision);
            let (_, digest) = self.own.iter().rev().find(|(own, _)| *own == moment)?;
            (heartbeat.id != *own && *digest != heartbeat.digest).then(|| {
                format!(
                    "replica {} at {} holds another state than this one at revision {}: `signalbox doctor` says \
                     which of them is not what the store holds; restart that one",
                    heartbeat.id.0.escape_debug(),
                    heartbeat.address.escape_debug(),
                    heartbeat.revision
                )
            })
        };
        replicas.iter().filter_map(differs).collect::<Vec<_>>().into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{domain::FeatureLevel, store::Heartbeat};

    const LIFE: Epoch = Epoch(7);

    fn at(id: &str, revision: u64, digest: u8) -> Replica {
        let heartbeat = Heartbeat {
            id: ReplicaId(id.into()),
            address: "host:1".into(),
            version: "1".into(),
            feature_level: FeatureLevel::FIRST,
            epoch: LIFE,
            revision: Revision(revision),
            digest: [digest; 16],
            key_ids: vec![],
            doorbell: "notify".into(),
            watchers: 0,
            environment: vec![],
            verification: vec![],
        };
        Replica { heartbeat, age: Duration::ZERO }
    }

    #[test]
    fn only_a_different_digest_at_the_same_revision_is_an_alarm() {
        let own = ReplicaId("own".into());
        let mut digests = Digests::default();
        digests.note((LIFE, Revision(1)), [1; 16]);
        digests.note((LIFE, Revision(2)), [2; 16]);
        let alarms = |replica: Replica| digests.alarms(&own, &[replica]).count();
        assert_eq!(alarms(at("other", 2, 2)), 0);
        assert_eq!(alarms(at("other", 1, 1)), 0);
        assert_eq!(alarms(at("other", 3, 9)), 0, "this one has not been there");
        assert_eq!(alarms(at("own", 2, 9)), 0, "an older word of its own");
        assert_eq!(alarms(at("other", 2, 9)), 1);
        assert_eq!(alarms(at("other", 1, 2)), 1);
        let mut elsewhere = at("other", 2, 9);
        elsewhere.heartbeat.epoch = Epoch(8);
        assert_eq!(alarms(elsewhere), 0, "another life has other contents");
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut digests = Digests::default();
        (0..1000).for_each(|revision| digests.note((LIFE, Revision(revision)), [0; 16]));
        assert_eq!(digests.own.len(), REMEMBERED);
    }
}
