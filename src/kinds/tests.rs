//! What holds for all kinds, and helpers for the tests of each.

use std::collections::BTreeSet;

use proptest::prelude::*;

mod any;

use super::{
    model::tests::any_model, prompt_template::tests::any_template, router::tests::any_router,
    tool::tests::any_tool, *,
};
use crate::domain::FieldPath;
use crate::proto::v1::{
    ApiKeySpec, HeaderValue, ProviderSpec, Secret, SettingSpec, header_value, secret::State, setting_spec,
};

/// A secret with a value, as a caller sends it.
pub(super) fn secret(value: &str) -> Secret {
    Secret { value: Some(value.to_owned()), state: 0 }
}

/// Does what the engine does with a spec before it stores it. Gives the masked spec and what is wrong.
pub(super) fn plan(name: &str, mut spec: Spec, before: Option<&Spec>) -> (Spec, Vec<FieldViolation>) {
    let (name, kind) = parse_name(name).unwrap();
    kind.fill_defaults(&mut spec, &name);
    kind.fill_newer_defaults(&mut spec, FeatureLevel::CURRENT);
    kind.keep_made(&mut spec, before);
    let mut inputs = secrets::split(&mut spec);
    let held = before.map(secrets::states).unwrap_or_default();
    secrets::settle(&mut spec, &mut inputs, false, |field| held.get(field) == Some(&State::Present));
    let context = CheckContext { name: &name, spec: &spec, before, secrets: &inputs, imported: false };
    let violations = check(kind, &context);
    (spec, violations)
}

/// Paths of what is wrong with a new resource.
pub(super) fn wrong(name: &str, spec: Spec) -> Vec<String> {
    plan(name, spec, None).1.into_iter().map(|violation| violation.field).collect()
}

#[test]
fn every_arm_has_a_kind_and_every_kind_an_arm() {
    let arms: Vec<String> = reflect::arms().iter().map(|arm| arm.name().to_owned()).collect();
    let kinds: Vec<&str> = registry().iter().map(|kind| kind.name().0).collect();
    assert_eq!(arms, kinds, "see the recipe in kinds/mod.rs");
    for kind in registry() {
        assert!(spec::kind_named(kind.name().0).is_some());
        assert!(!kind.patterns().is_empty());
        for pattern in kind.patterns() {
            let name = pattern.replace(['{', '}'], "");
            assert_eq!(parse_name(&name).unwrap().1.name(), kind.name(), "{pattern} is another kind's too");
        }
    }
}

#[test]
fn a_spec_of_another_kind_is_refused() {
    let setting = Spec::Setting(SettingSpec::default());
    let (_, violations) = plan("providers/groq", setting, None);
    assert_eq!(violations.len(), 1);
    assert_eq!((violations[0].field.as_str(), violations[0].reason), ("setting", "WRONG_KIND"));
    assert!(violations[0].description.contains("set `provider` instead"));
}

#[test]
fn actions_tell_creation_and_deletion_apart() {
    let spec = Spec::Setting(SettingSpec::default());
    let kind = kind_named(KindName("setting")).unwrap();
    assert_eq!(action(kind, None, Some(&spec), false), CREATED);
    assert_eq!(action(kind, Some(&spec), None, false), DELETED);
    assert_eq!(action(kind, Some(&spec), Some(&spec), false), UPDATED);
    assert_eq!(action(kind, Some(&spec), Some(&spec), true), ROTATED);
}

#[test]
fn numbers_come_back_from_the_store_as_they_were() {
    let value = Some(setting_spec::Value::FloatValue(3.083_210_347_404_819e85));
    let stored = Spec::Setting(SettingSpec { value, ..Default::default() });
    assert_eq!(spec::from_json(&spec::to_json(&stored).unwrap()).unwrap(), stored);
}

/// Any spec of the kinds that the tests of filters have a reference for, most of them sensible.
pub(super) fn any_spec() -> impl Strategy<Value = (String, Spec)> {
    prop_oneof![
        any_provider().prop_map(|spec| ("providers/some".to_owned(), Spec::Provider(spec))),
        any_api_key().prop_map(|spec| ("providers/some/apiKeys/one".to_owned(), Spec::ApiKey(spec))),
        any_setting().prop_map(|spec| ("users/alice/settings/someKey".to_owned(), Spec::Setting(spec))),
        any_model().prop_map(|spec| ("models/openai/some+model".to_owned(), Spec::Model(spec))),
        any_template().prop_map(|spec| ("promptTemplates/some".to_owned(), Spec::PromptTemplate(spec))),
        any_router().prop_map(|spec| ("routers/default".to_owned(), Spec::Router(spec))),
        any_tool().prop_map(|spec| ("tools/some".to_owned(), Spec::Tool(spec))),
    ]
}

fn any_provider() -> impl Strategy<Value = ProviderSpec> {
    let headers = proptest::collection::btree_map("[a-d]", any_header(), 0..3);
    let models = proptest::collection::btree_set("[a-z]{1,3}", 0..4);
    let text = ("[a-z ]{0,8}", "[a-z ]{0,8}", prop_oneof![Just(""), Just("https://a.example/v1"), Just("x")]);
    let numbers = (1..17i32, 0..4i32, 0..5i32, any::<Option<bool>>(), any::<u32>());
    (headers, models, text, numbers).prop_map(|(headers, models, text, numbers)| ProviderSpec {
        r#type: numbers.0,
        display_name: text.0,
        description: text.1,
        base_url: text.2.to_owned(),
        auth: (numbers.1 > 0)
            .then(|| crate::proto::v1::ProviderAuth { scheme: numbers.1, ..Default::default() }),
        method: numbers.2,
        default_model: models.first().cloned().unwrap_or_default(),
        models: models.into_iter().collect(),
        headers,
        enabled: numbers.3,
        max_output_tokens: numbers.4,
        ..Default::default()
    })
}

fn any_header() -> impl Strategy<Value = HeaderValue> {
    let secret = any_secret().prop_map(header_value::Value::Secret);
    let value = prop_oneof!["[a-z]{0,4}".prop_map(header_value::Value::Plain), secret];
    proptest::option::weighted(0.9, value).prop_map(|value| HeaderValue { value })
}

fn any_secret() -> impl Strategy<Value = Secret> {
    (proptest::option::of("[a-z]{0,6}"), 0..5i32).prop_map(|(value, state)| Secret { value, state })
}

fn any_api_key() -> impl Strategy<Value = ApiKeySpec> {
    let secret = proptest::option::of(any_secret());
    (secret, any::<Option<bool>>(), proptest::option::of(0..1002u32), "[a-z]{0,5}").prop_map(
        |(secret, active, weight, description)| ApiKeySpec {
            secret,
            active,
            weight,
            description,
            ..Default::default()
        },
    )
}

fn any_setting() -> impl Strategy<Value = SettingSpec> {
    use setting_spec::Value;
    let value = prop_oneof![
        "\\PC{0,8}".prop_map(Value::StringValue),
        any::<i64>().prop_map(Value::IntValue),
        any::<f64>().prop_map(Value::FloatValue),
        any::<bool>().prop_map(Value::BoolValue),
        (-100..100i64, -999_999_999..=999_999_999i32)
            .prop_map(|(seconds, nanos)| Value::DurationValue(prost_types::Duration { seconds, nanos })),
        prop_oneof![Just("{}"), Just("[1]"), Just("{")].prop_map(|text| Value::JsonValue(text.to_owned())),
        any_secret().prop_map(Value::SecretValue),
    ];
    (proptest::option::of(value), "[a-z]{0,5}")
        .prop_map(|(value, description)| SettingSpec { value, description })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_accepted_stays_accepted((name, given) in any::of_every_kind()) {
        let (stored, violations) = plan(&name, given, None);
        prop_assert!(secrets::states(&stored).values().all(|state| *state != State::Unspecified));
        if violations.is_empty() {
            let json = spec::to_json(&stored).unwrap();
            let read = spec::from_json(&json).unwrap();
            prop_assert_eq!(&read, &stored);
            let (again, violations) = plan(&name, read, Some(&stored));
            prop_assert_eq!(again, stored);
            prop_assert_eq!(violations, []);
        }
    }

    #[test]
    fn references_are_of_the_kinds_that_are_told((name, spec) in any::of_every_kind()) {
        let (_, kind) = parse_name(&name).unwrap();
        for reference in kind.references(&spec) {
            let (_, target) = parse_name(reference.name.as_str()).unwrap();
            prop_assert!(kind.refers_to().contains(&target.name()) || !wrong(&name, spec.clone()).is_empty());
        }
    }

    #[test]
    fn no_value_stays_in_a_masked_spec((_, mut spec) in any::of_every_kind()) {
        let inputs = secrets::split(&mut spec);
        let paths: BTreeSet<FieldPath> = secrets::states(&spec).into_keys().collect();
        prop_assert_eq!(paths, inputs.keys().cloned().collect::<BTreeSet<_>>());
        let once = spec.clone();
        let again = secrets::split(&mut spec);
        prop_assert_eq!(spec, once);
        prop_assert!(again.values().all(|input| !input.replaces()));
    }
}
