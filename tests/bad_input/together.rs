//! Everything that is wrong with one request is told at once, wherever it stands; and an error that is no violation says
//! which part of the request it is about.

use prost::Message;
use signalbox::proto::v1::{
    BatchWriteRequest, CreateResourceRequest, CreateTokenRequest, ListResourcesRequest, RevokeTokenRequest,
    Role, WatchConfigRequest, Worker,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    Call, call, furnished, refused,
    support::{
        caller::Caller,
        raw,
        resources::{by_kind, by_prefix, labelled, narrowed, setting},
        watcher::WATCH,
        writer::{Job, Op},
    },
};

const BIDI: &str = "pay \u{202E}yadot";

/// The fields that a refusal names, in its order.
fn fields<T>(outcome: Result<T, Status>) -> Vec<String> {
    let Err(status) = outcome else { panic!("it was accepted") };
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    let listed = details.bad_request().expect("violations").field_violations.clone();
    let counted = &details.error_info().expect("a reason").metadata["violations"];
    assert_eq!(counted, &listed.len().to_string(), "all of them are listed");
    listed.into_iter().map(|violation| violation.field).collect()
}

/// Code and field of a refusal that is no violation.
fn refusal<T>(outcome: Result<T, Status>) -> (Code, String) {
    let Err(status) = outcome else { panic!("it was accepted") };
    let metadata = status.get_error_details().error_info().expect("a reason").metadata.clone();
    (status.code(), metadata.get("field").cloned().unwrap_or_default())
}

#[tokio::test]
async fn a_write_is_told_all_that_is_wrong_with_it() {
    let server = furnished().await;
    let admin = server.admin();
    let mut unlabelled = labelled(setting("settings/new", "a\0"), &[("-", "x")]);
    unlabelled.etag = "\"x\"".to_owned();
    let request = CreateResourceRequest {
        resource: Some(unlabelled.clone()),
        request_id: "x".repeat(129),
        reason: BIDI.to_owned(),
        ..Default::default()
    };
    assert_eq!(
        fields(admin.config().create_resource(request).await),
        ["request_id", "reason", "resource.etag", "resource.labels.-", "resource.setting.string_value"]
    );
    let mut batch = BatchWriteRequest { reason: "a\nb".to_owned(), ..Default::default() };
    let writes = [Op::Create(unlabelled), Op::update(setting("settings/s", "x"), &["setting.nothing"])];
    batch.operations = writes.into_iter().map(Op::in_batch).collect();
    batch.operations.push(Default::default());
    assert_eq!(
        fields(admin.config().batch_write(batch).await),
        [
            "reason",
            "operations[0].create.resource.etag",
            "operations[0].create.resource.labels.-",
            "operations[0].create.resource.setting.string_value",
            "operations[1].update.update_mask.paths[0]",
            "operations[2]",
        ]
    );
}

#[tokio::test]
async fn reads_streams_and_tokens_are_told_all_that_is_wrong_with_them() {
    let server = furnished().await;
    let admin = server.admin();
    let list = ListResourcesRequest {
        selectors: vec![by_kind("nothing"), by_prefix("providers")],
        filter: "((".to_owned(),
        page_size: -1,
        page_token: "x".to_owned(),
        min_revision_token: "x".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        fields(admin.config().list_resources(list).await),
        [
            "selectors[0].kind",
            "selectors[1].prefix",
            "filter",
            "page_size",
            "page_token",
            "min_revision_token"
        ]
    );
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    let watch = WatchConfigRequest {
        selectors: vec![by_kind("nothing")],
        progress_interval: Some(negative),
        worker: Some(Worker { id: BIDI.to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let watched = raw::stream(&admin, WATCH, watch.encode_to_vec().into()).await;
    assert_eq!(fields(watched), ["selectors[0].kind", "worker.id", "progress_interval"]);
    let token = CreateTokenRequest {
        subject: BIDI.to_owned(),
        grants: vec![narrowed(by_kind("setting"), "a", "b"), by_kind("nothing")],
        ttl: Some(negative),
        ..Default::default()
    };
    assert_eq!(
        fields(admin.admin().create_token(token).await),
        ["role", "subject", "ttl", "grants[0].labels", "grants[1].kind"]
    );
    let scopes = CreateTokenRequest {
        role: Role::Viewer.into(),
        include_secrets: true,
        grant_secrets: true,
        ..Default::default()
    };
    assert_eq!(
        fields(admin.admin().create_token(scopes).await),
        ["subject", "include_secrets", "grant_secrets", "ttl"]
    );
    let revoke = RevokeTokenRequest {
        token_id: "\0".to_owned(),
        subject: "x".repeat(257),
        reason: BIDI.to_owned(),
        ..Default::default()
    };
    let wrong = fields(admin.admin().revoke_token(revoke).await);
    assert_eq!(wrong, ["token_id", "subject", "reason", "subject"]);
}

async fn batch(caller: &Caller, ops: Vec<Op>) -> (Code, String) {
    refusal(call(caller, Call::Job(Job::batch(ops))).await)
}

#[tokio::test]
async fn what_the_state_does_not_allow_is_told_with_its_place() {
    let server = furnished().await;
    let admin = server.admin();
    let sound = || Op::Create(setting("settings/new", "x"));
    let mut stale = setting("settings/s", "y");
    stale.etag = "\"stale\"".to_owned();
    let gone = Op::Delete { name: "settings/s".into(), etag: "\"stale\"".into(), allow_missing: false };
    let orphan = super::api_key("providers/none/apiKeys/k", "sk-0123456789");
    for (op, code, field) in [
        (Op::update(stale, &["*"]), Code::Aborted, "operations[1].update.resource.etag"),
        (gone, Code::Aborted, "operations[1].delete.etag"),
        (Op::delete("settings/none"), Code::NotFound, "operations[1].delete.name"),
        (
            Op::update(setting("settings/none", "x"), &["*"]),
            Code::NotFound,
            "operations[1].update.resource.name",
        ),
        (Op::Create(setting("settings/s", "x")), Code::AlreadyExists, "operations[1].create.resource.name"),
        (Op::Create(orphan), Code::FailedPrecondition, "operations[1].create.resource.name"),
    ] {
        assert_eq!(batch(&admin, vec![sound(), op]).await, (code, field.to_owned()));
    }
    // With a violation elsewhere that one is told first: the state may be another when the request is right.
    let both = vec![Op::delete("settings/none"), Op::Create(setting("settings/new", "a\0"))];
    let told = fields(call(&admin, Call::Job(Job::batch(both))).await);
    assert_eq!(told, ["operations[1].create.resource.setting.string_value"]);
}

/// Fault 25 of the reliability contract.
#[tokio::test]
async fn texts_that_show_something_else_are_refused_wherever_they_stand() {
    let server = furnished().await;
    let with_reason = |reason: &str| {
        let request = CreateResourceRequest {
            resource: Some(setting("settings/new", "x")),
            reason: reason.to_owned(),
            ..Default::default()
        };
        Call::Raw(super::CREATE, request.encode_to_vec())
    };
    let value = |text: &str| Call::Write(Op::Create(setting("settings/new", text)));
    let label =
        |text: &str| Call::Write(Op::Create(labelled(setting("settings/new", "x"), &[("team", text)])));
    refused(
        &server,
        vec![
            ("bidi in a reason", with_reason(BIDI), super::INVALID, "FORBIDDEN_CHARACTER", "reason"),
            (
                "an NFD twin in a reason",
                with_reason("Gru\u{308}n"),
                super::INVALID,
                "NOT_NORMALISED",
                "reason",
            ),
            (
                "bidi in a value",
                value(BIDI),
                super::INVALID,
                "FORBIDDEN_CHARACTER",
                "resource.setting.string_value",
            ),
            (
                "an NFD twin of a label",
                label("Gru\u{308}n"),
                super::INVALID,
                "NOT_NORMALISED",
                "resource.labels.team",
            ),
        ],
    )
    .await;
}
