//! For every field of a router what is accepted, and what is refused under which path.

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    kinds::{
        contracts,
        tests::{plan, wrong},
    },
    proto::v1::{ProviderSpec, ProviderType},
};

const NAME: &str = "routers/default";

fn spec(change: impl FnOnce(&mut RouterSpec)) -> Spec {
    let mut router = RouterSpec { primary: "providers/groq".into(), ..Default::default() };
    change(&mut router);
    Spec::Router(router)
}

#[track_caller]
fn good(change: impl FnOnce(&mut RouterSpec)) {
    assert_eq!(plan(NAME, spec(change), None).1, []);
}

#[track_caller]
fn bad(path: &str, change: impl FnOnce(&mut RouterSpec)) {
    assert_eq!(wrong(NAME, spec(change)), [format!("router.{path}")]);
}

fn retries(change: impl FnOnce(&mut RetryPolicy)) -> impl FnOnce(&mut RouterSpec) {
    move |spec| change(spec.retries.get_or_insert_default())
}

fn timeouts(change: impl FnOnce(&mut RouterTimeouts)) -> impl FnOnce(&mut RouterSpec) {
    move |spec| change(spec.timeouts.get_or_insert_default())
}

fn length(seconds: i64, nanos: i32) -> Option<Duration> {
    Some(Duration { seconds, nanos })
}

fn type_default(word: &str, name: &str) -> impl FnOnce(&mut RouterSpec) {
    let entry = (word.to_owned(), name.to_owned());
    move |spec| spec.type_defaults.extend([entry])
}

#[test]
fn a_primary_is_enough() {
    let (Spec::Router(filled), violations) = plan(NAME, spec(|_| ()), None) else { panic!() };
    assert_eq!(violations, []);
    assert_eq!(filled.strategy(), RoutingStrategy::Ordered);
    let policy = filled.retries.unwrap();
    assert_eq!((policy.max_retries, policy.backoff_multiplier), (Some(2), Some(2.0)));
    assert_eq!((policy.initial_backoff, policy.max_backoff), (length(0, 500_000_000), length(30, 0)));
    assert_eq!(policy.retry_on().collect::<Vec<_>>(), TRANSIENT);
    assert_eq!(filled.timeouts, None);

    let given =
        spec(retries(|policy| (policy.max_retries, policy.initial_backoff) = (Some(0), length(40, 0))));
    let (Spec::Router(filled), violations) = plan(NAME, given, None) else { panic!() };
    assert_eq!(violations, []);
    let policy = filled.retries.unwrap();
    assert_eq!((policy.max_retries, policy.max_backoff), (Some(0), length(40, 0)));
}

#[test]
fn texts_and_providers() {
    good(|spec| spec.display_name = "Default".into());
    bad("display_name", |spec| spec.display_name = "x".repeat(201));
    good(|spec| spec.description = "one\ntwo".into());
    bad("description", |spec| spec.description = "a\0".into());
    for primary in ["", "groq", "settings/x", "providers/groq/apiKeys/a", "providers/a b"] {
        bad("primary", |spec| spec.primary = primary.into());
    }
    good(|spec| spec.fallbacks = vec!["providers/a".into(), "providers/b".into()]);
    bad("fallbacks[0]", |spec| spec.fallbacks = vec!["providers/groq".into()]);
    bad("fallbacks[1]", |spec| spec.fallbacks = vec!["providers/a".into(), "providers/a".into()]);
    bad("fallbacks[0]", |spec| spec.fallbacks = vec!["a".into()]);
    bad("fallbacks", |spec| spec.fallbacks = (0..17).map(|number| format!("providers/p{number}")).collect());
    good(|spec| spec.strategy = RoutingStrategy::RoundRobin.into());
    bad("strategy", |spec| spec.strategy = 99);
}

#[test]
fn retry_policies() {
    good(retries(|policy| policy.max_retries = Some(10)));
    bad("retries.max_retries", retries(|policy| policy.max_retries = Some(11)));
    good(retries(|policy| policy.initial_backoff = length(60, 0)));
    for wrong in
        [length(0, 0), length(60, 1), length(-1, 0), length(0, -1), length(i64::MAX, 0), length(0, i32::MAX)]
    {
        bad(
            "retries.initial_backoff",
            retries(|policy| {
                (policy.initial_backoff, policy.max_backoff) = (wrong, length(600, 0));
            }),
        );
    }
    bad("retries.max_backoff", retries(|policy| policy.max_backoff = length(601, 0)));
    bad("retries.max_backoff", retries(|policy| policy.max_backoff = length(0, 1)));
    good(retries(|policy| policy.backoff_multiplier = Some(1.0)));
    for factor in [0.5, 10.1, f64::NAN] {
        bad("retries.backoff_multiplier", retries(|policy| policy.backoff_multiplier = Some(factor)));
    }
    good(retries(|policy| policy.retry_on = vec![1, 7]));
    bad("retries.retry_on[0]", retries(|policy| policy.retry_on = vec![0]));
    bad("retries.retry_on[1]", retries(|policy| policy.retry_on = vec![1, 1]));
}

#[test]
fn time_limits() {
    good(timeouts(|timeouts| (timeouts.connect, timeouts.first_token) = (length(0, 1), length(3600, 0))));
    bad("timeouts.connect", timeouts(|timeouts| timeouts.connect = length(0, 0)));
    bad("timeouts.first_token", timeouts(|timeouts| timeouts.first_token = length(3601, 0)));
    good(timeouts(|timeouts| (timeouts.request, timeouts.total) = (length(5, 0), length(5, 0))));
    bad("timeouts.request", timeouts(|timeouts| timeouts.request = length(-5, 0)));
    bad("timeouts.total", timeouts(|timeouts| timeouts.total = length(3600, 1)));
    bad(
        "timeouts.total",
        timeouts(|timeouts| (timeouts.request, timeouts.total) = (length(5, 1), length(5, 0))),
    );
}

#[test]
fn defaults_for_types() {
    good(type_default("google_ai", "providers/gemini"));
    bad("type_defaults.gemini", type_default("gemini", "providers/gemini"));
    bad("type_defaults.groq", type_default("groq", "groq"));

    let given = spec(type_default("groq", "providers/one"));
    let target = |provider_type: ProviderType| {
        let provider = ProviderSpec { r#type: provider_type.into(), ..Default::default() };
        let (name, provider) = (ResourceName::parse("providers/one").unwrap(), Spec::Provider(provider));
        Router.check_targets(&given, &contracts(&[(name, &provider)].into()))
    };
    assert_eq!(target(ProviderType::Groq), []);
    assert_eq!(target(ProviderType::Openai)[0].field, "router.type_defaults.groq");
}

#[test]
fn every_provider_is_referred_to() {
    let given = spec(|spec| {
        spec.fallbacks = vec!["providers/a".into(), "providers/b".into()];
        type_default("groq", "providers/c")(spec);
    });
    let found: Vec<String> = Router
        .references(&given)
        .into_iter()
        .map(|reference| format!("{} {}", reference.field, reference.name))
        .collect();
    assert_eq!(
        found,
        [
            "router.primary providers/groq",
            "router.fallbacks[0] providers/a",
            "router.fallbacks[1] providers/b",
            "router.type_defaults.groq providers/c",
        ]
    );
    let disabled = Spec::Provider(ProviderSpec { enabled: Some(false), ..Default::default() });
    let name = ResourceName::parse("providers/b").unwrap();
    assert_eq!(Router.warn_of_targets(&given, &[(name, &disabled)].into()).len(), 1);
}

pub(in crate::kinds) fn any_router() -> impl Strategy<Value = RouterSpec> {
    let provider = || prop_oneof![9 => "providers/[a-f]", 1 => Just("x".to_owned())];
    let length = || option::of((-1..80i64, 0..2i32).prop_map(|(seconds, nanos)| Duration { seconds, nanos }));
    let policy = (option::of(0..12u32), length(), length(), option::of(0.5..12.0f64), vec(0..9i32, 0..3));
    let defaults = option::of((prop_oneof![Just("groq"), Just("x")], provider()));
    (provider(), vec(provider(), 0..3), 0..7i32, option::of(policy), length(), defaults).prop_map(
        |(primary, fallbacks, strategy, policy, request, defaults)| RouterSpec {
            primary,
            fallbacks,
            strategy,
            retries: policy.map(
                |(max_retries, initial_backoff, max_backoff, backoff_multiplier, retry_on)| RetryPolicy {
                    max_retries,
                    initial_backoff,
                    max_backoff,
                    backoff_multiplier,
                    retry_on,
                },
            ),
            timeouts: request.map(|request| RouterTimeouts { request: Some(request), ..Default::default() }),
            type_defaults: defaults.into_iter().map(|(word, name)| (word.to_owned(), name)).collect(),
            ..Default::default()
        },
    )
}

#[test]
fn another_primary_is_a_switch() {
    let (before, after) = (spec(|_| ()), spec(|router| router.primary = "providers/b".into()));
    assert_eq!(Router.action(&before, &after, false), SWITCHED);
    let described = spec(|router| router.description = "x".into());
    assert_eq!(Router.action(&before, &described, false), UPDATED);
}
