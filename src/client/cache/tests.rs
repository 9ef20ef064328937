//! The cache on disk: what is kept comes back, and what is not to be used is refused with its reason.

use std::{
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Command,
};

use super::*;
use crate::{
    client::{
        ClientOptions, Kind, Selector, TokenSource, clock::wall, entry::Entry, replica::Cursor,
        snapshot::Snapshot, token::Subject,
    },
    proto::v1::{ApiKeySpec, Resource, Secret, SettingSpec, resource::Spec, setting_spec::Value},
};

const KEY: &str = "a-secret-of-at-least-thirty-two-characters";
const PROD: &str = "providers/groq/apiKeys/prod";
const HOUR: Duration = Duration::from_secs(3_600);

fn resource(name: &str, spec: Option<Spec>) -> Resource {
    Resource { name: name.to_owned(), update_revision: 7, spec, ..Resource::default() }
}

fn saved(confirmed: Duration) -> Saved {
    let secret = Some(Secret { value: Some("gsk-canary".to_owned()), ..Secret::default() });
    let key = Spec::ApiKey(ApiKeySpec { secret, ..ApiKeySpec::default() });
    let setting = Spec::Setting(SettingSpec { value: Some(Value::IntValue(5)), ..SettingSpec::default() });
    let mut snapshot = Snapshot::default();
    snapshot.revision = 9;
    snapshot.revoked.insert("settings/revoked".into(), 12);
    for resource in
        [resource(PROD, Some(key)), resource("settings/a", Some(setting)), resource("novelties/a", None)]
    {
        snapshot.upsert(Arc::new(Entry::new(resource)));
    }
    let cursor = Cursor { resume_token: "token".to_owned(), view_id: "view".to_owned() };
    Saved { snapshot: Arc::new(snapshot), cursor, confirmed }
}

fn options(url: &str) -> ClientOptions {
    ClientOptions::new(url).include_secrets(true)
}

fn identity() -> Identity {
    options("http://a:1").identity(&Subject::default())
}

struct Place {
    folder: tempfile::TempDir,
    cache: DiskCache,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache/worker");
        let cache = CacheOptions::new(path, SecretText::new(KEY)).open().unwrap();
        Self { folder, cache }
    }

    /// With a file that was confirmed so long ago.
    fn with_file(age: Duration) -> Self {
        let place = Self::new();
        place.cache.save(&identity(), &saved(wall() - age)).unwrap();
        place
    }

    fn load(&self) -> Result<Option<Saved>, CacheError> {
        self.load_as(&identity())
    }

    fn load_as(&self, identity: &Identity) -> Result<Option<Saved>, CacheError> {
        self.cache.load(identity, Arc::default(), wall())
    }

    fn set_mode(&self, mode: u32) {
        fs::set_permissions(&self.cache.path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn what_is_kept_comes_back() {
    let place = Place::new();
    assert!(place.load().unwrap().is_none(), "there is no file yet");
    place.cache.remove().unwrap();
    let given = saved(wall() - HOUR);
    place.cache.save(&identity(), &given).unwrap();
    let found = place.load().unwrap().unwrap();
    assert_eq!((found.snapshot.revision, found.snapshot.len(), &found.cursor), (9, 3, &given.cursor));
    assert_eq!(found.snapshot.digest(), given.snapshot.digest());
    assert_eq!(found.snapshot.secret(PROD, "api_key.secret").unwrap().expose(), "gsk-canary");
    assert_eq!(found.snapshot.setting_int("a").unwrap(), Some(5));
    assert!(found.snapshot.revoked.contains_key("settings/revoked"));
    assert!(found.confirmed.abs_diff(given.confirmed) < Duration::from_millis(1));
    place.cache.remove().unwrap();
    assert!(place.load().unwrap().is_none());
}

#[test]
fn the_file_is_private_whole_and_shows_nothing() {
    let place = Place::with_file(Duration::ZERO);
    place.cache.save(&identity(), &saved(wall())).unwrap();
    let content = fs::read(&place.cache.path).unwrap();
    for text in ["gsk", "groq", "settings", "token"] {
        assert!(!content.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
    }
    assert_eq!(fs::metadata(&place.cache.path).unwrap().mode() & 0o777, 0o600);
    let folder = place.folder.path().join("cache");
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn one_that_was_changed_or_cut_is_refused() {
    let place = Place::with_file(Duration::ZERO);
    let content = fs::read(&place.cache.path).unwrap();
    for at in [20, 40, 60, content.len() - 1] {
        let mut changed = content.clone();
        changed[at] ^= 1;
        fs::write(&place.cache.path, changed).unwrap();
        assert!(matches!(place.load(), Err(CacheError::Foreign { .. })), "{at}");
    }
    for size in 0..content.len() {
        fs::write(&place.cache.path, &content[..size]).unwrap();
        let refused = place.load().unwrap_err();
        assert!(
            matches!(refused, CacheError::Foreign { .. } | CacheError::Unknown { .. }),
            "{size}: {refused}"
        );
    }
    fs::write(&place.cache.path, "signalbox python cache 1\n and more").unwrap();
    assert!(matches!(place.load(), Err(CacheError::Unknown { .. })));
}

#[test]
fn a_foreign_one_is_refused() {
    let place = Place::with_file(Duration::ZERO);
    let other_subject = Subject { subject: "w".to_owned(), ..Subject::default() };
    for (other, subject) in [
        (options("http://b:1"), &Subject::default()),
        (options("http://a:1").include_secrets(false), &Subject::default()),
        (options("http://a:1").selector(Selector::kind(Kind::Setting)), &Subject::default()),
        (options("http://a:1").selector(Selector::all().label("a", "b")), &Subject::default()),
        (options("http://a:1"), &other_subject),
    ] {
        let refused = place.load_as(&other.identity(subject)).unwrap_err();
        assert!(matches!(refused, CacheError::Foreign { .. }), "{other:?}: {refused}");
    }
    let other_key = SecretText::new(KEY.to_uppercase());
    let other = CacheOptions::new(&place.cache.path, other_key).open().unwrap();
    assert!(matches!(other.load(&identity(), Arc::default(), wall()), Err(CacheError::Foreign { .. })));
}

#[test]
fn the_order_of_servers_and_selectors_says_nothing() {
    let (a, b) = (Selector::name("settings/a"), Selector::prefix("providers"));
    let one = options("http://a:1").endpoints(vec!["http://a:1".into(), "http://b:1".into()]);
    let other = options("http://a:1").endpoints(vec!["http://b:1".into(), "http://a:1".into()]);
    let one = one.selector(a.clone()).selector(b.clone());
    assert_eq!(
        one.identity(&Subject::default()),
        other.selector(b).selector(a).identity(&Subject::default())
    );
}

/// A replica more, or another spelling of the same one, threw the cache away: just when it was needed.
#[test]
fn regression_a_cache_of_the_same_service_is_used_whatever_replicas_are_named() {
    let place = Place::new();
    let of = |urls: &[&str]| {
        options("")
            .endpoints(urls.iter().map(|url| (*url).to_owned()).collect())
            .identity(&Subject::default())
    };
    place.cache.save(&of(&["http://a:50051", "https://b.example"]), &saved(wall())).unwrap();
    for same in [
        &["http://a:50051"][..],
        &["https://B.example:443/", "http://c:1"],
        &["HTTP://A:50051/", "http://c:1", "http://d:1"],
    ] {
        assert!(place.load_as(&of(same)).unwrap().is_some(), "{same:?}");
    }
    for other in [&["http://c:1"][..], &["https://a:50051"], &["http://a:50052"], &["http://b.example"], &[]]
    {
        let refused = place.load_as(&of(other)).unwrap_err();
        assert!(matches!(refused, CacheError::Foreign { .. }), "{other:?}: {refused}");
    }
}

#[test]
fn one_that_others_may_touch_is_refused() {
    let place = Place::with_file(Duration::ZERO);
    for mode in [0o640, 0o604, 0o620] {
        place.set_mode(mode);
        assert!(matches!(place.load(), Err(CacheError::NotPrivate { .. })), "{mode:o}");
    }
    place.set_mode(0o600);
    let link = place.folder.path().join("link");
    symlink(&place.cache.path, &link).unwrap();
    let linked = CacheOptions::new(&link, SecretText::new(KEY)).open().unwrap();
    assert!(matches!(linked.load(&identity(), Arc::default(), wall()), Err(CacheError::Unreadable { .. })));
    linked.save(&identity(), &saved(wall())).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_file(), "the link is replaced, and not what it leads to");
    let folder = CacheOptions::new(place.folder.path(), SecretText::new(KEY)).open().unwrap();
    assert!(matches!(folder.load(&identity(), Arc::default(), wall()), Err(CacheError::NotPrivate { .. })));
    assert!(matches!(folder.save(&identity(), &saved(wall())), Err(CacheError::Unwritable { .. })));
}

#[test]
fn one_beyond_its_age_or_of_the_future_is_refused() {
    let place = Place::with_file(HOUR * 25);
    let refused = place.load().unwrap_err();
    assert!(matches!(&refused, CacheError::TooOld { age, limit, .. } if age > limit), "{refused}");
    let patient = CacheOptions::new(&place.cache.path, SecretText::new(KEY)).max_age(HOUR * 26).open();
    assert!(patient.unwrap().load(&identity(), Arc::default(), wall()).unwrap().is_some());
    place.cache.save(&identity(), &saved(wall() + HOUR)).unwrap();
    assert!(matches!(place.load(), Err(CacheError::Future { .. })));
}

#[test]
fn a_key_is_long_and_its_file_is_private() {
    let refused = |options: &CacheOptions| options.open().map(|_| ()).unwrap_err();
    assert!(matches!(refused(&CacheOptions::new("c", SecretText::new("short"))), Error::Options(_)));
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let options = CacheOptions::with_key_file("c", &key);
    assert!(matches!(refused(&options), Error::CacheKey { .. }));
    fs::write(&key, format!("{KEY}\n")).unwrap();
    for (mode, good) in [(0o600, true), (0o640, true), (0o660, false), (0o644, false)] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(options.open().is_ok(), good, "{mode:o}");
    }
    assert!(!format!("{options:?} {:?}", CacheOptions::new("c", SecretText::new(KEY))).contains(KEY));
}

/// It was waited for, or taken into memory, for ever.
#[test]
fn regression_a_key_that_is_a_pipe_or_has_no_end_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let refused = || CacheOptions::with_key_file("c", &path).open().map(|_| ()).unwrap_err().to_string();
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&path).status().unwrap().success());
    assert!(refused().contains("no file"), "{}", refused());
    fs::remove_file(&path).unwrap();
    write(&path, &vec![b'k'; 1 << 20]).unwrap();
    assert!(refused().contains("longer"), "{}", refused());
}

/// The same file as for the client in Python; `tests/vectors/cache.py` has made it without our code.
#[tokio::test]
async fn the_vector_opens() {
    let vector: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vectors/cache.json")).unwrap();
    let text = |name: &str| vector[name].as_str().unwrap().to_owned();
    let options = ClientOptions::new("")
        .endpoints(serde_json::from_value(vector["urls"].clone()).unwrap())
        .include_secrets(true)
        .token(TokenSource::fixed(text("token")))
        .selector(Selector::all())
        .selector(Selector::prefix("providers/").label("tier", "gold").label("area", "eu"))
        .selector(Selector::name("settings/a"))
        .selector(Selector::kind(Kind::Setting));
    let token = options.token.read().await.unwrap();
    let identity = options.identity(&Subject::of(token.as_ref()));
    assert_eq!(hex::encode(identity.to_bytes()), text("identity"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    write(&path, &hex::decode(text("file")).unwrap()).unwrap();
    let cache = CacheOptions::new(path, SecretText::new(text("secret"))).open().unwrap();
    let confirmed = Duration::from_secs(vector["confirmed"].as_u64().unwrap());
    let saved = cache.load(&identity, Arc::default(), confirmed + HOUR).unwrap().unwrap();
    assert_eq!(saved.confirmed, confirmed);
    assert_eq!(saved.cursor, Cursor::default(), "another client wrote it, so the next state comes whole");
    let snapshot = &saved.snapshot;
    assert_eq!(snapshot.revision, vector["revision"].as_u64().unwrap());
    assert_eq!(hex::encode(snapshot.digest().to_bytes()), text("digest"));
    assert_eq!(snapshot.setting_int("a").unwrap(), Some(5));
    assert_eq!(snapshot.api_key("groq", "prod").unwrap().secret().unwrap().expose(), "gsk-vector");
    assert!(snapshot.revoked.contains_key("settings/a"));
}

/// Of several processes with one file the one that closed last put its older state over a newer one.
#[test]
fn regression_an_older_state_is_not_put_over_a_newer_one() {
    let place = Place::new();
    let now = wall();
    let mut newer = saved(now);
    let mut snapshot = (*newer.snapshot).clone();
    snapshot.revision = 11;
    snapshot.revoked.clear();
    newer.snapshot = Arc::new(snapshot);
    let kept = |given: &Saved| {
        place.cache.save(&identity(), &newer).unwrap();
        place.cache.save(&identity(), given).unwrap();
        place.load().unwrap().unwrap().snapshot.revision
    };
    let mut older = saved(now + Duration::from_secs(5));
    assert_eq!(kept(&older), 9, "it knows a secret to be revoked at 12 that the file does not");
    let mut snapshot = (*older.snapshot).clone();
    snapshot.revoked.clear();
    older.snapshot = Arc::new(snapshot);
    assert_eq!(kept(&older), 11);
    older.confirmed = now + Duration::from_secs(120);
    assert_eq!(kept(&older), 9, "a lower revision that is confirmed so much later is of another life");
    older.confirmed = now;
    older.cursor.view_id = "another".to_owned();
    assert_eq!(kept(&older), 9, "it shows something else");
}

#[test]
fn regression_what_killed_processes_left_behind_is_swept() {
    let place = Place::with_file(Duration::ZERO);
    let folder = place.cache.path.parent().unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH + wall() - HOUR;
    let (left, new) = (".worker.0123456789abcdef", ".worker.0123456789abcdee");
    for name in [left, new, ".worker.old", ".worker.0123456789abcdeg", "other", ".other.0123456789abcdef"] {
        let file = File::create(folder.join(name)).unwrap();
        if name != new {
            file.set_modified(long_ago).unwrap();
        }
    }
    place.cache.sweep();
    assert!(!folder.join(left).exists());
    assert_eq!(fs::read_dir(folder).unwrap().count(), 6, "nothing else is touched");
}
