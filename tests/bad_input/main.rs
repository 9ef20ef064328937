//! Bad input through gRPC: each gets the code, the `ErrorInfo` reason and the field that api.md promises, shows no
//! secret, and leaves the store as it was.

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../support/mod.rs"]
mod support;

mod contents;
mod fields;
mod fleet;
#[path = "../support/postgres.rs"]
mod postgres;
mod reads;
mod render;
mod repeats;
mod rights;
mod together;
mod updates;

use prost::Message;
use signalbox::proto::v1::{
    CompactLogRequest, CreateResourceRequest, CreateTokenRequest, GetResourceRequest, ListResourcesRequest,
    ProviderSpec, RenderRequestRequest, Resource, Role, Selector, VerifyLogRequest, WatchConfigRequest,
    Worker, resource::Spec, setting_spec::Value,
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
    Render(RenderRequestRequest),
    Verify(&'static str),
    /// Bytes that are no message, as the body of a path.
    Raw(&'static str, Vec<u8>),
}

/// What was done, and what has to come of it: the reason, and the path of a field, which is empty where there is no field.
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
        Call::Render(request) => caller.provider().render_request(request).await.map(drop),
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

/// Makes every call as the administrator, and reports everything that was not as promised.
async fn refused(server: &Server, cases: Vec<Case>) {
    refused_to(&server.admin(), server, cases).await;
}

/// As [`refused`], for somebody else.
async fn refused_to(caller: &Caller, server: &Server, cases: Vec<Case>) {
    let admin = server.admin();
    let mut wrong = Vec::new();
    for (what, bad, code, reason, field) in cases {
        let before = admin.status().await;
        let outcome = call(caller, bad).await;
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
    let named =
        if field.is_empty() { fields.iter().all(|found| found.is_empty()) } else { fields.contains(&field) };
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
