//! Routers: `routers/{id}`. They say which provider a call goes to, and what happens when that fails.
//!
//! Must not know how calls are made; that is the workers'.

use std::collections::BTreeSet;

use prost_types::Duration;

use super::{
    CheckContext, Contract, Contracts, Kind, Outlook, Reference, Remark, SWITCHED, Targets, Turn, UPDATED,
    active,
    provider_types::{type_of_word, words},
    references,
    rules::{DESCRIPTION_CHARS, NAME_CHARS, check_choice, check_choices, shown},
};
use crate::{
    domain::{Action, FeatureLevel, FieldViolation, KindName, ResourceName, Text, Violations, record::Spec},
    proto::v1::{CallFailure, RetryPolicy, RouterSpec, RouterTimeouts, RoutingStrategy},
};

/// The kind `router`.
pub struct Router;

const PROVIDER: KindName = KindName("provider");
/// Fallbacks that a router has at most.
pub const MAX_FALLBACKS: usize = 16;
const MAX_RETRIES: u32 = 10;
const MAX_MULTIPLIER: f64 = 10.0;
const SECOND: i128 = 1_000_000_000;
/// After these the same call may well succeed; after others it is likely to fail again.
const TRANSIENT: [CallFailure; 4] =
    [CallFailure::Connection, CallFailure::Timeout, CallFailure::RateLimited, CallFailure::Unavailable];

impl Kind for Router {
    fn name(&self) -> KindName {
        KindName("router")
    }

    fn feature_level(&self, _: &Spec) -> FeatureLevel {
        FeatureLevel::KINDS
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["routers/{id}"]
    }

    fn fill_defaults(&self, spec: &mut Spec, _name: &ResourceName) {
        let Spec::Router(spec) = spec else { return };
        if spec.strategy == i32::from(RoutingStrategy::Unspecified) {
            spec.strategy = RoutingStrategy::Ordered.into();
        }
        let retries = spec.retries.get_or_insert_default();
        retries.max_retries.get_or_insert(2);
        let first = *retries.initial_backoff.get_or_insert(Duration { seconds: 0, nanos: 500_000_000 });
        let longest = Duration { seconds: 30, nanos: 0 };
        let longest = if nanos(&first) > nanos(&longest) { first } else { longest };
        retries.max_backoff.get_or_insert(longest);
        retries.backoff_multiplier.get_or_insert(2.0);
        if retries.retry_on.is_empty() {
            retries.retry_on = TRANSIENT.map(i32::from).to_vec();
        }
    }

    fn check(&self, context: &CheckContext<'_>) -> Vec<FieldViolation> {
        let Spec::Router(spec) = context.spec else { return Vec::new() };
        let mut violations = Violations::default();
        violations.text("router.display_name", &spec.display_name, Text::Line, NAME_CHARS);
        violations.text("router.description", &spec.description, Text::Prose, DESCRIPTION_CHARS);
        check_providers(spec, &mut violations);
        check_choice::<RoutingStrategy>(&mut violations, "router.strategy", spec.strategy);
        check_retries(spec.retries.as_ref(), &mut violations);
        check_timeouts(spec.timeouts.as_ref(), &mut violations);
        check_type_defaults(spec, &mut violations);
        violations.into_vec()
    }

    fn action(&self, before: &Spec, after: &Spec, _rotated: bool) -> Action {
        match (before, after) {
            (Spec::Router(before), Spec::Router(after)) if before.primary != after.primary => SWITCHED,
            _ => UPDATED,
        }
    }

    fn refers_to(&self) -> &'static [KindName] {
        &[PROVIDER]
    }

    fn references(&self, spec: &Spec) -> Vec<Reference> {
        let Spec::Router(spec) = spec else { return Vec::new() };
        let primary = references::reference("router.primary", &spec.primary);
        let fallbacks =
            spec.fallbacks.iter().enumerate().filter_map(|(index, name)| {
                references::reference(format!("router.fallbacks[{index}]"), name)
            });
        let defaults = spec.type_defaults.iter().filter_map(|(word, name)| {
            references::reference(format!("router.type_defaults.{}", shown(word)), name)
        });
        primary.into_iter().chain(fallbacks).chain(defaults).collect()
    }

    fn check_targets(&self, spec: &Spec, contracts: &Contracts<'_>) -> Vec<FieldViolation> {
        let Spec::Router(spec) = spec else { return Vec::new() };
        let mut violations = Violations::default();
        for (word, name) in &spec.type_defaults {
            let Some(Contract::Provider(provider)) = contracts.get(name.as_str()) else { continue };
            if type_of_word(word) != Some(provider.provider_type) {
                let (path, word) = (format!("router.type_defaults.{}", shown(word)), shown(word));
                violations.add(path, "NOT_ALLOWED", format!("must be a provider of the type `{word}`"));
            }
        }
        violations.into_vec()
    }

    fn warn_of_targets(&self, spec: &Spec, targets: &Targets<'_>) -> Vec<String> {
        let Spec::Router(spec) = spec else { return Vec::new() };
        let order = std::iter::once(&spec.primary).chain(&spec.fallbacks);
        let disabled = order.filter(|name| {
            matches!(targets.get(name.as_str()), Some(Spec::Provider(provider)) if provider.enabled == Some(false))
        });
        disabled.map(|name| format!("{name} is disabled: no call goes there until it is enabled")).collect()
    }

    fn judges(&self) -> &'static [KindName] {
        &[PROVIDER]
    }

    fn remarks(&self, turn: &Turn<'_>, outlook: &dyn Outlook) -> Vec<Remark> {
        active::of_router(turn, outlook)
    }
}

fn check_providers(spec: &RouterSpec, violations: &mut Violations) {
    let example = "providers/groq";
    references::check(violations, "router.primary", &spec.primary, PROVIDER, example);
    violations.at_most("router.fallbacks", spec.fallbacks.len(), MAX_FALLBACKS, "fallbacks");
    let mut seen = BTreeSet::from([&spec.primary]);
    for (index, fallback) in spec.fallbacks.iter().enumerate().take(MAX_FALLBACKS) {
        let path = format!("router.fallbacks[{index}]");
        let named = references::check(violations, &path, fallback, PROVIDER, example);
        if !seen.insert(fallback) && named {
            let problem = "is the primary, or a fallback already; name each provider once";
            violations.add(path, "DUPLICATE", problem);
        }
    }
}

fn check_retries(retries: Option<&RetryPolicy>, violations: &mut Violations) {
    let Some(retries) = retries else { return };
    if retries.max_retries.is_some_and(|count| count > MAX_RETRIES) {
        let problem = format!("must be from 0 to {MAX_RETRIES}");
        violations.add("router.retries.max_retries", "OUT_OF_RANGE", problem);
    }
    let first = ("router.retries.initial_backoff", retries.initial_backoff.as_ref());
    let longest = ("router.retries.max_backoff", retries.max_backoff.as_ref());
    let sound = [check_length(first, 60, violations), check_length(longest, 600, violations)];
    if let (Some(first), Some(most)) = (&retries.initial_backoff, &retries.max_backoff)
        && sound == [true, true]
        && nanos(first) > nanos(most)
    {
        violations.add(longest.0, "OUT_OF_RANGE", "must not be shorter than `initial_backoff`");
    }
    if retries.backoff_multiplier.is_some_and(|factor| !(1.0..=MAX_MULTIPLIER).contains(&factor)) {
        let problem = format!("must be from 1 to {MAX_MULTIPLIER}");
        violations.add("router.retries.backoff_multiplier", "OUT_OF_RANGE", problem);
    }
    check_choices::<CallFailure>(violations, "router.retries.retry_on", &retries.retry_on);
}

fn check_timeouts(timeouts: Option<&RouterTimeouts>, violations: &mut Violations) {
    let Some(timeouts) = timeouts else { return };
    let request = ("router.timeouts.request", timeouts.request.as_ref());
    let total = ("router.timeouts.total", timeouts.total.as_ref());
    check_length(("router.timeouts.connect", timeouts.connect.as_ref()), 3600, violations);
    check_length(("router.timeouts.first_token", timeouts.first_token.as_ref()), 3600, violations);
    let sound = [check_length(request, 3600, violations), check_length(total, 3600, violations)];
    if let (Some(one), Some(all)) = (&timeouts.request, &timeouts.total)
        && sound == [true, true]
        && nanos(one) > nanos(all)
    {
        violations.add(total.0, "OUT_OF_RANGE", "must not be shorter than `request`");
    }
}

/// Checks that a length of time is more than nothing and at most so many seconds; says whether it is.
fn check_length(
    (path, length): (&str, Option<&Duration>),
    seconds: i128,
    violations: &mut Violations,
) -> bool {
    let fits = length.is_none_or(|length| {
        (1..=seconds * SECOND).contains(&nanos(length)) && (0..1_000_000_000).contains(&length.nanos)
    });
    if !fits {
        violations.add(path, "OUT_OF_RANGE", format!("must be longer than 0s, and at most {seconds}s"));
    }
    fits
}

fn nanos(length: &Duration) -> i128 {
    i128::from(length.seconds) * SECOND + i128::from(length.nanos)
}

fn check_type_defaults(spec: &RouterSpec, violations: &mut Violations) {
    // Each type is a word, so that their number bounds the map.
    for (word, name) in spec.type_defaults.iter().take(2 * super::provider_types::TYPES.len()) {
        let path = format!("router.type_defaults.{}", shown(word));
        if type_of_word(word).is_none() {
            let problem = format!("is not the word for a type of providers; known are {}", words());
            violations.add(&path, "UNKNOWN_VALUE", problem);
        }
        references::check(violations, &path, name, PROVIDER, "providers/groq");
    }
}

#[cfg(test)]
pub(super) mod tests;
