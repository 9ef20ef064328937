//! What is taken and warned of, because of what other resources say or of the time: through the API, as a person meets it.

use signalbox::proto::v1::{
    GenerationParameters, ModelLimits, ModelSpec, PromptTemplateSpec, ProviderSpec, ProviderType,
    RequestBuilder, RequestEntry, Resource, VirtualKeySpec, resource::Spec,
};

use crate::support::{
    active::{Callers, enable},
    caller::Rights,
    resources::{api_key, by_name, by_prefix, named, provider},
    server::Server,
    writer::Op,
};

async fn alone() -> (Server, Callers) {
    let server = Server::start().await;
    let callers = Callers::new(vec![server.admin()]);
    (server, callers)
}

async fn warned(callers: &Callers, resource: Resource) -> Vec<String> {
    callers.write(vec![Op::Create(resource)]).await.unwrap().warnings
}

#[tokio::test]
async fn regression_a_key_of_a_disabled_provider_says_that_it_is_not_used() {
    let (server, callers) = alone().await;
    callers.write(vec![Op::Create(provider("providers/a"))]).await.unwrap();
    callers.write(vec![enable("providers/a", false)]).await.unwrap();
    let told = warned(&callers, api_key("providers/a/apiKeys/k", "sk-0123456789")).await;
    let [told] = &told[..] else { panic!("{told:?}") };
    assert!(told.starts_with("providers/a is disabled") && told.contains("--field enabled=true"), "{told}");
    // Who does not reach the provider is not told how it stands.
    let rights = Rights { grants: vec![by_prefix("providers/a/apiKeys/")], ..Rights::admin() };
    let narrow = Callers::new(vec![server.admin().colleague("narrow", &rights).await]);
    assert_eq!(
        warned(&narrow, api_key("providers/a/apiKeys/l", "sk-9876543210")).await,
        Vec::<String>::new()
    );
    callers.write(vec![enable("providers/a", true)]).await.unwrap();
    assert_eq!(
        warned(&callers, api_key("providers/a/apiKeys/m", "sk-5432109876")).await,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn regression_a_virtual_key_that_is_over_when_it_is_made_says_so() {
    let (_server, callers) = alone().await;
    let key = |id: &str, seconds| {
        let expire_time = Some(prost_types::Timestamp { seconds, nanos: 0 });
        named(
            &format!("virtualKeys/{id}"),
            Spec::VirtualKey(VirtualKeySpec { expire_time, ..Default::default() }),
        )
    };
    let told = warned(&callers, key("past", 1_577_836_800)).await;
    let [told] = &told[..] else { panic!("{told:?}") };
    assert!(told.contains("of virtualKeys/past is in the past"), "{told}");
    assert_eq!(warned(&callers, key("later", 4_102_444_800)).await, Vec::<String>::new());
}

#[tokio::test]
async fn regression_a_model_of_nobody_says_so() {
    let (_server, callers) = alone().await;
    callers.write(vec![Op::Create(provider("providers/ours"))]).await.unwrap();
    let model = |owner: &str| {
        let spec = ModelSpec { model_id: "x".into(), ..Default::default() };
        named(&format!("models/{owner}/x"), Spec::Model(spec))
    };
    let told = warned(&callers, model("antropic")).await;
    let [told] = &told[..] else { panic!("{told:?}") };
    assert!(told.starts_with("`antropic` is neither the id of a provider nor a type"), "{told}");
    for owner in ["anthropic", "ours"] {
        assert_eq!(warned(&callers, model(owner)).await, Vec::<String>::new(), "{owner}");
    }
}

/// It was told only who wrote the template again.
#[tokio::test]
async fn regression_a_builder_that_loses_what_templates_ask_for_says_so() {
    let (server, callers) = alone().await;
    let of = |entries: &[(&str, &str)]| {
        let entry = |(key, source): &(&str, &str)| {
            let source = format!("param:{source}");
            ((*key).to_owned(), RequestEntry { source, ..Default::default() })
        };
        let builder = RequestBuilder {
            version: "1.0".into(),
            payload_structure: entries.iter().map(entry).collect(),
            ..Default::default()
        };
        let spec = ProviderSpec {
            r#type: ProviderType::Openai.into(),
            request_builder: Some(builder),
            ..Default::default()
        };
        named("providers/a", Spec::Provider(spec))
    };
    let least = [("model", "model_name"), ("messages", "messages")];
    let whole = [least.as_slice(), &[("temperature", "temperature")]].concat();
    let template = |id: &str, temperature| {
        let spec = PromptTemplateSpec {
            template: "Say it.".into(),
            provider: "providers/a".into(),
            generation: Some(GenerationParameters { temperature, ..Default::default() }),
            ..Default::default()
        };
        Op::Create(named(&format!("promptTemplates/{id}"), Spec::PromptTemplate(spec)))
    };
    callers
        .write(vec![Op::Create(of(&whole)), template("warm", Some(0.5)), template("plain", None)])
        .await
        .unwrap();
    let cut = || vec![Op::update(of(&least), &["provider.request_builder"])];
    let told = callers.write(cut()).await.unwrap().warnings;
    let [told] = &told[..] else { panic!("{told:?}") };
    assert!(told.starts_with("promptTemplates/warm: `prompt_template.generation.temperature`"), "{told}");
    // Once, and nothing of a template that the caller does not reach.
    assert_eq!(callers.write(cut()).await.unwrap().warnings, Vec::<String>::new());
    callers.write(vec![Op::update(of(&whole), &["provider.request_builder"])]).await.unwrap();
    let rights = Rights { grants: vec![by_name("providers/a")], ..Rights::admin() };
    let narrow = Callers::new(vec![server.admin().colleague("narrow", &rights).await]);
    assert_eq!(narrow.write(cut()).await.unwrap().warnings, Vec::<String>::new());
}

/// Another model may become the default, and a caller may name one.
#[tokio::test]
async fn regression_a_template_is_held_against_the_default_model_of_its_provider() {
    let (server, callers) = alone().await;
    let limits = Some(ModelLimits { max_output_tokens: 4096, ..Default::default() });
    let model = ModelSpec { model_id: "m1".into(), limits, ..Default::default() };
    let of = |id: &str, default_model: &str| {
        let spec = ProviderSpec {
            r#type: ProviderType::Openai.into(),
            default_model: default_model.into(),
            ..Default::default()
        };
        Op::Create(named(&format!("providers/{id}"), Spec::Provider(spec)))
    };
    let known = Op::Create(named("models/openai/m1", Spec::Model(model)));
    callers.write(vec![known, of("a", "m1"), of("b", "m2")]).await.unwrap();
    let template = |id: &str, provider: &str, tokens| {
        let spec = PromptTemplateSpec {
            template: "Say it.".into(),
            provider: provider.into(),
            generation: Some(GenerationParameters { max_tokens: Some(tokens), ..Default::default() }),
            ..Default::default()
        };
        named(&format!("promptTemplates/{id}"), Spec::PromptTemplate(spec))
    };
    let told = warned(&callers, template("much", "providers/a", 900_000)).await;
    let [told] = &told[..] else { panic!("{told:?}") };
    assert!(told.contains("at most 4096"), "{told}");
    assert!(told.contains("models/openai/m1 is the default model of providers/a"), "{told}");
    for (id, provider, tokens) in [("fits", "providers/a", 4096), ("unknown", "providers/b", 900_000)] {
        assert_eq!(warned(&callers, template(id, provider, tokens)).await, Vec::<String>::new(), "{id}");
    }
    // Of a model that the caller does not reach nothing is said.
    let grants = vec![by_prefix("promptTemplates/"), by_name("providers/a")];
    let rights = Rights { grants, ..Rights::admin() };
    let narrow = Callers::new(vec![server.admin().colleague("narrow", &rights).await]);
    let told = warned(&narrow, template("narrow", "providers/a", 900_000)).await;
    assert_eq!(told, Vec::<String>::new());
}
