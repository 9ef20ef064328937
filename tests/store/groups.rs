//! What one group does, planned without a database, so that who is in the group with whom is not left to chance.

use std::collections::HashMap;

use signalbox::{
    domain::{
        Applied, ApplyError, ChainHash, Epoch, PlannedChange, Read, Revision, WriteSet, keys::LogKey,
        write::RequestKey,
    },
    store::{
        Head,
        chain::{ChainKeys, StateDigest},
        plan::{Effects, Facts, Group},
        rows::HeadState,
    },
};

use crate::fixture::{create, delete, name, put, write};

/// Plans a group on an empty store at revision 10.
fn plan(writes: &[WriteSet]) -> (Vec<Result<Applied, ApplyError>>, Option<Effects>) {
    let keys = ChainKeys::derive(&LogKey([3; 32])).unwrap();
    let hash = ChainHash([1; 32]);
    let head = Head { epoch: Epoch(5), revision: Revision(10), hash, floor: Revision(10) };
    let facts = Facts {
        head: HeadState { head, digest: StateDigest::default(), floor_hash: hash },
        resources: HashMap::new(),
        requests: HashMap::new(),
        log_hashes: HashMap::new(),
        newest_beneath: HashMap::new(),
        newest_change_beneath: HashMap::new(),
    };
    let mut group = Group::new(&keys, facts);
    let answers = writes.iter().map(|write| group.plan(write)).collect();
    (answers, group.finish())
}

fn changing(change: PlannedChange, read: Read) -> WriteSet {
    WriteSet { reads: vec![read], ..write(vec![change]) }
}

fn unchanged(at: &str, revision: u64) -> Read {
    Read::Unchanged { name: name(at), revision: Revision(revision) }
}

fn revisions(answers: &[Result<Applied, ApplyError>]) -> Vec<Option<u64>> {
    let revision = |answer: &Result<Applied, ApplyError>| match answer {
        Ok(Applied::Committed { token, .. } | Applied::Replayed { token, .. }) => Some(token.revision.0),
        Err(_) => None,
    };
    answers.iter().map(revision).collect()
}

#[test]
fn each_write_sees_those_before_it() {
    let again = |version| PlannedChange::Put(Box::new(put("settings/a", version, "x")));
    let (answers, effects) = plan(&[
        create("settings/a", "one"),
        create("settings/a", "twice"),
        changing(again(2), unchanged("settings/a", 11)),
        changing(again(3), unchanged("settings/a", 11)),
        changing(delete("settings/a"), unchanged("settings/a", 12)),
        create("settings/a", "anew"),
        create("settings/b", "other"),
    ]);
    assert_eq!(revisions(&answers), [Some(11), None, Some(12), None, Some(13), Some(14), Some(15)]);
    assert_eq!(answers[1], Err(ApplyError::Stale { at: Revision(11) }));
    assert_eq!(answers[3], Err(ApplyError::Stale { at: Revision(12) }));
    let effects = effects.unwrap();
    let put: Vec<_> =
        effects.put.iter().map(|row| (row.name.as_str(), row.version, row.update_revision)).collect();
    assert_eq!(put, [("settings/a", 1, 14), ("settings/b", 1, 15)], "each name once, as it is in the end");
    assert!(effects.delete.is_empty());
    assert_eq!(effects.log.iter().map(|row| row.revision).collect::<Vec<_>>(), [11, 12, 13, 14, 15]);
    assert!(effects.log.windows(2).all(|pair| pair[1].previous_hash == pair[0].hash));
    assert_eq!(effects.head.head.hash.0.to_vec(), effects.log[4].hash);
    assert_eq!(effects.head.digest.to_bytes().to_vec(), effects.log[4].digest);
}

#[test]
fn creations_of_the_same_group_are_seen_beneath_a_prefix() {
    let guarded = |revision| {
        let prefix = "users/a/".to_owned();
        changing(delete("settings/x"), Read::NoneCreatedAfter { prefix, revision: Revision(revision) })
    };
    let (answers, _) = plan(&[
        create("settings/x", "x"),
        create("users/a/settings/k", "one"),
        guarded(10),
        create("users/a2/settings/k", "one"),
        guarded(12),
    ]);
    assert_eq!(answers[2], Err(ApplyError::Stale { at: Revision(12) }));
    assert_eq!(revisions(&answers), [Some(11), Some(12), None, Some(13), Some(14)]);
}

#[test]
fn changes_of_the_same_group_are_seen_beneath_a_prefix() {
    let guarded = |at: &str, revision| {
        let prefix = "users/a/".to_owned();
        changing(delete(at), Read::NoneChangedAfter { prefix, revision: Revision(revision) })
    };
    let again = PlannedChange::Put(Box::new(put("users/a/settings/k", 2, "two")));
    let (answers, _) = plan(&[
        create("settings/x", "x"),
        create("settings/y", "y"),
        create("users/a/settings/k", "one"),
        guarded("settings/x", 13),
        changing(again, unchanged("users/a/settings/k", 13)),
        create("users/a2/settings/k", "one"),
        guarded("settings/y", 13),
        guarded("settings/y", 15),
    ]);
    assert_eq!(
        answers[6],
        Err(ApplyError::Stale { at: Revision(16) }),
        "an update counts, also of this group"
    );
    assert_eq!(revisions(&answers)[3..], [Some(14), Some(15), Some(16), None, Some(17)]);
}

#[test]
fn a_request_that_comes_twice_in_a_group_is_done_once() {
    let first = create("settings/a", "one");
    let mut other_body = create("settings/b", "two");
    other_body.request = RequestKey { mac: [9; 32], ..first.request.clone() };
    let (answers, effects) = plan(&[first.clone(), first.clone(), other_body]);
    let Ok(Applied::Committed { token, time }) = answers[0] else { panic!("{answers:?}") };
    assert_eq!(answers[1], Ok(Applied::Replayed { token, time, outcome: first.request.outcome }));
    assert_eq!(answers[2], Err(ApplyError::RequestMismatch));
    assert_eq!(effects.unwrap().log.len(), 1);
}

#[test]
fn a_refused_write_leaves_no_trace() {
    let fine = PlannedChange::Put(Box::new(put("settings/b", 1, "x")));
    let bad = write(vec![fine, delete("settings/never")]);
    let (answers, effects) = plan(std::slice::from_ref(&bad));
    assert!(matches!(answers[0], Err(ApplyError::Internal { .. })) && effects.is_none());
    let alone = plan(&[create("settings/a", "one")]).1.unwrap();
    let beside = plan(&[bad.clone(), create("settings/a", "one"), bad]).1.unwrap();
    assert_eq!(beside.put, alone.put);
    assert_eq!((beside.log.len(), beside.requests.len(), beside.secrets.len()), (1, 1, 0));
}
