//! References between resources, through gRPC: what is referred to is there, and stays while something refers to it,
//! whoever writes at the same time.

#![cfg(feature = "server")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

#[path = "references/active.rs"]
mod active;
#[path = "references/databases.rs"]
mod databases;
mod harness;
#[path = "references/keys.rs"]
mod keys;
#[path = "references/missing.rs"]
mod missing_ones;
#[path = "references/narrowed.rs"]
mod narrowed;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "references/probing.rs"]
mod probing;
mod support;
#[path = "references/warned.rs"]
mod warned;

use std::{collections::BTreeSet, time::Duration};

use harness::PATIENCE;
use signalbox::proto::v1::{
    GenerationParameters, ListResourcesRequest, ModelLimits, ModelSpec, PromptTemplateSpec,
    ReasoningParameters, ReasoningSupport, Resource, Role, RouterSpec, ToolSpec, VirtualKeySpec,
    resource::Spec,
};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use support::{
    caller::{Caller, Rights},
    resources::{api_key, by_name, by_prefix, labelled, named, provider},
    server::Server,
    truth::Recorder,
    writer::{Job, Op, Writer},
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

fn router(id: &str, providers: &[&str]) -> Resource {
    let mut providers = providers.iter().map(|id| format!("providers/{id}"));
    let spec = RouterSpec {
        primary: providers.next().unwrap_or_default(),
        fallbacks: providers.collect(),
        ..RouterSpec::default()
    };
    named(&format!("routers/{id}"), Spec::Router(spec))
}

fn model(name: &str, change: impl FnOnce(&mut ModelSpec)) -> Resource {
    let mut spec = ModelSpec::default();
    change(&mut spec);
    named(name, Spec::Model(spec))
}

fn template(id: &str, change: impl FnOnce(&mut PromptTemplateSpec)) -> Resource {
    let mut spec = PromptTemplateSpec { template: "Say it.".to_owned(), ..Default::default() };
    change(&mut spec);
    named(&format!("promptTemplates/{id}"), Spec::PromptTemplate(spec))
}

fn writer(caller: &Caller) -> Writer {
    Writer::new(caller.clone(), Recorder::default())
}

async fn attempt(caller: &Caller, ops: Vec<Op>) -> Result<(), Status> {
    writer(caller).carry_out(&Job::batch(ops)).await.map(drop)
}

/// Code, reason, field and subject of a refusal.
async fn refused(caller: &Caller, ops: Vec<Op>) -> (Code, String, String, String) {
    let status = attempt(caller, ops).await.expect_err("it has to be refused");
    let info = status.get_error_details().error_info().expect("a reason").clone();
    let told = |key: &str| info.metadata.get(key).cloned().unwrap_or_default();
    (status.code(), info.reason.clone(), told("field"), told("subject"))
}

fn missing(field: &str, subject: &str) -> (Code, String, String, String) {
    (Code::FailedPrecondition, "REFERENCE_MISSING".into(), field.into(), subject.into())
}

fn in_use(field: &str, subject: &str) -> (Code, String, String, String) {
    (Code::FailedPrecondition, "IN_USE".into(), field.into(), subject.into())
}

#[tokio::test]
async fn what_is_referred_to_has_to_be_there() {
    let server = Server::start().await;
    let admin = server.admin();
    writer(&admin).write(Op::Create(provider("providers/a"))).await;
    let path = |rest: &str| format!("operations[0].create.resource.{rest}");

    let dangling = |resource: Resource| vec![Op::Create(resource)];
    assert_eq!(
        refused(&admin, dangling(router("r", &["none"]))).await,
        missing(&path("router.primary"), "providers/none")
    );
    assert_eq!(
        refused(&admin, dangling(router("r", &["a", "b"]))).await,
        missing(&path("router.fallbacks[0]"), "providers/b")
    );
    let asking = template("t", |spec| spec.model = "models/a/none".into());
    assert_eq!(
        refused(&admin, dangling(asking)).await,
        missing(&path("prompt_template.model"), "models/a/none")
    );

    // All of them are told at once, each with what names it.
    let status = attempt(&admin, dangling(router("r", &["none", "a", "gone"]))).await.unwrap_err();
    for words in [
        "routers/r primary: providers/none does not exist",
        "routers/r fallbacks[1]: providers/gone does not exist",
    ] {
        assert!(status.message().contains(words), "{status:?}");
    }

    // In one batch the order does not matter.
    let together = vec![Op::Create(router("r", &["a", "b"])), Op::Create(provider("providers/b"))];
    attempt(&admin, together).await.unwrap();
    // An update is held to it as well.
    let turned = vec![Op::update(router("r", &["c"]), &["router.primary"])];
    assert_eq!(
        refused(&admin, turned).await,
        missing("operations[0].update.resource.router.primary", "providers/c")
    );
    // What is deleted in the same batch is not there any more.
    let crossed = vec![Op::Create(router("s", &["a"])), Op::delete("providers/a")];
    assert_eq!(refused(&admin, crossed).await, missing(&path("router.primary"), "providers/a"));
    // Nor is what was never there, and is deleted all the same.
    let gone = Op::Delete { name: "providers/none".into(), etag: String::new(), allow_missing: true };
    let crossed = vec![Op::Create(router("s", &["none"])), gone.clone()];
    assert_eq!(refused(&admin, crossed).await, missing(&path("router.primary"), "providers/none"));
    let orphan = api_key("providers/none/apiKeys/k", "sk-0123456789");
    let (_, reason, ..) = refused(&admin, vec![gone, Op::Create(orphan)]).await;
    assert_eq!(reason, "PARENT_MISSING");
}

#[tokio::test]
async fn what_is_referred_to_stays() {
    let server = Server::start().await;
    let admin = server.admin();
    let tool =
        named("tools/t", Spec::Tool(ToolSpec { description: "Does it.".into(), ..Default::default() }));
    let replaced = model("models/a/old", |spec| {
        spec.deprecation.get_or_insert_default().replacement = "models/a/new".into();
    });
    let asking = template("t", |spec| {
        (spec.model, spec.tools) = ("models/a/old".into(), vec!["tools/t".into()]);
    });
    let all = [
        provider("providers/a"),
        provider("providers/b"),
        router("r", &["a", "b"]),
        model("models/a/new", |_| ()),
        replaced,
        tool,
        asking,
    ];
    attempt(&admin, all.into_iter().map(Op::Create).collect()).await.unwrap();

    let field = "operations[0].delete.name";
    for name in ["providers/a", "providers/b", "models/a/new", "models/a/old", "tools/t"] {
        assert_eq!(refused(&admin, vec![Op::delete(name)]).await, in_use(field, name));
    }
    let status = attempt(&admin, vec![Op::delete("providers/a")]).await.unwrap_err();
    assert!(status.message().contains("in use by routers/r;"), "{}", status.message());
    // An update that changes nothing still refers to it.
    let idle = vec![Op::delete("providers/b"), Op::update(router("r", &["a", "b"]), &["router.fallbacks"])];
    assert_eq!(
        refused(&admin, idle).await,
        missing("operations[1].update.resource.router.fallbacks[0]", "providers/b")
    );
    // One that refers to it no longer, in the same batch, lets it go; so does the end of what refers to it.
    let let_go = vec![Op::delete("providers/b"), Op::update(router("r", &["a"]), &["router.fallbacks"])];
    attempt(&admin, let_go).await.unwrap();
    let names = ["models/a/new", "models/a/old", "promptTemplates/t", "tools/t", "providers/a", "routers/r"];
    attempt(&admin, names.map(Op::delete).to_vec()).await.unwrap();
    assert_eq!(names_of(&admin).await, BTreeSet::new());
}

/// Found by an attacker: the provider could be deleted, and the key named one that was not there.
#[tokio::test]
async fn regression_a_provider_that_a_virtual_key_allows_stays() {
    let server = Server::start().await;
    let admin = server.admin();
    attempt(&admin, vec![Op::Create(provider("providers/k"))]).await.unwrap();
    let spec = VirtualKeySpec { allowed_providers: vec!["providers/k".into()], ..Default::default() };
    attempt(&admin, vec![Op::Create(named("virtualKeys/v", Spec::VirtualKey(spec)))]).await.unwrap();
    let wanted = in_use("operations[0].delete.name", "providers/k");
    assert_eq!(refused(&admin, vec![Op::delete("providers/k")]).await, wanted);
    attempt(&admin, ["virtualKeys/v", "providers/k"].map(Op::delete).to_vec()).await.unwrap();
}

#[tokio::test]
async fn names_beyond_the_grants_are_not_given_away() {
    let server = Server::start().await;
    let admin = server.admin();
    let all = [provider("providers/a"), router("hidden", &["a"])];
    attempt(&admin, all.into_iter().map(Op::Create).collect()).await.unwrap();
    let rights = Rights { role: Role::Admin, ..Rights::worker(vec![by_prefix("providers/")], false) };
    let narrow = admin.colleague("narrow", &rights).await;
    let status = attempt(&narrow, vec![Op::delete("providers/a")]).await.unwrap_err();
    assert!(status.message().contains("in use by what your grants do not reach"), "{}", status.message());
    assert!(!format!("{status:?}").contains("hidden"));
}

#[tokio::test]
async fn regression_a_move_names_no_key_beyond_the_grants() {
    let server = Server::start().await;
    let admin = server.admin();
    let all = [provider("providers/a"), api_key("providers/a/apiKeys/hidden", "x1")];
    attempt(&admin, all.into_iter().map(Op::Create).collect()).await.unwrap();
    let rights = Rights { role: Role::Admin, ..Rights::worker(vec![by_name("providers/a")], false) };
    let narrow = admin.colleague("narrow", &rights).await;
    let mut moved = provider("providers/a");
    if let Some(Spec::Provider(spec)) = &mut moved.spec {
        spec.base_url = "https://elsewhere.example".into();
    }
    let moved = Op::update(moved, &["provider.base_url"]);
    let status = attempt(&narrow, vec![moved.clone()]).await.unwrap_err();
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "SECRET_REQUIRED");
    assert!(status.message().contains("what your grants do not reach"), "{}", status.message());
    assert!(!format!("{status:?}").contains("hidden"));
    let status = attempt(&admin, vec![moved]).await.unwrap_err();
    assert!(status.message().contains("providers/a/apiKeys/hidden"), "{}", status.message());
}

#[tokio::test]
async fn a_template_asks_only_for_what_its_model_takes() {
    let server = Server::start().await;
    let admin = server.admin();
    let thinking = model("models/a/m", |spec| {
        spec.limits = Some(ModelLimits { max_output_tokens: 100, ..Default::default() });
        spec.reasoning = Some(ReasoningSupport { efforts: vec![3], ..Default::default() });
    });
    let asking = template("t", |spec| {
        spec.model = "models/a/m".into();
        spec.generation = Some(GenerationParameters { max_tokens: Some(101), ..Default::default() });
        spec.reasoning = Some(ReasoningParameters { effort: 5, ..Default::default() });
    });
    // Also against a model that is written with it.
    let both = vec![Op::Create(asking), Op::Create(thinking)];
    let status = attempt(&admin, both).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let violations = status.get_error_details().bad_request().unwrap().field_violations.clone();
    let told: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    let path = "operations[0].create.resource.prompt_template";
    assert_eq!(told, [format!("{path}.generation.max_tokens"), format!("{path}.reasoning.effort")]);
    assert!(violations[1].description.contains("one of REASONING_EFFORT_LOW, which models/a/m takes"));

    // Nor is the model changed to one that does not take it; what is no matter of the two may change.
    let fitting = template("t", |spec| spec.model = "models/a/m".into());
    attempt(&admin, vec![Op::Create(fitting.clone()), Op::Create(model("models/a/m", |_| ()))])
        .await
        .unwrap();
    let streaming = template("t", |spec| {
        spec.model = "models/a/m".into();
        spec.chat.get_or_insert_default().stream = Some(true);
    });
    attempt(&admin, vec![Op::update(streaming.clone(), &[])]).await.unwrap();
    let silent = model("models/a/m", |spec| spec.capabilities = vec![1]);
    let expected = in_use("operations[0].update.resource.model", "models/a/m");
    assert_eq!(refused(&admin, vec![Op::update(silent, &[])]).await, expected);
    let relabelled = labelled(streaming.clone(), &[("team", "x")]);
    attempt(&admin, vec![Op::update(relabelled, &["labels"])]).await.unwrap();
    let edited = template("t", |spec| spec.template = "Say more.".into());
    attempt(&admin, vec![Op::update(edited, &["prompt_template.template"])]).await.unwrap();
}

/// The content is written as JSON before it is refused, which has no words for these.
#[tokio::test]
async fn values_beyond_their_ranges_are_violations() {
    let server = Server::start().await;
    let admin = server.admin();
    let mut endless = router("r", &["a"]);
    if let Some(Spec::Router(spec)) = &mut endless.spec {
        spec.retries.get_or_insert_default().max_backoff =
            Some(prost_types::Duration { seconds: i64::MAX, nanos: 0 });
    }
    let hot = template("t", |spec| {
        spec.generation.get_or_insert_default().temperature = Some(f64::NAN);
    });
    let status = attempt(&admin, vec![Op::Create(endless), Op::Create(hot)]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let violations = status.get_error_details().bad_request().unwrap().field_violations.clone();
    let told: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(
        told,
        [
            "operations[0].create.resource.router.retries.max_backoff",
            "operations[1].create.resource.prompt_template.generation.temperature",
        ]
    );
}

/// Everything there is.
async fn names_of(caller: &Caller) -> BTreeSet<String> {
    resources_of(caller).await.into_iter().map(|resource| resource.name).collect()
}

async fn resources_of(caller: &Caller) -> Vec<Resource> {
    let request = ListResourcesRequest { page_size: 1000, ..Default::default() };
    caller.config().list_resources(request).await.unwrap().into_inner().resources
}

/// A provider is deleted while routers are written that refer to it, all at once and from connections of their own. Most
/// of them are planned on the same state, because the database is held meanwhile: whoever wins, nothing dangles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_deletes_and_references_never_leave_a_reference_dangling() {
    const ROUNDS: usize = 25;
    let server = Server::start().await;
    let admin = server.admin();
    let callers: Vec<Caller> = (0..8).map(|_| admin.reconnected()).collect();
    let (mut deleted, mut referred) = (0, 0);
    for round in 0..ROUNDS {
        attempt(&admin, vec![Op::Create(provider("providers/p"))]).await.unwrap();
        let held = held_database(&server).await;
        let mut tasks = tokio::task::JoinSet::new();
        for (number, caller) in callers.iter().cloned().enumerate() {
            // Who comes first differs from round to round.
            tasks.spawn(async move {
                if (number + round) % 4 == 0 {
                    return only(
                        attempt(&caller, vec![Op::delete("providers/p")]).await,
                        &["IN_USE", "NOT_FOUND"],
                    );
                }
                let write = Op::Create(router(&format!("r{number}"), &["p"]));
                only(attempt(&caller, vec![write]).await, &["REFERENCE_MISSING"]);
            });
        }
        // Long enough for the calls to be planned; were it not, the race would only be a weaker one.
        tokio::time::sleep(Duration::from_millis(40)).await;
        held.close().await.unwrap();
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let (routers, providers) = look_for_dangling(&admin).await;
        deleted += usize::from(providers.is_empty());
        referred += usize::from(!routers.is_empty());
        let all: Vec<Op> = routers.iter().chain(&providers).map(|name| Op::delete(name)).collect();
        if !all.is_empty() {
            attempt(&admin, all).await.unwrap();
        }
    }
    assert_eq!(deleted + referred, ROUNDS, "either the provider is gone, or something refers to it");
    println!("the provider was deleted {deleted} times, and referred to {referred} times");
}

/// Keeps the server from writing, until the connection is closed.
async fn held_database(server: &Server) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(server.data().join("signalbox.db"));
    let mut connection = options.busy_timeout(PATIENCE).connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
    connection
}

/// Looks at one state; gives the names of its routers and providers.
async fn look_for_dangling(caller: &Caller) -> (Vec<String>, Vec<String>) {
    let resources = resources_of(caller).await;
    let names: BTreeSet<&str> = resources.iter().map(|resource| resource.name.as_str()).collect();
    let (mut routers, mut providers) = (vec![], vec![]);
    for resource in &resources {
        let Some(Spec::Router(spec)) = &resource.spec else {
            providers.push(resource.name.clone());
            continue;
        };
        routers.push(resource.name.clone());
        for provider in std::iter::once(&spec.primary).chain(&spec.fallbacks) {
            assert!(
                names.contains(provider.as_str()),
                "{} needs {provider}, which is not there",
                resource.name
            );
        }
    }
    (routers, providers)
}

/// The outcome is a success, or one of these refusals.
fn only(outcome: Result<(), Status>, reasons: &[&str]) {
    let Err(status) = outcome else { return };
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default();
    assert!(reasons.contains(&reason.as_str()), "{status:?}");
}

/// Found by a stranger: a worker was told to send the stored key to another host.
#[tokio::test]
async fn regression_stored_keys_do_not_follow_a_provider_to_another_host() {
    let server = Server::start().await;
    let admin = server.admin();
    let key = |id: &str, value: &str| api_key(&format!("providers/a/apiKeys/{id}"), value);
    writer(&admin).write(Op::Create(provider("providers/a"))).await;
    for id in ["k", "l"] {
        writer(&admin).write(Op::Create(key(id, "sk-0123456789"))).await;
    }
    let moved = || {
        let mut moved = provider("providers/a");
        if let Some(Spec::Provider(spec)) = &mut moved.spec {
            spec.base_url = "https://elsewhere.example.com".to_owned();
        }
        Op::update(moved, &["provider.base_url"])
    };
    let field = "operations[0].update.resource.provider.base_url".to_owned();
    let both = attempt(&admin, vec![moved()]).await.unwrap_err();
    let subjects: Vec<String> = both
        .get_error_details()
        .precondition_failure()
        .unwrap()
        .violations
        .clone()
        .into_iter()
        .map(|one| one.subject)
        .collect();
    assert_eq!(subjects, ["k", "l"].map(|id| format!("providers/a/apiKeys/{id}")), "all are told at once");
    for name in &subjects {
        assert!(both.message().contains(name), "{}", both.message());
    }
    for (with, left) in [
        (vec![moved()], "providers/a/apiKeys/k"),
        (vec![moved(), Op::update(key("k", "sk-9876543210"), &["api_key.secret"])], "providers/a/apiKeys/l"),
    ] {
        let told = refused(&admin, with).await;
        let wanted = (Code::FailedPrecondition, "SECRET_REQUIRED".to_owned(), field.clone(), left.to_owned());
        assert_eq!(told, wanted);
    }
    let again = vec![
        moved(),
        Op::update(key("k", "sk-9876543210"), &["api_key.secret"]),
        Op::delete("providers/a/apiKeys/l"),
    ];
    attempt(&admin, again).await.expect("one is given again, the other is gone");
    writer(&admin).write(moved()).await;
}
