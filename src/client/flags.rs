//! Evaluates feature flags, without a call: every worker, in every language, gets the same answer.
//!
//! Owns the rules that stand in the API at `FeatureFlagSpec`, to the letter; what changes here changes there, and in
//! `tests/vectors/flags.json`, which clients in other languages are held to. Must not know where a flag comes from.

use std::{cell::LazyCell, collections::BTreeMap, ops::Deref};

use sha2::{Digest as _, Sha256};

use super::{snapshot::Snapshot, views::FeatureFlag};
use crate::proto::v1::{
    FeatureFlagOperator, FeatureFlagRule, FeatureFlagSpec, FeatureFlagType, feature_flag_rule::Outcome,
};

/// Buckets that keys fall into, so that a share can be told in hundredths of a percent.
const BUCKETS: u64 = 10_000;
/// Longer texts are no numbers.
const NUMBER_BYTES: usize = 64;

/// Who or what a flag is evaluated for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct FlagContext {
    key: String,
    attributes: BTreeMap<String, String>,
}

impl FlagContext {
    /// For a key: the id of a user, a tenant, a conversation. The same key always gets the same answer.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), attributes: BTreeMap::new() }
    }

    /// With an attribute that rules may look at. `key` is the key itself, and can't be another.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    fn get(&self, name: &str) -> Option<&str> {
        if name == "key" {
            return Some(&self.key);
        }
        self.attributes.get(name).map(String::as_str)
    }
}

impl FeatureFlag {
    /// Whether the feature is on.
    #[must_use]
    pub fn is_on(&self, context: &FlagContext) -> bool {
        evaluate(self.spec(), context)
    }
}

impl Snapshot {
    /// Whether a feature is on; `otherwise` where there is no such flag.
    #[must_use]
    pub fn flag(&self, id: &str, context: &FlagContext, otherwise: bool) -> bool {
        self.feature_flag(id).map_or(otherwise, |flag| flag.is_on(context))
    }
}

/// What a flag says.
pub(super) fn evaluate(flag: &FeatureFlagSpec, context: &FlagContext) -> bool {
    if !flag.enabled.unwrap_or(true) {
        return false;
    }
    // Hashing costs more than all the rest, and most flags do without.
    let bucket = LazyCell::new(|| (!context.key.is_empty()).then(|| bucket(&flag.salt, &context.key)));
    if let Some(on) = flag.rules.iter().find_map(|rule| decide(rule, context, &bucket)) {
        return on;
    }
    if flag.r#type() == FeatureFlagType::Percentage
        && let Some(bucket) = *bucket
    {
        return bucket < flag.rollout_basis_points;
    }
    flag.default_on
}

/// Where a key falls, from 0 to 9,999.
fn bucket(salt: &str, key: &str) -> u32 {
    let digest = Sha256::new().chain_update(salt).chain_update(b"\n").chain_update(key).finalize();
    let first = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    u32::try_from(first % BUCKETS).unwrap_or_default()
}

/// What a rule says; `None` where it does not match.
fn decide(
    rule: &FeatureFlagRule,
    context: &FlagContext,
    bucket: &impl Deref<Target = Option<u32>>,
) -> Option<bool> {
    let attribute = context.get(&rule.attribute)?;
    if !holds(rule, attribute) {
        return None;
    }
    match rule.outcome? {
        Outcome::On(on) => Some(on),
        Outcome::RolloutBasisPoints(share) => (**bucket).map(|bucket| bucket < share),
    }
}

fn holds(rule: &FeatureFlagRule, attribute: &str) -> bool {
    let any = |test: &dyn Fn(&str) -> bool| rule.values.iter().any(|value| test(value));
    let number = |test: fn(f64, f64) -> bool| {
        let other = rule.values.first().and_then(|value| number(value));
        number(attribute).zip(other).is_some_and(|(attribute, value)| test(attribute, value))
    };
    match FeatureFlagOperator::try_from(rule.operator) {
        Ok(FeatureFlagOperator::In) => any(&|value| attribute == value),
        Ok(FeatureFlagOperator::NotIn) => !any(&|value| attribute == value),
        Ok(FeatureFlagOperator::StartsWith) => any(&|value| attribute.starts_with(value)),
        Ok(FeatureFlagOperator::EndsWith) => any(&|value| attribute.ends_with(value)),
        Ok(FeatureFlagOperator::Contains) => any(&|value| attribute.contains(value)),
        Ok(FeatureFlagOperator::LessThan) => number(|attribute, value| attribute < value),
        Ok(FeatureFlagOperator::LessOrEqual) => number(|attribute, value| attribute <= value),
        Ok(FeatureFlagOperator::GreaterThan) => number(|attribute, value| attribute > value),
        Ok(FeatureFlagOperator::GreaterOrEqual) => number(|attribute, value| attribute >= value),
        Ok(FeatureFlagOperator::Exists) => true,
        // A newer server's: whoever can't tell does not match.
        Ok(FeatureFlagOperator::Unspecified) | Err(_) => false,
    }
}

/// A number in the one form that every language reads alike.
fn number(text: &str) -> Option<f64> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number =
        text.len() <= NUMBER_BYTES && digits(whole.strip_prefix('-').unwrap_or(whole)) && digits(fraction);
    if is_number { text.parse().ok() } else { None }
}

#[cfg(test)]
#[path = "flags_tests.rs"]
mod tests;
