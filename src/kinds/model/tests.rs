//! For every field of a model what is accepted, and what is refused under which path; ids and names.

use proptest::{collection::btree_set, option, prelude::*};

use super::*;
use crate::kinds::tests::{plan, wrong};

/// Leads to a part of a message.
type PartOf<M, P> = fn(&mut M) -> &mut P;

const MODEL: &str = "models/together/meta-llama+Llama-3-70b";

fn spec(change: impl FnOnce(&mut ModelSpec)) -> Spec {
    let mut model = ModelSpec::default();
    change(&mut model);
    Spec::Model(model)
}

#[track_caller]
fn good(change: impl FnOnce(&mut ModelSpec)) {
    assert_eq!(plan(MODEL, spec(change), None).1, []);
}

#[track_caller]
fn bad(path: &str, change: impl FnOnce(&mut ModelSpec)) {
    assert_eq!(wrong(MODEL, spec(change)), [format!("model.{path}")]);
}

fn prices(change: fn(&mut ModelPrices)) -> impl FnOnce(&mut ModelSpec) {
    move |spec| change(spec.prices.get_or_insert_default())
}

fn limits(change: fn(&mut ModelLimits)) -> impl FnOnce(&mut ModelSpec) {
    move |spec| change(spec.limits.get_or_insert_default())
}

fn deprecation(change: fn(&mut ModelDeprecation)) -> impl FnOnce(&mut ModelSpec) {
    move |spec| change(spec.deprecation.get_or_insert_default())
}

fn support(change: fn(&mut ParameterSupport)) -> impl FnOnce(&mut ModelSpec) {
    move |spec| change(spec.parameters.get_or_insert_default())
}

fn reasoning(change: fn(&mut ReasoningSupport)) -> impl FnOnce(&mut ModelSpec) {
    move |spec| change(spec.reasoning.get_or_insert_default())
}

fn range(minimum: f64, maximum: f64) -> Option<ParameterRange> {
    Some(ParameterRange { supported: None, minimum: Some(minimum), maximum: Some(maximum) })
}

#[test]
fn a_name_is_enough() {
    let (Spec::Model(filled), violations) = plan(MODEL, spec(|_| ()), None) else { panic!() };
    assert_eq!(violations, []);
    assert_eq!(filled.model_id, "meta-llama/Llama-3-70b");
    assert_eq!(filled.source(), ModelSource::Operator);
    assert_eq!((filled.prices, filled.parameters), (None, None), "what is unknown stays unknown");

    let given = spec(|spec| {
        spec.model_id = "@cf/meta/llama".into();
        spec.source = ModelSource::Imported.into();
        prices(|prices| prices.currency = "EUR".into())(spec);
        support(|support| {
            support.top_p = Some(ParameterRange { supported: Some(false), ..Default::default() });
            support.top_k = Some(ParameterRange::default());
        })(spec);
    });
    let (Spec::Model(filled), _) = plan(MODEL, given, None) else { panic!() };
    assert_eq!((filled.model_id.as_str(), filled.source()), ("@cf/meta/llama", ModelSource::Imported));
    assert_eq!(filled.prices.unwrap().currency, "EUR");
    let support = filled.parameters.unwrap();
    assert_eq!(support.top_p.unwrap().supported, Some(false));
    assert_eq!(support.top_k.unwrap().supported, Some(true));
}

#[test]
fn texts_and_dates() {
    good(|spec| spec.model_id = "accounts/fireworks/models/llama-v3p1".into());
    bad("model_id", |spec| spec.model_id = "a b".into());
    bad("model_id", |spec| spec.model_id = "x".repeat(201));
    good(|spec| spec.display_name = "Llama 3 70B".into());
    bad("display_name", |spec| spec.display_name = "x".repeat(201));
    good(|spec| spec.description = "one\ntwo".into());
    bad("description", |spec| spec.description = "a\0".into());
    good(|spec| spec.knowledge_cutoff = "2024-04".into());
    bad("knowledge_cutoff", |spec| spec.knowledge_cutoff = "April 2024".into());
    good(|spec| spec.release_date = "2024-04-18".into());
    bad("release_date", |spec| spec.release_date = "2024-04-31".into());
    good(|spec| spec.source = ModelSource::Starter.into());
    bad("source", |spec| spec.source = 9);
}

#[test]
fn limits_modalities_and_capabilities() {
    good(limits(|limits| limits.context_window_tokens = MOST_TOKENS));
    bad("limits.context_window_tokens", limits(|limits| limits.context_window_tokens = MOST_TOKENS + 1));
    good(limits(|limits| limits.max_input_tokens = 1));
    bad("limits.max_input_tokens", limits(|limits| limits.max_input_tokens = u32::MAX));
    good(limits(|limits| limits.max_output_tokens = 1));
    bad("limits.max_output_tokens", limits(|limits| limits.max_output_tokens = u32::MAX));
    let lists: [(&str, PartOf<ModelSpec, Vec<i32>>); 3] = [
        ("input_modalities", |spec| &mut spec.input_modalities),
        ("output_modalities", |spec| &mut spec.output_modalities),
        ("capabilities", |spec| &mut spec.capabilities),
    ];
    for (field, list) in lists {
        good(|spec| *list(spec) = vec![1, 2, 5]);
        bad(&format!("{field}[0]"), |spec| *list(spec) = vec![0]);
        bad(&format!("{field}[1]"), |spec| *list(spec) = vec![1, 99]);
        bad(&format!("{field}[2]"), |spec| *list(spec) = vec![1, 2, 1]);
        let many = wrong(MODEL, spec(|spec| *list(spec) = vec![1; 65]));
        assert_eq!(many[0], format!("model.{field}"));
    }
}

#[test]
fn prices_are_exact() {
    good(prices(|prices| prices.currency = "EUR".into()));
    for currency in ["usd", "US", "$"] {
        bad("prices.currency", |spec| {
            spec.prices = Some(ModelPrices { currency: currency.into(), ..Default::default() });
        });
    }
    let all: [(&str, PartOf<ModelPrices, String>); 7] = [
        ("input", |prices| &mut prices.input),
        ("output", |prices| &mut prices.output),
        ("cached_input", |prices| &mut prices.cached_input),
        ("cache_write", |prices| &mut prices.cache_write),
        ("reasoning", |prices| &mut prices.reasoning),
        ("audio_input", |prices| &mut prices.audio_input),
        ("audio_output", |prices| &mut prices.audio_output),
    ];
    for (field, price) in all {
        for (text, right) in [("0.0375", true), ("0", true), ("1e-7", false), ("-1", false), ("free", false)]
        {
            let change = |spec: &mut ModelSpec| *price(spec.prices.get_or_insert_default()) = text.into();
            if right { good(change) } else { bad(&format!("prices.{field}"), change) }
        }
    }
}

#[test]
fn deprecation_names_another_model() {
    good(deprecation(|given| {
        (given.deprecated, given.date) = (true, "2026-01-31".into());
        given.replacement = "models/together/meta-llama+Llama-4".into();
    }));
    bad("deprecation.date", deprecation(|given| given.date = "soon".into()));
    bad("deprecation.replacement", deprecation(|given| given.replacement = "gpt-5".into()));
    bad("deprecation.replacement", deprecation(|given| given.replacement = "providers/groq".into()));
    bad("deprecation.replacement", deprecation(|given| given.replacement = MODEL.into()));
    let given = spec(deprecation(|given| given.replacement = "models/a/b".into()));
    let [reference] = &Model.references(&given)[..] else { panic!("one reference") };
    assert_eq!(reference.field.0, "model.deprecation.replacement");
    assert_eq!(reference.name.as_str(), "models/a/b");
    assert_eq!(Model.references(&spec(|_| ())), []);
}

#[test]
fn parameters_are_within_their_ranges() {
    good(support(|support| support.temperature = range(0.0, 1.0)));
    bad("parameters.temperature.maximum", support(|support| support.temperature = range(0.0, 2.1)));
    bad("parameters.temperature.minimum", support(|support| support.temperature = range(f64::NAN, 1.0)));
    bad("parameters.temperature.minimum", support(|support| support.temperature = range(1.0, 0.5)));
    good(support(|support| support.top_p = range(0.5, 1.0)));
    bad("parameters.top_p.minimum", support(|support| support.top_p = range(-0.1, 1.0)));
    good(support(|support| support.top_k = range(1.0, 40.0)));
    bad("parameters.top_k.maximum", support(|support| support.top_k = range(1.0, 1001.0)));
    good(support(|support| support.frequency_penalty = range(-2.0, 2.0)));
    bad(
        "parameters.frequency_penalty.maximum",
        support(|support| support.frequency_penalty = range(0.0, 3.0)),
    );
    good(support(|support| support.presence_penalty = range(0.0, 0.0)));
    bad(
        "parameters.presence_penalty.maximum",
        support(|support| support.presence_penalty = range(0.0, f64::INFINITY)),
    );
    bad("parameters.top_p.maximum", |spec| {
        let range = ParameterRange { supported: Some(false), minimum: None, maximum: Some(1.0) };
        spec.parameters = Some(ParameterSupport { top_p: Some(range), ..Default::default() });
    });
    good(support(|support| support.max_stop_sequences = Some(0)));
    bad("parameters.max_stop_sequences", support(|support| support.max_stop_sequences = Some(65)));
    good(support(|support| support.seed = Some(false)));
}

#[test]
fn reasoning_has_efforts_and_budgets() {
    good(reasoning(|support| support.efforts = vec![1, 3, 5]));
    bad("reasoning.efforts[0]", reasoning(|support| support.efforts = vec![0]));
    bad("reasoning.efforts[1]", reasoning(|support| support.efforts = vec![3, 3]));
    good(reasoning(|support| support.thinking_modes = vec![1, 2]));
    bad("reasoning.thinking_modes[0]", reasoning(|support| support.thinking_modes = vec![9]));
    good(reasoning(|support| {
        (support.min_thinking_tokens, support.max_thinking_tokens) = (Some(1), Some(1))
    }));
    bad("reasoning.min_thinking_tokens", reasoning(|support| support.min_thinking_tokens = Some(0)));
    bad("reasoning.max_thinking_tokens", reasoning(|support| support.max_thinking_tokens = Some(10_000_001)));
    bad(
        "reasoning.min_thinking_tokens",
        reasoning(|support| (support.min_thinking_tokens, support.max_thinking_tokens) = (Some(2), Some(1))),
    );
    good(reasoning(|support| support.chain_of_thought = Some(true)));
}

#[test]
fn warnings() {
    let warned = |spec: Spec| Model.warnings(None, &spec).len();
    assert_eq!(warned(spec(limits(|limits| limits.max_output_tokens = 5))), 0, "the window is not known");
    assert_eq!(
        warned(spec(limits(|limits| (limits.context_window_tokens, limits.max_output_tokens) = (4, 5)))),
        1
    );
    let listed = |capabilities: Vec<i32>| {
        spec(|spec| (spec.capabilities, spec.reasoning) = (capabilities, Some(Default::default())))
    };
    assert_eq!((warned(listed(vec![])), warned(listed(vec![1])), warned(listed(vec![1, 8]))), (0, 1, 0));
}

pub(in crate::kinds) fn any_model() -> impl Strategy<Value = ModelSpec> {
    let lists = (btree_set(1..7i32, 0..3), btree_set(1..17i32, 0..4), btree_set(0..9i32, 0..3));
    let texts = ("[a-z/:@]{0,6}", "[a-z ]{0,6}", prop_oneof![Just(""), Just("2024-04"), Just("x")]);
    let prices = option::of(("[0-9]{1,3}(\\.[0-9]{1,3})?", prop_oneof![Just(""), Just("EUR")]));
    let range = option::of((any::<Option<bool>>(), option::of(0.0..2.2f64)));
    let numbers = (0..5i32, any::<u32>(), option::of(0..99u32), any::<bool>());
    (lists, texts, prices, range, numbers).prop_map(|(lists, texts, prices, range, numbers)| ModelSpec {
        model_id: texts.0,
        display_name: texts.1,
        knowledge_cutoff: texts.2.to_owned(),
        limits: Some(ModelLimits { max_input_tokens: numbers.1, ..Default::default() }),
        input_modalities: lists.0.into_iter().collect(),
        capabilities: lists.1.into_iter().collect(),
        prices: prices.map(|(input, currency)| ModelPrices {
            input,
            currency: currency.to_owned(),
            ..Default::default()
        }),
        parameters: range.map(|(supported, maximum)| ParameterSupport {
            temperature: Some(ParameterRange { supported, minimum: None, maximum }),
            max_stop_sequences: numbers.2,
            ..Default::default()
        }),
        reasoning: numbers
            .3
            .then(|| ReasoningSupport { efforts: lists.2.into_iter().collect(), ..Default::default() }),
        source: numbers.0,
        ..Default::default()
    })
}

proptest! {
    #[test]
    fn an_id_that_a_name_can_hold_comes_back_from_it(id in "[A-Za-z0-9][A-Za-z0-9._:@/-]{0,60}") {
        let segment = segment_of(&id);
        prop_assert!(crate::domain::name::check_segment(&segment).is_ok());
        prop_assert_eq!(model_id_of(&segment), id);
    }

    #[test]
    fn any_id_that_has_a_letter_has_a_name(id in "\\PC{0,9}[a-z]\\PC{0,200}") {
        prop_assert!(crate::domain::name::check_segment(&segment_of(&id)).is_ok());
    }
}
