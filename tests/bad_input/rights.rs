//! What an administrator asks for beyond its own rights: nobody writes, and nobody gives away, what he does not hold.

use support::caller::Rights;

use super::*;

const DENIED: Code = Code::PermissionDenied;

/// An administrator of one provider's keys and of one setting, for an hour, who lends no secrets.
async fn narrow(server: &Server) -> Caller {
    let grants = vec![by_prefix("providers/a/"), by_name("settings/s")];
    let rights = Rights { role: Role::Admin, grants, secrets: false, ttl_seconds: 3600 };
    server.admin().colleague("narrow", &rights).await
}

/// A worker's token for what the narrow administrator holds.
fn lent() -> CreateTokenRequest {
    CreateTokenRequest {
        role: Role::Worker.into(),
        subject: "w".into(),
        grants: vec![by_prefix("providers/a/")],
        ttl: Some(seconds(60)),
        ..Default::default()
    }
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

#[tokio::test]
async fn nobody_grants_more_than_he_holds() {
    let server = furnished().await;
    let narrow = narrow(&server).await;
    let wants = |grants: Vec<Selector>| Call::Token(CreateTokenRequest { grants, ..lent() });
    let viewer = CreateTokenRequest { role: Role::Viewer.into(), grants: Vec::new(), ..lent() };
    let admin = CreateTokenRequest { role: Role::Admin.into(), ..viewer.clone() };
    let wider = [
        ("everything", wants(vec![Selector::default()])),
        ("a wider prefix", wants(vec![by_prefix("providers/")])),
        ("the name above a prefix", wants(vec![by_name("providers/a")])),
        ("a prefix beside", wants(vec![by_prefix("providers/b/")])),
        ("the prefix of a name", wants(vec![by_prefix("settings/")])),
        ("another name", wants(vec![by_name("settings/t")])),
        ("a kind", wants(vec![by_kind("api_key")])),
        ("one of two", wants(vec![by_prefix("providers/a/"), by_kind("setting")])),
        ("a viewer of everything", Call::Token(viewer)),
        ("an admin of everything", Call::Token(admin)),
    ];
    let cases = wider.map(|(what, call)| (what, call, DENIED, "NOT_GRANTED", ""));
    refused_to(&narrow, &server, cases.into()).await;
    let held = vec![by_prefix("providers/a/"), by_name("settings/s"), by_name("providers/a/apiKeys/k")];
    call(&narrow, wants(held)).await.expect("what he holds he may grant");
}

#[tokio::test]
async fn secrets_are_lent_only_with_the_scope_for_it() {
    let server = furnished().await;
    let narrow = narrow(&server).await;
    let reads = || CreateTokenRequest { include_secrets: true, ..lent() };
    let lends = || CreateTokenRequest { role: Role::Admin.into(), grant_secrets: true, ..lent() };
    refused_to(
        &narrow,
        &server,
        vec![
            ("a worker that reads secrets", Call::Token(reads()), DENIED, "SECRETS_GRANT_DENIED", ""),
            ("an admin that lends secrets", Call::Token(lends()), DENIED, "SECRETS_GRANT_DENIED", ""),
        ],
    )
    .await;
    for request in [reads(), lends()] {
        call(&server.admin(), Call::Token(request)).await.expect("the first administrator has the scope");
    }
}

#[tokio::test]
async fn no_token_outlives_the_one_that_made_it() {
    let server = furnished().await;
    let narrow = narrow(&server).await;
    let lives = |time: i64| Call::Token(CreateTokenRequest { ttl: Some(seconds(time)), ..lent() });
    refused_to(&narrow, &server, vec![("a longer life", lives(3660), INVALID, "OUT_OF_RANGE", "ttl")]).await;
    // A minute for the time that has passed since.
    call(&narrow, lives(3540)).await.expect("a shorter life");
    call(&server.admin(), lives(3660)).await.expect("the first administrator lives longer");
}

#[tokio::test]
async fn writes_beyond_the_grants_are_denied() {
    let server = furnished().await;
    let narrow = narrow(&server).await;
    let dry = |op| Call::Job(Job { validate_only: true, ..Job::one(op) });
    let rename = || Op::update(provider("providers/a"), &["provider.display_name"]);
    let inside = || Op::update(setting("settings/s", "y"), &["setting.string_value"]);
    let missing =
        |name: &str, allow_missing| Op::Delete { name: name.into(), etag: String::new(), allow_missing };
    let upsert = Op::Update { resource: setting("settings/t", "x"), mask: Vec::new(), allow_missing: true };
    let beyond = [
        ("a create", create(setting("settings/t", "x"))),
        ("a dry create", dry(Op::Create(setting("settings/t", "x")))),
        ("an update", Call::Write(rename())),
        ("a dry update", dry(rename())),
        ("an update that may create", Call::Write(upsert)),
        ("a delete", Call::Write(Op::delete("providers/a"))),
        ("a dry delete", dry(Op::delete("providers/a"))),
        ("a delete of nothing", Call::Write(missing("settings/none", false))),
        ("a delete of what may be missing", Call::Write(missing("settings/none", true))),
        ("a batch that begins inside", Call::Job(Job::batch(vec![inside(), rename()]))),
        ("a batch that begins outside", Call::Job(Job::batch(vec![rename(), inside()]))),
        ("a dry batch", Call::Job(Job { validate_only: true, ..Job::batch(vec![inside(), rename()]) })),
    ];
    let cases = beyond.map(|(what, call)| (what, call, DENIED, "NOT_GRANTED", ""));
    refused_to(&narrow, &server, cases.into()).await;
    call(&narrow, Call::Write(inside())).await.expect("a write within the grants");
    let key = api_key("providers/a/apiKeys/new", &format!("{CANARY}-new"));
    call(&narrow, create(key)).await.expect("a create within the grants");
    call(&narrow, Call::Write(Op::delete("providers/a/apiKeys/k")))
        .await
        .expect("a delete within the grants");
}
