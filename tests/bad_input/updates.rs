//! Updates, deletes and batches that do not fit.

use super::*;

fn empty_builder() -> Resource {
    let spec = ProviderSpec { request_builder: Some(Default::default()), ..ProviderSpec::default() };
    named("providers/a", Spec::Provider(spec))
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
                "update_mask.paths[0]",
            ),
            (
                "a mask of another kind",
                update(text(), &["provider.display_name"]),
                INVALID,
                "INVALID_MASK",
                "update_mask.paths[0]",
            ),
            (
                "a mask of what only the server sets",
                update(text(), &["version"]),
                INVALID,
                "INVALID_MASK",
                "update_mask.paths[0]",
            ),
            (
                "an empty path in a mask",
                update(text(), &[""]),
                INVALID,
                "INVALID_MASK",
                "update_mask.paths[0]",
            ),
            (
                "a giant mask",
                update(text(), &[&"a.".repeat(50_000)]),
                INVALID,
                "INVALID_MASK",
                "update_mask.paths[0]",
            ),
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
                "a message that is given empty, without a mask",
                update(empty_builder(), &[]),
                INVALID,
                "REQUIRED",
                "resource.provider.request_builder.version",
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
            ("a request id with NUL", with_id("\0".into()), INVALID, "FORBIDDEN_CHARACTER", "request_id"),
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
