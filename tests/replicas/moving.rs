//! A store that moves to another database: everything goes along, and at no moment two of them can be served.

mod killed;
mod refused;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use signalbox::proto::v1::{
    BatchOperation, BatchWriteRequest, CompactLogRequest, CreateResourceRequest, CreateResourceResponse,
    DeleteResourceRequest, GetResourceRequest, GetStatusResponse, ListResourcesRequest, Resource,
    RevokeTokenRequest, UpdateResourceRequest, VerifyLogRequest,
    batch_operation::{self, Operation},
    watch_config_response::Event,
};
use tonic::Code;

use crate::{
    cluster::create,
    harness::{Home, Server},
    pgbouncer::Pooler,
    postgres,
    support::{
        caller::{Caller, Rights, Site},
        resources::{api_key, by_kind, masked, provider, secret_setting, setting, values_in},
        view::View,
        watcher::{Cursor, Open},
    },
};

const SQLITE: &str = "sqlite://data/signalbox.db";
const SECRET: &str = "moved-secret-16180339887";

/// What somebody outside keeps of a store while it moves.
struct Kept {
    /// Signed by the first server.
    admin: String,
    worker: String,
    revoked: String,
    status: GetStatusResponse,
    resources: Vec<Resource>,
    /// A request that was answered.
    request: CreateResourceRequest,
    answer: CreateResourceResponse,
    cursor: Cursor,
    view: View,
}

/// Runs `signalbox migrate`.
async fn migrate(home: &Home, from: &str, to: &str, more: &[&str]) -> Output {
    home.run(&[&["migrate", "--from", from, "--to", to], more].concat()).await
}

/// The same, which has to succeed; its one line.
async fn moved(home: &Home, from: &str, to: &str) -> String {
    let output = migrate(home, from, to, &[]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Another program with a folder's environment.
fn beside(home: &Home, program: &str, arguments: &[&str]) -> Command {
    let around = home.signalbox(&[]);
    let mut command = Command::new(program);
    command.args(arguments).current_dir(home.folder()).env_clear().stdin(Stdio::null());
    command.envs(around.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// The key that the first server made.
fn made_key(home: &Home) -> String {
    fs::read_to_string(home.path("data/encryption.key")).unwrap().trim().to_owned()
}

fn caller(server: &Server, token: &str) -> Caller {
    Caller::new(&Site::of(server), token)
}

async fn list(caller: &Caller) -> Vec<Resource> {
    let request = ListResourcesRequest { page_size: 1000, ..ListResourcesRequest::default() };
    caller.config().list_resources(request).await.unwrap().into_inner().resources
}

async fn secret_of(caller: &Caller, name: &str) -> Vec<String> {
    let request = GetResourceRequest { name: name.into(), include_secrets: true, ..Default::default() };
    let resource = caller.config().get_resource(request).await.unwrap().into_inner().resource.unwrap();
    values_in(&resource).into_values().collect()
}

/// Writes of every sort: batches, updates, deletions, secrets, a compaction, a revocation.
async fn fill(server: &Server, admin: &str) -> Kept {
    let writer = caller(server, admin);
    create(&writer, provider("providers/p")).await;
    create(&writer, api_key("providers/p/apiKeys/k", SECRET)).await;
    create(&writer, secret_setting("settings/password", "first")).await;
    let operations = (0..450).map(|index| {
        let resource = Some(setting(&format!("settings/s{index}"), "x".repeat(index)));
        let create = batch_operation::Create { resource };
        BatchOperation { operation: Some(Operation::Create(create)) }
    });
    let batch = BatchWriteRequest { operations: operations.collect(), ..Default::default() };
    let floor = writer.config().batch_write(batch).await.unwrap().into_inner().revision;
    for index in 0..40 {
        let resource = Some(secret_setting("settings/password", &format!("{SECRET}-{index}")));
        let update = UpdateResourceRequest { resource, reason: "rotated".into(), ..Default::default() };
        writer.config().update_resource(update).await.unwrap();
    }
    let gone = DeleteResourceRequest { name: "settings/s7".into(), ..Default::default() };
    writer.config().delete_resource(gone).await.unwrap();
    writer.admin().compact_log(CompactLogRequest { revision: floor }).await.unwrap();
    let worker =
        writer.token_for("worker", &Rights::worker(vec![by_kind("setting"), by_kind("api_key")], true)).await;
    let revoked = writer.token_for("dismissed", &Rights::viewer()).await;
    let revoke = RevokeTokenRequest { subject: "dismissed".into(), ..Default::default() };
    writer.admin().revoke_token(revoke).await.unwrap();
    let request = CreateResourceRequest {
        resource: Some(setting("settings/once", "1")),
        request_id: "the-same-request".into(),
        ..Default::default()
    };
    let answer = writer.config().create_resource(request.clone()).await.unwrap().into_inner();
    let view = View { grants: vec![by_kind("setting")], secrets: true, ..View::default() };
    let mut stream = Open::fresh(&caller(server, &worker), &view).await;
    stream.wait_for("the end of the snapshot", |event| matches!(event, Event::Synced(_))).await;
    let cursor = stream.cursor.clone().unwrap();
    let (status, resources) = (writer.status().await, list(&writer).await);
    Kept { admin: admin.into(), worker, revoked, status, resources, request, answer, cursor, view }
}

/// Everything is there, and goes on, in another life.
async fn is_there(server: &Server, kept: &Kept, kind: &str) {
    let admin = caller(server, &kept.admin);
    let status = admin.status().await;
    assert_eq!((status.store_kind.as_str(), &status.store_id), (kind, &kept.status.store_id));
    assert_eq!((status.revision, status.floor_revision), (kept.status.revision, kept.status.floor_revision));
    assert_eq!((&status.digest, status.resources), (&kept.status.digest, kept.status.resources));
    assert_ne!(status.epoch, kept.status.epoch, "a new life");
    let masks = |resources: &[Resource]| resources.iter().map(without_etag).collect::<Vec<_>>();
    assert_eq!(masks(&list(&admin).await), masks(&kept.resources));
    let worker = caller(server, &kept.worker);
    assert_eq!(secret_of(&worker, "settings/password").await, [format!("{SECRET}-39")]);
    assert_eq!(secret_of(&worker, "providers/p/apiKeys/k").await, [SECRET]);
    let verified = admin.admin().verify_log(VerifyLogRequest::default()).await.unwrap().into_inner();
    assert!(verified.intact && verified.defects.is_empty(), "{:?}", verified.defects);
    let old = VerifyLogRequest { anchor_token: kept.status.revision_token.clone() };
    assert_eq!(admin.admin().verify_log(old).await.unwrap_err().code(), Code::FailedPrecondition);

    let dismissed = caller(server, &kept.revoked);
    let refused = dismissed.config().list_resources(ListResourcesRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    let again = admin.config().create_resource(kept.request.clone()).await.unwrap().into_inner();
    assert_eq!(again.revision, kept.answer.revision, "the request was answered before");
    assert_eq!(again.resource.as_ref().map(without_etag), kept.answer.resource.as_ref().map(without_etag));

    let mut stream = Open::resumed(&worker, &kept.view, &kept.cursor).await;
    let first = stream.wait_for("a reset", |event| !matches!(event, Event::Progress(_))).await;
    assert!(matches!(first, Event::Reset(_)), "{first:?}");
    stream.wait_for("the end of the snapshot", |event| matches!(event, Event::Synced(_))).await;
    let name = format!("settings/written_on_{kind}_{}", status.epoch);
    let revision = create(&admin, setting(&name, "x")).await;
    assert_eq!(revision, kept.status.revision + 1);
    stream.reach(revision).await;
}

/// The etag holds the life of the store.
fn without_etag(resource: &Resource) -> Resource {
    Resource { etag: String::new(), ..masked(resource) }
}

/// Every file of a data directory but SQLite's own index and an empty write-ahead log.
fn contents(home: &Home) -> BTreeMap<String, Vec<u8>> {
    let Ok(files) = fs::read_dir(home.path("data")) else { return BTreeMap::new() };
    let files = files.map(|file| file.unwrap().path());
    let files = files.map(|path| (path.display().to_string(), fs::read(&path).unwrap()));
    files
        .filter(|(path, bytes)| !(path.ends_with("-shm") || path.ends_with("-wal") && bytes.is_empty()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_moves_to_postgres_and_back_with_everything() {
    there_and_back(postgres::shared().database().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_moves_there_and_back_through_a_pooler_in_transaction_mode() {
    let direct = postgres::shared().database().await;
    let port = postgres::port_of(&direct);
    let pooler = Pooler::before(port);
    there_and_back(direct.replace(&format!(":{port}/"), &format!(":{}/", pooler.port()))).await;
}

/// From SQLite to the database at a URL, and back.
async fn there_and_back(url: String) {
    let first = Arc::new(Home::new());
    let server = Server::start_in(&first).await;
    let mut kept = fill(&server, &server.admin_token()).await;
    server.stop().await;

    let untouched = contents(&first);
    let survey = migrate(&first, SQLITE, &url, &["--dry-run"]).await;
    let told = String::from_utf8_lossy(&survey.stdout).into_owned();
    assert!(told.starts_with("would move 453 resources at revision "), "{told} {survey:?}");
    assert!(contents(&first) == untouched, "a survey writes nothing");
    let line = moved(&first, SQLITE, &url).await;
    let (moved_so_much, _) = line.split_once(", epoch ").expect("its life there");
    assert_eq!(moved_so_much, told.trim_end().replacen("would move", "moved", 1), "as it was surveyed");
    assert_eq!(line.lines().count(), 1, "{line}");
    let refused = first.refused().await;
    assert!(refused.message.contains("it was moved to postgres at 127.0.0.1"), "{}", refused.message);
    let doctor = first.run(&["doctor", "--offline"]).await;
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("it was moved to"), "{doctor:?}");

    // Told again, it says the same; and there is nothing to give up.
    assert!(moved(&first, SQLITE, &url).await.starts_with("moved 453 resources"));
    let given_up = migrate(&first, SQLITE, &url, &["--abandon"]).await;
    assert_eq!(given_up.status.code(), Some(5), "{given_up:?}");

    let second =
        Arc::new(Home::new().with("SIGNALBOX_DATABASE_URL", &url).with("ENCRYPTION_KEY", made_key(&first)));
    let server = Server::start_in(&second).await;
    is_there(&server, &kept, "postgres").await;
    let admin = caller(&server, &kept.admin);
    (kept.status, kept.resources) = (admin.status().await, list(&admin).await);
    server.stop().await;

    let third = Home::new().with("ENCRYPTION_KEY", made_key(&first)).with("OLD", &url);
    moved(&third, "env:OLD", SQLITE).await;
    let refused = second.refused().await;
    assert!(refused.message.contains("it was moved to sqlite at "), "{}", refused.message);
    let mode = fs::metadata(third.path("data/jwt.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let signing = |home: &Home| fs::read_to_string(home.path("data/jwt.key")).unwrap();
    assert_eq!(signing(&third), signing(&first));
    let doctor = third.run(&["doctor", "--offline"]).await;
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stdout));
    let third = Arc::new(third);
    let server = Server::start_in(&third).await;
    is_there(&server, &kept, "sqlite").await;
    server.stop().await;
}
