//! The checkers of the watch contract, checked: a sound recording passes all of them, and one that was spoilt by hand is
//! caught by the checker of the row that it breaks.

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod harness;
mod support;

use std::time::Instant;

use signalbox::proto::v1::{
    Change, Changes, Progress, Reset, ResetReason, Resource, Snapshot, Synced, secret::State,
    watch_config_response::Event,
};
use support::{
    record::{Asked, End, Read, Reader, Seen, Stream},
    resources::{CANARY, Secrets, api_key, labelled, provider, secrets_in, setting, values_in},
    rows::Case,
    truth::{Answer, Compaction, Told, Truth, digest},
    view::View,
};

/// What a recording is spoilt with.
type Spoil = fn(&mut Vec<Event>);

/// Six revisions: a provider with a key, a setting, the key's secret replaced, a label lost, the provider deleted with
/// its key, and one more setting.
fn truth() -> Truth {
    let red = |resource| labelled(resource, &[("team", "red")]);
    let secret = |version: u32| format!("{CANARY}-{version}");
    let key = |version| api_key("providers/a/apiKeys/k", &secret(version));
    let writes = [
        vec![put(1, 1, red(provider("providers/a"))), put(1, 1, key(1))],
        vec![put(2, 2, red(setting("settings/s", "one")))],
        vec![put(1, 3, key(2))],
        vec![put(2, 4, setting("settings/s", "two"))],
        vec![gone("providers/a"), gone("providers/a/apiKeys/k")],
        vec![put(6, 6, red(setting("settings/t", "three")))],
    ];
    let answers =
        (1..).zip(writes).map(|(revision, changes)| Answer { revision, token: token(revision), changes });
    let compactions = vec![Compaction { asked: Instant::now(), floor: 2 }];
    Truth::of(0, answers.collect(), compactions).unwrap()
}

fn put(created: u64, revision: u64, mut resource: Resource) -> Told {
    let secrets: Secrets = values_in(&resource);
    for (_, secret) in secrets_in(&mut resource) {
        (secret.value, secret.state) = (None, State::Present.into());
    }
    (resource.create_revision, resource.update_revision) = (created, revision);
    Told { name: resource.name.clone(), resource: Some(resource), secrets }
}

fn gone(name: &str) -> Told {
    Told { name: name.to_owned(), resource: None, secrets: Secrets::new() }
}

fn token(revision: u64) -> String {
    format!("token {revision}")
}

/// What a faultless server sends: a snapshot at a revision, or what follows a token, and a heartbeat after each change.
fn stream(truth: &Truth, view: &View, at: u64, snapshot: bool) -> Vec<Event> {
    let shown = |at| truth.view_at(view, at).into_values().map(|entry| entry.shown(view)).collect();
    let mut events = Vec::new();
    if snapshot {
        events.push(Event::Snapshot(Snapshot { revision: at, resources: shown(at), last: true }));
    }
    events.push(Event::Synced(Synced { revision: at, resume_token: token(at), ..Synced::default() }));
    let expected = truth.expected(view);
    for revision in at + 1..=truth.head() {
        if let Some(due) = expected.get(&revision) {
            let changes = due.iter().map(|(name, due)| Change {
                r#type: due.change_type.into(),
                name: (*name).to_owned(),
                resource: due.entry.map(|entry| entry.shown(view)),
                ..Change::default()
            });
            let changes = changes.collect();
            events.push(Event::Changes(Changes {
                revision,
                changes,
                last: true,
                resume_token: token(revision),
                ..Changes::default()
            }));
        }
        let held: Vec<Resource> = shown(revision);
        let digest = digest(held.iter().map(|one| (one.name.as_str(), one.update_revision))).to_vec();
        let progress = Progress { revision, resume_token: token(revision), digest, ..Progress::default() };
        events.push(Event::Progress(progress));
    }
    events
}

fn recorded(asked: Asked, events: Vec<Event>) -> Stream {
    Stream { asked, seen: events.into_iter().map(Seen::of).collect(), end: End::Left }
}

fn broken(truth: &Truth, reader: &Reader) -> Vec<&'static str> {
    Case::new(truth, reader).unwrap().broken().into_iter().map(|(row, _)| row).collect()
}

/// A reader with one stream from the beginning, spoilt.
fn spoilt(view: &View, spoil: Spoil) -> Vec<&'static str> {
    let truth = truth();
    let mut events = stream(&truth, view, 1, true);
    spoil(&mut events);
    let mut reader = Reader::new("spoilt", view.clone());
    reader.streams.push(recorded(Asked::Nothing, events));
    broken(&truth, &reader)
}

/// A reader that resumes at revision 2, spoilt.
fn spoilt_resumption(asked: Asked, spoil: Spoil) -> Vec<&'static str> {
    let (truth, view) = (truth(), View::everything());
    let mut second = stream(&truth, &view, 2, false);
    spoil(&mut second);
    let mut reader = Reader::new("spoilt", view.clone());
    let mut first = stream(&truth, &view, 1, true);
    first.truncate(4);
    reader.streams = vec![recorded(Asked::Nothing, first), recorded(asked, second)];
    broken(&truth, &reader)
}

fn with_secrets() -> View {
    View { secrets: true, ..View::everything() }
}

fn red() -> View {
    View::of(vec![support::resources::narrowed(Default::default(), "team", "red")])
}

fn changes(events: &mut [Event], wanted: u64) -> &mut Changes {
    let found = events.iter_mut().find_map(|event| match event {
        Event::Changes(event) if event.revision == wanted => Some(event),
        _ => None,
    });
    found.unwrap()
}

fn place(events: &[Event], wanted: impl Fn(&Event) -> bool) -> usize {
    events.iter().position(wanted).unwrap()
}

fn is_changes(revision: u64) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Changes(event) if event.revision == revision)
}

fn is_progress(revision: u64) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Progress(event) if event.revision == revision)
}

/// Panics unless the row is among those that are broken.
fn caught(row: &str, broken: &[&str]) {
    assert!(broken.contains(&row), "`{row}` is broken, but these were found: {broken:?}");
}

#[test]
fn a_sound_recording_passes() {
    for view in [View::everything(), with_secrets(), red()] {
        assert_eq!(spoilt(&view, |_| {}), [""; 0], "{view:?}");
    }
    assert_eq!(spoilt_resumption(Asked::Resume { revision: 2 }, |_| {}), [""; 0]);
}

#[test]
fn ordered_finds_a_revision_that_goes_back() {
    let broken = spoilt(&View::everything(), |events| {
        let (one, other) = (place(events, is_changes(3)), place(events, is_changes(2)));
        events.swap(one, other);
    });
    caught("ordered", &broken);
}

#[test]
fn unique_finds_a_change_that_comes_twice() {
    let broken = spoilt(&View::everything(), |events| {
        let twice = changes(events, 3).changes[0].clone();
        changes(events, 3).changes.push(twice);
    });
    assert_eq!(broken, ["unique"]);
}

#[test]
fn unique_finds_a_change_that_the_snapshot_had() {
    let broken = spoilt(&View::everything(), |events| {
        let again = Change { name: "providers/a".into(), ..Change::default() };
        let event = Changes {
            revision: 1,
            changes: vec![again],
            last: true,
            resume_token: token(1),
            ..Changes::default()
        };
        events.insert(2, Event::Changes(event));
    });
    caught("unique", &broken);
}

#[test]
fn atomic_finds_a_split_revision() {
    let broken = spoilt(&View::everything(), |events| {
        let at = place(events, is_changes(5));
        let mut rest = changes(events, 5).clone();
        rest.changes.remove(0);
        changes(events, 5).changes.truncate(1);
        events.insert(at + 1, Event::Changes(rest));
    });
    caught("atomic", &broken);
}

#[test]
fn atomic_finds_an_interruption() {
    let broken = spoilt(&View::everything(), |events| {
        let at = place(events, is_changes(5));
        let mut rest = changes(events, 5).clone();
        rest.changes.remove(0);
        let first = changes(events, 5);
        first.changes.truncate(1);
        (first.last, first.resume_token) = (false, String::new());
        let heartbeat = events[place(events, is_progress(4))].clone();
        events.splice(at + 1..at + 1, [heartbeat, Event::Changes(rest)]);
    });
    caught("atomic", &broken);
}

#[test]
fn atomic_finds_a_revision_of_which_a_part_is_lost() {
    let broken = spoilt(&View::everything(), |events| changes(events, 5).changes.truncate(1));
    caught("atomic", &broken);
}

#[test]
fn reliable_finds_a_dropped_revision() {
    let broken = spoilt(&View::everything(), |events| drop(events.remove(place(events, is_changes(4)))));
    caught("reliable", &broken);
}

#[test]
fn reliable_finds_what_does_not_concern_the_view() {
    let broken = spoilt(&red(), |events| {
        changes(events, 6).changes.push(Change { name: "settings/s".into(), ..Change::default() });
        let at = place(events, is_progress(3));
        let strange = Change { name: "providers/a/apiKeys/k".into(), ..Change::default() };
        let event = Changes {
            revision: 3,
            changes: vec![strange],
            last: true,
            resume_token: token(3),
            ..Changes::default()
        };
        events.insert(at, Event::Changes(event));
    });
    caught("reliable", &broken);
}

#[test]
fn resumable_finds_a_skipped_beginning() {
    let broken = spoilt_resumption(Asked::Resume { revision: 2 }, |events| {
        events.retain(|event| !is_changes(3)(event) && !is_progress(3)(event));
    });
    caught("resumable", &broken);
}

#[test]
fn resumable_finds_a_silent_jump() {
    let broken = spoilt_resumption(Asked::Resume { revision: 2 }, |events| {
        events[0] = Event::Synced(Synced { revision: 4, resume_token: token(4), ..Synced::default() });
    });
    caught("resumable", &broken);
}

#[test]
fn resumable_finds_a_reset_without_cause() {
    let reset =
        |reason: ResetReason| Event::Reset(Reset { reason: reason.into(), floor_revision: 2, revision: 6 });
    let answers = [
        (Asked::Resume { revision: 2 }, ResetReason::Compacted),
        (Asked::Resume { revision: 2 }, ResetReason::OtherStore),
        (Asked::OtherView, ResetReason::Compacted),
        (Asked::Nothing, ResetReason::Lagged),
    ];
    for (asked, reason) in answers {
        let (truth, view) = (truth(), View::everything());
        let mut events = stream(&truth, &view, 2, true);
        events.insert(0, reset(reason));
        let mut reader = Reader::new("spoilt", view);
        reader.streams.push(recorded(asked, events));
        assert_eq!(broken(&truth, &reader), ["resumable"], "{asked:?}, {reason:?}");
    }
}

#[test]
fn resumable_finds_a_stranger_that_is_let_in() {
    for asked in [Asked::OtherView, Asked::OtherStore, Asked::Garbage, Asked::Ahead] {
        assert_eq!(spoilt_resumption(asked, |_| {}), ["resumable"], "{asked:?}");
    }
}

#[test]
fn resumable_finds_a_wrong_token() {
    let broken = spoilt(&View::everything(), |events| changes(events, 4).resume_token = token(3));
    assert_eq!(broken, ["resumable"]);
}

#[test]
fn bookmarkable_finds_a_heartbeat_that_is_early() {
    let broken = spoilt(&View::everything(), |events| {
        let (change, heartbeat) = (place(events, is_changes(4)), place(events, is_progress(4)));
        events.swap(change, heartbeat);
    });
    caught("bookmarkable", &broken);
}

#[test]
fn committed_finds_what_nobody_wrote() {
    let broken = spoilt(&View::everything(), |events| {
        let strange = Change { name: "settings/ghost".into(), ..Change::default() };
        let event = Changes {
            revision: 7,
            changes: vec![strange],
            last: true,
            resume_token: token(7),
            ..Changes::default()
        };
        events.push(Event::Changes(event));
    });
    caught("committed", &broken);
    let broken = spoilt(&View::everything(), |events| {
        changes(events, 4).changes.push(Change { name: "settings/ghost".into(), ..Change::default() });
    });
    caught("committed", &broken);
}

#[test]
fn monotonic_finds_an_older_state_after_a_resumption() {
    let (truth, view) = (truth(), View::everything());
    let mut reader = Reader::new("spoilt", view.clone());
    let streams = [stream(&truth, &view, 4, true), stream(&truth, &view, 2, true)];
    reader.streams = streams.into_iter().map(|events| recorded(Asked::Nothing, events)).collect();
    assert_eq!(broken(&truth, &reader), ["monotonic"]);
}

#[test]
fn monotonic_finds_an_older_read() {
    let (truth, view) = (truth(), View::everything());
    let resources = truth.view_at(&view, 2).into_values().map(|entry| entry.masked.clone()).collect();
    let mut reader = Reader::new("spoilt", view.clone());
    reader.reads.push(Read { view, at_least: 3, at: 0, revision: 2, resources });
    assert_eq!(broken(&truth, &reader), ["monotonic"]);
}

#[test]
fn true_to_the_store_finds_other_content() {
    let row = ["true to the store"];
    let content: Spoil = |events| {
        let resource = changes(events, 4).changes[0].resource.as_mut().unwrap();
        *resource = Resource { version: 99, ..resource.clone() };
    };
    let digest: Spoil = |events| {
        let at = place(events, is_progress(4));
        if let Event::Progress(event) = &mut events[at] {
            event.digest[3] ^= 1;
        }
    };
    let snapshot: Spoil = |events| {
        if let Event::Snapshot(event) = &mut events[0] {
            event.resources.pop();
        }
    };
    assert_eq!(spoilt(&View::everything(), content), row);
    assert_eq!(spoilt(&View::everything(), digest), row);
    assert_eq!(spoilt(&View::everything(), snapshot), row);
}

#[test]
fn true_to_the_store_finds_the_value_of_what_left_the_view() {
    let broken = spoilt(&red(), |events| {
        let unseen = setting("settings/s", "two");
        changes(events, 4).changes[0].resource = Some(unseen);
    });
    assert_eq!(broken, ["true to the store"]);
}

#[test]
fn true_to_the_store_finds_a_list_that_differs() {
    let (truth, view) = (truth(), View::everything());
    let mut reader = Reader::new("spoilt", view.clone());
    reader.reads.push(Read { view, at_least: 0, at: 0, revision: 2, resources: Vec::new() });
    assert_eq!(broken(&truth, &reader), ["true to the store"]);
}

#[test]
fn private_finds_a_leak() {
    let broken = spoilt(&View::everything(), |events| {
        let resource = changes(events, 3).changes[0].resource.as_mut().unwrap();
        secrets_in(resource).into_iter().for_each(|(_, secret)| secret.value = Some(format!("{CANARY}-2")));
    });
    assert_eq!(broken, ["private"]);
}

#[test]
fn private_finds_a_leak_in_a_field_that_is_no_secret() {
    let broken =
        spoilt(&View::everything(), |events| changes(events, 3).changes[0].actor = format!("x{CANARY}-1"));
    assert_eq!(broken, ["private"]);
}

#[test]
fn private_finds_a_leak_in_a_list() {
    let (truth, view) = (truth(), View::everything());
    let plain = with_secrets();
    let resources = truth.view_at(&plain, 2).into_values().map(|entry| entry.shown(&plain)).collect();
    let mut reader = Reader::new("spoilt", view.clone());
    reader.reads.push(Read { view, at_least: 0, at: 0, revision: 2, resources });
    assert_eq!(broken(&truth, &reader), ["private"]);
}

#[test]
fn private_finds_an_old_secret() {
    let broken = spoilt(&with_secrets(), |events| {
        let resource = changes(events, 3).changes[0].resource.as_mut().unwrap();
        secrets_in(resource).into_iter().for_each(|(_, secret)| secret.value = Some(format!("{CANARY}-1")));
    });
    assert_eq!(broken, ["private"]);
}
