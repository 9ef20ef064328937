//! Walks around keys that are turned over to another value, over one server or several that share a store.

use std::time::Duration;

use signalbox::proto::v1::{
    ApiKeyRotation, ApiKeySpec, AppliedReport, ExportConfigRequest, ExportedSecret, GetResourceRequest,
    HistoryEntry, ImportConfigRequest, ImportItem, ImportMode, ImportOptions, ListHistoryRequest,
    ProviderSpec, ReportAppliedRequest, Resource, RotateApiKeyRequest, RotateApiKeyResponse, Secret,
    api_key_rotation, fleet_service_client::FleetServiceClient, resource::Spec, secret::State,
    watch_config_response::Event,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    active::{Callers, prepare, refusal},
    caller::{Caller, Rights},
    keys::seen,
    resources::{api_key, by_name, by_prefix, given, named},
    view::View,
    watcher::Open,
    writer::Op,
};
use crate::harness::{PATIENCE, until_answered};

pub const KEY: &str = "providers/a/apiKeys/k";
/// What [`prepare`] gives it.
const FIRST: &str = "sk-0123456789";

/// A rotation of the key to a value, or to none.
pub fn to(value: &str) -> RotateApiKeyRequest {
    let secret = (!value.is_empty()).then(|| given(value));
    RotateApiKeyRequest { name: KEY.to_owned(), secret, ..Default::default() }
}

pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

pub async fn rotate(callers: &Callers, request: RotateApiKeyRequest) -> Result<RotateApiKeyResponse, Status> {
    callers.settle().await;
    let done = callers.next().api_key().rotate_api_key(request).await?.into_inner();
    callers.keep(&done.revision_token);
    Ok(done)
}

/// The key as somebody is shown it.
pub async fn key(caller: &Caller, include_secrets: bool) -> ApiKeySpec {
    let request = GetResourceRequest { name: KEY.to_owned(), include_secrets, ..Default::default() };
    let resource = caller.config().get_resource(request).await.unwrap().into_inner().resource.unwrap();
    let Some(Spec::ApiKey(spec)) = resource.spec else { panic!("no key") };
    spec
}

/// The present value, and the one before if it is kept.
async fn values(callers: &Callers, worker: &Caller) -> (String, Option<String>) {
    callers.settle().await;
    let spec = key(worker, true).await;
    assert_eq!(spec.rotation.is_some(), spec.previous_secret.is_some());
    let previous = spec.previous_secret.map(|secret| secret.value().to_owned());
    (spec.secret.unwrap().value().to_owned(), previous)
}

pub async fn newest(caller: &Caller) -> HistoryEntry {
    let request = ListHistoryRequest { selectors: vec![by_name(KEY)], page_size: 1, ..Default::default() };
    caller.config().list_history(request).await.unwrap().into_inner().entries.remove(0)
}

/// Who may read the secrets of providers.
pub async fn reader(admin: &Caller) -> Caller {
    admin.colleague("reader", &Rights::worker(vec![by_prefix("providers/")], true)).await
}

fn retiring(spec: &ApiKeySpec) -> ApiKeyRotation {
    let rotation = spec.rotation.expect("a rotation");
    assert_eq!(rotation.state(), api_key_rotation::State::Retiring);
    rotation
}

/// What a rotation keeps, who is shown it, and what ends it.
pub async fn the_value_before_is_kept_until_it_is_retired(callers: &Callers, worker: &Caller) {
    prepare(callers).await;
    let begun =
        rotate(callers, RotateApiKeyRequest { timeout: seconds(600), ..to("sk-second") }).await.unwrap();
    assert_eq!(values(callers, worker).await, ("sk-second".to_owned(), Some(FIRST.to_owned())));
    let Some(Spec::ApiKey(answered)) = begun.api_key.unwrap().spec else { panic!("no key") };
    let masked = key(&callers.next(), false).await;
    assert_eq!(answered, masked, "the answer is what is stored");
    let previous = Some(Secret { value: None, state: State::Present.into() });
    assert_eq!(
        (&masked.previous_secret, &masked.secret),
        (&previous, &previous),
        "an administrator sees no value"
    );
    let rotation = retiring(&masked);
    assert_eq!(rotation.expire_time.unwrap().seconds - rotation.start_time.unwrap().seconds, 600);

    // An edit that leaves the value alone leaves the rotation alone; so does one that says it should not.
    let edit = ApiKeySpec { description: "edited".into(), ..Default::default() };
    callers.write(vec![Op::update(named(KEY, Spec::ApiKey(edit)), &["api_key.description"])]).await.unwrap();
    let empty = || named(KEY, Spec::ApiKey(ApiKeySpec::default()));
    callers.write(vec![Op::update(empty(), &["api_key.rotation", "api_key.previous_secret"])]).await.unwrap();
    assert_eq!(values(callers, worker).await, ("sk-second".to_owned(), Some(FIRST.to_owned())));
    assert_eq!(key(&callers.next(), false).await.rotation, Some(rotation));

    // Another rotation would take a value away that workers may still use.
    let status = rotate(callers, to("sk-third")).await.unwrap_err();
    let (code, reason, field, _) = refusal(&status);
    assert_eq!(
        (code, reason.as_str(), field.as_str()),
        (Code::FailedPrecondition, "ROTATION_UNDER_WAY", "name")
    );
    assert!(status.message().contains(&format!("signalbox keys rotate {KEY} --retire-now")), "{status:?}");
    assert_eq!(values(callers, worker).await, ("sk-second".to_owned(), Some(FIRST.to_owned())));

    // What is done about it: the one before is let go of, and then there is room for another.
    rotate(callers, RotateApiKeyRequest { retire_now: true, ..to("") }).await.unwrap();
    rotate(callers, to("sk-third")).await.unwrap();
    assert_eq!(values(callers, worker).await, ("sk-third".to_owned(), Some("sk-second".to_owned())));
    let anew = retiring(&key(&callers.next(), false).await);
    assert_eq!(
        anew.expire_time.unwrap().seconds - anew.start_time.unwrap().seconds,
        3600,
        "an hour if not said"
    );

    let dry = RotateApiKeyRequest { retire_now: true, validate_only: true, ..to("") };
    rotate(callers, dry).await.unwrap();
    rotate(callers, RotateApiKeyRequest { retire_now: true, ..to("") }).await.unwrap();
    assert_eq!(values(callers, worker).await, ("sk-third".to_owned(), None));
    assert_eq!(newest(&callers.next()).await.action, "retired");
    let none = rotate(callers, RotateApiKeyRequest { retire_now: true, ..to("") }).await.unwrap_err();
    assert_eq!((none.code(), refusal(&none).1.as_str()), (Code::FailedPrecondition, "NO_ROTATION"));

    // A value that is written directly is no rotation, and ends one.
    rotate(callers, to("sk-fourth")).await.unwrap();
    callers.write(vec![Op::update(api_key(KEY, "sk-fifth"), &["api_key.secret"])]).await.unwrap();
    assert_eq!(values(callers, worker).await, ("sk-fifth".to_owned(), None));
    assert_eq!(newest(&callers.next()).await.action, "rotated");

    // Nothing is kept where that is asked for.
    rotate(callers, RotateApiKeyRequest { retire_now: true, ..to("sk-sixth") }).await.unwrap();
    assert_eq!(values(callers, worker).await, ("sk-sixth".to_owned(), None));
    assert_eq!(newest(&callers.next()).await.action, "rotated");
    rotate(callers, to("sk-seventh")).await.unwrap();
    rotate(callers, RotateApiKeyRequest { revoke_previous: true, ..to("sk-eighth") }).await.unwrap();
    assert_eq!(values(callers, worker).await, ("sk-eighth".to_owned(), None));
    assert_eq!(newest(&callers.next()).await.action, "revoked");
    rotate(callers, to("sk-ninth")).await.unwrap();
    rotate(callers, RotateApiKeyRequest { revoke_previous: true, ..to("") }).await.unwrap();
    assert_eq!(values(callers, worker).await, ("sk-ninth".to_owned(), None), "the present value stays");
    assert_eq!(newest(&callers.next()).await.action, "revoked");
}

/// Nobody sets what only the server sets, and a request says one thing.
pub async fn what_makes_no_rotation_is_refused(callers: &Callers) {
    prepare(callers).await;
    rotate(callers, to("sk-second")).await.unwrap();
    callers.settle().await;
    let before = callers.next().status().await.revision;
    let now = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 });
    let made = ApiKeyRotation { start_time: now, expire_time: now, ..Default::default() };
    let forged = [
        (
            ApiKeySpec { previous_secret: Some(given("sk-forged")), ..Default::default() },
            "api_key.previous_secret",
        ),
        (ApiKeySpec { rotation: Some(made), ..Default::default() }, "api_key.rotation"),
    ];
    for (spec, field) in forged {
        for mask in [&[][..], &[field]] {
            let status = callers.write(vec![Op::update(named(KEY, Spec::ApiKey(spec.clone())), mask)]).await;
            let status = status.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
            let violation = status.get_error_details().bad_request().unwrap().field_violations[0].clone();
            assert!(violation.field.contains(field), "{violation:?}");
            assert!(violation.description.contains("leave it out"), "{violation:?}");
        }
    }
    // The value that it has, however the rotation is meant; and the one before is there still.
    for same in [
        to("sk-second"),
        RotateApiKeyRequest { retire_now: true, ..to("sk-second") },
        RotateApiKeyRequest { revoke_previous: true, ..to("sk-second") },
    ] {
        let status = rotate(callers, same).await.unwrap_err();
        let (code, reason, field, _) = refusal(&status);
        assert_eq!(
            (code, reason.as_str(), field.as_str()),
            (Code::FailedPrecondition, "SAME_VALUE", "secret.value"),
            "{status:?}"
        );
        assert!(!format!("{status:?}").contains("sk-second"), "{status:?}");
    }
    let bad: [(RotateApiKeyRequest, &str); 6] = [
        (to(""), "secret.value"),
        (RotateApiKeyRequest { retire_now: true, secret: Some(Secret::default()), ..to("") }, "secret.value"),
        (RotateApiKeyRequest { timeout: seconds(0), ..to("sk-x") }, "timeout"),
        (RotateApiKeyRequest { timeout: seconds(604_801), ..to("sk-x") }, "timeout"),
        (RotateApiKeyRequest { timeout: seconds(60), retire_now: true, ..to("sk-x") }, "timeout"),
        (RotateApiKeyRequest { revoke_previous: true, retire_now: true, ..to("sk-x") }, "revoke_previous"),
    ];
    for (request, field) in bad {
        let status = rotate(callers, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let violations = status.get_error_details().bad_request().unwrap().field_violations.clone();
        assert_eq!(violations[0].field, field, "{violations:?}");
    }
    assert_eq!(callers.next().status().await.revision, before, "nothing was changed");
}

/// The server lets go of it by itself.
pub async fn the_value_before_goes_at_its_time(callers: &Callers, worker: &Caller) {
    prepare(callers).await;
    rotate(callers, RotateApiKeyRequest { timeout: seconds(1), ..to("sk-second") }).await.unwrap();
    callers.settle().await;
    let admin = callers.next();
    let over = async || key(&admin, false).await.rotation.is_none();
    until_answered(PATIENCE + Duration::from_secs(20), "the value before is retired", over).await;
    let entry = newest(&admin).await;
    assert_eq!((entry.action.as_str(), entry.actor.as_str()), ("retired", "signalbox"));
    assert!(entry.reason.starts_with("its time is over"), "{}", entry.reason);
    assert_eq!(key(worker, true).await.secret.unwrap().value(), "sk-second");
}

/// A worker that follows the key, and says what it runs when it is asked to.
pub struct Worker {
    caller: Caller,
    stream: Open,
    session_id: String,
}

impl Worker {
    /// A worker that has the key with its secret, and has said so.
    pub async fn start(caller: &Caller) -> Self {
        let view = View { selectors: vec![], grants: vec![by_prefix("providers/")], secrets: true };
        let mut stream = Open::fresh(caller, &view).await;
        let event = stream.wait_for("synced", |event| matches!(event, Event::Synced(_))).await;
        let Event::Synced(synced) = event else { unreachable!() };
        let worker = Self { caller: caller.clone(), stream, session_id: synced.session_id };
        worker.report(synced.revision).await;
        worker
    }

    /// Says that it runs a revision.
    pub async fn report(&self, applied_revision: u64) {
        let report =
            AppliedReport { session_id: self.session_id.clone(), applied_revision, ..Default::default() };
        let request = ReportAppliedRequest { reports: vec![report] };
        let answer = FleetServiceClient::new(self.caller.authorised()).report_applied(request).await;
        let unknown = answer.expect("the report is taken").into_inner().unknown_reports;
        assert!(unknown.is_empty(), "the session is known");
    }

    /// Reads up to a revision, and says that it runs it.
    pub async fn apply(&mut self, revision: u64) {
        self.stream.reach(revision).await;
        self.report(revision).await;
    }
}

/// What is told of a rotation that is under way: who lacks the new value, and how many there are.
async fn standing(caller: &Caller) -> Option<(u64, u64)> {
    let seen = seen(caller, KEY).await.into_iter().find(|seen| seen.what == "rotation")?;
    let value: serde_json::Value = serde_json::from_str(&seen.value_json).unwrap();
    Some((value["waiting"].as_u64()?, value["workers"].as_u64()?))
}

/// It goes once every worker has the new value, and not before.
pub async fn the_value_before_goes_once_every_worker_has_the_new_one(callers: &Callers, reader: &Caller) {
    prepare(callers).await;
    let (mut quick, mut slow) = (Worker::start(reader).await, Worker::start(reader).await);
    let rotated = rotate(callers, to("sk-second")).await.unwrap().revision;
    callers.settle().await;
    let admin = callers.next();
    quick.apply(rotated).await;
    until_answered(PATIENCE, "one is waited for", async || standing(&admin).await == Some((1, 2))).await;
    // Longer than a rotation lasts at least.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(key(&admin, false).await.rotation.is_some(), "one has not said that it has the new value");
    slow.apply(rotated).await;
    let over = async || key(&admin, false).await.rotation.is_none();
    until_answered(PATIENCE, "the value before is retired", over).await;
    let entry = newest(&admin).await;
    assert_eq!(
        (entry.action.as_str(), entry.reason.as_str()),
        ("retired", "every worker runs the new value")
    );
    assert_eq!(key(reader, true).await.previous_secret, None);
}

/// Who never says is waited for until the time is over, and that is told.
pub async fn who_never_says_is_waited_for_until_the_time_is_over(callers: &Callers, reader: &Caller) {
    prepare(callers).await;
    let mut silent = Worker::start(reader).await;
    let request = RotateApiKeyRequest { timeout: seconds(14), ..to("sk-second") };
    let rotated = rotate(callers, request).await.unwrap().revision;
    callers.settle().await;
    silent.stream.reach(rotated).await;
    let admin = callers.next();
    let over = async || key(&admin, false).await.rotation.is_none();
    until_answered(PATIENCE + Duration::from_secs(15), "the value before is retired", over).await;
    let reason = newest(&admin).await.reason;
    assert_eq!(reason, "its time is over; 1 of 1 workers have not said that they run the new value");
}

/// Begins a rotation that somebody is seen to be waited for in, for a while.
pub async fn begin_with_a_silent_worker(callers: &Callers, reader: &Caller) {
    prepare(callers).await;
    let _silent = Worker::start(reader).await;
    rotate(callers, RotateApiKeyRequest { timeout: seconds(20), ..to("sk-second") }).await.unwrap();
    let admin = callers.next();
    until_answered(PATIENCE, "one is waited for", async || standing(&admin).await == Some((1, 1))).await;
}

/// Waits until a rotation is over, on a server that may have to take it over.
pub async fn is_brought_to_its_end(admin: &Caller) {
    let over = async || key(admin, false).await.rotation.is_none();
    until_answered(PATIENCE + Duration::from_secs(40), "the value before is retired", over).await;
    assert_eq!(newest(admin).await.action, "retired");
}

async fn exported(admin: &Caller) -> (Vec<Resource>, Vec<ExportedSecret>) {
    let export_key = signalbox::app::generate_key().expect("a key").expose().to_owned();
    let selectors = vec![by_prefix("providers/a/")];
    let request = ExportConfigRequest { selectors, export_key, ..Default::default() };
    let mut parts = admin.admin().export_config(request).await.unwrap().into_inner();
    let (mut resources, mut secrets) = (Vec::new(), Vec::new());
    while let Some(part) = parts.message().await.unwrap() {
        resources.extend(part.resources);
        secrets.extend(part.secrets);
    }
    (resources, secrets)
}

/// An export is without it, an import leaves it alone, and a provider that moves does not take the value before along.
pub async fn the_value_before_is_carried_nowhere(callers: &Callers, reader: &Caller) {
    prepare(callers).await;
    rotate(callers, to("sk-second")).await.unwrap();
    callers.settle().await;
    let admin = callers.next();
    let (resources, secrets) = exported(&admin).await;
    let fields: Vec<_> = secrets.iter().map(|secret| secret.field.as_str()).collect();
    assert_eq!((resources.len(), &fields[..]), (1, &["api_key.secret"][..]));
    let Some(Spec::ApiKey(spec)) = &resources[0].spec else { panic!("no key") };
    assert_eq!((spec.rotation, &spec.previous_secret), (None, &None));

    // The same brought back, and what an export of another tool may say besides.
    let mut forged = resources[0].clone();
    if let Some(Spec::ApiKey(spec)) = &mut forged.spec {
        spec.rotation = Some(ApiKeyRotation::default());
        spec.previous_secret = Some(given("sk-forged"));
    }
    for resource in [resources[0].clone(), forged] {
        let options = ImportOptions { mode: ImportMode::Replace.into(), ..Default::default() };
        let items = vec![ImportItem { resource: Some(resource), ..Default::default() }];
        let messages = vec![ImportConfigRequest { options: Some(options), items }];
        let done = admin.admin().import_config(tokio_stream::iter(messages)).await.unwrap().into_inner();
        callers.keep(&done.revision_token);
        assert_eq!(values(callers, reader).await, ("sk-second".to_owned(), Some(FIRST.to_owned())));
    }

    let moved = ProviderSpec { base_url: "https://elsewhere.example/v1".into(), ..Default::default() };
    let moved = Op::update(named("providers/a", Spec::Provider(moved)), &["provider.base_url"]);
    let refused = callers.refused(vec![moved.clone()]).await;
    assert_eq!(refused.1, "SECRET_REQUIRED");
    let again = Op::update(api_key(KEY, "sk-there"), &["api_key.secret"]);
    callers.write(vec![moved, again]).await.unwrap();
    assert_eq!(values(callers, reader).await, ("sk-there".to_owned(), None));
}
