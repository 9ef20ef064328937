//! One source laid over another.

use super::*;
use crate::{
    import::{Decision, decide},
    kinds,
    proto::v1::{ModelCapability, ModelLimits, ModelPrices, ParameterRange, ProviderType, ReasoningSupport},
};

fn model(format: &str, spec: ModelSpec) -> Resource {
    let mut resource =
        Resource { name: "models/openai/a".into(), spec: Some(Spec::Model(spec)), ..Resource::default() };
    edited::stamp(&mut resource, format);
    resource
}

/// As the planner stores it.
fn stored(mut resource: Resource) -> Resource {
    let (name, kind) = kinds::parse_name(&resource.name).unwrap();
    kind.fill_defaults(resource.spec.as_mut().unwrap(), &name);
    resource
}

fn prices(input: &str, cached: &str) -> ModelSpec {
    let prices = ModelPrices { input: input.into(), cached_input: cached.into(), ..Default::default() };
    ModelSpec { prices: Some(prices), ..Default::default() }
}

fn spec(resource: &Resource) -> &ModelSpec {
    match &resource.spec {
        Some(Spec::Model(spec)) => spec,
        _ => panic!("no model"),
    }
}

#[test]
fn what_one_source_does_not_say_the_other_keeps() {
    let all = [ModelCapability::Chat, ModelCapability::Reasoning, ModelCapability::Tools];
    let first = ModelSpec {
        limits: Some(ModelLimits { context_window_tokens: 8, ..Default::default() }),
        capabilities: vec![ModelCapability::Chat.into(), ModelCapability::Reasoning.into()],
        reasoning: Some(ReasoningSupport { max_thinking_tokens: Some(9), ..Default::default() }),
        ..prices("1", "0.5")
    };
    let first = stored(model("catalogue", first));
    let second = ModelSpec { capabilities: vec![ModelCapability::Tools.into()], ..prices("2", "") };
    let merged = laid_over(&first, &model("litellm-prices", second), true).unwrap();
    let found = spec(&merged);
    let prices = found.prices.as_ref().unwrap();
    assert_eq!((prices.input.as_str(), prices.cached_input.as_str()), ("2", "0.5"));
    assert_eq!(found.limits.as_ref().unwrap().context_window_tokens, 8);
    assert_eq!(found.capabilities, all.map(i32::from));
    assert_eq!(found.reasoning.as_ref().unwrap().max_thinking_tokens, Some(9));
    // It is no edit, for whichever source comes next.
    let merged = stored(merged);
    let third = model("models-dev", prices_of("3"));
    assert_ne!(decide(&third, Some(&merged), false), Decision::Keep("it was edited since it was imported"));
    let merged = stored(laid_over(&merged, &third, true).unwrap());
    let prices = spec(&merged).prices.as_ref().unwrap();
    assert_eq!((prices.input.as_str(), prices.cached_input.as_str()), ("2", "0.5"));
    // The same again is no change, down to the labels.
    let again = stored(laid_over(&merged, &third, true).unwrap());
    assert_eq!((&again.spec, &again.labels), (&merged.spec, &merged.labels));
    assert_eq!(merged.labels[IMPORTED_FROM], "litellm-prices");
}

#[test]
fn regression_what_goes_in_is_the_context_window_only_where_none_is_told() {
    let limits = |context_window_tokens, max_input_tokens| ModelSpec {
        limits: Some(ModelLimits { context_window_tokens, max_input_tokens, ..Default::default() }),
        ..Default::default()
    };
    let laid = |old: ModelSpec| {
        let old = stored(model("catalogue", old));
        let merged = laid_over(&old, &model("litellm-prices", limits(272, 272)), true).unwrap();
        spec(&merged).limits.as_ref().unwrap().context_window_tokens
    };
    assert_eq!([limits(400, 0), limits(0, 0), limits(128, 128)].map(laid), [400, 272, 272]);
    let first = stored(model("litellm-prices", limits(272, 272)));
    let second = laid_over(&first, &model("models-dev", limits(400, 0)), true).unwrap();
    let found = spec(&second).limits.as_ref().unwrap();
    assert_eq!((found.context_window_tokens, found.max_input_tokens), (400, 272));
}

#[test]
fn regression_what_a_price_file_does_not_name_is_neither_taken_nor_turned_round() {
    use crate::proto::v1::Modality;
    let said = |input: &[Modality], able: &[ModelCapability]| ModelSpec {
        input_modalities: input.iter().map(|one| i32::from(*one)).collect(),
        capabilities: able.iter().map(|one| i32::from(*one)).collect(),
        ..Default::default()
    };
    let (chat, tools) = (ModelCapability::Chat, ModelCapability::Tools);
    let known = said(&[Modality::Text, Modality::Image, Modality::Pdf], &[tools, chat]);
    let first = stored(model(catalogue::FORMAT, known));
    let prices = said(&[Modality::Text], &[chat, tools]);
    let merged = laid_over(&first, &model(litellm_prices::FORMAT, prices), true).unwrap();
    assert_eq!(spec(&merged), spec(&first));
}

#[test]
fn regression_what_a_price_file_denies_is_taken_from_what_it_brought() {
    use crate::proto::v1::Modality;
    let said = |input: &[Modality], able: &[ModelCapability]| ModelSpec {
        input_modalities: input.iter().map(|one| i32::from(*one)).collect(),
        capabilities: able.iter().map(|one| i32::from(*one)).collect(),
        ..Default::default()
    };
    let (chat, vision) = (ModelCapability::Chat, ModelCapability::Vision);
    let first = said(&[Modality::Text, Modality::Image, Modality::Pdf], &[chat, vision]);
    let first = stored(model(litellm_prices::FORMAT, first));
    let mut newer = model(litellm_prices::FORMAT, said(&[Modality::Text], &[chat]));
    let denies = format!("c{} i{}", i32::from(vision), i32::from(Modality::Image));
    newer.labels.insert(edited::DENIES.to_owned(), denies);
    let merged = laid_over(&first, &newer, true).unwrap();
    let wanted = said(&[Modality::Text, Modality::Pdf], &[chat]);
    assert_eq!(spec(&merged).input_modalities, wanted.input_modalities);
    assert_eq!(spec(&merged).capabilities, wanted.capabilities);
    assert!(!merged.labels.contains_key(edited::DENIES));
    // Another source has the word on what it brought.
    let other = stored(model("models-dev", said(&[Modality::Text, Modality::Image], &[chat, vision])));
    assert_eq!(spec(&laid_over(&other, &newer, true).unwrap()), spec(&other));
}

#[test]
fn regression_sources_do_not_overwrite_each_other_by_turns() {
    let first = stored(model("models-dev", prices("1", "")));
    let fills = stored(laid_over(&first, &model("litellm-prices", prices("2", "0.2")), true).unwrap());
    let said = |resource: &Resource| {
        let prices = spec(resource).prices.clone().unwrap();
        (prices.input, prices.cached_input, resource.labels[IMPORTED_FROM].clone())
    };
    assert_eq!(said(&fills), ("1".into(), "0.2".into(), "models-dev".into()));
    assert!(matches!(decide(&model("models-dev", prices("3", "")), Some(&fills), false), Decision::Write));
    // The one that brought it goes on to say what it is, and the catalogue of this binary does not.
    let newer = stored(laid_over(&fills, &model("models-dev", prices("3", "")), true).unwrap());
    assert_eq!(said(&newer), ("3".into(), "0.2".into(), "models-dev".into()));
    let seeded = stored(laid_over(&newer, &model(catalogue::FORMAT, prices("9", "9")), true).unwrap());
    assert_eq!(said(&seeded), said(&newer));
    assert_eq!(seeded.labels, newer.labels);
}

fn prices_of(input: &str) -> ModelSpec {
    prices(input, "")
}

#[test]
fn a_source_that_says_nothing_new_leaves_no_trace() {
    let first = stored(model("models-dev", prices("1", "0.5")));
    let other = laid_over(&first, &model("litellm-prices", prices("1", "")), true).unwrap();
    assert_eq!(other.labels, first.labels);
}

#[test]
fn what_only_makes_sense_together_is_taken_together() {
    let range = |maximum, supported| ParameterRange { maximum, supported, ..Default::default() };
    let parameters = |temperature| ModelSpec {
        parameters: Some(ParameterSupport { temperature: Some(temperature), ..Default::default() }),
        ..Default::default()
    };
    let first = stored(model("catalogue", parameters(range(Some(1.0), None))));
    let merged = laid_over(&first, &model("models-dev", parameters(range(None, Some(false)))), true).unwrap();
    let found = spec(&merged).parameters.as_ref().unwrap().temperature.unwrap();
    assert_eq!((found.maximum, found.supported), (None, Some(false)));
    let euros = stored(model(
        "catalogue",
        ModelSpec {
            prices: Some(ModelPrices {
                currency: "EUR".into(),
                input: "1".into(),
                output: "2".into(),
                ..Default::default()
            }),
            ..Default::default()
        },
    ));
    let merged = laid_over(&euros, &model("models-dev", prices("3", "")), true).unwrap();
    assert_eq!(spec(&merged).prices.as_ref().unwrap().output, "", "a price of another currency says nothing");
}

fn provider(format: &str, spec: ProviderSpec) -> Resource {
    let mut resource = Resource {
        name: "providers/groq".into(),
        spec: Some(Spec::Provider(ProviderSpec { r#type: ProviderType::Groq.into(), ..spec })),
        ..Resource::default()
    };
    edited::stamp(&mut resource, format);
    resource
}

fn provider_of(resource: &Resource) -> &ProviderSpec {
    match &resource.spec {
        Some(Spec::Provider(spec)) => spec,
        _ => panic!("no provider"),
    }
}

#[test]
fn regression_a_file_that_is_silent_of_a_field_leaves_it() {
    let starter = ProviderSpec {
        display_name: "Groq".into(),
        default_model: "m1".into(),
        models: vec!["m1".into()],
        enabled: Some(false),
        ..Default::default()
    };
    let first = stored(provider(starters::FORMAT, starter));
    let file = ProviderSpec { display_name: "groq".into(), ..Default::default() };
    let merged = stored(laid_over(&first, &provider("admin-settings", file), true).unwrap());
    let found = provider_of(&merged);
    assert_eq!((found.display_name.as_str(), found.default_model.as_str()), ("Groq", "m1"));
    assert_eq!((found.models.as_slice(), found.enabled), (&["m1".to_owned()][..], Some(true)));
    let waits = laid_over(&first, &provider("admin-settings", ProviderSpec::default()), false).unwrap();
    assert_eq!(provider_of(&waits).enabled, Some(false), "it has no key yet");
    // Another model is one that may be used.
    let file = ProviderSpec { default_model: "m2".into(), ..Default::default() };
    let merged = stored(laid_over(&merged, &provider("admin-settings", file), true).unwrap());
    let found = provider_of(&merged);
    assert_eq!((found.default_model.as_str(), found.models.len()), ("m2", 2));
}

#[test]
fn regression_a_base_url_that_is_cut_elsewhere_stays() {
    let first = stored(provider(starters::FORMAT, ProviderSpec::default()));
    let base_url = provider_of(&first).base_url.clone();
    assert_eq!(base_url, "https://api.groq.com/openai/v1");
    let file = ProviderSpec {
        base_url: "https://api.groq.com".into(),
        endpoint_path: "/openai/v1/responses".into(),
        ..Default::default()
    };
    let merged = laid_over(&first, &provider("admin-settings", file), true).unwrap();
    let found = provider_of(&merged);
    assert_eq!((&found.base_url, found.endpoint_path.as_str()), (&base_url, "/responses"));
}

#[test]
fn regression_litellm_narrows_no_provider() {
    let litellm = || {
        let models = vec!["b".to_owned()];
        provider(litellm::FORMAT, ProviderSpec { default_model: "b".into(), models, ..Default::default() })
    };
    for (models, after) in [(&[][..], &[][..]), (&["a"], &["a", "b"])] {
        let models = models.iter().map(ToString::to_string).collect();
        let spec = ProviderSpec { default_model: "a".into(), models, ..Default::default() };
        let first = stored(provider("admin-settings", spec));
        let merged = stored(laid_over(&first, &litellm(), true).unwrap());
        let found = provider_of(&merged);
        assert_eq!(
            (found.default_model.as_str(), found.models.as_slice()),
            ("a", &after.iter().map(ToString::to_string).collect::<Vec<_>>()[..])
        );
        let again = stored(laid_over(&merged, &litellm(), true).unwrap());
        assert_eq!((&again.spec, &again.labels), (&merged.spec, &merged.labels));
    }
}

#[test]
fn regression_who_is_active_moves_as_a_switch_moves_it() {
    let router = |primary: &str, fallbacks: &[&str]| RouterSpec {
        primary: primary.into(),
        fallbacks: fallbacks.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let old =
        RouterSpec { display_name: "Ours".into(), ..router("providers/a", &["providers/b", "providers/c"]) };
    let turned = merge_router(&old, &router("providers/b", &[]), false);
    assert_eq!((turned.primary.as_str(), turned.display_name.as_str()), ("providers/b", "Ours"));
    assert_eq!(turned.fallbacks, ["providers/a", "providers/c"]);
    assert_eq!(merge_router(&turned, &router("providers/b", &[]), false), turned);
    assert_eq!(
        merge_router(&old, &router("providers/b", &["providers/d"]), false).fallbacks,
        ["providers/d"]
    );
    assert!(
        merge_router(&router("providers/a", &[]), &router("providers/b", &[]), true).fallbacks.is_empty()
    );
}

/// A variable's model is only the one of its type.
#[test]
fn regression_variables_leave_the_model_that_another_source_brought() {
    let brought = ProviderSpec { default_model: "theirs".into(), ..Default::default() };
    let variables = ProviderSpec { default_model: "of-the-type".into(), ..Default::default() };
    let laid = |format: &str| {
        let first = stored(provider(format, brought.clone()));
        laid_over(&first, &provider(env::FORMAT, variables.clone()), true).unwrap()
    };
    assert_eq!(provider_of(&laid(litellm::FORMAT)).default_model, "theirs");
    assert_eq!(provider_of(&laid(starters::FORMAT)).default_model, "of-the-type");
}
