//! Secrets that were put out of use, as streams are told of them: ahead of all that waits for them.
//!
//! What is here comes out of the log like everything else, and is kept apart from the ring only because it is told in
//! another order. A stream that comes from before the oldest that is held has it read from the log.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{Streams, batch::frame_into, cursor::unavailable, filter::Filter};
use crate::{
    domain::{Error, KindName, LoggedChange, ResourceName, Result, Revision},
    kinds,
    proto::v1::{Revoked, watch_config_response::Event},
    store::StoreError,
};

/// Names that are held at most; beyond that the oldest revisions go.
const KEPT: usize = 65_536;
/// Names of one message: it stays below the limit of a message with the longest names.
const NAMES: usize = 1000;
/// Rows of the log that are read at once.
const PAGE: usize = 1000;

/// A resource whose secrets a revision put out of use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RevokedName {
    revision: Revision,
    name: ResourceName,
    kind: KindName,
}

/// What was revoked lately, in the order of the log.
pub(super) struct RevokedNames {
    names: VecDeque<RevokedName>,
    /// Everything after this revision is held.
    since: Revision,
}

impl RevokedName {
    /// What a change of the log revokes, if it does.
    pub fn of(revision: Revision, change: &LoggedChange) -> Option<Self> {
        kinds::revokes(change).then(|| Self { revision, name: change.name.clone(), kind: change.kind })
    }

    /// The revision that revoked it.
    pub fn revision(&self) -> Revision {
        self.revision
    }
}

impl RevokedNames {
    /// Nothing was revoked after `since` so far.
    pub fn new(since: Revision) -> Self {
        Self { names: VecDeque::new(), since }
    }

    /// Takes in what the newest revision revoked.
    pub fn push(&mut self, revoked: Vec<RevokedName>) {
        self.names.extend(revoked);
        while self.names.len() > KEPT {
            let Some(oldest) = self.names.pop_front() else { break };
            self.since = oldest.revision;
            // A revision is held whole or not at all.
            while self.names.front().is_some_and(|next| next.revision == oldest.revision) {
                self.names.pop_front();
            }
        }
    }

    /// What was revoked after a revision, or from where on it is known.
    pub fn after(&self, at: Revision) -> std::result::Result<Vec<RevokedName>, Revision> {
        if at < self.since {
            return Err(self.since);
        }
        let start = self.names.partition_point(|revoked| revoked.revision <= at);
        Ok(self.names.range(start..).cloned().collect())
    }

    /// Takes in what the log held of the revisions after `from` up to `through`.
    pub fn prepend(&mut self, from: Revision, through: Revision, older: Vec<RevokedName>) {
        // Others may have read the same meanwhile, or the newest pushed the oldest out.
        if from >= self.since || through < self.since {
            return;
        }
        let since = self.since;
        for revoked in older.into_iter().rev().filter(|revoked| revoked.revision <= since) {
            self.names.push_front(revoked);
        }
        self.since = from;
    }
}

impl Streams {
    /// What was revoked after a revision, from memory or from the log.
    pub(super) async fn revoked_after(&self, at: Revision) -> Result<Vec<RevokedName>> {
        if let Ok(names) = self.hub.revoked_after(at) {
            return Ok(names);
        }
        let _permit = self.log_readers.acquire().await.map_err(Error::internal)?;
        loop {
            // Whoever waited for a reader may find the work done.
            let through = match self.hub.revoked_after(at) {
                Ok(names) => return Ok(names),
                Err(since) => since,
            };
            let older = self.read_revoked(at, through).await.map_err(|error| unavailable(&error))?;
            self.hub.revoked_before(at, through, older);
        }
    }

    async fn read_revoked(
        &self,
        after: Revision,
        through: Revision,
    ) -> std::result::Result<Vec<RevokedName>, StoreError> {
        let mut found = Vec::new();
        for kind in kinds::registry().iter().filter(|kind| kind.revoker().is_some()) {
            let mut at = after;
            loop {
                let page = self.log.changes_of(kind.name(), at, through, PAGE).await?;
                let Some((last, _)) = page.last() else { break };
                at = *last;
                found.extend(page.iter().filter_map(|(revision, change)| RevokedName::of(*revision, change)));
            }
        }
        found.sort_by_key(RevokedName::revision);
        Ok(found)
    }
}

/// The framed messages that tell a stream of what it can see of this; labels apart, so that what is just leaving its view is
/// told too.
pub(super) fn frames(revoked: &[RevokedName], filter: &Filter) -> Option<Bytes> {
    let seen: Vec<&RevokedName> =
        revoked.iter().filter(|revoked| filter.reaches(&revoked.name, revoked.kind)).collect();
    let mut out = BytesMut::new();
    for same in seen.chunk_by(|one, other| one.revision == other.revision) {
        for part in same.chunks(NAMES) {
            let names = part.iter().map(|revoked| revoked.name.to_string()).collect();
            let revision = part.first().map_or(0, |revoked| revoked.revision.0);
            frame_into(&mut out, Event::Revoked(Revoked { names, revision }));
        }
    }
    (!out.is_empty()).then(|| out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revoked(revision: u64) -> RevokedName {
        let name = ResourceName::parse(&format!("providers/p/apiKeys/k{revision}")).unwrap();
        RevokedName { revision: Revision(revision), name, kind: KindName("api_key") }
    }

    fn revisions(found: &[RevokedName]) -> Vec<u64> {
        found.iter().map(|revoked| revoked.revision.0).collect()
    }

    #[test]
    fn what_is_not_held_is_asked_for_and_put_before_the_rest() {
        let mut names = RevokedNames::new(Revision(10));
        names.push(vec![revoked(12)]);
        names.push(vec![revoked(15), revoked(15)]);
        assert_eq!(revisions(&names.after(Revision(12)).unwrap()), [15, 15]);
        assert_eq!(names.after(Revision(4)), Err(Revision(10)));
        names.prepend(Revision(4), Revision(10), vec![revoked(5), revoked(10)]);
        assert_eq!(revisions(&names.after(Revision(4)).unwrap()), [5, 10, 12, 15, 15]);
        // The same, read by two at once, is taken in once.
        names.prepend(Revision(4), Revision(10), vec![revoked(5), revoked(10)]);
        names.prepend(Revision(2), Revision(10), vec![revoked(3), revoked(5), revoked(10)]);
        assert_eq!(revisions(&names.after(Revision(2)).unwrap()), [3, 5, 10, 12, 15, 15]);
    }

    #[test]
    fn the_oldest_revisions_go_whole() {
        let mut names = RevokedNames::new(Revision(0));
        names.push(vec![revoked(1); 10]);
        names.push(vec![revoked(2); KEPT - 5]);
        assert_eq!(names.after(Revision(0)), Err(Revision(1)));
        assert_eq!(names.after(Revision(1)).unwrap().len(), KEPT - 5);
        // What was pushed out meanwhile is not half there.
        names.prepend(Revision(0), Revision(0), vec![]);
        assert_eq!(names.after(Revision(0)), Err(Revision(1)));
    }
}
