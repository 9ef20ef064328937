//! Rollbacks: what a resource or all of them were, once more as a new revision; and what stands against it.

use signalbox::proto::v1::{
    ChangeType, CompactLogRequest, GetResourceRequest, ListHistoryRequest, ListResourcesRequest,
    ProviderSpec, ProviderType, Resource, Role, RollbackAllRequest, RollbackAllResponse,
    RollbackResourceRequest, RollbackResourceResponse, RouterSpec, VerifyLogRequest, resource::Spec,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    on_both_databases,
    place::{Place, fields, reason},
    support::{
        caller::{Caller, Rights},
        resources::{
            CANARY, api_key, by_name, by_prefix, labelled, named, provider, secret_setting, setting,
        },
        writer::Op,
    },
};

on_both_databases! {
    a_resource_is_what_it_was;
    one_that_was_deleted_comes_back_as_itself;
    secrets_come_back_and_are_not_shown;
    a_key_does_not_go_where_it_was_not_saved_for;
    regression_a_key_that_is_brought_back_alone_goes_nowhere_else;
    all_is_what_it_was;
    whatever_was_written_all_is_what_it_was;
    what_the_state_does_not_allow_is_refused;
    what_the_log_no_longer_has_is_told_with_the_floor;
    wrong_requests_are_refused_with_their_fields;
    a_repeated_request_is_answered_once_more;
    the_command_line_goes_back;
}

fn to(name: &str, revision: u64) -> RollbackResourceRequest {
    RollbackResourceRequest { name: name.into(), revision, ..Default::default() }
}

async fn back(caller: &Caller, request: RollbackResourceRequest) -> Result<RollbackResourceResponse, Status> {
    Ok(caller.config().rollback_resource(request).await?.into_inner())
}

async fn all_back(caller: &Caller, request: RollbackAllRequest) -> Result<RollbackAllResponse, Status> {
    Ok(caller.config().rollback_all(request).await?.into_inner())
}

/// Everything at a revision, as far as it is content.
async fn contents(place: &Place, revision: u64) -> Vec<Resource> {
    let request = ListResourcesRequest { revision, page_size: 1000, ..Default::default() };
    let listed = place.admin.config().list_resources(request).await.unwrap().into_inner();
    let content = |resource: Resource| Resource {
        name: resource.name,
        labels: resource.labels,
        uid: resource.uid,
        spec: resource.spec,
        ..Resource::default()
    };
    listed.resources.into_iter().map(content).collect()
}

/// The value of a key, as a worker gets it.
async fn value(worker: &Caller, name: &str) -> String {
    let request =
        GetResourceRequest { name: name.into(), include_secrets: true, ..GetResourceRequest::default() };
    match worker.config().get_resource(request).await.unwrap().into_inner().resource.unwrap().spec {
        Some(Spec::ApiKey(spec)) => spec.secret.unwrap().value.unwrap_or_default(),
        other => panic!("{other:?}"),
    }
}

async fn worker(place: &Place) -> Caller {
    place.admin.colleague("worker", &Rights::worker(vec![by_prefix("providers/")], true)).await
}

/// The log and the state are as they were written.
async fn is_whole(place: &Place) {
    let found = place.admin.admin().verify_log(VerifyLogRequest::default()).await.unwrap().into_inner();
    assert!(found.defects.is_empty(), "{:?}", found.defects);
}

fn at(base_url: &str) -> Resource {
    let spec = ProviderSpec {
        r#type: ProviderType::Openai.into(),
        base_url: base_url.into(),
        ..ProviderSpec::default()
    };
    named("providers/p", Spec::Provider(spec))
}

async fn a_resource_is_what_it_was(place: Place) {
    let first = place.write(Op::Create(labelled(setting("settings/a", "one"), &[("team", "x")]))).await;
    let before = place.get("settings/a").await.unwrap();
    let second = place.write(Op::update(setting("settings/a", "two"), &["*"])).await;
    let asked = RollbackResourceRequest { reason: "two was wrong".into(), ..to("settings/a", first) };
    let dry = RollbackResourceRequest { validate_only: true, ..asked.clone() };
    let shown = back(&place.admin, dry).await.unwrap();
    assert_eq!((shown.revision, shown.revision_token.as_str()), (second, ""));
    assert_eq!(place.revision().await, second, "a dry run changes nothing");

    let done = back(&place.admin, asked.clone()).await.unwrap();
    assert_eq!((done.revision, done.diff.clone()), (second + 1, shown.diff));
    let paths: Vec<_> = done.diff.unwrap().fields.into_iter().map(|field| field.path).collect();
    assert_eq!(paths, ["labels.team", "setting.string_value"]);
    let now = place.get("settings/a").await.unwrap();
    assert_eq!((&now.spec, &now.labels, &now.uid), (&before.spec, &before.labels, &before.uid));
    assert_eq!((now.version, Some(now)), (3, done.resource));
    let history = ListHistoryRequest { selectors: vec![by_name("settings/a")], ..Default::default() };
    let entry = &place.admin.config().list_history(history).await.unwrap().into_inner().entries[0];
    assert_eq!((entry.action.as_str(), entry.reason.as_str()), ("rolled_back", "two was wrong"));
    // Again is no change.
    let again = back(&place.admin, asked).await.unwrap();
    assert_eq!((again.revision, again.diff.unwrap().fields.len()), (second + 1, 0));
}

async fn one_that_was_deleted_comes_back_as_itself(place: Place) {
    let key = "providers/p/apiKeys/k";
    place.write(Op::Create(provider("providers/p"))).await;
    place.write(Op::Create(api_key(key, &format!("{CANARY}-1")))).await;
    let labelled_key = labelled(named(key, Spec::ApiKey(Default::default())), &[("team", "x")]);
    let there = place.write(Op::update(labelled_key, &["labels"])).await;
    let (provider_then, then) = (place.get("providers/p").await.unwrap(), place.get(key).await.unwrap());
    place.write(Op::delete("providers/p")).await;

    let status = back(&place.admin, to(key, there)).await.unwrap_err();
    assert_eq!(reason(&status), (Code::FailedPrecondition, "PARENT_MISSING".into()));
    let shown = RollbackResourceRequest { validate_only: true, ..to("providers/p", there) };
    assert_eq!(back(&place.admin, shown).await.unwrap().resource.unwrap().etag, "");
    let done = back(&place.admin, to("providers/p", there)).await.unwrap();
    assert_eq!(done.diff.as_ref().unwrap().r#type(), ChangeType::Created);
    let now = done.resource.unwrap();
    assert_eq!(now.create_revision, done.revision);
    assert_eq!((now.uid, now.version), (provider_then.uid, provider_then.version + 1));
    let done = back(&place.admin, to(key, there)).await.unwrap().resource.unwrap();
    assert_eq!((&done.uid, done.version, &done.labels), (&then.uid, then.version + 1, &then.labels));
    assert_ne!(done.etag, then.etag, "no mark stands for two contents");
    assert_eq!(value(&worker(&place).await, key).await, format!("{CANARY}-1"));
    // Under the same name, but another identity: it gets the content of then, and stays who it is.
    place.write(Op::delete(key)).await;
    place.write(Op::Create(api_key(key, &format!("{CANARY}-2")))).await;
    let other = place.get(key).await.unwrap();
    let done = back(&place.admin, to(key, there)).await.unwrap().resource.unwrap();
    assert_eq!((&done.uid, done.version), (&other.uid, 2));
    assert_eq!(value(&worker(&place).await, key).await, format!("{CANARY}-1"));
    // Those that had the name in between do not confuse the count.
    place.write(Op::delete(key)).await;
    let done = back(&place.admin, to(key, there)).await.unwrap().resource.unwrap();
    assert_eq!((&done.uid, done.version), (&then.uid, then.version + 2));
    is_whole(&place).await;
}

async fn secrets_come_back_and_are_not_shown(place: Place) {
    let key = "providers/p/apiKeys/k";
    place.write(Op::Create(provider("providers/p"))).await;
    let first = place.write(Op::Create(api_key(key, &format!("{CANARY}-1")))).await;
    place.write(Op::update(api_key(key, &format!("{CANARY}-2")), &["api_key.secret"])).await;
    let dry = RollbackResourceRequest { validate_only: true, ..to(key, first) };
    let shown = back(&place.admin, dry).await.unwrap();
    let done = back(&place.admin, to(key, first)).await.unwrap();
    assert_eq!(done.diff, shown.diff);
    assert_eq!(done.diff.as_ref().unwrap().fields[0].path, "api_key.secret");
    assert!(done.warnings[0].contains("api_key.secret is the value of revision"), "{:?}", done.warnings);
    assert!(!format!("{done:?}{shown:?}").contains(CANARY));
    let worker = worker(&place).await;
    assert_eq!(value(&worker, key).await, format!("{CANARY}-1"));
    // What has the value of then keeps it, and nobody is warned.
    let label = labelled(named(key, Spec::ApiKey(Default::default())), &[("team", "x")]);
    place.write(Op::update(label, &["labels"])).await;
    let done = back(&place.admin, to(key, first)).await.unwrap();
    assert_eq!(done.warnings, [""; 0]);
    assert_eq!(value(&worker, key).await, format!("{CANARY}-1"));
    // A setting that is none any more.
    let plain = place.write(Op::Create(setting("settings/a", "x"))).await;
    place.write(Op::update(secret_setting("settings/a", &format!("{CANARY}-3")), &["*"])).await;
    back(&place.admin, to("settings/a", plain)).await.unwrap();
    assert_eq!(place.get("settings/a").await.unwrap().spec, setting("", "x").spec);
}

async fn a_key_does_not_go_where_it_was_not_saved_for(place: Place) {
    let key = "providers/p/apiKeys/k";
    place.write(Op::Create(at("https://one.example"))).await;
    let one = place.write(Op::Create(api_key(key, &format!("{CANARY}-one")))).await;
    place.write(Op::delete(key)).await;
    place.write(Op::update(at("https://two.example"), &["provider.base_url"])).await;
    place.write(Op::Create(api_key(key, &format!("{CANARY}-two")))).await;
    let status = back(&place.admin, to("providers/p", one)).await.unwrap_err();
    assert_eq!(reason(&status), (Code::FailedPrecondition, "SECRET_REQUIRED".into()));
    // Together they go back: each to where it was.
    let together = RollbackAllRequest {
        revision: one,
        selectors: vec![by_name("providers/p"), by_prefix("providers/p/")],
        ..Default::default()
    };
    all_back(&place.admin, together).await.unwrap();
    assert_eq!(value(&worker(&place).await, key).await, format!("{CANARY}-one"));
    let Some(Spec::Provider(spec)) = place.get("providers/p").await.unwrap().spec else { panic!() };
    assert_eq!(spec.base_url, "https://one.example");
}

async fn regression_a_key_that_is_brought_back_alone_goes_nowhere_else(place: Place) {
    let key = "providers/p/apiKeys/k";
    let only = by_name(key);
    let rights = Rights { role: Role::Admin, grants: vec![only.clone()], ttl_seconds: 600, secrets: false };
    let keeper = place.admin.colleague("keeper", &rights).await;
    place.write(Op::Create(at("https://one.example"))).await;
    let one = place.write(Op::Create(api_key(key, &format!("{CANARY}-one")))).await;
    let refused = async |told: &str| {
        let before = place.revision().await;
        for caller in [&place.admin, &keeper] {
            for validate_only in [true, false] {
                let alone = RollbackResourceRequest { validate_only, ..to(key, one) };
                let status = back(caller, alone).await.unwrap_err();
                assert_eq!(reason(&status), (Code::FailedPrecondition, "SECRET_REQUIRED".into()), "{told}");
                let selectors = vec![only.clone()];
                let picked =
                    RollbackAllRequest { revision: one, selectors, validate_only, ..Default::default() };
                let status = all_back(caller, picked).await.unwrap_err();
                assert_eq!(reason(&status), (Code::FailedPrecondition, "SECRET_REQUIRED".into()), "{told}");
                assert!(!status.message().contains(CANARY) && !status.message().contains(".example"));
            }
        }
        assert_eq!(place.revision().await, before, "{told}");
    };
    let gone = Op::delete(key);
    let moved = Op::update(at("https://two.example"), &["provider.base_url"]);
    place.write_all(vec![gone, moved]).await;
    refused("deleted, and its provider moved, in one batch").await;
    place.write(Op::Create(api_key(key, &format!("{CANARY}-two")))).await;
    refused("another value").await;
    place.write(Op::delete("providers/p")).await;
    place.write(Op::Create(at("https://three.example"))).await;
    refused("the provider was made anew").await;
    place.write(Op::Create(api_key(key, &format!("{CANARY}-three")))).await;
    refused("all was made anew").await;
    assert_eq!(value(&worker(&place).await, key).await, format!("{CANARY}-three"));
    // Where its provider points where it pointed, it comes back.
    place.write(Op::delete("providers/p")).await;
    place.write(Op::Create(at("https://one.example"))).await;
    back(&keeper, to(key, one)).await.unwrap();
    assert_eq!(value(&worker(&place).await, key).await, format!("{CANARY}-one"));
    is_whole(&place).await;
}

async fn all_is_what_it_was(place: Place) {
    place.write(Op::Create(provider("providers/a"))).await;
    place.write(Op::Create(api_key("providers/a/apiKeys/k", &format!("{CANARY}-1")))).await;
    place.write(Op::Create(setting("settings/changed", "one"))).await;
    let then = place.write(Op::Create(setting("settings/stays", "x"))).await;
    let before = contents(&place, 0).await;
    place.write(Op::delete("providers/a")).await;
    place.write(Op::update(setting("settings/changed", "two"), &[])).await;
    place.write(Op::Create(provider("providers/new"))).await;
    let last = place.write(Op::Create(api_key("providers/new/apiKeys/k", &format!("{CANARY}-2")))).await;

    let some = RollbackAllRequest {
        revision: then,
        selectors: vec![by_prefix("settings/")],
        validate_only: true,
        ..Default::default()
    };
    let told = |answer: &RollbackAllResponse| {
        answer.diffs.iter().map(|diff| (diff.name.clone(), diff.r#type())).collect::<Vec<_>>()
    };
    let shown = all_back(&place.admin, some).await.unwrap();
    assert_eq!(told(&shown), [("settings/changed".to_owned(), ChangeType::Updated)]);
    let whole = RollbackAllRequest { revision: then, ..Default::default() };
    let dry = RollbackAllRequest { validate_only: true, ..whole.clone() };
    let shown = all_back(&place.admin, dry).await.unwrap();
    let done = all_back(&place.admin, whole.clone()).await.unwrap();
    assert_eq!((done.revision, &done.diffs), (last + 1, &shown.diffs));
    let expected = [
        ("providers/a", ChangeType::Created),
        ("providers/a/apiKeys/k", ChangeType::Created),
        ("providers/new", ChangeType::Deleted),
        ("providers/new/apiKeys/k", ChangeType::Deleted),
        ("settings/changed", ChangeType::Updated),
    ];
    assert_eq!(told(&done), expected.map(|(name, change)| (name.to_owned(), change)));
    assert_eq!(contents(&place, 0).await, before);
    assert_eq!(value(&worker(&place).await, "providers/a/apiKeys/k").await, format!("{CANARY}-1"));
    let again = all_back(&place.admin, whole).await.unwrap();
    assert_eq!((again.revision, again.diffs.len()), (last + 1, 0));
    // Who reaches a part brings back a part.
    let rights =
        Rights { role: Role::Admin, grants: vec![by_prefix("settings/")], ttl_seconds: 600, secrets: false };
    let part = place.admin.colleague("part", &rights).await;
    let emptied = all_back(&part, RollbackAllRequest { revision: 1, ..Default::default() }).await.unwrap();
    assert_eq!(emptied.diffs.len(), 2);
    assert!(place.get("settings/stays").await.is_err() && place.get("providers/a").await.is_ok());
}

/// Numbers without a pattern that anybody would see, the same ones in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

async fn whatever_was_written_all_is_what_it_was(place: Place) {
    let mut dice = Dice(7);
    place.write(Op::Create(setting("settings/first", "x"))).await;
    for round in 0..6 {
        for step in 0..8 {
            let (name, secret) = (format!("settings/s{}", dice.below(4)), format!("{CANARY}-{round}-{step}"));
            let content = match dice.below(2) {
                0 => setting(&name, format!("{round}-{step}")),
                _ => secret_setting(&name, &secret),
            };
            match place.get(&name).await.is_ok() {
                false => place.write(Op::Create(content)).await,
                true if dice.below(3) == 0 => place.write(Op::delete(&name)).await,
                true => place.write(Op::update(content, &["*"])).await,
            };
        }
        let newest = place.revision().await;
        let revision = 1 + dice.below(newest);
        let expected = contents(&place, revision).await;
        all_back(&place.admin, RollbackAllRequest { revision, ..Default::default() }).await.unwrap();
        let found = contents(&place, 0).await;
        // An identity that another one has replaced since is not put in its place.
        let content = |all: &[Resource]| {
            all.iter().map(|one| Resource { uid: String::new(), ..one.clone() }).collect::<Vec<_>>()
        };
        assert_eq!(content(&found), content(&expected), "round {round}, to revision {revision}");
    }
    assert_eq!(place.admin.status().await.undecryptable, [""; 0]);
    is_whole(&place).await;
}

async fn what_the_state_does_not_allow_is_refused(place: Place) {
    place.write(Op::Create(setting("settings/a", "x"))).await;
    let disabled = ProviderSpec { enabled: Some(false), ..ProviderSpec::default() };
    let mut off = provider("providers/p");
    if let Some(Spec::Provider(spec)) = &mut off.spec {
        spec.enabled = disabled.enabled;
    }
    let was_off = place.write(Op::Create(off)).await;
    place.write(Op::update(provider("providers/p"), &["*"])).await;
    let router = RouterSpec { primary: "providers/p".into(), ..RouterSpec::default() };
    let routed = place.write(Op::Create(named("routers/default", Spec::Router(router)))).await;
    let status = back(&place.admin, to("providers/p", was_off)).await.unwrap_err();
    assert_eq!(reason(&status), (Code::FailedPrecondition, "PROVIDER_ACTIVE".into()));
    let status = all_back(
        &place.admin,
        RollbackAllRequest { revision: 1, selectors: vec![by_name("providers/p")], ..Default::default() },
    );
    let status = status.await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let info = status.get_error_details().error_info().unwrap().clone();
    assert_eq!(info.metadata["field"], "resources[providers/p].name");
    assert_eq!(place.revision().await, routed);
    // With what refers to it, it goes.
    all_back(&place.admin, RollbackAllRequest { revision: 1, ..Default::default() }).await.unwrap();
    assert!(place.get("providers/p").await.is_err());
    let status = back(&place.admin, to("routers/default", routed)).await.unwrap_err();
    assert_eq!(reason(&status), (Code::FailedPrecondition, "REFERENCE_MISSING".into()));

    let stale = RollbackResourceRequest { etag: "stale".into(), ..to("settings/a", 1) };
    let status = back(&place.admin, stale).await.unwrap_err();
    assert_eq!(reason(&status), (Code::Aborted, "ETAG_MISMATCH".into()));
    assert_eq!(status.get_error_details().error_info().unwrap().metadata["field"], "etag");
    let status = back(&place.admin, to("providers/p", 1)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "there is no providers/p at revision 1"));
    let rights =
        Rights { role: Role::Admin, grants: vec![by_prefix("users/")], ttl_seconds: 600, secrets: false };
    let other = place.admin.colleague("other", &rights).await;
    for name in ["settings/a", "settings/never"] {
        let status = back(&other, to(name, 1)).await.unwrap_err();
        assert_eq!(reason(&status), (Code::PermissionDenied, "NOT_GRANTED".into()));
    }
    let beyond =
        RollbackAllRequest { revision: 1, selectors: vec![by_name("settings/a")], ..Default::default() };
    assert_eq!(all_back(&other, beyond).await.unwrap_err().code(), Code::PermissionDenied);
    let viewer = place.admin.colleague("viewer", &Rights::viewer()).await;
    assert_eq!(back(&viewer, to("settings/a", 1)).await.unwrap_err().code(), Code::PermissionDenied);
}

async fn what_the_log_no_longer_has_is_told_with_the_floor(place: Place) {
    place.write(Op::Create(setting("settings/a", "one"))).await;
    let second = place.write(Op::update(setting("settings/a", "two"), &[])).await;
    let third = place.write(Op::update(setting("settings/a", "three"), &[])).await;
    place.admin.admin().compact_log(CompactLogRequest { revision: second }).await.unwrap();
    for status in [
        back(&place.admin, to("settings/a", 1)).await.unwrap_err(),
        all_back(&place.admin, RollbackAllRequest { revision: 1, ..Default::default() }).await.unwrap_err(),
    ] {
        assert_eq!(reason(&status), (Code::OutOfRange, "COMPACTED".into()));
        let info = status.get_error_details().error_info().unwrap().clone();
        assert_eq!(info.metadata["floor_revision"], second.to_string());
    }
    let status = back(&place.admin, to("settings/a", third + 9)).await.unwrap_err();
    assert_eq!(reason(&status), (Code::OutOfRange, "AHEAD".into()));
    back(&place.admin, to("settings/a", second)).await.unwrap();
    assert_eq!(place.get("settings/a").await.unwrap().spec, setting("", "two").spec);
}

async fn wrong_requests_are_refused_with_their_fields(place: Place) {
    let status = back(&place.admin, to("nonsense", 0)).await.unwrap_err();
    assert_eq!(
        (status.code(), fields(&status)),
        (Code::InvalidArgument, vec!["name".into(), "revision".into()])
    );
    let revision = place.write(Op::Create(setting("settings/a", "x"))).await;
    let long = RollbackResourceRequest {
        request_id: "x".repeat(200),
        reason: "a\nb".into(),
        ..to("settings/a", revision)
    };
    let status = back(&place.admin, long).await.unwrap_err();
    assert_eq!(fields(&status), ["request_id", "reason"]);
    let selectors = vec![by_name("nonsense")];
    let status = all_back(&place.admin, RollbackAllRequest { selectors, ..Default::default() }).await;
    let named = fields(&status.unwrap_err());
    assert!(named[0].starts_with("selectors[0]") && named[1] == "revision", "{named:?}");
    // What would not be taken today is not taken from yesterday either, with the field that stands against it.
    let key = RollbackResourceRequest { name: "providers/p/apiKeys/k".into(), ..to("", revision) };
    assert_eq!(back(&place.admin, key).await.unwrap_err().code(), Code::NotFound);
}

async fn a_repeated_request_is_answered_once_more(place: Place) {
    let first = place.write(Op::Create(setting("settings/a", "one"))).await;
    let second = place.write(Op::update(setting("settings/a", "two"), &[])).await;
    let one = RollbackResourceRequest { request_id: "r1".into(), ..to("settings/a", first) };
    let done = back(&place.admin, one.clone()).await.unwrap();
    place.write(Op::update(setting("settings/a", "three"), &[])).await;
    let all = RollbackAllRequest { revision: second, request_id: "r2".into(), ..Default::default() };
    let all_done = all_back(&place.admin, all.clone()).await.unwrap();
    place.admin.admin().compact_log(CompactLogRequest { revision: all_done.revision }).await.unwrap();
    assert_eq!(back(&place.admin, one.clone()).await.unwrap(), done, "also when the log has forgotten it");
    assert_eq!(all_back(&place.admin, all).await.unwrap(), all_done);
    assert_eq!(place.revision().await, all_done.revision);
    let other = RollbackResourceRequest { revision: second, ..one };
    assert_eq!(reason(&back(&place.admin, other).await.unwrap_err()).1, "REQUEST_ID_REUSED");
}

async fn the_command_line_goes_back(place: Place) {
    let first = place.write(Op::Create(setting("settings/a", "one"))).await;
    place.write(Op::update(setting("settings/a", "two"), &[])).await;
    let token = place.token_file();
    let first = first.to_string();
    let run = async |arguments: &[&str]| {
        let line = [&["--token-file", token.as_str(), "rollback"], arguments].concat();
        let output = place.server.run(&line).await;
        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code().unwrap(), told)
    };
    let (code, told) = run(&["settings/a", "--to", &first]).await;
    assert_eq!((code, told.contains("needs --yes")), (2, true), "{told}");
    assert_eq!(run(&["settings/a", "settings/b", "--to", &first, "--yes"]).await.0, 2);
    let (code, told) = run(&["settings/a", "--to", &first, "--dry-run"]).await;
    assert_eq!((code, told.contains("settings/a would be updated")), (0, true), "{told}");
    let (code, told) = run(&["settings/a", "--to", &first, "--yes"]).await;
    assert_eq!(
        (code, told.as_str()),
        (0, "settings/a updated at revision 3\n  setting.string_value: \"two\" -> \"one\"\n")
    );
    place.write(Op::Create(setting("settings/b", "x"))).await;
    let (code, told) = run(&["--all", "settings", "--to", &first, "--yes"]).await;
    assert_eq!((code, told.contains("settings/b deleted at revision 5")), (0, true), "{told}");
    let (code, told) = run(&["--all", "--to", &first, "--yes"]).await;
    assert_eq!((code, told.contains("nothing was changed")), (0, true), "{told}");
    assert_eq!(run(&["settings/never", "--to", &first, "--yes"]).await.0, 3);
}
