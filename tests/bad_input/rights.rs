//! What an administrator asks for beyond its own rights: nobody writes, and nobody gives away, what he does not hold.

use signalbox::proto::v1::{RevokeTokenRequest, RouterSpec, VirtualKeySpec};
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
    let both = Call::Token(CreateTokenRequest { longest: true, ..lent() });
    refused_to(&narrow, &server, vec![("both lives", both, INVALID, "NOT_ALLOWED", "ttl")]).await;
}

/// A year, asked for by a token that was made for a year some minutes ago, is too long by these minutes.
#[tokio::test]
async fn regression_a_token_can_be_made_for_as_long_as_its_maker_lives() {
    let server = furnished().await;
    for maker in [narrow(&server).await, server.admin()] {
        let longest = CreateTokenRequest { ttl: None, longest: true, ..lent() };
        call(&maker, Call::Token(longest)).await.expect("it is cut to what may be");
    }
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

/// Found by an attack: the answer was looked up before the rights were.
#[tokio::test]
async fn regression_a_repetition_is_answered_only_to_who_still_may() {
    let server = furnished().await;
    let key = named("virtualKeys/gateway", Spec::VirtualKey(VirtualKeySpec::default()));
    let request = CreateResourceRequest {
        resource: Some(key),
        request_id: "made-once".to_owned(),
        ..Default::default()
    };
    let create = async |caller: &Caller| {
        caller.config().create_resource(request.clone()).await.map(|answer| answer.into_inner())
    };
    let admin = server.admin();
    let made = create(&admin).await.expect("it is made");
    assert!(made.one_time_secret.starts_with("sbx_"));
    assert_eq!(create(&admin).await.expect("the same token").one_time_secret, made.one_time_secret);

    // Somebody else's token that bears the same subject, with fewer rights.
    let rights =
        Rights { role: Role::Admin, grants: vec![by_name("settings/s")], secrets: false, ttl_seconds: 3600 };
    let namesake = admin.colleague("admin", &rights).await;
    let refused = create(&namesake).await.expect_err("it is not his");
    assert_eq!(refused.code(), DENIED, "{refused:?}");
    // With the rights, but another token: the answer, without what only the first was shown.
    let other = admin.colleague("admin", &Rights { grants: vec![], ..rights }).await;
    let again = create(&other).await.expect("it was done");
    assert_eq!((again.one_time_secret.as_str(), again.revision), ("", made.revision));
}

#[tokio::test]
async fn regression_nobody_deletes_what_lives_beneath_beyond_his_grants() {
    let server = furnished().await;
    let rights =
        Rights { role: Role::Admin, grants: vec![by_name("providers/a")], secrets: false, ttl_seconds: 3600 };
    let narrow = server.admin().colleague("narrow", &rights).await;
    let dry = Job { validate_only: true, ..Job::one(Op::delete("providers/a")) };
    let told = call(&narrow, Call::Job(dry)).await.expect_err("it takes the key along");
    assert!(!format!("{told:?}").contains("apiKeys/k"), "its name is not told: {told:?}");
    let cases =
        vec![("a provider with a key", Call::Write(Op::delete("providers/a")), DENIED, "NOT_GRANTED", "")];
    refused_to(&narrow, &server, cases).await;
}

#[tokio::test]
async fn regression_what_is_beyond_the_grants_can_not_be_referred_to_whether_it_exists_or_not() {
    let server = furnished().await;
    let rights =
        Rights { role: Role::Admin, grants: vec![by_name("routers/r")], secrets: false, ttl_seconds: 3600 };
    let narrow = server.admin().colleague("narrow", &rights).await;
    let mut told = Vec::new();
    for target in ["providers/a", "providers/x"] {
        let router = RouterSpec { primary: target.to_owned(), ..RouterSpec::default() };
        let write = Call::Write(Op::Create(named("routers/r", Spec::Router(router))));
        let refused = call(&narrow, write).await.expect_err("it is not his");
        assert_eq!(refused.code(), DENIED, "{refused:?}");
        told.push(refused.message().replace(target, "TARGET"));
    }
    assert_eq!(told[0], told[1], "what exists is told as what does not");
}

/// A caller may take its time with the body; what the headers were let in with may be over by then.
#[tokio::test]
async fn regression_a_call_whose_token_is_revoked_before_its_body_comes_does_nothing() {
    let server = furnished().await;
    let admin = server.admin();
    let rights = Rights { role: Role::Admin, ttl_seconds: 3600, ..Rights::default() };
    let other = admin.colleague("other", &rights).await;
    let request =
        CreateResourceRequest { resource: Some(setting("settings/new", "x")), ..Default::default() };
    let (send, body) = tokio::sync::oneshot::channel::<()>();
    let late = raw::late_unary(&other, CREATE, request.encode_to_vec().into(), async { body.await.unwrap() });
    let revoke = async {
        let revoke = RevokeTokenRequest { subject: "other".to_owned(), ..Default::default() };
        // The headers are there when the server has answered something else that came after them on the connection.
        other
            .config()
            .get_resource(GetResourceRequest { name: "settings/s".into(), ..Default::default() })
            .await
            .unwrap();
        admin.admin().revoke_token(revoke).await.unwrap();
        send.send(()).unwrap();
    };
    let (answer, ()) = tokio::join!(late, revoke);
    let refused = answer.expect_err("its token is revoked");
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    let read = GetResourceRequest { name: "settings/new".to_owned(), ..Default::default() };
    assert_eq!(admin.config().get_resource(read).await.unwrap_err().code(), Code::NotFound);
}

/// Found by an attack: digests of the whole, before and after, confirm a guess at what a caller may not see.
#[tokio::test]
async fn regression_the_status_tells_the_whole_only_to_who_reaches_it() {
    let server = furnished().await;
    let rights = Rights::worker(vec![by_name("settings/s")], false);
    let narrow = server.admin().colleague("narrow", &rights).await.status().await;
    assert_eq!((narrow.resources, narrow.digest, narrow.key_ids), (0, vec![], Vec::<String>::new()));
    assert_eq!(narrow.replicas, []);
    let whole = server.admin().status().await;
    assert!(whole.resources == 3 && whole.digest.len() == 16 && !whole.key_ids.is_empty(), "{whole:?}");
    assert_eq!(whole.replicas.len(), 1);
}
