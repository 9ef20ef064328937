//! Bad input through gRPC: each gets the code, the `ErrorInfo` reason and the field that api.md promises, shows no
//! secret, and leaves the store as it was.

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod support;

use prost::Message;
use signalbox::proto::v1::{
    CompactLogRequest, CreateResourceRequest, CreateTokenRequest, GetResourceRequest, ListResourcesRequest,
    Resource, Role, Selector, VerifyLogRequest, WatchConfigRequest, Worker, resource::Spec,
    setting_spec::Value,
};
use support::{
    caller::Caller,
    raw,
    resources::{
        CANARY, api_key, by_kind, by_name, by_prefix, labelled, named, narrowed, provider, secret_setting,
        setting, with_header,
    },
    server::Server,
    truth::Recorder,
    watcher::WATCH,
    writer::{Job, Op, Writer},
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Something that must be refused.
#[allow(clippy::large_enum_variant, reason = "there are few, and they are short-lived")]
enum Call {
    Write(Op),
    Job(Job),
    Get(GetResourceRequest),
    List(ListResourcesRequest),
    Watch(WatchConfigRequest),
    Token(CreateTokenRequest),
    Compact(u64),
    Verify(&'static str),
    /// Bytes that are no message, as the body of a path.
    Raw(&'static str, Vec<u8>),
}

/// What was done, and what has to come of it: the reason and the beginning of the field's path.
type Case = (&'static str, Call, Code, &'static str, &'static str);

const CREATE: &str = "/signalbox.v1.ConfigService/CreateResource";
const INVALID: Code = Code::InvalidArgument;

async fn call(caller: &Caller, call: Call) -> Result<(), Status> {
    let mut writer = Writer::new(caller.clone(), Recorder::default());
    match call {
        Call::Write(op) => writer.carry_out(&Job::one(op)).await.map(drop),
        Call::Job(job) => writer.carry_out(&job).await.map(drop),
        Call::Get(request) => caller.config().get_resource(request).await.map(drop),
        Call::List(request) => caller.config().list_resources(request).await.map(drop),
        Call::Watch(request) => raw::stream(caller, WATCH, request.encode_to_vec().into()).await.map(drop),
        Call::Token(request) => caller.admin().create_token(request).await.map(drop),
        Call::Compact(revision) => caller.admin().compact_log(CompactLogRequest { revision }).await.map(drop),
        Call::Verify(token) => {
            let request = VerifyLogRequest { anchor_token: token.to_owned() };
            caller.admin().verify_log(request).await.map(drop)
        }
        Call::Raw(path, body) if path == WATCH => raw::stream(caller, path, body.into()).await.map(drop),
        Call::Raw(path, body) => raw::unary(caller, path, body.into()).await.map(drop),
    }
}

/// A server with something in it.
async fn furnished() -> Server {
    let server = Server::start().await;
    let mut writer = Writer::new(server.admin(), Recorder::default());
    writer.write(Op::Create(provider("providers/a"))).await;
    writer.write(Op::Create(api_key("providers/a/apiKeys/k", &format!("{CANARY}-kept")))).await;
    writer.write(Op::Create(setting("settings/s", "x"))).await;
    server
}

/// Makes every call, and reports everything that was not as promised.
async fn refused(server: &Server, cases: Vec<Case>) {
    let admin = server.admin();
    let mut wrong = Vec::new();
    for (what, bad, code, reason, field) in cases {
        let before = admin.status().await;
        let outcome = call(&admin, bad).await;
        let after = admin.status().await;
        if (before.revision, &before.digest) != (after.revision, &after.digest) {
            wrong.push(format!("{what}: the store has changed"));
        }
        match outcome {
            Ok(()) => wrong.push(format!("{what}: was accepted")),
            Err(status) => {
                wrong.extend(judge(&status, code, reason, field).err().map(|why| format!("{what}: {why}")))
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn judge(status: &Status, code: Code, reason: &str, field: &str) -> Result<(), String> {
    let details = status.get_error_details();
    let said = details.error_info().map(|info| (info.domain.as_str(), info.reason.as_str()));
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    let named = field.is_empty() || fields.iter().any(|found| found.starts_with(field));
    if format!("{status:?}").contains(CANARY) || String::from_utf8_lossy(status.details()).contains(CANARY) {
        return Err(format!("the error shows the secret: {}", status.message()));
    }
    let right = status.code() == code && said == Some(("signalbox", reason)) && named;
    let found = || format!("{:?} {said:?} {fields:?}: {:.200}", status.code(), status.message());
    if right { Ok(()) } else { Err(format!("wanted {code:?} {reason} {field:?}, was {}", found())) }
}

fn create(resource: Resource) -> Call {
    Call::Write(Op::Create(resource))
}

fn list(request: ListResourcesRequest) -> Call {
    Call::List(request)
}

fn with_value(value: Value) -> Resource {
    let mut resource = setting("settings/new", "");
    if let Some(Spec::Setting(spec)) = &mut resource.spec {
        spec.value = Some(value);
    }
    resource
}

#[tokio::test]
async fn names_that_are_none() {
    let server = furnished().await;
    let names = [
        ("an empty name", String::new()),
        ("a giant name", format!("settings/{}", "a".repeat(100_000))),
        ("a giant segment", format!("settings/{}", "a".repeat(129))),
        ("a name with NUL", "settings/a\0b".to_owned()),
        ("a name in another script", "settings/ключ".to_owned()),
        ("a name with bidirectional controls", "settings/a\u{202E}b".to_owned()),
        ("a doubled slash", "settings//a".to_owned()),
        ("a trailing slash", "settings/a/".to_owned()),
        ("a path upwards", "settings/../providers".to_owned()),
        ("an escaped slash", "settings/a%2fb".to_owned()),
        ("an unknown collection", "planets/mars".to_owned()),
        ("a collection in capitals", "Settings/a".to_owned()),
        ("a collection alone", "settings".to_owned()),
    ];
    let mut cases: Vec<Case> = Vec::new();
    for (what, name) in names {
        cases.push((what, create(setting(&name, "x")), INVALID, "INVALID_NAME", "resource.name"));
        let update = Op::update(setting(&name, "x"), &["setting.string_value"]);
        cases.push((what, Call::Write(update), INVALID, "INVALID_NAME", "resource.name"));
        cases.push((what, Call::Write(Op::delete(&name)), INVALID, "INVALID_NAME", "name"));
        let get = GetResourceRequest { name: name.clone(), ..Default::default() };
        cases.push((what, Call::Get(get), INVALID, "INVALID_NAME", "name"));
        let selectors = vec![by_name(&name)];
        let watch = WatchConfigRequest { selectors: selectors.clone(), ..Default::default() };
        cases.push((what, Call::Watch(watch), INVALID, "INVALID_NAME", "selectors[0].name"));
        let request = ListResourcesRequest { selectors, ..Default::default() };
        cases.push((what, list(request), INVALID, "INVALID_NAME", "selectors[0].name"));
        let batch =
            Job::batch(vec![Op::Create(setting("settings/sound", "x")), Op::Create(setting(&name, "x"))]);
        cases.push((what, Call::Job(batch), INVALID, "INVALID_NAME", "operations[1].create.resource.name"));
    }
    refused(&server, cases).await;
}

#[tokio::test]
async fn contents_that_are_not_allowed() {
    let server = furnished().await;
    let wrong_arm = named("providers/new", setting("x", "x").spec.unwrap());
    let key = |secret: &str| api_key("providers/a/apiKeys/new", secret);
    let giant_secret = format!("{CANARY}{}", "x".repeat(64 * 1024));
    let giant = {
        let mut giant = provider("providers/new");
        if let Some(Spec::Provider(spec)) = &mut giant.spec {
            spec.models = (0..400).map(|index| format!("{index}{}", "界".repeat(190))).collect();
            spec.models.extend((0..600).map(|index| format!("m{index}{}", "x".repeat(150))));
        }
        giant
    };
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let duration = prost_types::Duration { seconds: 1, nanos: -1 };
    let many: Vec<(String, String)> = (0..33).map(|index| (format!("k{index}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let labels = |labels: &[(&str, &str)]| create(labelled(setting("settings/new", "x"), labels));
    let header = |value: &str| create(with_header(provider("providers/new"), "x-extra", value));
    let broken_header = format!("{CANARY}\nx");
    let nul = format!("{CANARY}\0");
    refused(
        &server,
        vec![
            ("the wrong arm", create(wrong_arm), INVALID, "WRONG_KIND", "resource.setting"),
            (
                "no arm",
                create(Resource { name: "providers/new".into(), ..Default::default() }),
                INVALID,
                "REQUIRED",
                "resource.provider",
            ),
            ("no resource", Call::Raw(CREATE, Vec::new()), INVALID, "INVALID_NAME", "resource.name"),
            ("an empty secret", create(key("")), INVALID, "INVALID_FORMAT", "resource.api_key.secret"),
            (
                "a secret with NUL",
                create(key(&nul)),
                INVALID,
                "FORBIDDEN_CHARACTER",
                "resource.api_key.secret",
            ),
            ("a giant secret", create(key(&giant_secret)), INVALID, "TOO_LONG", "resource.api_key.secret"),
            (
                "a secret header with a line feed",
                header(&broken_header),
                INVALID,
                "INVALID_FORMAT",
                "resource.provider.headers.x-extra.secret",
            ),
            (
                "a secret setting without a value",
                create(secret_setting("settings/new", "")),
                INVALID,
                "INVALID_FORMAT",
                "resource.setting.secret_value",
            ),
            (
                "a value with NUL",
                create(setting("settings/new", "a\0b")),
                INVALID,
                "FORBIDDEN_CHARACTER",
                "resource.setting.string_value",
            ),
            (
                "a giant value",
                create(setting("settings/new", "x".repeat(64 * 1024 + 1))),
                INVALID,
                "TOO_LONG",
                "resource.setting.string_value",
            ),
            (
                "JSON 10,000 deep",
                create(with_value(Value::JsonValue(deep))),
                INVALID,
                "INVALID_FORMAT",
                "resource.setting.json_value",
            ),
            (
                "JSON that is none",
                create(with_value(Value::JsonValue("{".into()))),
                INVALID,
                "INVALID_FORMAT",
                "resource.setting.json_value",
            ),
            (
                "a number that is none",
                create(with_value(Value::FloatValue(f64::NAN))),
                INVALID,
                "OUT_OF_RANGE",
                "resource.setting.float_value",
            ),
            (
                "a duration of two signs",
                create(with_value(Value::DurationValue(duration))),
                INVALID,
                "OUT_OF_RANGE",
                "resource.setting.duration_value",
            ),
            ("a resource beyond 256 KiB", create(giant), INVALID, "TOO_LARGE", "resource"),
            ("33 labels", labels(&many), INVALID, "TOO_MANY", "resource.labels"),
            (
                "a label's key with a space",
                labels(&[("a b", "x")]),
                INVALID,
                "INVALID_FORMAT",
                "resource.labels",
            ),
            ("a giant label", labels(&[("a", &"x".repeat(129))]), INVALID, "TOO_LONG", "resource.labels.a"),
            ("a label with NUL", labels(&[("a", "\0")]), INVALID, "FORBIDDEN_CHARACTER", "resource.labels.a"),
            (
                "a key of nobody",
                create(api_key("providers/no/apiKeys/k", CANARY)),
                Code::FailedPrecondition,
                "PARENT_MISSING",
                "",
            ),
            (
                "a name that is taken",
                create(setting("settings/s", "y")),
                Code::AlreadyExists,
                "ALREADY_EXISTS",
                "",
            ),
            (
                "a creation with an etag",
                create(Resource { etag: "x".into(), ..setting("settings/new", "x") }),
                INVALID,
                "NOT_ALLOWED",
                "resource.etag",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn updates_and_deletes_that_do_not_fit() {
    let server = furnished().await;
    let update = |resource, mask: &[&str]| Call::Write(Op::update(resource, mask));
    let stale = |resource: Resource| Resource { etag: "0000-0-1".into(), ..resource };
    let present = signalbox::proto::v1::secret::State::Present;
    let keep =
        with_value(Value::SecretValue(signalbox::proto::v1::Secret { value: None, state: present.into() }));
    let keep = Resource { name: "settings/s".into(), ..keep };
    let stale_delete = Op::Delete { name: "settings/s".into(), etag: "stale".into(), allow_missing: false };
    let text = || setting("settings/s", "y");
    refused(
        &server,
        vec![
            (
                "a mask that names no field",
                update(text(), &["setting.colour"]),
                INVALID,
                "INVALID_MASK",
                "update_mask",
            ),
            (
                "a mask of another kind",
                update(text(), &["provider.display_name"]),
                INVALID,
                "INVALID_MASK",
                "update_mask",
            ),
            (
                "a mask of what only the server sets",
                update(text(), &["version"]),
                INVALID,
                "INVALID_MASK",
                "update_mask",
            ),
            ("an empty path in a mask", update(text(), &[""]), INVALID, "INVALID_MASK", "update_mask"),
            ("a giant mask", update(text(), &[&"a.".repeat(50_000)]), INVALID, "INVALID_MASK", "update_mask"),
            (
                "a stale etag",
                update(stale(text()), &["setting.string_value"]),
                Code::Aborted,
                "ETAG_MISMATCH",
                "",
            ),
            ("a stale etag of a delete", Call::Write(stale_delete), Code::Aborted, "ETAG_MISMATCH", ""),
            (
                "an update of nothing",
                update(setting("settings/none", "x"), &[]),
                Code::NotFound,
                "NOT_FOUND",
                "",
            ),
            (
                "a delete of nothing",
                Call::Write(Op::delete("settings/none")),
                Code::NotFound,
                "NOT_FOUND",
                "",
            ),
            (
                "a secret to keep where none is",
                update(keep, &["*"]),
                INVALID,
                "REQUIRED",
                "resource.setting.secret_value",
            ),
        ],
    )
    .await;
    let status = call(&server.admin(), update(stale(text()), &["*"])).await.unwrap_err();
    let get = GetResourceRequest { name: "settings/s".into(), ..Default::default() };
    let current = server.admin().config().get_resource(get).await;
    let current = current.unwrap().into_inner().resource.unwrap().etag;
    assert_eq!(
        status.get_details_error_info().unwrap().metadata["current_etag"],
        current,
        "the current etag is told"
    );
}

#[tokio::test]
async fn batches_that_are_too_much() {
    let server = furnished().await;
    let job = |ops| Call::Job(Job::batch(ops));
    let many = (0..10_001).map(|index| Op::Delete {
        name: format!("settings/a{index}"),
        etag: String::new(),
        allow_missing: true,
    });
    let twice =
        vec![Op::Create(setting("settings/new", "x")), Op::update(setting("settings/new", "y"), &["*"])];
    let spelt = vec![
        Op::Create(setting("settings/max_retries", "x")),
        Op::Create(setting("settings/maxRetries", "y")),
    ];
    let orphan = vec![Op::update(api_key("providers/a/apiKeys/k", "x"), &["*"]), Op::delete("providers/a")];
    let with_id = |request_id: String| {
        Call::Job(Job { request_id, ..Job::one(Op::Create(setting("settings/new", "x"))) })
    };
    refused(
        &server,
        vec![
            ("10,001 operations", job(many.collect()), INVALID, "OUT_OF_RANGE", "operations"),
            ("no operations", job(Vec::new()), INVALID, "OUT_OF_RANGE", "operations"),
            ("one name twice", job(twice), INVALID, "DUPLICATE", "operations[1].update.resource.name"),
            (
                "one name in two spellings",
                job(spelt),
                INVALID,
                "DUPLICATE",
                "operations[1].create.resource.name",
            ),
            (
                "a key and the end of its provider",
                job(orphan),
                INVALID,
                "DUPLICATE",
                "operations[1].delete.name",
            ),
            ("a giant request id", with_id("x".repeat(129)), INVALID, "TOO_LONG", "request_id"),
            ("a request id with NUL", with_id("\0".into()), INVALID, "INVALID_TEXT", "request_id"),
        ],
    )
    .await;
    let id = "used-before".to_owned();
    let first = Job { request_id: id.clone(), ..Job::one(Op::Create(setting("settings/first", "x"))) };
    call(&server.admin(), Call::Job(first)).await.unwrap();
    let other = with_id(id);
    refused(
        &server,
        vec![("a request id of another body", other, INVALID, "REQUEST_ID_REUSED", "request_id")],
    )
    .await;
}

#[tokio::test]
async fn reads_that_make_no_sense() {
    let server = furnished().await;
    let selectors = |count: usize| vec![by_kind("setting"); count];
    let of = |selectors: Vec<Selector>| ListResourcesRequest { selectors, ..Default::default() };
    let page = |page_token: &str| {
        list(ListResourcesRequest { page_token: page_token.to_owned(), ..Default::default() })
    };
    let next = |server: &Server| {
        let admin = server.admin();
        async move {
            let mut config = admin.config();
            let first = ListResourcesRequest { page_size: 1, ..Default::default() };
            config.list_resources(first).await.unwrap().into_inner().next_page_token
        }
    };
    let own = next(&server).await;
    let foreign = next(&furnished().await).await;
    let other_query =
        ListResourcesRequest { page_token: own.clone(), selectors: selectors(1), ..Default::default() };
    let forged = support::watcher::rewritten(&own, |bytes| bytes[3] ^= 1);
    let at = |revision| {
        Call::Get(GetResourceRequest { name: "settings/s".into(), revision, ..Default::default() })
    };
    let newer = |token: &str| {
        Call::Get(GetResourceRequest {
            name: "settings/s".into(),
            min_revision_token: token.into(),
            ..Default::default()
        })
    };
    let foreign_token = Server::start().await.admin().status().await.revision_token;
    let admin = server.admin();
    admin.admin().compact_log(CompactLogRequest { revision: 2 }).await.unwrap();
    refused(
        &server,
        vec![
            ("65 selectors", list(of(selectors(65))), INVALID, "OUT_OF_RANGE", "selectors"),
            (
                "an unknown kind",
                list(of(vec![by_kind("planet")])),
                INVALID,
                "INVALID_NAME",
                "selectors[0].kind",
            ),
            (
                "a prefix without its slash",
                list(of(vec![by_prefix("providers")])),
                INVALID,
                "INVALID_NAME",
                "selectors[0].prefix",
            ),
            (
                "an empty prefix",
                list(of(vec![by_prefix("")])),
                INVALID,
                "INVALID_NAME",
                "selectors[0].prefix",
            ),
            (
                "a prefix with NUL",
                list(of(vec![by_prefix("providers/\0/")])),
                INVALID,
                "INVALID_NAME",
                "selectors[0].prefix",
            ),
            (
                "a label with a space",
                list(of(vec![narrowed(by_kind("setting"), "a b", "x")])),
                INVALID,
                "INVALID_FORMAT",
                "selectors[0].labels",
            ),
            (
                "a negative page",
                list(ListResourcesRequest { page_size: -1, ..Default::default() }),
                INVALID,
                "OUT_OF_RANGE",
                "page_size",
            ),
            ("a page token that is none", page("nonsense"), INVALID, "INVALID_PAGE_TOKEN", "page_token"),
            ("a giant page token", page(&"A".repeat(100_000)), INVALID, "INVALID_PAGE_TOKEN", "page_token"),
            ("a page token of another server", page(&foreign), INVALID, "INVALID_PAGE_TOKEN", "page_token"),
            ("a page token that was changed", page(&forged), INVALID, "INVALID_PAGE_TOKEN", "page_token"),
            ("a page token of another list", list(other_query), INVALID, "INVALID_PAGE_TOKEN", "page_token"),
            (
                "a filter that is none",
                list(ListResourcesRequest { filter: "AND (".into(), ..Default::default() }),
                INVALID,
                "INVALID_FILTER",
                "filter",
            ),
            (
                "a giant filter",
                list(ListResourcesRequest { filter: "a = 1 AND ".repeat(1000), ..Default::default() }),
                INVALID,
                "INVALID_FILTER",
                "filter",
            ),
            (
                "a deep filter",
                list(ListResourcesRequest { filter: "(".repeat(4000), ..Default::default() }),
                INVALID,
                "INVALID_FILTER",
                "filter",
            ),
            ("a revision ahead", at(1_000_000), Code::OutOfRange, "AHEAD", ""),
            ("a revision that is compacted", at(1), Code::OutOfRange, "COMPACTED", ""),
            (
                "a revision token that is none",
                newer("nonsense"),
                INVALID,
                "INVALID_TOKEN",
                "min_revision_token",
            ),
            (
                "a revision token of another store",
                newer(&foreign_token),
                Code::FailedPrecondition,
                "OTHER_STORE",
                "",
            ),
            (
                "something that is not there",
                Call::Get(GetResourceRequest { name: "settings/none".into(), ..Default::default() }),
                Code::NotFound,
                "NOT_FOUND",
                "",
            ),
        ],
    )
    .await;
    let status = call(&admin, at(1)).await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().metadata["floor_revision"], "2", "the floor is told");
}

#[tokio::test]
async fn streams_and_chores_that_make_no_sense() {
    let server = furnished().await;
    let watch = Call::Watch;
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    let worker = |worker: Worker| watch(WatchConfigRequest { worker: Some(worker), ..Default::default() });
    let day = prost_types::Duration { seconds: 86_400, nanos: 0 };
    let sound = || CreateTokenRequest {
        role: Role::Worker.into(),
        subject: "w".into(),
        ttl: Some(day),
        ..Default::default()
    };
    let token = Call::Token;
    refused(
        &server,
        vec![
            (
                "65 selectors",
                watch(WatchConfigRequest { selectors: vec![by_kind("setting"); 65], ..Default::default() }),
                INVALID,
                "OUT_OF_RANGE",
                "selectors",
            ),
            (
                "a negative heartbeat",
                watch(WatchConfigRequest { progress_interval: Some(negative), ..Default::default() }),
                INVALID,
                "OUT_OF_RANGE",
                "progress_interval",
            ),
            (
                "a giant worker",
                worker(Worker { id: "x".repeat(129), ..Default::default() }),
                INVALID,
                "INVALID_TEXT",
                "worker.id",
            ),
            (
                "a worker with NUL",
                worker(Worker { client_version: "\0".into(), ..Default::default() }),
                INVALID,
                "INVALID_TEXT",
                "worker.client_version",
            ),
            (
                "a token without a role",
                token(CreateTokenRequest { role: 0, ..sound() }),
                INVALID,
                "REQUIRED",
                "role",
            ),
            (
                "a token of an unknown role",
                token(CreateTokenRequest { role: 77, ..sound() }),
                INVALID,
                "REQUIRED",
                "role",
            ),
            (
                "a token of nobody",
                token(CreateTokenRequest { subject: String::new(), ..sound() }),
                INVALID,
                "REQUIRED",
                "subject",
            ),
            (
                "a token for ever",
                token(CreateTokenRequest {
                    ttl: Some(prost_types::Duration { seconds: i64::MAX, nanos: 0 }),
                    ..sound()
                }),
                INVALID,
                "OUT_OF_RANGE",
                "ttl",
            ),
            (
                "a token of the past",
                token(CreateTokenRequest { ttl: Some(negative), ..sound() }),
                INVALID,
                "OUT_OF_RANGE",
                "ttl",
            ),
            (
                "a token without an end",
                token(CreateTokenRequest { ttl: None, ..sound() }),
                INVALID,
                "REQUIRED",
                "ttl",
            ),
            (
                "a grant by labels",
                token(CreateTokenRequest { grants: vec![narrowed(by_kind("setting"), "a", "b")], ..sound() }),
                INVALID,
                "NOT_ALLOWED",
                "grants[0].labels",
            ),
            (
                "65 grants",
                token(CreateTokenRequest { grants: vec![by_kind("setting"); 65], ..sound() }),
                INVALID,
                "OUT_OF_RANGE",
                "grants",
            ),
            (
                "secrets for a viewer",
                token(CreateTokenRequest { role: Role::Viewer.into(), include_secrets: true, ..sound() }),
                INVALID,
                "NOT_ALLOWED",
                "include_secrets",
            ),
            ("a compaction of the future", Call::Compact(1_000_000), Code::OutOfRange, "AHEAD", ""),
            ("an anchor that is none", Call::Verify("nonsense"), INVALID, "INVALID_TOKEN", "anchor_token"),
        ],
    )
    .await;
}

/// What is not even a message. api.md has INVALID_ARGUMENT for a wrong request and `ErrorInfo` in every error.
#[tokio::test]
async fn bytes_that_are_no_message() {
    let server = furnished().await;
    let request =
        CreateResourceRequest { resource: Some(setting("settings/new", "PLACE")), ..Default::default() };
    let sound = request.encode_to_vec();
    let place = sound.windows(5).position(|window| window == b"PLACE").expect("the value is in the message");
    let mut not_utf8 = sound.clone();
    not_utf8[place] = 0xFF;
    let cut = sound[..sound.len() - 3].to_vec();
    let selector =
        WatchConfigRequest { selectors: vec![by_name("PLACE")], ..Default::default() }.encode_to_vec();
    let mut bad_selector = selector.clone();
    *bad_selector.last_mut().expect("it is not empty") = 0xFF;
    refused(
        &server,
        vec![
            ("invalid UTF-8", Call::Raw(CREATE, not_utf8), INVALID, "UNDECODABLE", ""),
            ("a message that is cut off", Call::Raw(CREATE, cut), INVALID, "UNDECODABLE", ""),
            ("random bytes", Call::Raw(CREATE, vec![0xA5; 300]), INVALID, "UNDECODABLE", ""),
            ("invalid UTF-8 in a watch", Call::Raw(WATCH, bad_selector), INVALID, "UNDECODABLE", ""),
            ("random bytes in a watch", Call::Raw(WATCH, vec![0xA5; 300]), INVALID, "UNDECODABLE", ""),
            (
                "a message beyond 1 MiB",
                Call::Raw(CREATE, vec![0; (1 << 20) + 1]),
                Code::ResourceExhausted,
                "REQUEST_TOO_LARGE",
                "",
            ),
            (
                "a watch beyond 1 MiB",
                Call::Raw(WATCH, vec![0; (1 << 20) + 1]),
                Code::ResourceExhausted,
                "REQUEST_TOO_LARGE",
                "",
            ),
        ],
    )
    .await;
}
