//! Keys that gateways take from their callers: `virtualKeys/{id}`.
//!
//! Owns the form of a key, and that only the server makes one. Must not know who keeps the account of what was spent.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prost_types::Timestamp;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    CheckContext, Kind, Made, RANDOM_BYTES, Reference, SecretInput, SecretInputs, parse_name, put_out,
    rules::{DESCRIPTION_CHARS, NAME_CHARS, check_timestamp, unknown_value},
    switched,
};
use crate::{
    domain::{
        Action, FeatureLevel, FieldPath, FieldViolation, KindName, ResourceName, Text, Violations,
        record::Spec,
    },
    proto::v1::{
        BudgetPeriod, Secret, VirtualKeyBudget, VirtualKeyRateLimits, VirtualKeySpec, secret::State,
    },
};

/// The kind `virtual_key`.
pub struct VirtualKey;

/// What every key begins with, so that scanners for leaked secrets know it.
const PREFIX: &str = "sbx_";
/// Bytes of randomness in the public id; the rest is in the secret part.
const ID_BYTES: usize = 8;
const HASH: &str = "virtual_key.key_hash";
const MAX_MODELS: usize = 1000;
const MAX_PROVIDERS: usize = 100;
const MAX_MICRO_USD: u64 = 1_000_000_000_000_000;
const MAX_REQUESTS: u32 = 1_000_000_000;
const MAX_TOKENS: u64 = 1_000_000_000_000;
const MAX_CONCURRENT: u32 = 1_000_000;

impl Kind for VirtualKey {
    fn name(&self) -> KindName {
        KindName("virtual_key")
    }

    fn feature_level(&self, _: &Spec) -> FeatureLevel {
        FeatureLevel::KINDS
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["virtualKeys/{id}"]
    }

    fn fill_defaults(&self, spec: &mut Spec, _name: &ResourceName) {
        if let Spec::VirtualKey(spec) = spec {
            spec.enabled.get_or_insert(true);
        }
    }

    fn keep_made(&self, spec: &mut Spec, before: Option<&Spec>) {
        let Spec::VirtualKey(spec) = spec else { return };
        let before = before.and_then(spec_of);
        if spec.key_hash.as_ref().is_none_or(|hash| hash.value.is_none()) {
            spec.key_hash = before.and_then(|before| before.key_hash.clone());
        }
        if let Some(before) = before.filter(|_| spec.key_id.is_empty()) {
            spec.key_id.clone_from(&before.key_id);
        }
    }

    fn maker(&self) -> Option<fn(&mut Spec, &[u8; RANDOM_BYTES]) -> Made> {
        Some(make)
    }

    fn check(&self, context: &CheckContext<'_>) -> Vec<FieldViolation> {
        let Spec::VirtualKey(spec) = context.spec else { return Vec::new() };
        let mut violations = Violations::default();
        check_made(context, spec, &mut violations);
        violations.text("virtual_key.display_name", &spec.display_name, Text::Line, NAME_CHARS);
        violations.text("virtual_key.description", &spec.description, Text::Prose, DESCRIPTION_CHARS);
        violations.text("virtual_key.owner", &spec.owner, Text::Line, NAME_CHARS);
        check_models(spec, &mut violations);
        check_providers(spec, &mut violations);
        if let Some(budget) = &spec.budget {
            check_budget(budget, &mut violations);
        }
        check_rates(&spec.rate_limits.unwrap_or_default(), &mut violations);
        check_timestamp("virtual_key.expire_time", spec.expire_time, &mut violations);
        violations.into_vec()
    }

    fn revoker(&self) -> Option<fn(&str, Option<&Spec>) -> bool> {
        Some(|action, after| put_out(action, after.map(is_enabled)))
    }

    fn action(&self, before: &Spec, after: &Spec, rotated: bool) -> Action {
        switched(is_enabled(before), is_enabled(after), rotated)
    }

    fn expiry(&self, spec: &Spec) -> Option<(&'static str, Timestamp)> {
        Some(("expire_time", spec_of(spec)?.expire_time?))
    }

    fn refers_to(&self) -> &'static [KindName] {
        &[KindName("provider")]
    }

    fn references(&self, spec: &Spec) -> Vec<Reference> {
        let providers = spec_of(spec).map(|spec| spec.allowed_providers.as_slice()).unwrap_or_default();
        let reference = |(index, name): (usize, &String)| {
            let (name, _) = parse_name(name).ok()?;
            Some(Reference { field: FieldPath(provider_path(index)), name })
        };
        providers.iter().enumerate().filter_map(reference).collect()
    }
}

/// The key, and what of it is kept.
fn make(spec: &mut Spec, random: &[u8; RANDOM_BYTES]) -> Made {
    let (id, secret) = random.split_at(ID_BYTES);
    let id = hex::encode(id);
    let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(secret));
    let key = Zeroizing::new(format!("{PREFIX}{id}_{}", secret.as_str()));
    let hash = Zeroizing::new(hex::encode(Sha256::digest(key.as_bytes())));
    if let Spec::VirtualKey(spec) = spec {
        spec.key_id = id;
        spec.key_hash = Some(Secret { value: None, state: State::Present.into() });
    }
    let secrets = SecretInputs::from([(FieldPath(HASH.into()), SecretInput::Replace(hash))]);
    Made { one_time_secret: key, secrets }
}

/// Whoever could set the hash could give out keys that nobody made.
fn check_made(context: &CheckContext<'_>, spec: &VirtualKeySpec, violations: &mut Violations) {
    let problem = "is made by the server when the resource is created; leave it out";
    if context.imported {
        return check_brought(context, spec, violations);
    }
    let known = context.before.and_then(spec_of).map(|before| before.key_id.as_str()).unwrap_or_default();
    if spec.key_id != known {
        violations.add("virtual_key.key_id", "NOT_ALLOWED", problem);
    }
    if context.secrets.get(&FieldPath(HASH.into())).is_some_and(SecretInput::replaces) {
        violations.add(HASH, "NOT_ALLOWED", problem);
    }
}

/// What another server made comes along as it is, but never in the place of another key.
fn check_brought(context: &CheckContext<'_>, spec: &VirtualKeySpec, violations: &mut Violations) {
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    match context.before.and_then(spec_of) {
        Some(before) if before.key_id != spec.key_id => {
            let problem = "is another key's; delete the resource first, or leave the id out";
            violations.add("virtual_key.key_id", "NOT_ALLOWED", problem);
        }
        _ if !is_hex(&spec.key_id, 2 * ID_BYTES) => {
            let problem = "must be the id of a key that a server has made: 16 hexadecimal digits";
            violations.add("virtual_key.key_id", "INVALID_FORMAT", problem);
        }
        _ => {}
    }
    if let Some(SecretInput::Replace(hash)) = context.secrets.get(&FieldPath(HASH.into()))
        && !is_hex(hash, 64)
    {
        violations.add(HASH, "INVALID_FORMAT", "must be the SHA-256 of a key, 64 hexadecimal digits");
    }
}

fn check_models(spec: &VirtualKeySpec, violations: &mut Violations) {
    violations.at_most("virtual_key.allowed_models", spec.allowed_models.len(), MAX_MODELS, "models");
    let mut seen = BTreeSet::new();
    for (index, model) in spec.allowed_models.iter().enumerate().take(MAX_MODELS) {
        let path = format!("virtual_key.allowed_models[{index}]");
        if model.trim().len() != model.len() || model.is_empty() {
            violations.add(&path, "INVALID_FORMAT", "must not be empty, nor begin or end with white space");
        }
        violations.text(&path, model, Text::Line, NAME_CHARS);
        if !seen.insert(model) {
            violations.add(&path, "DUPLICATE", "is listed twice; list it once");
        }
    }
}

fn check_providers(spec: &VirtualKeySpec, violations: &mut Violations) {
    let providers = &spec.allowed_providers;
    violations.at_most("virtual_key.allowed_providers", providers.len(), MAX_PROVIDERS, "providers");
    let mut seen = BTreeSet::new();
    for (index, name) in providers.iter().enumerate().take(MAX_PROVIDERS) {
        let is_provider = parse_name(name).is_ok_and(|(_, kind)| kind.name().0 == "provider");
        if !is_provider {
            let problem = "must be the name of a provider, for example `providers/groq`";
            violations.add(provider_path(index), "INVALID_NAME", problem);
        } else if !seen.insert(name) {
            violations.add(provider_path(index), "DUPLICATE", "is listed twice; list it once");
        }
    }
}

fn provider_path(index: usize) -> String {
    format!("virtual_key.allowed_providers[{index}]")
}

fn check_budget(budget: &VirtualKeyBudget, violations: &mut Violations) {
    if !(1..=MAX_MICRO_USD).contains(&budget.amount_micro_usd) {
        let problem = format!(
            "must be from 1 to {MAX_MICRO_USD} millionths of a dollar; to allow nothing, disable the key"
        );
        violations.add("virtual_key.budget.amount_micro_usd", "OUT_OF_RANGE", problem);
    }
    let path = "virtual_key.budget.period";
    match BudgetPeriod::try_from(budget.period) {
        Ok(BudgetPeriod::Unspecified) => {
            let problem = "is required, for example BUDGET_PERIOD_MONTH, or BUDGET_PERIOD_TOTAL for the key's whole life";
            violations.add(path, "REQUIRED", problem);
        }
        Ok(_) => {}
        Err(_) => violations.add(path, "UNKNOWN_VALUE", unknown_value(budget.period)),
    }
}

fn check_rates(limits: &VirtualKeyRateLimits, violations: &mut Violations) {
    let limits = [
        ("requests_per_minute", u64::from(limits.requests_per_minute), u64::from(MAX_REQUESTS)),
        ("tokens_per_minute", limits.tokens_per_minute, MAX_TOKENS),
        ("concurrent_requests", u64::from(limits.concurrent_requests), u64::from(MAX_CONCURRENT)),
    ];
    for (field, _, most) in limits.iter().filter(|(_, given, most)| given > most) {
        let problem = format!("must be at most {most}; leave it out for no limit");
        violations.add(format!("virtual_key.rate_limits.{field}"), "OUT_OF_RANGE", problem);
    }
}

fn spec_of(spec: &Spec) -> Option<&VirtualKeySpec> {
    if let Spec::VirtualKey(spec) = spec { Some(spec) } else { None }
}

fn is_enabled(spec: &Spec) -> bool {
    spec_of(spec).is_some_and(|spec| spec.enabled.unwrap_or(true))
}

#[cfg(test)]
mod tests;
