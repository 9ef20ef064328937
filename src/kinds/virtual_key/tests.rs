//! For every field of a virtual key what is accepted, and what is refused under which path; and what a made key is.

use prost_types::Timestamp;

use super::*;
use crate::kinds::{
    DISABLED, ENABLED, UPDATED,
    tests::{plan, secret, wrong},
};

const NAME: &str = "virtualKeys/team-a";

fn spec(change: impl FnOnce(&mut VirtualKeySpec)) -> Spec {
    let mut key = VirtualKeySpec::default();
    change(&mut key);
    Spec::VirtualKey(key)
}

#[track_caller]
fn good(change: impl FnOnce(&mut VirtualKeySpec)) {
    assert_eq!(plan(NAME, spec(change), None).1, []);
}

#[track_caller]
fn bad(path: &str, change: impl FnOnce(&mut VirtualKeySpec)) {
    assert_eq!(wrong(NAME, spec(change)), [format!("virtual_key.{path}")]);
}

/// A key as it is stored, and the key itself.
fn made() -> (Spec, Made) {
    let (mut stored, violations) = plan(NAME, spec(|_| ()), None);
    assert_eq!(violations, []);
    let random = std::array::from_fn(|index| u8::try_from(index).unwrap() * 6 + 1);
    let made = make(&mut stored, &random);
    (stored, made)
}

fn fields(before: &Spec, change: impl FnOnce(&mut VirtualKeySpec)) -> (VirtualKeySpec, Vec<String>) {
    let Spec::VirtualKey(mut after) = before.clone() else { panic!() };
    change(&mut after);
    let (Spec::VirtualKey(planned), found) = plan(NAME, Spec::VirtualKey(after), Some(before)) else {
        panic!()
    };
    (planned, found.into_iter().map(|violation| violation.field).collect())
}

#[test]
fn a_key_has_its_documented_form() {
    let (stored, made) = made();
    let key = made.one_time_secret.as_str();
    assert_eq!(key, "sbx_01070d13191f252b_MTc9Q0lPVVthZ21zeX-Fi5GXnaOpr7W7wcfN09nf5es");
    assert_eq!(key.split('_').next().map(str::len), Some(3));
    let VirtualKeySpec { key_id, key_hash, .. } = spec_of(&stored).unwrap();
    assert_eq!(key_id, "01070d13191f252b");
    assert_eq!(key_hash.as_ref().unwrap(), &Secret { value: None, state: State::Present.into() });
    let inputs: Vec<_> = made.secrets.into_iter().collect();
    assert_eq!(inputs.len(), 1);
    assert_eq!(inputs[0].0.0, HASH);
    let SecretInput::Replace(hash) = &inputs[0].1 else { panic!() };
    assert_eq!(hash.as_str(), hex::encode(Sha256::digest(key)));
    // The id tells nothing of the secret part: they share no random byte.
    assert!(!key[21..].contains("AQcNExkf"));
}

#[test]
fn only_the_server_makes_a_key() {
    bad("key_id", |key| key.key_id = "01070d13191f252b".into());
    bad("key_hash", |key| key.key_hash = Some(secret(&"ab".repeat(32))));
    // What a masked resource shows may be given back, and copied.
    good(|key| key.key_hash = Some(Secret { value: None, state: State::Present.into() }));

    let (stored, _) = made();
    assert_eq!(fields(&stored, |key| key.key_id = "x".into()).1, ["virtual_key.key_id"]);
    assert_eq!(fields(&stored, |key| key.key_hash = Some(secret("x"))).1, ["virtual_key.key_hash"]);
    for state in [State::Unspecified, State::Absent, State::Present, State::Missing] {
        let (planned, violations) = fields(&stored, |key| {
            key.key_id.clear();
            key.key_hash = Some(Secret { value: None, state: state.into() });
            key.owner = "somebody else".into();
        });
        assert_eq!(violations, [""; 0]);
        let expected = VirtualKeySpec { owner: "somebody else".into(), ..spec_of(&stored).unwrap().clone() };
        assert_eq!(planned, expected, "{state:?}");
    }
}

#[test]
fn texts_and_switch() {
    good(|key| key.display_name = "Team A 🚀".into());
    bad("display_name", |key| key.display_name = "x".repeat(201));
    good(|key| key.description = "one\ntwo".into());
    bad("description", |key| key.description = "a\0".into());
    good(|key| key.owner = "alice@example.com".into());
    bad("owner", |key| key.owner = "a\nb".into());
    good(|key| key.enabled = Some(false));
    let (Spec::VirtualKey(filled), _) = plan(NAME, spec(|_| ()), None) else { panic!() };
    assert_eq!(filled.enabled, Some(true));
}

#[test]
fn what_may_be_called() {
    let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    good(|key| key.allowed_models = list(&["gpt-4o", "meta/llama-3:8b"]));
    bad("allowed_models[0]", |key| key.allowed_models = list(&[""]));
    bad("allowed_models[0]", |key| key.allowed_models = list(&[" a"]));
    bad("allowed_models[1]", |key| key.allowed_models = list(&["a", "a"]));
    bad("allowed_models[0]", |key| key.allowed_models = vec!["x".repeat(201)]);
    bad("allowed_models", |key| key.allowed_models = (0..1001).map(|number| number.to_string()).collect());

    good(|key| key.allowed_providers = list(&["providers/groq", "providers/openai"]));
    for name in ["", "groq", "providers/", "providers/groq/apiKeys/a", "settings/x", "providers/*"] {
        bad("allowed_providers[0]", |key| key.allowed_providers = list(&[name]));
    }
    bad("allowed_providers[1]", |key| key.allowed_providers = list(&["providers/a", "providers/a"]));
    bad("allowed_providers", |key| {
        key.allowed_providers = (0..101).map(|number| format!("providers/p{number}")).collect();
    });
    let references = VirtualKey.references(&spec(|key| key.allowed_providers = list(&["x", "providers/a"])));
    assert_eq!(references.len(), 1);
    assert_eq!(references[0].field.0, "virtual_key.allowed_providers[1]");
    assert_eq!(references[0].name.as_str(), "providers/a");
}

#[test]
fn budgets_and_rates() {
    let budget = |amount_micro_usd, period| {
        move |key: &mut VirtualKeySpec| key.budget = Some(VirtualKeyBudget { amount_micro_usd, period })
    };
    good(budget(1, BudgetPeriod::Day.into()));
    good(budget(MAX_MICRO_USD, BudgetPeriod::Total.into()));
    bad("budget.amount_micro_usd", budget(0, BudgetPeriod::Day.into()));
    bad("budget.amount_micro_usd", budget(MAX_MICRO_USD + 1, BudgetPeriod::Week.into()));
    bad("budget.period", budget(1, 0));
    bad("budget.period", budget(1, 99));

    let rates = |requests_per_minute, tokens_per_minute, concurrent_requests| {
        let limits = VirtualKeyRateLimits { requests_per_minute, tokens_per_minute, concurrent_requests };
        move |key: &mut VirtualKeySpec| key.rate_limits = Some(limits)
    };
    good(rates(0, 0, 0));
    good(rates(MAX_REQUESTS, MAX_TOKENS, MAX_CONCURRENT));
    bad("rate_limits.requests_per_minute", rates(MAX_REQUESTS + 1, 0, 0));
    bad("rate_limits.tokens_per_minute", rates(0, MAX_TOKENS + 1, 0));
    bad("rate_limits.concurrent_requests", rates(0, 0, MAX_CONCURRENT + 1));
}

#[test]
fn expiry() {
    let at =
        |seconds, nanos| move |key: &mut VirtualKeySpec| key.expire_time = Some(Timestamp { seconds, nanos });
    good(at(0, 0));
    good(at(4_000_000_000, 999_999_999));
    good(at(253_402_300_799, 0));
    bad("expire_time", at(-1, 0));
    bad("expire_time", at(253_402_300_800, 0));
    bad("expire_time", at(i64::MAX, 0));
    bad("expire_time", at(i64::MIN, i32::MIN));
    bad("expire_time", at(1, -1));
    bad("expire_time", at(1, 1_000_000_000));
}

#[test]
fn actions() {
    let (on, off) = (spec(|_| ()), spec(|key| key.enabled = Some(false)));
    assert_eq!(VirtualKey.action(&on, &off, false), DISABLED);
    assert_eq!(VirtualKey.action(&off, &on, false), ENABLED);
    assert_eq!(VirtualKey.action(&on, &on, false), UPDATED);
}
