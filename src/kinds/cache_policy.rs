//! Which answers of providers are kept: `cachePolicies/{id}`.
//!
//! Must not know any cache. What would hand one caller another's answer is refused, or warned of.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use super::{
    CheckContext, Kind,
    rules::{DESCRIPTION_CHARS, NAME_CHARS, SOME_WORD, check_duration, unknown_value},
    switched,
};
use crate::{
    domain::{Action, FeatureLevel, FieldViolation, KindName, ResourceName, Text, Violations, record::Spec},
    proto::v1::{CacheKeyField, CachePolicySpec, CacheRequestKind, CacheScope},
};

/// The kind `cache_policy`.
pub struct CachePolicy;

const LIVES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30 * 86_400));
const DEFAULT_TTL: prost_types::Duration = prost_types::Duration { seconds: 300, nanos: 0 };
const ENTRIES: RangeInclusive<u64> = 1..=1_000_000_000;
const DEFAULT_ENTRIES: u64 = 10_000;
const BYTES: RangeInclusive<u64> = 1024..=1 << 50;
const DEFAULT_BYTES: u64 = 64 << 20;

/// Everything that makes another answer likely.
const DEFAULT_KEY_FIELDS: [CacheKeyField; 7] = [
    CacheKeyField::Input,
    CacheKeyField::Model,
    CacheKeyField::Provider,
    CacheKeyField::SystemPrompt,
    CacheKeyField::Tools,
    CacheKeyField::Parameters,
    CacheKeyField::ResponseFormat,
];
const DEFAULT_REQUEST_KINDS: [CacheRequestKind; 3] =
    [CacheRequestKind::Chat, CacheRequestKind::Completion, CacheRequestKind::Embedding];

impl Kind for CachePolicy {
    fn name(&self) -> KindName {
        KindName("cache_policy")
    }

    fn feature_level(&self, _: &Spec) -> FeatureLevel {
        FeatureLevel::KINDS
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["cachePolicies/{id}"]
    }

    fn fill_defaults(&self, spec: &mut Spec, _name: &ResourceName) {
        let Spec::CachePolicy(spec) = spec else { return };
        spec.enabled.get_or_insert(true);
        spec.ttl.get_or_insert(DEFAULT_TTL);
        if spec.scope == i32::from(CacheScope::Unspecified) {
            spec.scope = CacheScope::Worker.into();
        }
        spec.max_entries.get_or_insert(DEFAULT_ENTRIES);
        spec.max_bytes.get_or_insert(DEFAULT_BYTES);
        if spec.key_fields.is_empty() {
            spec.key_fields = DEFAULT_KEY_FIELDS.map(i32::from).to_vec();
        }
        if spec.request_kinds.is_empty() {
            spec.request_kinds = DEFAULT_REQUEST_KINDS.map(i32::from).to_vec();
        }
    }

    fn check(&self, context: &CheckContext<'_>) -> Vec<FieldViolation> {
        let Spec::CachePolicy(spec) = context.spec else { return Vec::new() };
        let mut violations = Violations::default();
        violations.text("cache_policy.display_name", &spec.display_name, Text::Line, NAME_CHARS);
        violations.text("cache_policy.description", &spec.description, Text::Prose, DESCRIPTION_CHARS);
        check_duration("cache_policy.ttl", spec.ttl, LIVES, &mut violations);
        if CacheScope::try_from(spec.scope).is_err() {
            violations.add("cache_policy.scope", "UNKNOWN_VALUE", unknown_value(spec.scope));
        }
        check_size("cache_policy.max_entries", spec.max_entries, &ENTRIES, &mut violations);
        check_size("cache_policy.max_bytes", spec.max_bytes, &BYTES, &mut violations);
        check_key_fields(spec, &mut violations);
        let known = |number| CacheRequestKind::try_from(number).is_ok();
        check_list("cache_policy.request_kinds", &spec.request_kinds, known, &mut violations);
        violations.into_vec()
    }

    fn action(&self, before: &Spec, after: &Spec, rotated: bool) -> Action {
        switched(is_enabled(before), is_enabled(after), rotated)
    }

    fn warnings(&self, _before: Option<&Spec>, after: &Spec) -> Vec<String> {
        let Spec::CachePolicy(spec) = after else { return Vec::new() };
        let ignored = |field: CacheKeyField| !spec.key_fields.contains(&field.into());
        let warning = |field, name, what: &str| {
            let text = format!("`key_fields` leaves out {name}: requests {what} get the same answer");
            ignored(field).then_some(text)
        };
        [
            warning(CacheKeyField::Model, "MODEL", "to different models"),
            warning(CacheKeyField::SystemPrompt, "SYSTEM_PROMPT", "with different system prompts"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn check_size(path: &str, given: Option<u64>, range: &RangeInclusive<u64>, violations: &mut Violations) {
    if given.is_some_and(|given| !range.contains(&given)) {
        let (least, most) = (range.start(), range.end());
        let problem = format!("must be from {least} to {most}; to keep nothing, disable the policy");
        violations.add(path, "OUT_OF_RANGE", problem);
    }
}

fn check_key_fields(spec: &CachePolicySpec, violations: &mut Violations) {
    let field = "cache_policy.key_fields";
    let known = |number| CacheKeyField::try_from(number).is_ok();
    check_list(field, &spec.key_fields, known, violations);
    if !spec.key_fields.contains(&CacheKeyField::Input.into()) {
        let problem = "must hold CACHE_KEY_FIELD_INPUT: without it different questions get the same answer";
        violations.add(field, "REQUIRED", problem);
    }
}

/// Checks a list of an enumeration's values: known, and each once. One violation is enough, because there may be as many
/// as fit into a message.
fn check_list(field: &str, numbers: &[i32], known: impl Fn(i32) -> bool, violations: &mut Violations) {
    let mut seen = BTreeSet::new();
    for (index, number) in numbers.iter().enumerate() {
        let path = format!("{field}[{index}]");
        if *number == 0 {
            return violations.add(path, "REQUIRED", format!("is not set; {SOME_WORD}"));
        }
        if !known(*number) {
            return violations.add(path, "UNKNOWN_VALUE", unknown_value(*number));
        }
        if !seen.insert(number) {
            return violations.add(path, "DUPLICATE", "is listed twice; list it once");
        }
    }
}

fn is_enabled(spec: &Spec) -> bool {
    matches!(spec, Spec::CachePolicy(spec) if spec.enabled.unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{
        DISABLED, ENABLED, UPDATED,
        tests::{plan, wrong},
    };

    const NAME: &str = "cachePolicies/default";

    fn spec(change: impl FnOnce(&mut CachePolicySpec)) -> Spec {
        let mut policy = CachePolicySpec::default();
        change(&mut policy);
        Spec::CachePolicy(policy)
    }

    #[track_caller]
    fn good(change: impl FnOnce(&mut CachePolicySpec)) {
        assert_eq!(plan(NAME, spec(change), None).1, []);
    }

    #[track_caller]
    fn bad(path: &str, change: impl FnOnce(&mut CachePolicySpec)) {
        assert_eq!(wrong(NAME, spec(change)), [format!("cache_policy.{path}")]);
    }

    fn ttl(seconds: i64, nanos: i32) -> impl FnOnce(&mut CachePolicySpec) {
        move |spec| spec.ttl = Some(prost_types::Duration { seconds, nanos })
    }

    #[test]
    fn nothing_is_a_policy() {
        let (Spec::CachePolicy(filled), violations) = plan(NAME, spec(|_| ()), None) else { panic!() };
        assert_eq!(violations, []);
        let expected = CachePolicySpec {
            enabled: Some(true),
            ttl: Some(DEFAULT_TTL),
            scope: CacheScope::Worker.into(),
            max_entries: Some(10_000),
            max_bytes: Some(67_108_864),
            key_fields: vec![1, 2, 3, 4, 5, 6, 7],
            request_kinds: vec![1, 2, 3],
            ..Default::default()
        };
        assert_eq!(filled, expected);
        assert!(CachePolicy.warnings(None, &Spec::CachePolicy(filled)).is_empty());
    }

    #[test]
    fn fields() {
        good(|spec| spec.display_name = "Default".into());
        bad("display_name", |spec| spec.display_name = "a\n".into());
        good(|spec| spec.description = "one\ntwo".into());
        bad("description", |spec| spec.description = "x".repeat(4097));
        good(|spec| spec.enabled = Some(false));
        good(ttl(1, 0));
        good(ttl(2_592_000, 0));
        bad("ttl", ttl(0, 999_999_999));
        bad("ttl", ttl(2_592_000, 1));
        bad("ttl", ttl(-5, 0));
        bad("ttl", ttl(5, -1));
        bad("ttl", ttl(i64::MAX, i32::MAX));
        (1..=4).for_each(|number| good(|spec| spec.scope = number));
        bad("scope", |spec| spec.scope = 99);
        good(|spec| (spec.max_entries, spec.max_bytes) = (Some(1), Some(1024)));
        good(|spec| (spec.max_entries, spec.max_bytes) = (Some(1_000_000_000), Some(1 << 50)));
        bad("max_entries", |spec| spec.max_entries = Some(0));
        bad("max_entries", |spec| spec.max_entries = Some(1_000_000_001));
        bad("max_bytes", |spec| spec.max_bytes = Some(1023));
        bad("max_bytes", |spec| spec.max_bytes = Some((1 << 50) + 1));
    }

    #[test]
    fn lists() {
        good(|spec| spec.key_fields = (1..=8).collect());
        bad("key_fields", |spec| spec.key_fields = vec![2, 3]);
        bad("key_fields[1]", |spec| spec.key_fields = vec![1, 0]);
        bad("key_fields[1]", |spec| spec.key_fields = vec![1, 99]);
        bad("key_fields[1]", |spec| spec.key_fields = vec![1; 10_000]);
        good(|spec| spec.request_kinds = (1..=8).collect());
        bad("request_kinds[0]", |spec| spec.request_kinds = vec![0]);
        bad("request_kinds[1]", |spec| spec.request_kinds = vec![1, 99]);
        bad("request_kinds[2]", |spec| spec.request_kinds = vec![1, 2, 2]);
    }

    #[test]
    fn actions_and_warnings() {
        let (on, off) = (spec(|_| ()), spec(|spec| spec.enabled = Some(false)));
        assert_eq!(CachePolicy.action(&on, &off, false), DISABLED);
        assert_eq!(CachePolicy.action(&off, &on, false), ENABLED);
        assert_eq!(CachePolicy.action(&on, &on, false), UPDATED);
        let (coarse, _) = plan(NAME, spec(|spec| spec.key_fields = vec![1]), None);
        assert_eq!(CachePolicy.warnings(None, &coarse).len(), 2);
    }
}
