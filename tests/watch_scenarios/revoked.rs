//! Secrets that are put out of use: told ahead of everything else, to those who have them, and to nobody else.

use signalbox::proto::v1::{
    ApiKeySpec, DatabaseSpec, DatabaseType, NotificationChannelSpec, NotificationChannelType, Resource,
    RotateApiKeyRequest, Secret, resource::Spec, watch_config_response::Event,
};

use crate::{
    flood, is_synced,
    support::{
        caller::{Caller, Rights},
        resources::{api_key, by_name, by_prefix, given, labelled, named, narrowed, provider, setting},
        server::Server,
        view::View,
        watcher::{Cursor, Open},
        writer::{Op, Writer},
    },
    writer,
};

const KEY: &str = "providers/a/apiKeys/k";

/// A provider with two keys, and one of another.
async fn prepare(writer: &mut Writer) {
    writer
        .batch(vec![
            Op::Create(provider("providers/a")),
            Op::Create(provider("providers/b")),
            Op::Create(labelled(api_key(KEY, "sk-1"), &[("team", "red")])),
            Op::Create(api_key("providers/a/apiKeys/other", "sk-2")),
            Op::Create(api_key("providers/b/apiKeys/k", "sk-3")),
        ])
        .await;
}

/// A worker that reads the secrets of what it is granted.
async fn worker(server: &Server) -> (Caller, View) {
    let grants = vec![by_prefix("providers/"), by_prefix("settings/")];
    let caller = server.admin().colleague("worker", &Rights::worker(grants.clone(), true)).await;
    (caller, View { selectors: vec![], grants, secrets: true })
}

fn inactive() -> Op {
    Op::update(key_with(|spec| spec.active = Some(false)), &["api_key.active"])
}

fn key_with(change: impl FnOnce(&mut ApiKeySpec)) -> Resource {
    let mut spec = ApiKeySpec::default();
    change(&mut spec);
    named(KEY, Spec::ApiKey(spec))
}

/// What a stream brings up to a revision: what it says is revoked, and the revisions of its changes.
async fn told(stream: &mut Open, up_to: u64) -> Vec<Told> {
    let mut told = Vec::new();
    loop {
        match stream.next().await.expect("the stream lives") {
            Event::Revoked(event) => told.push(Told::Revoked(event.revision, event.names)),
            Event::Synced(_) => told.push(Told::Synced),
            Event::Changes(event) => {
                told.push(Told::Changed(event.revision));
                if event.revision >= up_to {
                    return told;
                }
            }
            Event::Progress(event) if event.revision >= up_to => return told,
            Event::Progress(_) => {}
            other => panic!("neither {other:?}"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Revoked(u64, Vec<String>),
    Synced,
    Changed(u64),
}

fn revoked(revision: u64, names: &[&str]) -> Told {
    Told::Revoked(revision, names.iter().map(|&name| name.to_owned()).collect())
}

/// Deactivated, cleared, deleted, deleted with its provider; and what revokes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_puts_a_key_out_of_use_is_told_before_the_change() {
    let server = Server::start().await;
    let mut writer = writer(&server);
    prepare(&mut writer).await;
    let (caller, view) = worker(&server).await;
    let mut stream = Open::fresh(&caller, &view).await;
    stream.wait_for("synced", is_synced).await;

    let rotated = writer.write(Op::update(api_key(KEY, "sk-4"), &["api_key.secret"])).await.revision;
    assert_eq!(told(&mut stream, rotated).await, [Told::Changed(rotated)], "a new value revokes nothing");
    let off = writer.write(inactive()).await.revision;
    assert_eq!(told(&mut stream, off).await, [revoked(off, &[KEY]), Told::Changed(off)]);
    let text = key_with(|spec| spec.description = "still off".to_owned());
    let edited = writer.write(Op::update(text, &["api_key.description"])).await.revision;
    assert_eq!(told(&mut stream, edited).await, [Told::Changed(edited)], "it was off before");
    let on = Op::update(key_with(|spec| spec.active = Some(true)), &["api_key.active"]);
    let on = writer.write(on).await.revision;
    assert_eq!(told(&mut stream, on).await, [Told::Changed(on)]);
    let none = key_with(|spec| {
        spec.secret = Some(Secret { value: None, state: signalbox::proto::v1::secret::State::Absent.into() })
    });
    let cleared = writer.write(Op::update(none, &["api_key.secret"])).await.revision;
    assert_eq!(told(&mut stream, cleared).await, [revoked(cleared, &[KEY]), Told::Changed(cleared)]);
    let gone = writer.write(Op::delete("providers/b/apiKeys/k")).await.revision;
    let expected = [revoked(gone, &["providers/b/apiKeys/k"]), Told::Changed(gone)];
    assert_eq!(told(&mut stream, gone).await, expected);
    let all = writer.write(Op::delete("providers/a")).await.revision;
    let expected = [revoked(all, &[KEY, "providers/a/apiKeys/other"]), Told::Changed(all)];
    assert_eq!(told(&mut stream, all).await, expected);
}

/// A rotation tells it only where that is asked for, of the value before and of the one that is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_revokes_is_told_before_the_new_value() {
    let server = Server::start().await;
    let mut writer = writer(&server);
    prepare(&mut writer).await;
    let (caller, view) = worker(&server).await;
    let mut stream = Open::fresh(&caller, &view).await;
    stream.wait_for("synced", is_synced).await;
    let rotate = async |secret: &str, revoke_previous, retire_now| {
        let secret = (!secret.is_empty()).then(|| given(secret));
        let request = RotateApiKeyRequest {
            name: KEY.into(),
            secret,
            revoke_previous,
            retire_now,
            ..Default::default()
        };
        server.admin().api_key().rotate_api_key(request).await.expect("it is rotated").into_inner().revision
    };
    let kept = rotate("sk-2", false, false).await;
    assert_eq!(told(&mut stream, kept).await, [Told::Changed(kept)]);
    let leaked = rotate("", true, false).await;
    assert_eq!(told(&mut stream, leaked).await, [revoked(leaked, &[KEY]), Told::Changed(leaked)]);
    let gone = rotate("sk-3", false, true).await;
    assert_eq!(told(&mut stream, gone).await, [Told::Changed(gone)]);
    let both = rotate("sk-4", true, false).await;
    assert_eq!(told(&mut stream, both).await, [revoked(both, &[KEY]), Told::Changed(both)]);
}

/// Keys were the only ones: a worker that was behind went on with the password of a database that was switched off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_passwords_and_hooks_that_are_put_out_of_use_are_told_too() {
    let server = Server::start().await;
    let mut writer = writer(&server);
    let database = |password: &str, enabled| {
        let password = Some(given(password));
        let r#type = DatabaseType::Postgresql.into();
        let spec =
            DatabaseSpec { r#type, host: "db.example".into(), password, enabled, ..Default::default() };
        named("databases/main", Spec::Database(spec))
    };
    let hook = NotificationChannelSpec {
        r#type: NotificationChannelType::Webhook.into(),
        url: Some(given("https://hooks.example/secret")),
        ..Default::default()
    };
    let hook = named("notificationChannels/ops", Spec::NotificationChannel(hook));
    writer.batch(vec![Op::Create(database("hunter2", None)), Op::Create(hook)]).await;
    let grants = vec![by_prefix("databases/"), by_prefix("notificationChannels/")];
    let caller = server.admin().colleague("worker", &Rights::worker(grants.clone(), true)).await;
    let view = View { selectors: vec![], grants, secrets: true };
    let mut stream = Open::fresh(&caller, &view).await;
    stream.wait_for("synced", is_synced).await;

    let other = Op::update(database("hunter3", None), &["database.password"]);
    let rotated = writer.write(other).await.revision;
    assert_eq!(told(&mut stream, rotated).await, [Told::Changed(rotated)], "a new value revokes nothing");
    let off =
        writer.write(Op::update(database("hunter3", Some(false)), &["database.enabled"])).await.revision;
    assert_eq!(told(&mut stream, off).await, [revoked(off, &["databases/main"]), Told::Changed(off)]);
    let gone = writer.write(Op::delete("notificationChannels/ops")).await.revision;
    let expected = [revoked(gone, &["notificationChannels/ops"]), Told::Changed(gone)];
    assert_eq!(told(&mut stream, gone).await, expected);
}

/// Only who has the secret is told; a label that it lost meanwhile does not matter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_streams_that_have_the_secret_are_told() {
    let server = Server::start().await;
    let mut writer = writer(&server);
    prepare(&mut writer).await;
    let (caller, view) = worker(&server).await;
    let views = [
        View { secrets: false, ..view.clone() },
        View { selectors: vec![by_prefix("providers/b/")], ..view.clone() },
        View { selectors: vec![by_name("providers/a")], ..view.clone() },
        View { selectors: vec![narrowed(by_prefix("providers/"), "team", "red")], ..view.clone() },
    ];
    let mut streams = Vec::new();
    for view in &views {
        let mut stream = Open::fresh(&caller, view).await;
        stream.wait_for("synced", is_synced).await;
        streams.push(stream);
    }
    let off = writer.write(inactive()).await.revision;
    let [masked, elsewhere, provider, labelled] = &mut streams[..] else { panic!("four streams") };
    assert_eq!(told(masked, off).await, [Told::Changed(off)]);
    assert_eq!(told(elsewhere, off).await, []);
    assert_eq!(told(provider, off).await, []);
    assert_eq!(told(labelled, off).await, [revoked(off, &[KEY]), Told::Changed(off)]);
}

/// A reader that is behind learns of it before the rest of what waits for it, also where that has to be read from the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_told_ahead_of_all_that_waits_for_it() {
    for ring in ["1MiB", "64MiB"] {
        let server = Server::with(&[("log-ring-bytes", ring)]).await;
        let mut writer = writer(&server);
        prepare(&mut writer).await;
        let (caller, view) = worker(&server).await;
        let mut slow = Open::fresh(&caller, &view).await;
        slow.wait_for("synced", is_synced).await;
        let last = flood(&mut writer, "settings/big").await;
        let off = writer.write(inactive()).await.revision;
        let told = told(&mut slow, off).await;
        let place = told.iter().position(|told| *told == revoked(off, &[KEY]));
        let place = place.unwrap_or_else(|| panic!("{ring}: {told:?}"));
        let Some(Told::Changed(next)) = told.get(place + 1) else { panic!("{ring}: {told:?}") };
        assert!(*next < last, "{ring}: only what was on its way comes before it: {told:?}");
        let revisions: Vec<u64> = told
            .iter()
            .filter_map(|told| if let Told::Changed(revision) = told { Some(*revision) } else { None })
            .collect();
        assert_eq!(revisions, (last - 59..=off).collect::<Vec<_>>(), "{ring}: nothing is missing");
        assert_eq!(told.len(), revisions.len() + 1, "{ring}: it is told once");
    }
}

/// In the middle of a snapshot, which still holds the secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_on_its_way_is_overtaken() {
    let server = Server::start().await;
    let mut writer = writer(&server);
    prepare(&mut writer).await;
    for part in 0..4 {
        let many = (0..15)
            .map(|index| Op::Create(setting(&format!("settings/s_{part}_{index:02}"), "x".repeat(60_000))));
        writer.batch(many.collect()).await;
    }
    let (caller, view) = worker(&server).await;
    let mut stream = Open::fresh(&caller, &view).await;
    let Ok(Event::Snapshot(first)) = stream.next().await else { panic!("a snapshot begins") };
    assert!(!first.last, "the scenario is one only if there is more to come");
    let off = writer.write(inactive()).await.revision;
    let event = stream.wait_for("the revocation", |event| !matches!(event, Event::Snapshot(_))).await;
    let Event::Revoked(event) = event else { panic!("first comes {event:?}") };
    assert_eq!((event.revision, &event.names[..]), (off, &[KEY.to_owned()][..]));
    stream.wait_for("synced", is_synced).await;
    stream.reach(off).await;
}

async fn left_behind(caller: &Caller, view: &View) -> Cursor {
    let mut stream = Open::fresh(caller, view).await;
    stream.wait_for("synced", is_synced).await;
    stream.cursor.clone().expect("a cursor")
}

/// Who comes back from before it is told first, whatever the server remembers; who comes new gets the state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_resumes_from_before_it_is_told_first() {
    let mut server = Server::start().await;
    let mut writer = writer(&server);
    prepare(&mut writer).await;
    let (caller, view) = worker(&server).await;
    let cursor = left_behind(&caller, &view).await;
    let before = writer.write(Op::Create(setting("settings/a", "x"))).await.revision;
    let off = writer.write(inactive()).await.revision;
    let gone = writer.write(Op::delete("providers/a/apiKeys/other")).await.revision;
    let last = writer.write(Op::Create(setting("settings/b", "x"))).await.revision;
    let expected = || {
        let revoked = [revoked(off, &[KEY]), revoked(gone, &["providers/a/apiKeys/other"])];
        // Even before it is told to be in sync.
        let changed = (before..=last).map(Told::Changed);
        revoked.into_iter().chain([Told::Synced]).chain(changed).collect::<Vec<_>>()
    };
    for from in ["memory", "the log"] {
        let mut resumed = Open::resumed(&caller.reconnected(), &view, &cursor).await;
        assert_eq!(told(&mut resumed, last).await, expected(), "from {from}");
        let later = resumed.cursor.clone().expect("a cursor");
        let mut again = Open::resumed(&caller.reconnected(), &view, &later).await;
        again.wait_for("synced", is_synced).await;
        assert_eq!(told(&mut again, last).await, [], "who is past it knows");
        let mut fresh = Open::fresh(&caller.reconnected(), &view).await;
        fresh.wait_for("synced", is_synced).await;
        assert_eq!(told(&mut fresh, last).await, [], "who comes new has the state");
        // Started anew, it remembers nothing.
        server.restart().await;
    }
}

/// Whose place in the log is gone is told as well, before the snapshot is complete: until then it serves what it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_reset_is_told_before_the_snapshot_is_complete() {
    let server = Server::start().await;
    let mut writer = writer(&server);
    prepare(&mut writer).await;
    let (caller, view) = worker(&server).await;
    let cursor = left_behind(&caller, &view).await;
    let off = writer.write(inactive()).await.revision;
    let moved = Cursor { view_id: "0".repeat(32), ..cursor };
    let mut reset = Open::resumed(&caller, &view, &moved).await;
    let first = reset.next().await.expect("a reset");
    assert!(matches!(first, Event::Reset(_)), "{first:?}");
    let mut revoked = None;
    loop {
        match reset.next().await.expect("the stream lives") {
            Event::Revoked(event) => revoked = Some((event.revision, event.names)),
            Event::Synced(_) => break,
            Event::Snapshot(_) => {}
            other => panic!("not {other:?}"),
        }
    }
    assert_eq!(revoked, Some((off, vec![KEY.to_owned()])));
}
