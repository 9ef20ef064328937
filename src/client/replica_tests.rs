//! The replica, held against a model.

#[path = "replica_tests/property.rs"]
mod property;
#[path = "replica_tests/validation.rs"]
mod validation;

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::*;
use crate::{
    client::{entry::SecretError, events::EventKind},
    proto::v1::{ApiKeySpec, Resource, Secret, resource::Spec},
};

const KEY: &str = "providers/groq/apiKeys/prod";

fn resource(name: &str, revision: u64) -> Resource {
    Resource {
        name: name.to_owned(),
        update_revision: revision,
        spec: Some(Spec::ApiKey(ApiKeySpec {
            secret: Some(Secret { value: Some(format!("sk-{revision}")), ..Secret::default() }),
            ..ApiKeySpec::default()
        })),
        ..Resource::default()
    }
}

fn snapshot(revision: u64, names: &[&str], last: bool) -> Option<Event> {
    let resources = names.iter().map(|name| resource(name, revision)).collect();
    Some(Event::Snapshot(SnapshotPart { revision, resources, last }))
}

fn synced(revision: u64) -> Option<Event> {
    Some(Event::Synced(Synced {
        revision,
        resume_token: format!("synced-{revision}"),
        view_id: "view".to_owned(),
        session_id: "session".to_owned(),
        confirmed_age: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
    }))
}

fn upsert(name: &str, revision: u64) -> Change {
    Change {
        r#type: ChangeType::Updated.into(),
        name: name.to_owned(),
        resource: Some(resource(name, revision)),
        action: "rotated".to_owned(),
        ..Change::default()
    }
}

fn delete(name: &str) -> Change {
    Change { r#type: ChangeType::Deleted.into(), name: name.to_owned(), ..Change::default() }
}

fn changes(revision: u64, changes: Vec<Change>, last: bool) -> Option<Event> {
    let resume_token = if last { format!("changes-{revision}") } else { String::new() };
    Some(Event::Changes(Changes { revision, changes, last, resume_token, ..Changes::default() }))
}

fn progress(revision: u64, digest: &[u8]) -> Option<Event> {
    Some(Event::Progress(Progress {
        revision,
        resume_token: format!("progress-{revision}"),
        digest: digest.to_vec(),
        confirmed_age: None,
    }))
}

fn reset(reason: ResetReason) -> Option<Event> {
    Some(Event::Reset(Reset { reason: reason.into(), ..Reset::default() }))
}

fn revoked(revision: u64) -> Option<Event> {
    Some(Event::Revoked(Revoked { names: vec![KEY.to_owned()], revision }))
}

fn empty() -> Replica {
    let mut replica = Replica::new(Arc::default(), Validation::default(), bounds::MAX_STATE_BYTES);
    assert_eq!(replica.begin_stream(), Cursor::default());
    replica
}

/// A replica that holds a key and another resource at revision 5.
fn at_five() -> Replica {
    let mut replica = empty();
    replica.apply(snapshot(5, &[KEY, "settings/a"], true)).unwrap();
    replica.apply(synced(5)).unwrap();
    replica
}

fn names(replica: &Replica) -> Vec<String> {
    replica.served().entries().keys().map(ToString::to_string).collect()
}

fn told(applied: &Applied) -> Vec<(EventKind, &str)> {
    let events = applied.changes.iter().flat_map(|set| &set.events);
    events.map(|event| (event.kind, event.name.as_str())).collect()
}

fn key_secret(replica: &Replica) -> Result<String, SecretError> {
    replica.served().secret(KEY, "api_key.secret").map(|secret| secret.expose().to_owned())
}

#[test]
fn a_snapshot_is_served_at_synced_and_not_before() {
    let mut replica = empty();
    assert!(replica.apply(snapshot(5, &["settings/a"], false)).unwrap().changes.is_none());
    assert!(replica.apply(snapshot(5, &["settings/b"], true)).unwrap().changes.is_none());
    assert_eq!(replica.served().revision(), 0);
    assert!(replica.served().is_empty());
    let applied = replica.apply(synced(5)).unwrap();
    assert_eq!(applied.signal, Signal::Synced("session".to_owned()));
    assert_eq!(applied.confirmed_age, Some(Duration::from_secs(2)));
    assert_eq!(told(&applied), [(EventKind::Created, "settings/a"), (EventKind::Created, "settings/b")]);
    assert_eq!((replica.served().revision(), replica.served().len()), (5, 2));
}

#[test]
fn an_empty_view_needs_no_snapshot_part() {
    let mut replica = empty();
    let applied = replica.apply(synced(5)).unwrap();
    assert!(applied.changes.is_none());
    assert_eq!(replica.served().revision(), 5);
}

#[test]
fn a_chunked_revision_is_served_whole() {
    let mut replica = at_five();
    replica.apply(changes(6, vec![upsert(KEY, 6)], false)).unwrap();
    assert_eq!(key_secret(&replica).unwrap(), "sk-5", "half a revision is never seen");
    replica.apply(changes(6, vec![delete("settings/a")], false)).unwrap();
    assert_eq!(replica.served().revision(), 5);
    let applied = replica.apply(changes(6, vec![upsert("settings/b", 6)], true)).unwrap();
    let expected =
        [(EventKind::Updated, KEY), (EventKind::Deleted, "settings/a"), (EventKind::Created, "settings/b")];
    assert_eq!(told(&applied), expected);
    assert_eq!(names(&replica), [KEY, "settings/b"]);
    assert_eq!(key_secret(&replica).unwrap(), "sk-6");
    let set = applied.changes.unwrap();
    assert_eq!((set.snapshot.revision(), set.events[0].action.as_str()), (6, "rotated"));
}

#[test]
fn half_a_revision_is_forgotten_with_its_stream() {
    let mut replica = at_five();
    replica.apply(changes(6, vec![delete(KEY)], false)).unwrap();
    assert_eq!(replica.begin_stream().resume_token, "synced-5");
    replica.apply(changes(6, vec![delete("settings/a")], true)).unwrap();
    assert_eq!(names(&replica), [KEY]);
}

#[test]
fn resumes_from_the_last_token_that_was_applied() {
    let mut replica = at_five();
    let token = |replica: &mut Replica| replica.begin_stream().resume_token;
    assert_eq!(token(&mut replica), "synced-5");
    replica.apply(changes(6, vec![upsert(KEY, 6)], true)).unwrap();
    assert_eq!(token(&mut replica), "changes-6");
    replica.apply(changes(7, vec![upsert(KEY, 7)], false)).unwrap();
    assert_eq!(token(&mut replica), "changes-6");
    let digest = replica.served().digest().to_bytes();
    replica.apply(progress(9, &digest)).unwrap();
    let cursor = replica.begin_stream();
    assert_eq!((cursor.resume_token.as_str(), cursor.view_id.as_str()), ("progress-9", "view"));
    assert_eq!(replica.served().revision(), 9, "progress moves the revision");
    // Synced may come before or after what was missed.
    replica.apply(synced(9)).unwrap();
    replica.apply(changes(10, vec![upsert(KEY, 10)], true)).unwrap();
    replica.begin_stream();
    replica.apply(changes(11, vec![upsert(KEY, 11)], true)).unwrap();
    replica.apply(synced(12)).unwrap();
    assert_eq!(replica.served().revision(), 12);
}

#[test]
fn a_reset_goes_on_serving_and_tells_the_difference_at_the_swap() {
    let mut replica = at_five();
    let applied = replica.apply(reset(ResetReason::Compacted)).unwrap();
    assert_eq!(applied.signal, Signal::Reset(ResetReason::Compacted));
    replica.apply(snapshot(9, &["settings/a", "settings/b"], true)).unwrap();
    assert_eq!(names(&replica), [KEY, "settings/a"]);
    let applied = replica.apply(synced(9)).unwrap();
    let expected =
        [(EventKind::Deleted, KEY), (EventKind::Updated, "settings/a"), (EventKind::Created, "settings/b")];
    assert_eq!(told(&applied), expected);
}

#[test]
fn a_reset_that_is_cut_off_begins_again_with_a_snapshot() {
    let mut replica = at_five();
    replica.apply(reset(ResetReason::Lagged)).unwrap();
    replica.apply(snapshot(9, &["settings/b"], false)).unwrap();
    assert_eq!(replica.begin_stream(), Cursor::default());
    assert_eq!(names(&replica), [KEY, "settings/a"]);
    replica.apply(snapshot(10, &["settings/c"], true)).unwrap();
    replica.apply(synced(10)).unwrap();
    assert_eq!(names(&replica), ["settings/c"], "nothing of the first attempt is left");
}

#[test]
fn a_restored_store_may_go_back() {
    let mut replica = at_five();
    replica.apply(reset(ResetReason::Ahead)).unwrap();
    replica.apply(snapshot(3, &[KEY], true)).unwrap();
    replica.apply(synced(3)).unwrap();
    assert_eq!((replica.served().revision(), key_secret(&replica).unwrap().as_str()), (3, "sk-3"));
}

#[test]
fn a_wrong_digest_drops_the_token_and_serves_on() {
    let mut replica = at_five();
    let result = replica.apply(progress(6, &[7; 16]));
    assert_eq!(result.unwrap_err(), Desync::Digest { revision: 6 });
    assert_eq!(replica.begin_stream(), Cursor::default());
    assert_eq!(names(&replica), [KEY, "settings/a"]);
    replica.apply(snapshot(6, &[KEY], true)).unwrap();
    let applied = replica.apply(synced(6)).unwrap();
    assert_eq!(told(&applied), [(EventKind::Updated, KEY), (EventKind::Deleted, "settings/a")]);
    let digest = replica.served().digest().to_bytes();
    assert!(replica.apply(progress(6, &digest)).is_ok());
}

#[test]
fn a_revoked_secret_is_refused_until_the_cursor_passes() {
    let mut replica = at_five();
    let applied = replica.apply(revoked(7)).unwrap();
    assert_eq!(told(&applied), [(EventKind::Revoked, KEY)]);
    assert_eq!(key_secret(&replica), Err(SecretError::Revoked));
    assert!(replica.served().active_api_keys("groq").is_empty());
    assert!(replica.served().get(KEY).is_some(), "only the secret is refused");
    replica.apply(changes(6, vec![upsert("settings/a", 6)], true)).unwrap();
    assert_eq!(key_secret(&replica), Err(SecretError::Revoked), "revision 6 does not pass 7");
    replica.begin_stream();
    assert_eq!(key_secret(&replica), Err(SecretError::Revoked), "a new stream forgets nothing");
    replica.apply(changes(7, vec![upsert(KEY, 7)], true)).unwrap();
    assert_eq!(key_secret(&replica).unwrap(), "sk-7");
    assert!(replica.apply(revoked(7)).unwrap().changes.is_none(), "one that was passed says nothing");
    assert!(key_secret(&replica).is_ok());
}

#[test]
fn a_revocation_outruns_a_chunked_revision_and_a_snapshot() {
    let mut replica = at_five();
    replica.apply(changes(6, vec![upsert("settings/a", 6)], false)).unwrap();
    replica.apply(revoked(8)).unwrap();
    replica.apply(changes(6, vec![upsert("settings/b", 6)], true)).unwrap();
    assert_eq!(key_secret(&replica), Err(SecretError::Revoked));
    replica.apply(reset(ResetReason::Lagged)).unwrap();
    replica.apply(snapshot(7, &[KEY], true)).unwrap();
    replica.apply(synced(7)).unwrap();
    assert_eq!(key_secret(&replica), Err(SecretError::Revoked), "the snapshot is older than the revocation");
    replica.apply(progress(8, &[])).unwrap();
    assert!(key_secret(&replica).is_ok());
}

#[test]
fn revocations_of_a_former_life_end_with_the_swap() {
    let mut replica = at_five();
    replica.apply(revoked(700)).unwrap();
    replica.apply(reset(ResetReason::OtherStore)).unwrap();
    assert_eq!(key_secret(&replica), Err(SecretError::Revoked), "the old state is still served");
    replica.apply(snapshot(2, &[KEY, "settings/s"], true)).unwrap();
    let of_the_new_life = Revoked { names: vec!["settings/s".to_owned()], revision: 3 };
    replica.apply(Some(Event::Revoked(of_the_new_life))).unwrap();
    replica.apply(synced(2)).unwrap();
    assert_eq!(key_secret(&replica).unwrap(), "sk-2");
    assert_eq!(replica.served().secret("settings/s", "api_key.secret"), Err(SecretError::Revoked));
}

#[test]
fn going_away_moves_nothing() {
    let mut replica = at_five();
    let event = GoingAway {
        reason: "drain".to_owned(),
        reconnect_after: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
    };
    let applied = replica.apply(Some(Event::GoingAway(event))).unwrap();
    let expected = Signal::GoingAway { reason: "drain".to_owned(), after: Duration::from_secs(3) };
    assert_eq!(applied.signal, expected);
    assert_eq!(replica.begin_stream().resume_token, "synced-5");
}

#[test]
fn what_breaks_the_contract_is_not_applied() {
    let nameless = Change { resource: None, ..upsert(KEY, 6) };
    let misnamed = Change { name: "settings/z".to_owned(), ..upsert(KEY, 6) };
    let cases = [
        vec![changes(5, vec![delete(KEY)], true)],
        vec![changes(4, vec![delete(KEY)], true)],
        vec![changes(6, vec![delete(KEY)], false), changes(7, vec![], true)],
        vec![changes(6, vec![delete(KEY)], false), progress(6, &[])],
        vec![changes(6, vec![delete(KEY)], false), synced(6)],
        vec![changes(6, vec![nameless], true)],
        vec![changes(6, vec![misnamed], true)],
        vec![progress(4, &[])],
        vec![progress(6, &[0; 3])],
        vec![synced(4)],
        vec![snapshot(6, &[], true)],
        vec![reset(ResetReason::Lagged), changes(6, vec![], true)],
        vec![reset(ResetReason::Lagged), progress(6, &[])],
        vec![reset(ResetReason::Lagged), snapshot(6, &[], false), synced(6)],
        vec![reset(ResetReason::Lagged), snapshot(6, &[], false), snapshot(7, &[], true)],
        vec![reset(ResetReason::Lagged), snapshot(6, &[], true), snapshot(6, &[], true)],
        vec![reset(ResetReason::Lagged), snapshot(6, &[], true), synced(5)],
    ];
    for events in cases {
        let mut replica = at_five();
        let described = format!("{events:?}");
        let results: Vec<_> = events.into_iter().map(|event| replica.apply(event)).collect();
        let (last, first) = results.split_last().unwrap();
        assert!(first.iter().all(Result::is_ok), "{described}");
        assert!(matches!(last, Err(Desync::Contract(_))), "{described}");
        assert_eq!(names(&replica), [KEY, "settings/a"], "{described}");
        assert_eq!(replica.begin_stream(), Cursor::default(), "{described}");
    }
}

#[test]
fn events_of_newer_servers_are_left_out() {
    let mut replica = at_five();
    assert!(replica.apply(None).unwrap().changes.is_none());
    let mut change = upsert("settings/b", 6);
    change.r#type = 99;
    replica.apply(changes(6, vec![change], true)).unwrap();
    assert_eq!(names(&replica), [KEY, "settings/a", "settings/b"]);
}

/// A server that never ended its snapshot, or a revision, filled the worker's memory.
#[test]
fn regression_what_never_becomes_whole_is_bounded() {
    let mut replica = Replica::new(Arc::default(), Validation::default(), bounds::MAX_STATE_BYTES);
    let fill = |replica: &mut Replica| match &mut replica.phase {
        Phase::Snapshot { bytes, .. } | Phase::Live(Some(Part { bytes, .. })) => {
            *bytes = bounds::MAX_STATE_BYTES
        }
        Phase::Live(None) => panic!("nothing is unfinished"),
    };
    replica.apply(snapshot(5, &[KEY], false)).unwrap();
    assert!(replica.is_unfinished());
    fill(&mut replica);
    assert!(matches!(replica.apply(snapshot(5, &[KEY], false)), Err(Desync::Contract(_))));
    replica.begin_stream();
    replica.apply(snapshot(5, &[KEY], true)).unwrap();
    replica.apply(synced(5)).unwrap();
    assert!(!replica.is_unfinished());
    let part = || Some(Event::Changes(Changes { revision: 6, ..Changes::default() }));
    replica.apply(part()).unwrap();
    fill(&mut replica);
    assert!(matches!(replica.apply(part()), Err(Desync::Contract(_))));
}

/// Revisions without end, each with further resources, filled the worker's memory; so did names that are revoked for ever.
#[test]
fn regression_what_is_held_is_bounded_over_all_revisions() {
    let mut replica = at_five();
    let before = replica.known.bytes;
    replica.apply(changes(6, vec![upsert("settings/b", 6)], true)).unwrap();
    replica.apply(changes(7, vec![delete("settings/b")], true)).unwrap();
    assert_eq!(replica.known.bytes, before, "what is gone counts no more");
    Arc::make_mut(&mut replica.known).bytes = bounds::MAX_STATE_BYTES;
    assert!(
        replica
            .apply(changes(8, vec![upsert("settings/b", 8)], true))
            .unwrap_err()
            .to_string()
            .contains("max_state_bytes")
    );
    assert_eq!((replica.begin_stream(), names(&replica).len()), (Cursor::default(), 2), "served on");
    let names = |count: u64| -> Vec<String> {
        (0..count).map(|number| format!("providers/p/apiKeys/{number:0>100}")).collect()
    };
    let revoked = |names: Vec<String>| Some(Event::Revoked(Revoked { names, revision: u64::MAX }));
    let mut replica = at_five();
    replica.apply(revoked(names(50_000))).unwrap();
    let mut more = names(100_000);
    more.push(KEY.to_owned());
    let applied = replica.apply(revoked(more)).unwrap();
    assert!(applied.over.unwrap().to_string().contains("more names are revoked"));
    assert_eq!((replica.served.revoked.len(), replica.begin_stream()), (50_001, Cursor::default()));
    let told: Vec<_> = applied.changes.unwrap().events.iter().map(|event| event.name.clone()).collect();
    assert_eq!(
        (told, replica.served.revoked.contains_key(KEY)),
        (vec![KEY.into()], true),
        "what is held is refused"
    );
}

/// A token that no server would take back was said again for ever, and kept on disk; so was the name of a session.
#[test]
fn regression_what_no_server_would_take_back_is_not_kept() {
    let long = "t".repeat((64 << 10) + 1);
    let mut replica = at_five();
    replica
        .apply(Some(Event::Changes(Changes {
            revision: 6,
            last: true,
            resume_token: long.clone(),
            ..Changes::default()
        })))
        .unwrap();
    assert_eq!((replica.served_at().clone(), names(&replica).len()), (Cursor::default(), 2));
    replica.apply(progress(7, &[])).unwrap();
    assert_eq!(replica.served_at().resume_token, "progress-7", "the next that is one is kept");
    for (session, kept) in [("a".repeat(128), true), ("a".repeat(129), false), ("a\nb".to_owned(), false)] {
        let mut replica = at_five();
        replica.apply(reset(ResetReason::Lagged)).unwrap();
        let synced = Synced {
            revision: 5,
            resume_token: long.clone(),
            session_id: session.clone(),
            ..Synced::default()
        };
        let told = replica.apply(Some(Event::Synced(synced))).unwrap().signal;
        assert_eq!(told, Signal::Synced(if kept { session } else { String::new() }));
        assert_eq!(replica.begin_stream(), Cursor::default());
    }
}
