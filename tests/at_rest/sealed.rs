//! Secrets in the database: sealed, bound to their place, and failing closed one by one.

use std::sync::Arc;

use signalbox::proto::v1::{
    ListResourcesRequest, VerifyLogRequest, WatchConfigRequest, resource::Spec, secret::State,
    watch_config_response::Event,
};

use crate::{
    api::{Api, api_key, provider, secret_setting, secrets_of, setting},
    forms::Forms,
    harness::{Home, PATIENCE, Server, soon, until_answered},
    sqlite::{edit, everything, texts},
};

/// Every secret of the store that the tests begin with, and where it stands.
const SECRETS: [(&str, &str); 5] = [
    ("providers/groq", "at-rest-header-one~?>-48151623"),
    ("providers/groq", "at-rest-header-two~?>-48151624"),
    ("providers/groq/apiKeys/one", "at-rest-key-one~?>-48151625"),
    ("providers/groq/apiKeys/two", "at-rest-key-two~?>-48151626"),
    ("settings/pass", "at-rest-setting~?>-48151627"),
];

/// A store with two secrets in one resource, two of one kind, one of another, and something in the clear.
async fn filled(home: &Arc<Home>) {
    let server = Server::start_in(home).await;
    let mut admin = Api::admin(&server).await;
    let [(_, first), (_, second), (one, key_one), (two, key_two), (pass, password)] = SECRETS;
    admin.create("providers/groq", provider(&[("x-first", first), ("x-second", second)])).await;
    admin.create(one, api_key(key_one)).await;
    admin.create(two, api_key(key_two)).await;
    admin.create(pass, secret_setting(password)).await;
    admin.create("settings/open", setting("in the clear")).await;
    server.stop().await;
}

/// What `UPDATE secrets SET token` finds a secret by.
fn id_of(name: &str, field: &str) -> String {
    format!("(SELECT secrets ->> '$.\"{field}\"' FROM resources WHERE name = '{name}')")
}

fn key_id(key: &str) -> String {
    id_of(&format!("providers/groq/apiKeys/{key}"), "api_key.secret")
}

/// The statement that exchanges two ciphertexts.
fn swap(one: &str, two: &str) -> String {
    format!(
        "CREATE TEMP TABLE two AS SELECT id, token FROM secrets WHERE id IN ({one}, {two}); UPDATE secrets SET token = \
         (SELECT token FROM two WHERE two.id <> secrets.id) WHERE id IN (SELECT id FROM two)"
    )
}

/// Names of resources whose secrets do not come, as a worker that may read them lists them. What does come is checked.
async fn closed(worker: &mut Api) -> Vec<String> {
    let request = ListResourcesRequest { include_secrets: true, ..Default::default() };
    let listed = worker.config.list_resources(request).await.expect("a list").into_inner().resources;
    assert_eq!(listed.len(), 5);
    let mut failed = Vec::new();
    for resource in &listed {
        let secrets = secrets_of(resource);
        let values: Vec<&str> = secrets.iter().filter_map(|secret| secret.value.as_deref()).collect();
        let expected = SECRETS.iter().filter(|(name, _)| *name == resource.name).map(|(_, value)| *value);
        let expected: Vec<&str> = expected.collect();
        assert_eq!(secrets.len(), expected.len(), "{}", resource.name);
        for secret in &secrets {
            let open = secret.value.as_deref().is_some_and(|value| expected.contains(&value));
            let state = if open { State::Present } else { State::Undecryptable };
            assert_eq!((secret.value.is_some(), secret.state()), (open, state), "{}", resource.name);
        }
        if values != expected {
            failed.push(resource.name.clone());
        }
    }
    failed
}

/// Asks for the status until it names what it should; the check at the start runs beside serving.
async fn named(admin: &mut Api, expected: &[&str]) {
    let what = format!("{expected:?} are named");
    until_answered(PATIENCE, &what, async || admin.undecryptable().await == expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_shows_readable_specs_and_only_sealed_secrets() {
    let home = Arc::new(Home::new());
    filled(&home).await;
    let spec = |name: &str| format!("SELECT spec FROM configuration WHERE name = '{name}'");
    let provider: serde_json::Value =
        serde_json::from_str(&texts(&home, &spec("providers/groq")).await[0]).unwrap();
    let text = provider.to_string();
    assert!(text.contains("https://api.groq.com") && text.contains("STATE_PRESENT"), "{text}");
    let open = texts(&home, &spec("settings/open")).await;
    assert!(open[0].contains("in the clear"), "{open:?}");
    let tokens = texts(&home, "SELECT token FROM secrets").await;
    assert_eq!(tokens.len(), SECRETS.len());
    assert!(tokens.iter().all(|token| token.starts_with("gAAAA")), "Fernet: {tokens:?}");
    let lengths: Vec<usize> = tokens.iter().map(String::len).collect();
    assert!(lengths.iter().all(|length| *length == lengths[0]), "the length is hidden: {lengths:?}");
    let mut stored = everything(&home).await;
    for file in std::fs::read_dir(home.path("data")).unwrap() {
        stored.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    assert!(Forms::of("in the clear: 12").found_in(&stored).is_none());
    assert!(crate::forms::contains(&stored, b"in the clear"), "the search sees what is there");
    for (name, value) in SECRETS {
        assert_eq!(Forms::of(value).found_in(&stored), None, "the secret of {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_ciphertexts_are_listed_fail_closed_and_stop_nothing_else() {
    let home = Arc::new(Home::new());
    filled(&home).await;
    edit(&home, &swap(&key_id("one"), &key_id("two"))).await;
    let both = ["providers/groq/apiKeys/one", "providers/groq/apiKeys/two"];

    let offline = home.run(&["doctor", "--offline"]).await;
    let told = String::from_utf8_lossy(&offline.stdout).into_owned();
    assert_eq!(offline.status.code(), Some(1), "{told}");
    assert!(both.iter().all(|name| told.contains(name)) && !told.contains("settings/pass"), "{told}");
    assert_eq!(
        told.matches("api_key.secret can't be decrypted: it was altered, or moved here").count(),
        2,
        "{told}"
    );
    assert!(told.contains("set the secret again") && !told.contains("key that sealed it"), "{told}");

    let server = Server::start_in(&home).await;
    let (mut admin, mut worker) = (Api::admin(&server).await, Api::worker(&server).await);
    named(&mut admin, &both).await;
    assert!(worker.undecryptable().await.is_empty(), "only admins are told");
    assert_eq!(closed(&mut worker).await, both);
    let got = worker.secrets(both[0], true).await;
    assert_eq!((got[0].value.as_deref(), got[0].state()), (None, State::Undecryptable));
    assert_eq!(admin.secrets(both[1], false).await[0].state(), State::Undecryptable);
    assert_eq!(admin.secrets("settings/pass", false).await[0].state(), State::Present);

    let online = server.run(&["doctor"]).await;
    let told = String::from_utf8_lossy(&online.stdout).into_owned();
    assert_eq!(online.status.code(), Some(1), "{told}");
    assert!(both.iter().all(|name| told.contains(name)) && !told.contains("settings/pass"), "{told}");
    assert_eq!(
        told.matches("api_key.secret can't be decrypted: it was altered, or moved here").count(),
        2,
        "{told}"
    );
    assert!(told.contains("set the secret again") && !told.contains("key that sealed it"), "{told}");
    let verified = admin.admin.verify_log(VerifyLogRequest::default()).await.unwrap().into_inner();
    assert!(verified.intact, "the log holds no ciphertext: {:?}", verified.defects);

    // A new value is the way out, for the one that gets it.
    admin.update(both[0], api_key("at-rest-key-new~?>-48151628")).await;
    assert_eq!(worker.secrets(both[0], true).await[0].value(), "at-rest-key-new~?>-48151628");
    named(&mut admin, &both[1..]).await;
    let log = std::fs::read_to_string(home.path("server.log")).unwrap();
    assert!(log.contains("ERROR") && log.contains("can't be decrypted"), "an alarm: {log}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_secrets_goes_on_past_what_cannot_be_opened() {
    let home = Arc::new(Home::new());
    filled(&home).await;
    edit(&home, &swap(&key_id("one"), &key_id("two"))).await;
    let server = Server::start_in(&home).await;
    let (mut admin, mut worker) = (Api::admin(&server).await, Api::worker(&server).await);
    let request = WatchConfigRequest { include_secrets: true, ..Default::default() };
    let mut stream = worker.config.watch_config(request).await.unwrap().into_inner();
    let mut next = async || {
        soon(stream.message()).await.expect("the stream goes on").expect("and does not end").event.unwrap()
    };
    let mut snapshot = Vec::new();
    loop {
        match next().await {
            Event::Snapshot(part) => snapshot.extend(part.resources),
            Event::Synced(_) => break,
            other => panic!("{other:?}"),
        }
    }
    let states = snapshot.iter().flat_map(|resource| {
        secrets_of(resource).into_iter().map(|secret| (resource.name.clone(), secret.value))
    });
    let mut states: Vec<_> = states.collect();
    states.sort();
    let expected =
        SECRETS.map(|(name, value)| (name.to_owned(), (!name.contains("apiKeys")).then(|| value.to_owned())));
    assert_eq!(states, expected);

    admin.create("settings/later", secret_setting("at-rest-later~?>-48151629")).await;
    // A change of a resource whose secret stays as it is: it comes, without the secret.
    let mut described = api_key("");
    if let Spec::ApiKey(key) = &mut described {
        key.secret = None;
        key.description = "described".to_owned();
    }
    admin.update("providers/groq/apiKeys/one", described).await;
    let mut changes = Vec::new();
    while changes.len() < 2 {
        match next().await {
            Event::Changes(batch) => changes.extend(batch.changes),
            Event::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let secret = |at: usize| secrets_of(changes[at].resource.as_ref().unwrap()).remove(0);
    assert_eq!(secret(0).value(), "at-rest-later~?>-48151629");
    assert_eq!((secret(1).value, secret(1).state), (None, State::Undecryptable.into()));
    assert_eq!(changes[1].name, "providers/groq/apiKeys/one");
}

/// Edits of the ciphertexts, and the names whose secrets are then closed, alone.
#[tokio::test(flavor = "multi_thread")]
async fn ciphertext_opens_only_where_it_was_sealed() {
    let (first, second) = (
        id_of("providers/groq", "provider.headers.x-first.secret"),
        id_of("providers/groq", "provider.headers.x-second.secret"),
    );
    let (one, two, pass) = (key_id("one"), key_id("two"), id_of("settings/pass", "setting.secret_value"));
    let home = Arc::new(Home::new());
    filled(&home).await;
    let other = Arc::new(Home::new());
    filled(&other).await;
    let foreign = texts(&other, &format!("SELECT token FROM secrets WHERE id = {pass}")).await.remove(0);
    let fields = |one: &str, two: &str| {
        format!(
            "UPDATE resources SET secrets = json_object('provider.headers.x-first.secret', {one}, \
             'provider.headers.x-second.secret', {two}) WHERE name = 'providers/groq'"
        )
    };
    let copy = |from: &str, to: &str| {
        format!("UPDATE secrets SET token = (SELECT token FROM secrets WHERE id = {from}) WHERE id = {to}")
    };
    let cases: [(&str, String, &[&str]); 9] = [
        ("copied to another row", copy(&one, &two), &["providers/groq/apiKeys/two"]),
        ("copied to another kind", copy(&one, &pass), &["settings/pass"]),
        ("copied to another field", copy(&first, &second), &["providers/groq"]),
        ("fields exchanged in the map", fields(&second, &first), &["providers/groq"]),
        (
            "another row's by the map",
            format!(
                "UPDATE resources SET secrets = json_object('api_key.secret', {two}) WHERE name = 'providers/groq/apiKeys/one'"
            ),
            &["providers/groq/apiKeys/one"],
        ),
        (
            "of another store",
            format!("UPDATE secrets SET token = '{foreign}' WHERE id = {pass}"),
            &["settings/pass"],
        ),
        (
            "of another data key",
            format!("UPDATE secrets SET data_key = 'log' WHERE id = {pass}"),
            &["settings/pass"],
        ),
        (
            "no ciphertext",
            format!("UPDATE secrets SET token = 'plain' WHERE id = {pass}"),
            &["settings/pass"],
        ),
        ("gone", format!("DELETE FROM secrets WHERE id = {pass}"), &["settings/pass"]),
    ];
    let database = home.path("data/signalbox.db");
    let untouched = std::fs::read(&database).unwrap();
    for (what, sql, expected) in &cases {
        std::fs::write(&database, &untouched).unwrap();
        edit(&home, sql).await;
        let server = Server::start_in(&home).await;
        let (mut admin, mut worker) = (Api::admin(&server).await, Api::worker(&server).await);
        assert_eq!(closed(&mut worker).await, *expected, "{what}");
        named(&mut admin, expected).await;
        server.stop().await;
    }
    std::fs::write(&database, &untouched).unwrap();
    let server = Server::start_in(&home).await;
    assert!(closed(&mut Api::worker(&server).await).await.is_empty(), "untouched, all open");
}
