//! The client against the real server: what a worker lives through, from its first connection to the day on which its
//! token is replaced, its server is upgraded and its log is compacted.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use std::{fs, process::Stdio, sync::Arc, time::Duration};

use signalbox::{
    client::{Client, ClientOptions, Error, EventKind, Selector, Source, Staleness, TokenSource, Update},
    proto::v1::{
        ApiKeySpec, BatchOperation, BatchWriteRequest, CompactLogRequest, DeleteResourceRequest,
        GetStatusRequest, ListWorkersRequest, ProviderSpec, ProviderType, Resource, Role, Secret,
        SettingSpec, UpdateResourceRequest, VirtualKeySpec, WorkerState, WorkerStatus,
        admin_service_client::AdminServiceClient, batch_operation,
        config_service_client::ConfigServiceClient, fleet_service_client::FleetServiceClient, resource::Spec,
        setting_spec::Value,
    },
};
use tokio::sync::mpsc;
use tonic::transport::Channel;

use harness::{
    PATIENCE, Server,
    calls::{channel, token_with, with},
    command, example, lines, soon, until, until_answered,
};

/// The administrator, who writes.
struct Admin {
    config: ConfigServiceClient<Channel>,
    admin: AdminServiceClient<Channel>,
    token: String,
}

impl Admin {
    async fn of(server: &Server) -> Self {
        let channel = channel(server.address()).await;
        let (config, admin) = (ConfigServiceClient::new(channel.clone()), AdminServiceClient::new(channel));
        Self { config, admin, token: server.admin_token() }
    }

    /// Creates or replaces; gives the revision.
    async fn set(&mut self, resource: Resource) -> u64 {
        let request = UpdateResourceRequest {
            resource: Some(resource),
            allow_missing: true,
            ..UpdateResourceRequest::default()
        };
        self.config.update_resource(with(&self.token, request)).await.unwrap().into_inner().revision
    }

    async fn set_int(&mut self, key: &str, value: i64) -> u64 {
        self.set(setting(&format!("settings/{key}"), Value::IntValue(value))).await
    }

    async fn delete(&mut self, name: &str) -> u64 {
        let request = DeleteResourceRequest { name: name.to_owned(), ..DeleteResourceRequest::default() };
        self.config.delete_resource(with(&self.token, request)).await.unwrap().into_inner().revision
    }

    async fn digest(&mut self) -> Vec<u8> {
        self.admin.get_status(with(&self.token, GetStatusRequest {})).await.unwrap().into_inner().digest
    }
}

fn resource(name: &str, spec: Spec) -> Resource {
    Resource { name: name.to_owned(), spec: Some(spec), ..Resource::default() }
}

fn setting(name: &str, value: Value) -> Resource {
    resource(name, Spec::Setting(SettingSpec { value: Some(value), ..SettingSpec::default() }))
}

fn secret(value: &str) -> Secret {
    Secret { value: Some(value.to_owned()), ..Secret::default() }
}

fn groq() -> Resource {
    resource(
        "providers/groq",
        Spec::Provider(ProviderSpec { r#type: ProviderType::Groq.into(), ..ProviderSpec::default() }),
    )
}

fn groq_key(id: &str, value: &str) -> Resource {
    let key = ApiKeySpec { secret: Some(secret(value)), ..ApiKeySpec::default() };
    resource(&format!("providers/groq/apiKeys/{id}"), Spec::ApiKey(key))
}

/// Options of a worker that may read secrets, and hears from the server every second.
async fn worker(server: &Server) -> ClientOptions {
    let token = token_with(server, Role::Worker, "w", true, Duration::from_secs(3_600)).await;
    ClientOptions::new(server.url())
        .token(TokenSource::fixed(token))
        .include_secrets(true)
        .progress_interval(Duration::from_secs(1))
}

async fn connect(options: ClientOptions) -> Client {
    let client = Client::connect(options).unwrap();
    client.wait_ready(PATIENCE).await.unwrap();
    client
}

#[tokio::test]
async fn regression_a_virtual_key_that_has_expired_when_it_is_written_is_warned_of() {
    let server = Server::start().await;
    let mut admin = Admin::of(&server).await;
    for (seconds, warnings) in [(1_000_000_000, 1), (4_000_000_000, 0)] {
        let expire_time = Some(prost_types::Timestamp { seconds, nanos: 0 });
        let spec = VirtualKeySpec { expire_time, ..VirtualKeySpec::default() };
        let request = UpdateResourceRequest {
            resource: Some(resource("virtualKeys/late", Spec::VirtualKey(spec))),
            allow_missing: true,
            ..UpdateResourceRequest::default()
        };
        let made = admin.config.update_resource(with(&admin.token, request)).await.unwrap().into_inner();
        assert_eq!(made.warnings.len(), warnings, "{:?}", made.warnings);
        assert!(made.warnings.iter().all(|warning| warning.contains("`expire_time` of virtualKeys/late")));
    }
}

/// A virtual key as an administrator gets it, and a gateway that has to take it, until it is switched off.
#[tokio::test]
async fn a_gateway_takes_the_keys_that_were_made() {
    let server = Server::start().await;
    let mut admin = Admin::of(&server).await;
    let key = |enabled| {
        let spec = VirtualKeySpec { enabled: Some(enabled), ..VirtualKeySpec::default() };
        resource("virtualKeys/team-a", Spec::VirtualKey(spec))
    };
    let request = UpdateResourceRequest {
        resource: Some(key(true)),
        allow_missing: true,
        ..UpdateResourceRequest::default()
    };
    let made = admin.config.update_resource(with(&admin.token, request)).await.unwrap().into_inner();
    let presented = made.one_time_secret;
    let client = connect(worker(&server).await).await;
    let found = client.find_virtual_key(&presented).unwrap();
    assert_eq!(client.snapshot().virtual_key("team-a").unwrap().key_id(), found.key_id());
    assert!(client.snapshot().virtual_key(&presented).is_none(), "that getter goes by the id");
    assert_eq!(found.id(), "team-a");
    assert!(presented.contains(found.key_id()) && found.allows_provider("groq"));
    assert!(
        client.find_virtual_key(&presented.replace(|letter: char| letter.is_ascii_digit(), "0")).is_none()
    );
    // Without secrets there is nothing to check it with, and nobody is let in.
    let blind = connect(worker(&server).await.include_secrets(false)).await;
    assert!(blind.find_virtual_key(&presented).is_none() && blind.get("virtualKeys/team-a").is_some());
    admin.set(key(false)).await;
    until(PATIENCE, "the key is not taken any more", || client.find_virtual_key(&presented).is_none()).await;
    assert!(client.get("virtualKeys/team-a").is_some());
}

#[tokio::test]
async fn a_worker_reads_what_was_written_typed_and_opened() {
    let server = Server::start().await;
    let mut admin = Admin::of(&server).await;
    admin.set(groq()).await;
    admin.set(groq_key("prod", "gsk-canary")).await;
    admin.set(setting("settings/maxRetries", Value::IntValue(3))).await;
    admin.set(setting("users/alice/settings/max-retries", Value::IntValue(7))).await;
    admin.set(setting("settings/ratio", Value::FloatValue(0.5))).await;
    admin.set(setting("settings/verbose", Value::BoolValue(true))).await;
    admin.set(setting("settings/greeting", Value::StringValue("hello".to_owned()))).await;
    let wait = prost_types::Duration { seconds: 1, nanos: 500_000_000 };
    admin.set(setting("settings/wait", Value::DurationValue(wait))).await;
    admin.set(setting("settings/smtp_password", Value::SecretValue(secret("pw-canary")))).await;
    let options = worker(&server).await.default_setting("fromWorker", Value::IntValue(1));
    let client = connect(options).await;

    assert!(client.provider("groq").unwrap().enabled());
    assert_eq!(client.api_key("groq", "prod").unwrap().secret().unwrap().expose(), "gsk-canary");
    assert_eq!(client.active_api_keys("groq").len(), 1);
    assert_eq!(
        client.secret("settings/smtp_password", "setting.secret_value").unwrap().expose(),
        "pw-canary"
    );
    assert_eq!(client.setting_int("max_retries").unwrap(), Some(3));
    assert_eq!(client.setting_int("MaxRetries").unwrap(), Some(3), "keys have one spelling at both ends");
    let alices = client.setting_for("alice", "maxRetries").unwrap();
    assert_eq!((alices.source(), alices.as_int()), (Source::User, Ok(7)));
    let bobs = client.setting_for("bob", "maxRetries").unwrap();
    assert_eq!((bobs.source(), bobs.as_int()), (Source::Global, Ok(3)));
    assert_eq!(client.setting_float("ratio").unwrap(), Some(0.5));
    assert_eq!(client.setting_bool("verbose").unwrap(), Some(true));
    assert_eq!(client.setting_string("greeting").unwrap().as_deref(), Some("hello"));
    assert_eq!(client.setting_duration("wait").unwrap(), Some(Duration::from_millis(1_500)));
    assert_eq!(client.setting("from_worker").unwrap().source(), Source::Default);
    assert_eq!(client.setting_int("unheard_of").unwrap(), None);

    admin.set(groq_key("prod", "gsk-rotated")).await;
    let revision = admin.delete("users/alice/settings/max_retries").await;
    client.wait_revision(revision, PATIENCE).await.unwrap();
    assert_eq!(client.api_key("groq", "prod").unwrap().secret().unwrap().expose(), "gsk-rotated");
    assert_eq!(client.setting_for("alice", "max_retries").unwrap().as_int(), Ok(3));
    let masked = token_with(&server, Role::Worker, "masked", false, PATIENCE).await;
    let refused = Client::connect(
        ClientOptions::new(server.url()).token(TokenSource::fixed(masked)).include_secrets(true),
    );
    let error = refused.unwrap().wait_ready(PATIENCE).await.unwrap_err();
    assert!(error.is_fatal(), "told at once, not after the whole wait: {error}");
}

#[tokio::test]
async fn changes_come_in_order_whole_and_only_those_asked_for() {
    let server = Server::start().await;
    let mut admin = Admin::of(&server).await;
    admin.set(groq()).await;
    let client = connect(worker(&server).await).await;
    let mut subscription = client.subscribe();
    let (send, mut called) = mpsc::unbounded_channel();
    let callback = client.on_change(Selector::prefix("settings/"), move |event| {
        send.send((event.kind, event.name.clone(), event.revision)).unwrap();
    });
    let first = admin.set_int("a", 1).await;
    let operations = ["settings/b", "settings/c"].map(|name| BatchOperation {
        operation: Some(batch_operation::Operation::Create(batch_operation::Create {
            resource: Some(setting(name, Value::IntValue(1))),
        })),
    });
    let batch = BatchWriteRequest { operations: operations.to_vec(), ..BatchWriteRequest::default() };
    let both = admin.config.batch_write(with(&admin.token, batch)).await.unwrap().into_inner().revision;
    admin.set(groq_key("prod", "gsk-x")).await;
    let updated = admin.set_int("a", 2).await;
    let deleted = admin.delete("settings/a").await;
    let mut sets = Vec::new();
    while sets.last().is_none_or(|(revision, _)| *revision < deleted) {
        let Some(Update::Changes(set)) = soon(subscription.next()).await else { panic!("not a change") };
        let names: Vec<_> = set.events.iter().map(|event| event.name.clone()).collect();
        sets.push((set.snapshot.revision(), names));
    }
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        sets,
        [
            (first, names(&["settings/a"])),
            (both, names(&["settings/b", "settings/c"])),
            (both + 1, names(&["providers/groq/apiKeys/prod"])),
            (updated, names(&["settings/a"])),
            (deleted, names(&["settings/a"])),
        ]
    );
    let mut heard = Vec::new();
    while heard.len() < 5 {
        heard.push(soon(called.recv()).await.expect("the callback is in force"));
    }
    let expected = [
        (EventKind::Created, "settings/a", first),
        (EventKind::Created, "settings/b", both),
        (EventKind::Created, "settings/c", both),
        (EventKind::Updated, "settings/a", updated),
        (EventKind::Deleted, "settings/a", deleted),
    ];
    assert_eq!(heard, expected.map(|(kind, name, revision)| (kind, name.to_owned(), revision)));
    drop(callback);
    let unheard = admin.set_int("a", 3).await;
    client.wait_revision(unheard, PATIENCE).await.unwrap();
    assert_eq!(soon(called.recv()).await, None, "a dropped callback is gone, and was not called");
}

#[tokio::test]
async fn a_restarted_server_is_resumed_without_a_snapshot() {
    let server = Server::start().await;
    let (address, home) = (server.address().to_owned(), Arc::clone(server.home()));
    let mut admin = Admin::of(&server).await;
    admin.set_int("a", 1).await;
    let client = connect(worker(&server).await).await;
    let mut subscription = client.subscribe();
    server.stop().await;
    // Told to go, so that the end of the stream is no error; what may follow is that nobody is there.
    let error = client.status().last_error;
    assert!(matches!(error.as_deref(), None | Some(Error::Connect { .. })), "{error:?}");

    // Elsewhere, as after an upgrade that went wrong first: what is written meanwhile must come as changes.
    let meanwhile = Server::start_in(&home).await;
    let mut admin = Admin::of(&meanwhile).await;
    let missed = [admin.set_int("a", 2).await, admin.set_int("b", 1).await, admin.delete("settings/b").await];
    meanwhile.stop().await;
    let server = Server::start_in_with(&home, &["--listen", &address]).await;
    client.wait_revision(missed[2], PATIENCE).await.unwrap();
    for revision in missed {
        let Some(Update::Changes(set)) = soon(subscription.next()).await else { panic!("not a change") };
        assert_eq!((set.snapshot.revision(), set.events.len()), (revision, 1), "each once, in order");
    }
    let mut admin = Admin::of(&server).await;
    assert_eq!(client.snapshot().digest().to_bytes().to_vec(), admin.digest().await);
    let status = client.status();
    assert_eq!((status.resets, status.digest_mismatches), (0, 0));
    assert!(status.reconnects >= 1 && status.last_error.is_none(), "{status:?}");
}

#[tokio::test]
async fn who_comes_back_after_a_compaction_is_reset_and_has_the_present() {
    let server = Server::start().await;
    let (address, home) = (server.address().to_owned(), Arc::clone(server.home()));
    let mut admin = Admin::of(&server).await;
    admin.set_int("stays", 1).await;
    admin.set_int("goes", 1).await;
    let client = connect(worker(&server).await).await;
    let mut subscription = client.subscribe();
    server.stop().await;
    let meanwhile = Server::start_in(&home).await;
    let mut admin = Admin::of(&meanwhile).await;
    admin.delete("settings/goes").await;
    let revision = admin.set_int("comes", 1).await;
    let compact = with(&admin.token, CompactLogRequest { revision });
    assert_eq!(admin.admin.compact_log(compact).await.unwrap().into_inner().floor_revision, revision);
    meanwhile.stop().await;
    let server = Server::start_in_with(&home, &["--listen", &address]).await;
    client.wait_revision(revision, PATIENCE).await.unwrap();
    let Some(Update::Changes(set)) = soon(subscription.next()).await else { panic!("not a change") };
    let mut events: Vec<_> = set.events.iter().map(|event| (event.name.as_str(), event.kind)).collect();
    events.sort_by_key(|(name, _)| *name);
    assert_eq!(events, [("settings/comes", EventKind::Created), ("settings/goes", EventKind::Deleted)]);
    assert_eq!(client.status().resets, 1);
    assert_eq!(client.snapshot().digest().to_bytes().to_vec(), Admin::of(&server).await.digest().await);
    assert_eq!(client.status().digest_mismatches, 0);
}

#[tokio::test]
async fn a_token_that_expires_is_replaced_in_its_file() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let short = token_with(&server, Role::Worker, "w", false, Duration::from_secs(4)).await;
    fs::write(&file, short).unwrap();
    let client = connect(ClientOptions::new(server.url()).token(TokenSource::file(&file))).await;
    let expired = || {
        let error = client.status().last_error;
        error.is_some_and(|error| {
            error.rpc().is_some_and(|rpc| rpc.reason.as_deref() == Some("TOKEN_EXPIRED"))
        })
    };
    until(PATIENCE, "the token expires", expired).await;
    assert!(client.status().loaded, "the cache is served on");
    let revision = Admin::of(&server).await.set_int("a", 1).await;
    let next = token_with(&server, Role::Worker, "w", false, Duration::from_secs(3_600)).await;
    fs::write(&file, next).unwrap();
    client.wait_revision(revision, PATIENCE).await.unwrap();
    assert_eq!((client.setting_int("a").unwrap(), client.status().resets), (Some(1), 0));
}

#[tokio::test]
async fn a_cache_is_stale_while_its_server_is_away_and_fresh_again_after() {
    let server = Server::start().await;
    let (address, home) = (server.address().to_owned(), Arc::clone(server.home()));
    Admin::of(&server).await.set_int("a", 1).await;
    let client =
        connect(worker(&server).await.staleness(Staleness::default().bound(Duration::from_secs(2)))).await;
    assert!(!client.status().stale);
    server.kill().await;
    until(PATIENCE, "the cache is stale", || client.status().stale).await;
    let status = client.status();
    assert!(
        !status.ready && status.loaded && status.confirmed_age.unwrap() > Duration::from_secs(2),
        "{status:?}"
    );
    assert!(status.last_error.is_some());
    assert_eq!(client.setting_int("a").unwrap(), Some(1), "served while nobody is there");
    let _server = Server::start_in_with(&home, &["--listen", &address]).await;
    until(PATIENCE, "the cache is fresh", || !client.status().stale).await;
    assert_eq!((client.status().resets, client.status().last_error.is_none()), (0, true));
}

#[tokio::test]
async fn in_normal_life_no_cache_heals_itself() {
    let server = Server::start().await;
    let mut admin = Admin::of(&server).await;
    admin.set(groq()).await;
    let everything = connect(worker(&server).await).await;
    let some = connect(worker(&server).await.selector(Selector::prefix("settings/"))).await;
    for round in 0..3 {
        for number in 0..20 {
            admin.set_int(&format!("k{}", number % 7), round * 100 + number).await;
        }
        let revision = admin.delete("settings/k3").await;
        let written = tokio::time::Instant::now();
        for client in [&everything, &some] {
            client.wait_revision(revision, PATIENCE).await.unwrap();
            // The heartbeat after the changes, with the digest that is compared.
            let confirmed = || client.status().confirmed_age.is_some_and(|age| age < written.elapsed());
            until(PATIENCE, "a heartbeat", confirmed).await;
        }
    }
    for client in [&everything, &some] {
        let status = client.status();
        assert_eq!((status.digest_mismatches, status.resets, status.reconnects), (0, 0, 0));
        assert!(!status.stale && status.last_error.is_none(), "{status:?}");
    }
    assert_eq!(everything.snapshot().digest().to_bytes().to_vec(), admin.digest().await);
    assert_ne!(some.snapshot().digest(), everything.snapshot().digest());
}

/// What operators see of a worker, as soon as that holds.
async fn shown(server: &Server, id: &str, holds: impl Fn(&WorkerStatus) -> bool) -> WorkerStatus {
    let mut fleet = FleetServiceClient::new(channel(server.address()).await);
    let mut found = None;
    until_answered(PATIENCE, "what operators see of the worker", async || {
        let request = with(&server.admin_token(), ListWorkersRequest::default());
        let listed = fleet.list_workers(request).await.unwrap().into_inner();
        found = listed.workers.into_iter().find(|worker| worker.id == id && holds(worker));
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// Whoever waits for all workers does not wait for one that has said goodbye.
#[tokio::test]
async fn a_client_that_is_closed_has_said_goodbye() {
    let server = Server::start().await;
    let mut admin = Admin::of(&server).await;
    admin.set_int("limit", 1).await;
    let client = connect(worker(&server).await.worker_id("polite")).await;
    shown(&server, "polite", |worker| worker.state() == WorkerState::Converged).await;
    soon(client.close()).await;
    admin.set_int("limit", 2).await;
    let mut fleet = FleetServiceClient::new(channel(server.address()).await);
    let request = with(&server.admin_token(), ListWorkersRequest::default());
    let listed = fleet.list_workers(request).await.unwrap().into_inner().workers;
    let waits = [WorkerState::Pending, WorkerState::Disconnected];
    assert!(!listed.iter().any(|worker| waits.contains(&worker.state())), "{listed:?}");
    assert_eq!(client.setting_int("limit").unwrap(), Some(1), "what was read last stays readable");
}

#[tokio::test]
async fn a_revision_that_is_not_accepted_is_shown_and_not_served() {
    let server = Server::start().await;
    let mut admin = Admin::of(&server).await;
    let first = admin.set_int("limit", 1).await;
    let options =
        worker(&server).await.worker_id("wary").validate(|snapshot| match snapshot.setting_int("limit") {
            Ok(Some(limit)) if limit > 10 => Err("limit is above 10\u{1b}".to_owned()),
            _ => Ok(()),
        });
    let client = connect(options).await;
    let second = admin.set_int("limit", 11).await;
    let found = shown(&server, "wary", |worker| worker.rejection.is_some()).await;
    let rejection = found.rejection.clone().unwrap();
    assert_eq!((rejection.revision, rejection.reason.as_str()), (second, "limit is above 10"));
    assert_eq!((found.state(), found.applied_revision), (WorkerState::Rejected, first));
    let status = client.status();
    assert_eq!((status.revision, status.rejection.unwrap().revision), (first, second));
    assert!(status.ready, "what was accepted last is served on");
    assert_eq!(client.setting_int("limit").unwrap(), Some(1));
    // A heartbeat, with the digest of what is known and not of what is served.
    let refused = tokio::time::Instant::now();
    let confirmed = || client.status().confirmed_age.is_some_and(|age| age < refused.elapsed());
    until(PATIENCE, "a heartbeat", confirmed).await;
    let third = admin.set_int("limit", 10).await;
    client.wait_revision(third, PATIENCE).await.unwrap();
    assert_eq!((client.setting_int("limit").unwrap(), client.status().rejection), (Some(10), None));
    let healed = shown(&server, "wary", |worker| worker.state() == WorkerState::Converged).await;
    assert_eq!((healed.applied_revision, healed.rejection), (third, None));
    let status = client.status();
    assert_eq!((status.digest_mismatches, status.resets, status.reconnects), (0, 0, 0));
}

#[tokio::test]
async fn the_example_prints_what_it_is_told_and_no_secret() {
    let program = example("worker").await;
    let server = Server::start().await;
    let mut admin = Admin::of(&server).await;
    let provider = admin.set(groq()).await;
    let token = token_with(&server, Role::Worker, "w", true, Duration::from_secs(60)).await;
    let mut child = command(program, server.home().folder())
        .env("SIGNALBOX_URL", server.url())
        .env("SIGNALBOX_TOKEN", token)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = lines(child.stdout.take().unwrap());
    let mut next = async || soon(lines.recv()).await.expect("a line of the worker");
    assert!(next().await.starts_with(&format!("{provider} Created providers/groq enabled=true")));
    let key = admin.set(groq_key("prod", "gsk-canary")).await;
    assert_eq!(next().await, format!("{key} Created providers/groq/apiKeys/prod active=true key=set"));
    let retries = admin.set_int("max_retries", 3).await;
    assert_eq!(next().await, format!("{retries} Created settings/max_retries IntValue(3)"));
    let deleted = admin.delete("providers/groq").await;
    let gone = [next().await, next().await].map(|line| line.trim_end().to_owned());
    assert!(gone.contains(&format!("{deleted} Deleted providers/groq")), "{gone:?}");
    assert!(gone.contains(&format!("{deleted} Deleted providers/groq/apiKeys/prod")), "{gone:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}
