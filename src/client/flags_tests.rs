//! Flags against the shared vectors, and what rollouts promise.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Vectors {
    buckets: Vec<BucketVector>,
    evaluations: Vec<Evaluation>,
}

#[derive(Deserialize)]
struct BucketVector {
    salt: String,
    key: String,
    bucket: u32,
}

#[derive(Deserialize)]
struct Evaluation {
    description: String,
    flag: Flag,
    cases: Vec<Case>,
}

/// A flag as proto JSON has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Flag {
    r#type: String,
    enabled: Option<bool>,
    #[serde(default)]
    default_on: bool,
    #[serde(default)]
    rollout_basis_points: u32,
    salt: String,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    attribute: String,
    operator: String,
    #[serde(default)]
    values: Vec<String>,
    on: Option<bool>,
    rollout_basis_points: Option<u32>,
}

#[derive(Deserialize)]
struct Case {
    key: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    on: bool,
}

impl From<Flag> for FeatureFlagSpec {
    fn from(flag: Flag) -> Self {
        let rule = |rule: Rule| FeatureFlagRule {
            attribute: rule.attribute,
            // What this client does not know, a newer server could send.
            operator: FeatureFlagOperator::from_str_name(&rule.operator).map_or(99, i32::from),
            values: rule.values,
            outcome: rule.on.map(Outcome::On).or(rule.rollout_basis_points.map(Outcome::RolloutBasisPoints)),
        };
        FeatureFlagSpec {
            r#type: FeatureFlagType::from_str_name(&flag.r#type).unwrap().into(),
            enabled: flag.enabled,
            default_on: flag.default_on,
            rollout_basis_points: flag.rollout_basis_points,
            salt: flag.salt,
            rules: flag.rules.into_iter().map(rule).collect(),
            ..Default::default()
        }
    }
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../tests/vectors/flags.json")).unwrap()
}

fn rollout(salt: &str, rollout_basis_points: u32) -> FeatureFlagSpec {
    FeatureFlagSpec {
        r#type: FeatureFlagType::Percentage.into(),
        salt: salt.to_owned(),
        rollout_basis_points,
        ..Default::default()
    }
}

#[test]
fn keys_fall_into_the_buckets_that_others_compute() {
    let buckets = vectors().buckets;
    assert!(buckets.len() >= 10);
    for vector in buckets {
        assert_eq!(bucket(&vector.salt, &vector.key), vector.bucket, "{:?} {:?}", vector.salt, vector.key);
    }
}

#[test]
fn flags_say_what_others_compute() {
    let evaluations = vectors().evaluations;
    assert!(evaluations.len() >= 10);
    for Evaluation { description, flag, cases } in evaluations {
        let flag = FeatureFlagSpec::from(flag);
        for case in cases {
            let context = FlagContext { key: case.key, attributes: case.attributes };
            assert_eq!(evaluate(&flag, &context), case.on, "{description}: {context:?}");
        }
    }
}

#[test]
fn shares_are_what_they_say() {
    for salt in ["new_ui", "search", "a longer salt than most"] {
        for share in [0_u32, 1, 100, 2_500, 5_000, 9_900, 10_000] {
            let flag = rollout(salt, share);
            let keys = 40_000_u32;
            let on = (0..keys).filter(|number| evaluate(&flag, &FlagContext::new(format!("user-{number}"))));
            let on = f64::from(u32::try_from(on.count()).unwrap());
            let expected = f64::from(keys) * f64::from(share) / 10_000.0;
            // Five standard deviations of the binomial distribution: no seed, so no chance involved in a rerun.
            let spread = 5.0 * (expected * (1.0 - f64::from(share) / 10_000.0)).sqrt();
            assert!((on - expected).abs() <= spread, "{salt} {share}: {on} of {expected}");
        }
    }
}

#[test]
fn salts_draw_independently() {
    let both = (0..40_000).filter(|number| {
        let context = FlagContext::new(format!("user-{number}"));
        evaluate(&rollout("a", 5_000), &context) && evaluate(&rollout("b", 5_000), &context)
    });
    let both = both.count();
    assert!((9_500..10_500).contains(&both), "{both}");
}

#[test]
fn a_flag_is_read_from_a_snapshot() {
    use std::sync::Arc;

    use crate::{
        client::entry::Entry,
        proto::v1::{Resource, resource::Spec},
    };

    let mut snapshot = Snapshot::default();
    let name = "featureFlags/new_ui".to_owned();
    let spec = Some(Spec::FeatureFlag(rollout("new_ui", 10_000)));
    snapshot.upsert(Arc::new(Entry::new(Resource { name, spec, ..Resource::default() })));
    let context = FlagContext::new("alice").attribute("country", "CH");
    assert!(
        snapshot.flag("new_ui", &context, false) && snapshot.feature_flag("new_ui").unwrap().is_on(&context)
    );
    assert!(snapshot.flag("none", &context, true) && !snapshot.flag("none", &context, false));
}

proptest! {
    #[test]
    fn raising_a_share_turns_nobody_off(
        key in "\\PC{1,20}", salt in "[a-z]{1,8}", share in 0..=10_000_u32, more in 0..=10_000_u32,
    ) {
        let (less, more) = (share.min(more), share.max(more));
        let context = FlagContext::new(&key).attribute("plan", "pro");
        let mut ruled = rollout(&salt, 0);
        ruled.rules.push(FeatureFlagRule {
            attribute: "plan".into(),
            operator: FeatureFlagOperator::Exists.into(),
            outcome: Some(Outcome::RolloutBasisPoints(less)),
            ..Default::default()
        });
        let mut raised = ruled.clone();
        raised.rules[0].outcome = Some(Outcome::RolloutBasisPoints(more));
        for (before, after) in [(rollout(&salt, less), rollout(&salt, more)), (ruled, raised)] {
            let was = evaluate(&before, &context);
            prop_assert_eq!(was, evaluate(&before, &context));
            prop_assert!(!was || evaluate(&after, &context));
        }
        prop_assert!(evaluate(&rollout(&salt, 10_000), &context));
        prop_assert!(!evaluate(&rollout(&salt, 0), &context));
    }

    #[test]
    fn the_first_rule_that_matches_decides(country in "(CH|DE|FR|IT)", first in any::<bool>(), second in any::<bool>()) {
        let rule = |values: &[&str], on| FeatureFlagRule {
            attribute: "country".into(),
            operator: FeatureFlagOperator::In.into(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            outcome: Some(Outcome::On(on)),
        };
        let flag = FeatureFlagSpec {
            r#type: FeatureFlagType::Boolean.into(),
            rules: vec![rule(&["CH", "DE"], first), rule(&["DE", "FR"], second)],
            ..Default::default()
        };
        let on = evaluate(&flag, &FlagContext::new("alice").attribute("country", &country));
        let expected = match country.as_str() { "CH" | "DE" => first, "FR" => second, _ => false };
        prop_assert_eq!(on, expected);
    }
}
