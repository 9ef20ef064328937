//! A model keeps what the templates that stay ask of it; else these would be refused when they are exported and imported.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use signalbox::proto::v1::{
    GenerationParameters, ImportConfigRequest, ImportItem, ImportMode, ImportOptions, ImportOutcome,
    ModelCapability, ModelLimits, ModelPrices, ModelSpec, PromptTemplateSpec, Resource,
    UpdateResourceRequest, resource::Spec,
};
use sqlx::Connection as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    attempt,
    harness::{PATIENCE, within},
    held_database, in_use, model, refused,
    support::{
        caller::{Caller, Rights},
        narrowing::{called, offering, race, using},
        resources::{by_prefix, labelled, provider},
        server::Server,
        writer::Op,
    },
    template, writer,
};

const MODEL: &str = "models/a/m";

fn of_at_most(tokens: u32) -> impl FnOnce(&mut ModelSpec) {
    move |spec| {
        spec.limits = Some(ModelLimits { max_output_tokens: tokens, ..Default::default() });
        spec.capabilities = vec![ModelCapability::Chat.into(), ModelCapability::Streaming.into()];
    }
}

fn asking_for(tokens: u32) -> impl FnOnce(&mut PromptTemplateSpec) {
    move |spec| {
        spec.model = MODEL.into();
        spec.generation = Some(GenerationParameters { max_tokens: Some(tokens), ..Default::default() });
    }
}

/// Who may change a model, and does not see the template that asks for 77 tokens of it.
async fn beneath_a_hidden_template(server: &Server) -> Caller {
    let admin = server.admin();
    let begin =
        vec![Op::Create(model(MODEL, of_at_most(100))), Op::Create(template("hidden", asking_for(77)))];
    attempt(&admin, begin).await.unwrap();
    let rights = Rights { grants: vec![by_prefix("models/")], ..Rights::admin() };
    admin.colleague("narrow", &rights).await
}

/// A provider that offers `a` and `b`, a model that is called `a`, and a template that uses both.
async fn with_a_template_of_a_model_that_is_offered(server: &Server) -> Caller {
    let admin = server.admin();
    let begin = vec![
        Op::Create(offering("providers/p", &["a", "b"])),
        Op::Create(called("models/p/m", "a")),
        Op::Create(using("t", "providers/p", "models/p/m")),
    ];
    attempt(&admin, begin).await.unwrap();
    admin
}

#[tokio::test]
async fn regression_a_model_is_not_narrowed_beneath_a_template_that_uses_it() {
    let server = Server::start().await;
    let admin = server.admin();
    let begin = vec![
        Op::Create(model(MODEL, of_at_most(100))),
        Op::Create(template("t", asking_for(50))),
        Op::Create(template("other", |_| ())),
    ];
    attempt(&admin, begin).await.unwrap();
    let narrow = |tokens| Op::update(model(MODEL, of_at_most(tokens)), &["model"]);
    let expected = in_use("operations[0].update.resource.model", MODEL);
    assert_eq!(refused(&admin, vec![narrow(49)]).await, expected);
    let request =
        UpdateResourceRequest { resource: Some(model(MODEL, of_at_most(49))), ..Default::default() };
    let status = admin.config().update_resource(request).await.unwrap_err();
    for words in ["promptTemplates/t", "generation.max_tokens", "at most 49", "in one batch"] {
        assert!(status.message().contains(words), "{status:?}");
    }
    // As narrow as it is used, and anything else of it.
    attempt(&admin, vec![narrow(50)]).await.unwrap();
    attempt(&admin, vec![Op::update(labelled(model(MODEL, |_| ()), &[("a", "b")]), &["labels"])])
        .await
        .unwrap();
    // Another label of the template is no other content: it is held to its model all the same.
    let relabelled = labelled(template("t", |_| ()), &[("a", "b")]);
    let (_, reason, ..) = refused(&admin, vec![narrow(49), Op::update(relabelled, &["labels"])]).await;
    assert_eq!(reason, "IN_USE");
    // In one batch with the template, or after it has gone.
    let both = vec![narrow(10), Op::update(template("t", asking_for(10)), &["prompt_template.generation"])];
    attempt(&admin, both).await.unwrap();
    attempt(&admin, vec![narrow(1), Op::delete("promptTemplates/t")]).await.unwrap();
}

/// Who does not reach the templates is told of a use, and of none of them.
#[tokio::test]
async fn what_narrows_a_model_is_told_within_the_grants() {
    let server = Server::start().await;
    let narrow = beneath_a_hidden_template(&server).await;
    let request = UpdateResourceRequest { resource: Some(model(MODEL, of_at_most(5))), ..Default::default() };
    let status = narrow.config().update_resource(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains("what your grants do not reach") && !status.message().contains("hidden"),
        "{status:?}"
    );
    assert!(!status.message().contains("77") && !status.message().contains("max_tokens"), "{status:?}");
}

/// An import leaves it then if it may; a repetition is told the same.
#[tokio::test]
async fn regression_an_import_leaves_what_is_in_use_as_it_is() {
    let server = Server::start().await;
    let narrow = beneath_a_hidden_template(&server).await;
    let import = async |skip_in_use| {
        let item = |name: &str| ImportItem {
            resource: Some(model(name, of_at_most(5))),
            mode: ImportMode::Replace.into(),
            ..Default::default()
        };
        let options =
            ImportOptions { skip_in_use, request_id: format!("r-{skip_in_use}"), ..Default::default() };
        let request =
            ImportConfigRequest { options: Some(options), items: vec![item(MODEL), item("models/a/new")] };
        narrow.admin().import_config(tokio_stream::iter([request])).await.map(tonic::Response::into_inner)
    };
    let status = import(false).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let answer = import(true).await.unwrap();
    let outcomes: Vec<_> = answer.resources.iter().map(|one| (one.name.as_str(), one.outcome())).collect();
    assert_eq!(outcomes, [(MODEL, ImportOutcome::InUse), ("models/a/new", ImportOutcome::Created)]);
    assert_eq!((answer.created, answer.skipped, answer.warnings.len()), (1, 1, 1));
    let told = &answer.warnings[0];
    assert!(told.starts_with(MODEL) && told.contains("what your grants do not reach"), "{told}");
    assert!(!told.contains("hidden") && !told.contains("77"), "{told}");
    assert_eq!(import(true).await.unwrap(), answer);
}

/// A template that names a model of another provider is taken, since gateways serve such, and that is said.
#[tokio::test]
async fn regression_a_model_of_another_provider_is_remarked_on() {
    let server = Server::start().await;
    let admin = server.admin();
    writer(&admin).write(Op::Create(provider("providers/a"))).await;
    writer(&admin).write(Op::Create(provider("providers/b"))).await;
    writer(&admin).write(Op::Create(model(MODEL, |_| ()))).await;
    let warned = async |id: &str, provider: &str| {
        let named = template(id, |spec| (spec.provider, spec.model) = (provider.into(), MODEL.into()));
        let request =
            signalbox::proto::v1::CreateResourceRequest { resource: Some(named), ..Default::default() };
        let answer = admin.config().create_resource(request).await.unwrap().into_inner();
        answer.warnings.iter().any(|warning| warning.contains("is a model of `a`"))
    };
    assert!(warned("other", "providers/b").await);
    assert!(!warned("own", "providers/a").await);
}

/// `provider.models` are the models that may be used: a template names one of them, and they are not narrowed beneath it.
#[tokio::test]
async fn regression_a_template_is_held_to_the_models_of_its_provider() {
    let server = Server::start().await;
    let admin = server.admin();
    let offering = |models: &[&str]| {
        let mut resource = provider("providers/a");
        if let Some(Spec::Provider(spec)) = &mut resource.spec {
            spec.models = models.iter().map(|id| (*id).to_owned()).collect();
        }
        resource
    };
    let asking = || template("t", |spec| (spec.provider, spec.model) = ("providers/a".into(), MODEL.into()));
    let begin = vec![Op::Create(offering(&["x"])), Op::Create(model(MODEL, |_| ()))];
    attempt(&admin, begin).await.unwrap();
    let status = attempt(&admin, vec![Op::Create(asking())]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    for words in ["prompt_template.model", "its `models` are x;"] {
        assert!(status.message().contains(words), "{status:?}");
    }
    let offer = |models: &[&str]| Op::update(offering(models), &["provider.models"]);
    attempt(&admin, vec![offer(&["x", "m"])]).await.unwrap();
    attempt(&admin, vec![Op::Create(asking())]).await.unwrap();
    let expected = in_use("operations[0].update.resource.provider", "providers/a");
    assert_eq!(refused(&admin, vec![offer(&["x"])]).await, expected);
    attempt(&admin, vec![offer(&["m"])]).await.unwrap();
    attempt(&admin, vec![offer(&[])]).await.unwrap();
    attempt(&admin, vec![offer(&["x"]), Op::delete("promptTemplates/t")]).await.unwrap();
}

/// Found by an attack: each half of a batch was judged beside the other as it had been, so that a batch broke what no half of it
/// would, and one that is right as a whole was refused.
#[tokio::test]
async fn regression_a_batch_is_judged_as_a_whole() {
    let server = Server::start().await;
    let admin = with_a_template_of_a_model_that_is_offered(&server).await;
    let offer = |models: &[&str]| Op::update(offering("providers/p", models), &["provider.models"]);
    let call = |id: &str| Op::update(called("models/p/m", id), &["model.model_id"]);
    let (code, reason, ..) = refused(&admin, vec![offer(&["a"]), call("b")]).await;
    assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "IN_USE"));
    attempt(&admin, vec![offer(&["c"]), call("c")]).await.unwrap();
    attempt(&admin, vec![call("d"), offer(&["d", "e"])]).await.unwrap();
}

/// What is left as it is may be what another change counted on.
#[tokio::test]
async fn regression_an_import_that_leaves_one_of_a_pair_leaves_what_counted_on_it() {
    let server = Server::start().await;
    let admin = with_a_template_of_a_model_that_is_offered(&server).await;
    let import = async |models: &[&str], id: &str| {
        let item = |resource| ImportItem {
            resource: Some(resource),
            mode: ImportMode::Update.into(),
            ..ImportItem::default()
        };
        let options = ImportOptions { skip_in_use: true, ..ImportOptions::default() };
        let items = vec![item(offering("providers/p", models)), item(called("models/p/m", id))];
        let request = ImportConfigRequest { options: Some(options), items };
        let answer = admin.admin().import_config(tokio_stream::iter([request])).await.unwrap().into_inner();
        answer.resources.iter().map(|one| one.outcome()).collect::<Vec<_>>()
    };
    assert_eq!(import(&["a"], "b").await, [ImportOutcome::InUse; 2]);
    assert_eq!(import(&["a", "c"], "c").await, [ImportOutcome::Updated; 2]);
    assert_eq!(import(&["b", "c"], "b").await, [ImportOutcome::Updated; 2]);
}

/// Found by an attack: 38 of 40 such races broke the template.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_racing_writers_do_not_narrow_what_a_template_uses_together() {
    let server = Server::start().await;
    let admin = server.admin();
    race(&admin, &admin.reconnected(), 20).await;
}

/// Writes that lost a race and are planned again.
const PLANNED_AGAIN: &str = "signalbox_store_errors_total{call=\"apply\",error=\"stale\"}";

/// How often a write is planned again that is made after another one and was planned before it, and what becomes of it.
async fn behind(server: &Server, first: Op, second: Op) -> (u64, Result<(), Status>) {
    let before = server.counted(PLANNED_AGAIN);
    let held = held_database(server).await;
    let mut writes = Vec::new();
    for (under_way, op) in [(1, first), (2, second)] {
        let caller = server.admin();
        writes.push(tokio::spawn(async move { attempt(&caller, vec![op]).await }));
        within(PATIENCE, "the write is planned", async {
            while server.counted("signalbox_store_calls_open{call=\"apply\"}") < under_way {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    held.close().await.unwrap();
    let second = writes.pop().expect("the second").await.unwrap();
    writes.pop().expect("the first").await.unwrap().unwrap();
    (server.counted(PLANNED_AGAIN) - before, second)
}

/// Found by an attack: a new description of a provider judged every template that names it, and was planned again for a new
/// description of any model that they name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_no_template_is_held_to_relies_on_none() {
    let server = Server::start().await;
    let begin = vec![
        Op::Create(offering("providers/p", &["a", "b"])),
        Op::Create(called("models/p/m", "a")),
        Op::Create(using("t", "providers/p", "models/p/m")),
    ];
    attempt(&server.admin(), begin).await.unwrap();
    let of_model = || {
        let Resource { name, spec: Some(Spec::Model(spec)), .. } = called("models/p/m", "a") else {
            panic!()
        };
        let input = format!("{}", rand::random::<u16>());
        let prices = Some(ModelPrices { input, currency: "USD".into(), ..ModelPrices::default() });
        let spec = Some(Spec::Model(ModelSpec { prices, ..spec }));
        Op::update(Resource { name, spec, ..Resource::default() }, &["model.prices"])
    };
    let of_provider = || {
        let mut resource = offering("providers/p", &[]);
        if let Some(Spec::Provider(spec)) = &mut resource.spec {
            spec.description = format!("{}", rand::random::<u64>());
        }
        Op::update(resource, &["provider.description"])
    };
    let of_template = || {
        let mut resource = using("t", "providers/p", "models/p/m");
        if let Some(Spec::PromptTemplate(spec)) = &mut resource.spec {
            spec.description = format!("{}", rand::random::<u64>());
        }
        Op::update(resource, &["prompt_template.description"])
    };
    for (what, first, second) in [
        ("a model and its provider", of_model(), of_provider()),
        ("a provider and its model", of_provider(), of_model()),
        ("a template and its provider", of_template(), of_provider()),
        ("a template and its model", of_template(), of_model()),
    ] {
        let (again, done) = behind(&server, first, second).await;
        done.unwrap();
        assert_eq!(again, 0, "{what}");
    }
    // What a template is held to.
    let renamed = Op::update(called("models/p/m", "b"), &["model.model_id"]);
    let narrowed = Op::update(offering("providers/p", &["a"]), &["provider.models"]);
    let (again, done) = behind(&server, renamed, narrowed).await;
    assert_eq!((again, done.unwrap_err().code()), (1, Code::FailedPrecondition));
}

/// Found by an attack: such a write was planned again and again for 10 s, and then refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_what_loses_against_others_gets_its_turn() {
    const WRITERS: usize = 4;
    let server = Server::start().await;
    let admin = server.admin();
    let model = |writer: usize| format!("models/p/m{writer}");
    let mut begin = vec![Op::Create(offering("providers/p", &["m", "n"]))];
    begin.extend((0..WRITERS).map(|writer| Op::Create(called(&model(writer), "m"))));
    begin.extend((0..200).map(|number| {
        let (id, model) = (format!("t{number}"), model(number % WRITERS));
        Op::Create(using(&id, "providers/p", &model))
    }));
    attempt(&admin, begin).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (caller, over) = (admin.reconnected(), Arc::clone(&over));
        writers.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let mut described = called(&model(writer), "m");
                if let Some(Spec::Model(spec)) = &mut described.spec {
                    spec.description = format!("{}", rand::random::<u64>());
                }
                attempt(&caller, vec![Op::update(described, &["model.description"])]).await.unwrap();
            }
        });
    }
    for models in [&["m"][..], &["m", "o"], &["m"], &["m", "n"]] {
        let before = server.counted(PLANNED_AGAIN);
        let narrowed = Op::update(offering("providers/p", models), &["provider.models"]);
        attempt(&admin, vec![narrowed]).await.unwrap();
        let again = server.counted(PLANNED_AGAIN) - before;
        assert!(again <= 3, "it was planned again {again} times");
    }
    over.store(true, Ordering::Relaxed);
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
}

/// Found by an attack: only the model was named, and who had mended that was told of the provider.
#[tokio::test]
async fn regression_all_that_breaks_a_template_in_one_batch_is_told_at_once() {
    let server = Server::start().await;
    let admin = server.admin();
    let asking = |spec: &mut PromptTemplateSpec| {
        asking_for(50)(spec);
        spec.provider = "providers/a".into();
    };
    let begin = vec![
        Op::Create(offering("providers/a", &["m"])),
        Op::Create(model(MODEL, of_at_most(100))),
        Op::Create(template("t", asking)),
    ];
    attempt(&admin, begin).await.unwrap();
    let narrow = vec![
        Op::update(model(MODEL, of_at_most(49)), &["model.limits"]),
        Op::update(offering("providers/a", &["x"]), &["provider.models"]),
    ];
    let status = attempt(&admin, narrow).await.unwrap_err();
    let details = status.get_error_details();
    let named: Vec<_> = details.precondition_failure().unwrap().violations.iter().collect();
    let told: Vec<_> = named.iter().map(|one| (one.r#type.as_str(), one.subject.as_str())).collect();
    assert_eq!(told, [("IN_USE", MODEL), ("IN_USE", "providers/a")]);
    assert!(named[0].description.contains("at most 49") && !named[0].description.contains("`models`"));
    assert!(named[1].description.contains("its `models` are x") && !named[1].description.contains("49"));
    let fields = details.bad_request().unwrap().field_violations.iter().map(|one| one.field.as_str());
    let expected = ["operations[0].update.resource.model", "operations[1].update.resource.provider"];
    assert_eq!(fields.collect::<Vec<_>>(), expected);
    assert!(status.message().contains(MODEL) && status.message().contains("providers/a"), "{status:?}");
}
