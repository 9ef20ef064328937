//! The history and the differences of revisions: what concerns whom, and who sees what of it.

use signalbox::proto::v1::{
    ChangeType, CompactLogRequest, DiffRevisionsRequest, DiffRevisionsResponse, HistoryEntry,
    ListHistoryRequest, Resource, Role, RouterSpec, Selector, resource::Spec,
};
use tonic::{Code, Status};

use crate::{
    on_both_databases,
    place::{Place, fields, reason},
    support::{
        caller::{Caller, Rights},
        resources::{
            CANARY, api_key, by_kind, by_name, by_prefix, labelled, named, narrowed, provider,
            secret_setting, secrets_in, setting,
        },
        writer::Op,
    },
};

on_both_databases! {
    a_switch_stands_in_the_history_of_all_that_it_concerns;
    pages_and_filters_tell_the_same_history;
    grants_hold_for_the_past;
    what_is_compacted_is_said;
    revisions_differ_as_a_dry_run_says;
    wrong_requests_are_refused_with_their_fields;
}

fn router(primary: &str, fallback: &str) -> Resource {
    let fallbacks = vec![fallback.to_owned()];
    let spec = RouterSpec { primary: primary.to_owned(), fallbacks, ..Default::default() };
    named("routers/default", Spec::Router(spec))
}

fn of(selectors: Vec<Selector>) -> ListHistoryRequest {
    ListHistoryRequest { selectors, ..Default::default() }
}

/// All pages.
async fn history(caller: &Caller, mut request: ListHistoryRequest) -> Result<Vec<HistoryEntry>, Status> {
    let mut entries = Vec::new();
    loop {
        let page = caller.config().list_history(request.clone()).await?.into_inner();
        entries.extend(page.entries);
        if page.next_page_token.is_empty() {
            return Ok(entries);
        }
        request.page_token = page.next_page_token;
    }
}

fn shown(entries: &[HistoryEntry]) -> Vec<String> {
    entries.iter().map(|entry| format!("{} {} {}", entry.revision, entry.name, entry.action)).collect()
}

async fn told(caller: &Caller, request: ListHistoryRequest) -> Vec<String> {
    shown(&history(caller, request).await.unwrap())
}

async fn diff(caller: &Caller, mut request: DiffRevisionsRequest) -> Result<DiffRevisionsResponse, Status> {
    let mut whole = DiffRevisionsResponse::default();
    loop {
        let page = caller.config().diff_revisions(request.clone()).await?.into_inner();
        whole.diffs.extend(page.diffs);
        (whole.from_revision, whole.to_revision) = (page.from_revision, page.to_revision);
        if page.next_page_token.is_empty() {
            return Ok(whole);
        }
        request.page_token = page.next_page_token;
    }
}

async fn a_switch_stands_in_the_history_of_all_that_it_concerns(place: Place) {
    for name in ["providers/a", "providers/b", "providers/c"] {
        place.write(Op::Create(provider(name))).await;
    }
    place.write(Op::Create(router("providers/a", "providers/b"))).await;
    place.write(Op::update(router("providers/b", "providers/a"), &["*"])).await;
    // What changes nothing of them does not concern them.
    place.write(Op::update(labelled(router("", ""), &[("team", "x")]), &["labels"])).await;

    let a = history(&place.admin, of(vec![by_name("providers/a")])).await.unwrap();
    let expected = ["5 routers/default switched", "4 routers/default created", "1 providers/a created"];
    assert_eq!(shown(&a), expected);
    assert_eq!(a[0].related, ["providers/a", "providers/b"]);
    assert_eq!(told(&place.admin, of(vec![by_name("providers/b")])).await[..2], expected[..2]);
    assert_eq!(told(&place.admin, of(vec![by_name("providers/c")])).await, ["3 providers/c created"]);
    let own = ["6 routers/default updated", "5 routers/default switched", "4 routers/default created"];
    assert_eq!(told(&place.admin, of(vec![by_name("routers/default")])).await, own);
    assert_eq!(told(&place.admin, of(vec![by_kind("router")])).await, own);
    assert_eq!(told(&place.admin, of(vec![by_prefix("providers/")])).await.len(), 5);
    // Nobody is told of what he does not reach, neither the change nor what it concerns.
    let rights = |grants| Rights { role: Role::Admin, grants, ttl_seconds: 600, secrets: false };
    let providers = place.admin.colleague("p", &rights(vec![by_prefix("providers/")])).await;
    assert_eq!(told(&providers, of(vec![by_name("providers/a")])).await, ["1 providers/a created"]);
    let one = rights(vec![by_prefix("routers/"), by_name("providers/a")]);
    let one = place.admin.colleague("r", &one).await;
    let of_router = history(&one, of(vec![by_name("routers/default")])).await.unwrap();
    assert_eq!(of_router[1].related, ["providers/a"]);
    // A router that goes lets go of what it referred to.
    place.write(Op::delete("routers/default")).await;
    let gone = history(&place.admin, of(vec![by_name("providers/b")])).await.unwrap();
    assert_eq!((gone[0].r#type(), gone[0].name.as_str()), (ChangeType::Deleted, "routers/default"));
}

async fn pages_and_filters_tell_the_same_history(place: Place) {
    for index in 0..7 {
        place.write(Op::Create(setting(&format!("settings/k{index}"), "x"))).await;
    }
    let other = place.admin.colleague("other", &Rights::admin()).await;
    let mut request = signalbox::proto::v1::UpdateResourceRequest {
        resource: Some(labelled(secret_setting("settings/k0", &format!("{CANARY}-1")), &[("team", "x")])),
        update_mask: Some(prost_types::FieldMask { paths: vec!["*".into()] }),
        request_id: "the-request".into(),
        reason: "because".into(),
        ..Default::default()
    };
    other.config().update_resource(request.clone()).await.unwrap();
    request.request_id = "another".into();
    request.resource = Some(secret_setting("settings/k0", &format!("{CANARY}-2")));
    other.config().update_resource(request).await.unwrap();

    let everything = history(&place.admin, ListHistoryRequest::default()).await.unwrap();
    assert_eq!(everything.len(), 9);
    for page_size in 1..4 {
        let request = ListHistoryRequest { page_size, ..Default::default() };
        assert_eq!(history(&place.admin, request).await.unwrap(), everything, "in pages of {page_size}");
    }
    let [rotated, updated, ..] = &everything[..] else { panic!("{everything:?}") };
    assert_eq!((rotated.action.as_str(), rotated.reason.as_str()), ("rotated", "because"));
    assert_eq!((updated.request_id.as_str(), updated.actor.as_str()), ("the-request", "other"));
    assert_eq!((updated.version, &updated.uid), (2, &rotated.uid));
    let all = ListHistoryRequest::default;
    for (request, expected) in [
        (ListHistoryRequest { actor: "other".into(), ..all() }, &everything[..2]),
        (ListHistoryRequest { action: "rotated".into(), ..all() }, &everything[..1]),
        (ListHistoryRequest { since: updated.time, ..all() }, &everything[..2]),
        (ListHistoryRequest { until: updated.time, ..all() }, &everything[2..]),
        // Before or after.
        (of(vec![narrowed(by_prefix("settings/"), "team", "x")]), &everything[..2]),
    ] {
        assert_eq!(history(&place.admin, request.clone()).await.unwrap(), expected, "{request:?}");
    }
    let with = ListHistoryRequest { include_resources: true, ..all() };
    let mut shown = history(&place.admin, with).await.unwrap();
    assert!(!format!("{shown:?}").contains(CANARY));
    let resource = shown[0].resource.as_mut().expect("it was asked for");
    assert_eq!(secrets_in(resource).len(), 1);
    assert_eq!(resource.name, "settings/k0");
    // What happens meanwhile does not shift the pages.
    let first = ListHistoryRequest { page_size: 3, ..all() };
    let page = place.admin.config().list_history(first.clone()).await.unwrap().into_inner();
    place.write(Op::delete("settings/k6")).await;
    let next = ListHistoryRequest { page_token: page.next_page_token, ..first };
    let page = place.admin.config().list_history(next).await.unwrap().into_inner();
    assert_eq!(page.entries, everything[3..6]);
}

async fn grants_hold_for_the_past(place: Place) {
    place.write(Op::Create(setting("settings/mine", "x"))).await;
    place.write(Op::Create(setting("users/alice/settings/hers", "x"))).await;
    place.write(Op::delete("users/alice/settings/hers")).await;
    let rights = Rights { grants: vec![by_prefix("settings/")], ..Rights::viewer() };
    let viewer = place.admin.colleague("viewer", &rights).await;
    assert_eq!(told(&viewer, ListHistoryRequest::default()).await, ["1 settings/mine created"]);
    let beyond = vec![by_prefix("users/")];
    let refused = history(&viewer, of(beyond.clone())).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::PermissionDenied, "NOT_GRANTED".into()));
    let compared = DiffRevisionsRequest { from_revision: 2, to_revision: 3, ..Default::default() };
    assert_eq!(diff(&viewer, compared.clone()).await.unwrap().diffs, []);
    assert_eq!(diff(&place.admin, compared.clone()).await.unwrap().diffs.len(), 1);
    let beyond = DiffRevisionsRequest { selectors: beyond, ..compared };
    assert_eq!(reason(&diff(&viewer, beyond).await.unwrap_err()).1, "NOT_GRANTED");
    let worker = place.admin.colleague("worker", &Rights::worker(vec![by_prefix("settings/")], true)).await;
    let refused = history(&worker, ListHistoryRequest::default()).await.unwrap_err();
    assert_eq!(reason(&refused).1, "ROLE_DENIED");
}

async fn what_is_compacted_is_said(place: Place) {
    place.write(Op::Create(setting("settings/a", "1"))).await;
    place.write(Op::update(setting("settings/a", "2"), &[])).await;
    place.write(Op::update(setting("settings/a", "3"), &[])).await;
    place.admin.admin().compact_log(CompactLogRequest { revision: 2 }).await.unwrap();
    let page = place.admin.config().list_history(ListHistoryRequest::default()).await.unwrap().into_inner();
    assert_eq!(shown(&page.entries), ["3 settings/a updated", "2 settings/a updated"]);
    assert_eq!(page.floor_revision, 2);
    let request = DiffRevisionsRequest { from_revision: 1, ..Default::default() };
    let status = diff(&place.admin, request).await.unwrap_err();
    assert_eq!(reason(&status), (Code::OutOfRange, "COMPACTED".into()));
    let output = place.server.run(&["--token-file", &place.token_file(), "history", "settings/a"]).await;
    let (told, remarks) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("settings/a") && remarks.contains("compacted up to revision 2"), "{output:?}");
}

async fn revisions_differ_as_a_dry_run_says(place: Place) {
    place.write(Op::Create(provider("providers/a"))).await;
    place.write(Op::Create(api_key("providers/a/apiKeys/k", &format!("{CANARY}-1")))).await;
    let from = place.write(Op::Create(setting("settings/gone", "x"))).await;
    let rotated = api_key("providers/a/apiKeys/k", &format!("{CANARY}-2"));
    place.write(Op::update(rotated, &["api_key.secret"])).await;
    place.write(Op::Create(setting("settings/new", "x"))).await;
    place.write(Op::delete("settings/gone")).await;
    // There and back again is no difference.
    place.write(Op::update(labelled(provider("providers/a"), &[("team", "x")]), &["labels"])).await;
    let to = place.write(Op::update(provider("providers/a"), &["labels"])).await;
    let request = DiffRevisionsRequest { from_revision: from, ..Default::default() };
    let whole = diff(&place.admin, request.clone()).await.unwrap();
    assert_eq!((whole.from_revision, whole.to_revision), (from, to));
    let names: Vec<_> = whole.diffs.iter().map(|diff| (diff.name.as_str(), diff.r#type())).collect();
    let expected = [
        ("providers/a/apiKeys/k", ChangeType::Updated),
        ("settings/gone", ChangeType::Deleted),
        ("settings/new", ChangeType::Created),
    ];
    assert_eq!(names, expected);
    let secret = &whole.diffs[0].fields[0];
    assert_eq!(secret.path, "api_key.secret");
    assert_eq!(secret.after, r#"{"replaced":true,"state":"PRESENT"}"#);
    assert!(!format!("{whole:?}").contains(CANARY));
    for page_size in 1..3 {
        let pages = diff(&place.admin, DiffRevisionsRequest { page_size, ..request.clone() }).await.unwrap();
        assert_eq!(pages.diffs, whole.diffs);
    }
    let back = DiffRevisionsRequest { from_revision: to, to_revision: from, ..Default::default() };
    let back = diff(&place.admin, back).await.unwrap();
    assert_eq!(back.diffs[1].r#type(), ChangeType::Created, "the other way round");
    let selected = DiffRevisionsRequest { selectors: vec![by_name("settings/new")], ..request };
    assert_eq!(diff(&place.admin, selected).await.unwrap().diffs, whole.diffs[2..]);
    let (from, to) = (from.to_string(), to.to_string());
    let output =
        place.server.run(&["--token-file", &place.token_file(), "diff", &from, &to, "settings"]).await;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "settings/gone deleted\n  setting.string_value: \"x\" -> (not set)\n\
         settings/new created\n  setting.string_value: (not set) -> \"x\"\n"
    );
}

async fn wrong_requests_are_refused_with_their_fields(place: Place) {
    place.write(Op::Create(setting("settings/a", "x"))).await;
    place.write(Op::Create(setting("settings/b", "x"))).await;
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let wrong = ListHistoryRequest {
        selectors: vec![by_kind("nonsense")],
        page_size: -1,
        page_token: "x".into(),
        actor: "a\nb".into(),
        action: "x".repeat(300),
        since: time(i64::MAX),
        until: time(1 << 40),
        ..Default::default()
    };
    let status = history(&place.admin, wrong).await.unwrap_err();
    let all = ["selectors[0].kind", "page_size", "page_token", "actor", "action", "since", "until"];
    assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, all.map(str::to_owned).to_vec()));
    let wrong = DiffRevisionsRequest { page_size: -1, ..Default::default() };
    assert_eq!(fields(&diff(&place.admin, wrong).await.unwrap_err()), ["page_size", "from_revision"]);
    let ahead = DiffRevisionsRequest { from_revision: 1, to_revision: 99, ..Default::default() };
    let status = diff(&place.admin, ahead).await.unwrap_err();
    assert_eq!(reason(&status), (Code::OutOfRange, "AHEAD".into()));
    // A page token belongs to its request.
    let first = ListHistoryRequest { page_size: 1, ..Default::default() };
    let page_token = place.admin.config().list_history(first).await.unwrap().into_inner().next_page_token;
    let other =
        ListHistoryRequest { actor: "x".into(), page_token: page_token.clone(), ..Default::default() };
    assert_eq!(fields(&history(&place.admin, other).await.unwrap_err()), ["page_token"]);
    let other = DiffRevisionsRequest { from_revision: 1, page_token, ..Default::default() };
    assert_eq!(fields(&diff(&place.admin, other).await.unwrap_err()), ["page_token"]);
}
