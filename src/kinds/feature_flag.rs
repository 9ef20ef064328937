//! Switches of features: `featureFlags/{id}`.
//!
//! Must not know how a flag is evaluated; workers do that, by the rules that stand in the API. What a client could not
//! evaluate is refused here.

use super::{
    CheckContext, Kind,
    rules::{DESCRIPTION_CHARS, NAME_CHARS, unknown_value},
    switched,
};
use crate::{
    domain::{Action, FeatureLevel, FieldViolation, KindName, ResourceName, Text, Violations, record::Spec},
    proto::v1::{
        FeatureFlagOperator, FeatureFlagRule, FeatureFlagSpec, FeatureFlagType, feature_flag_rule::Outcome,
    },
};

/// The kind `feature_flag`.
pub struct FeatureFlag;

/// All of the buckets: a hundred percent.
const EVERYBODY: u32 = 10_000;
const SALT_CHARS: usize = 128;
const MAX_RULES: usize = 100;
const ATTRIBUTE_CHARS: usize = 128;
const MAX_VALUES: usize = 1000;
const VALUE_CHARS: usize = 256;
const NUMBER_BYTES: usize = 64;

impl Kind for FeatureFlag {
    fn name(&self) -> KindName {
        KindName("feature_flag")
    }

    fn feature_level(&self, _: &Spec) -> FeatureLevel {
        FeatureLevel::KINDS
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["featureFlags/{id}"]
    }

    fn fill_defaults(&self, spec: &mut Spec, name: &ResourceName) {
        let Spec::FeatureFlag(spec) = spec else { return };
        spec.enabled.get_or_insert(true);
        if spec.salt.is_empty() {
            name.id().clone_into(&mut spec.salt);
        }
    }

    fn check(&self, context: &CheckContext<'_>) -> Vec<FieldViolation> {
        let Spec::FeatureFlag(spec) = context.spec else { return Vec::new() };
        let mut violations = Violations::default();
        check_type(spec, &mut violations);
        violations.text("feature_flag.display_name", &spec.display_name, Text::Line, NAME_CHARS);
        violations.text("feature_flag.description", &spec.description, Text::Prose, DESCRIPTION_CHARS);
        // A line feed separates the salt from the key: a line holds none.
        violations.text("feature_flag.salt", &spec.salt, Text::Line, SALT_CHARS);
        violations.at_most("feature_flag.rules", spec.rules.len(), MAX_RULES, "rules");
        for (index, rule) in spec.rules.iter().enumerate().take(MAX_RULES) {
            check_rule(&format!("feature_flag.rules[{index}]"), rule, &mut violations);
        }
        violations.into_vec()
    }

    fn action(&self, before: &Spec, after: &Spec, rotated: bool) -> Action {
        switched(is_enabled(before), is_enabled(after), rotated)
    }

    fn warnings(&self, before: Option<&Spec>, after: &Spec) -> Vec<String> {
        let (Some(Spec::FeatureFlag(before)), Spec::FeatureFlag(after)) = (before, after) else {
            return Vec::new();
        };
        let shuffled = before.salt != after.salt;
        let warning =
            "`salt` has changed: the shares of keys are drawn anew, and who had the feature may lose it";
        shuffled.then(|| warning.to_owned()).into_iter().collect()
    }
}

fn check_type(spec: &FeatureFlagSpec, violations: &mut Violations) {
    let (path, share) = ("feature_flag.type", "feature_flag.rollout_basis_points");
    match FeatureFlagType::try_from(spec.r#type) {
        Ok(FeatureFlagType::Unspecified) => {
            let problem = "is required: FEATURE_FLAG_TYPE_BOOLEAN or FEATURE_FLAG_TYPE_PERCENTAGE";
            violations.add(path, "REQUIRED", problem);
        }
        Ok(FeatureFlagType::Boolean) if spec.rollout_basis_points != 0 => {
            let problem =
                "goes with FEATURE_FLAG_TYPE_PERCENTAGE only; change the type, or leave the share out";
            violations.add(share, "NOT_ALLOWED", problem);
        }
        Ok(FeatureFlagType::Boolean) => {}
        Ok(FeatureFlagType::Percentage) => check_share(share, spec.rollout_basis_points, violations),
        Err(_) => violations.add(path, "UNKNOWN_VALUE", unknown_value(spec.r#type)),
    }
}

fn check_share(path: &str, share: u32, violations: &mut Violations) {
    if share > EVERYBODY {
        let problem = "must be from 0 to 10000, in hundredths of a percent: 2500 is 25 %";
        violations.add(path, "OUT_OF_RANGE", problem);
    }
}

fn check_rule(path: &str, rule: &FeatureFlagRule, violations: &mut Violations) {
    violations.required(&format!("{path}.attribute"), &rule.attribute, Text::Line, ATTRIBUTE_CHARS);
    let operator = format!("{path}.operator");
    match FeatureFlagOperator::try_from(rule.operator) {
        Ok(FeatureFlagOperator::Unspecified) => {
            let problem = "is required, for example FEATURE_FLAG_OPERATOR_IN";
            violations.add(operator, "REQUIRED", problem);
        }
        Ok(operator) => check_values(&format!("{path}.values"), operator, &rule.values, violations),
        Err(_) => violations.add(operator, "UNKNOWN_VALUE", unknown_value(rule.operator)),
    }
    match rule.outcome {
        None => violations.add(path, "REQUIRED", "has no outcome; set `on` or `rollout_basis_points`"),
        Some(Outcome::On(_)) => {}
        Some(Outcome::RolloutBasisPoints(share)) => {
            check_share(&format!("{path}.rollout_basis_points"), share, violations);
        }
    }
}

fn check_values(path: &str, operator: FeatureFlagOperator, values: &[String], violations: &mut Violations) {
    violations.at_most(path, values.len(), MAX_VALUES, "values");
    for (index, value) in values.iter().enumerate().take(MAX_VALUES) {
        violations.text(&format!("{path}[{index}]"), value, Text::Line, VALUE_CHARS);
    }
    match (operator, values) {
        (FeatureFlagOperator::Exists, []) => {}
        (FeatureFlagOperator::Exists, _) => {
            violations.add(
                path,
                "NOT_ALLOWED",
                "must be empty: the operator asks only whether the attribute is there",
            );
        }
        (_, []) => violations.add(path, "REQUIRED", "must hold at least one value to compare with"),
        (operator, [value]) if is_numeric(operator) && is_number(value) => {}
        (operator, [_]) if is_numeric(operator) => {
            let problem = "must be a number such as `5` or `-0.25`, without exponent";
            violations.add(format!("{path}[0]"), "INVALID_FORMAT", problem);
        }
        (operator, _) if is_numeric(operator) => {
            violations.add(path, "TOO_MANY", "must hold exactly one number for this operator");
        }
        _ => {}
    }
    let parts = matches!(
        operator,
        FeatureFlagOperator::StartsWith | FeatureFlagOperator::EndsWith | FeatureFlagOperator::Contains
    );
    if let Some(index) = values.iter().position(String::is_empty).filter(|_| parts) {
        let problem = "must not be empty: every text begins with, ends with and contains the empty one";
        violations.add(format!("{path}[{index}]"), "INVALID_FORMAT", problem);
    }
}

fn is_numeric(operator: FeatureFlagOperator) -> bool {
    matches!(
        operator,
        FeatureFlagOperator::LessThan
            | FeatureFlagOperator::LessOrEqual
            | FeatureFlagOperator::GreaterThan
            | FeatureFlagOperator::GreaterOrEqual
    )
}

/// The numbers of the API: every language reads them alike.
fn is_number(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    text.len() <= NUMBER_BYTES && digits(whole.strip_prefix('-').unwrap_or(whole)) && digits(fraction)
}

fn is_enabled(spec: &Spec) -> bool {
    matches!(spec, Spec::FeatureFlag(spec) if spec.enabled.unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{
        DISABLED, ENABLED, UPDATED,
        tests::{plan, wrong},
    };

    const NAME: &str = "featureFlags/new_ui";

    fn spec(change: impl FnOnce(&mut FeatureFlagSpec)) -> Spec {
        let mut flag = FeatureFlagSpec { r#type: FeatureFlagType::Percentage.into(), ..Default::default() };
        change(&mut flag);
        Spec::FeatureFlag(flag)
    }

    #[track_caller]
    fn good(change: impl FnOnce(&mut FeatureFlagSpec)) {
        assert_eq!(plan(NAME, spec(change), None).1, []);
    }

    #[track_caller]
    fn bad(path: &str, change: impl FnOnce(&mut FeatureFlagSpec)) {
        assert_eq!(wrong(NAME, spec(change)), [format!("feature_flag.{path}")]);
    }

    fn rule(change: impl FnOnce(&mut FeatureFlagRule)) -> impl FnOnce(&mut FeatureFlagSpec) {
        let mut rule = FeatureFlagRule {
            attribute: "country".into(),
            operator: FeatureFlagOperator::In.into(),
            values: vec!["CH".into()],
            outcome: Some(Outcome::On(true)),
        };
        change(&mut rule);
        move |spec| spec.rules = vec![rule]
    }

    fn compared(operator: FeatureFlagOperator, values: &[&str]) -> impl FnOnce(&mut FeatureFlagSpec) {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        rule(move |rule| (rule.operator, rule.values) = (operator.into(), values))
    }

    #[test]
    fn fields() {
        let (Spec::FeatureFlag(filled), violations) = plan(NAME, spec(|_| ()), None) else { panic!() };
        assert_eq!(violations, []);
        assert_eq!((filled.enabled, filled.salt.as_str(), filled.default_on), (Some(true), "new_ui", false));
        good(|spec| spec.r#type = FeatureFlagType::Boolean.into());
        bad("type", |spec| spec.r#type = 0);
        bad("type", |spec| spec.r#type = 99);
        good(|spec| spec.display_name = "New UI".into());
        bad("display_name", |spec| spec.display_name = "x".repeat(201));
        good(|spec| spec.description = "one\ntwo".into());
        bad("description", |spec| spec.description = "a\0".into());
        good(|spec| (spec.enabled, spec.default_on) = (Some(false), true));
        good(|spec| spec.salt = "2026-rollout".into());
        bad("salt", |spec| spec.salt = "a\nb".into());
        bad("salt", |spec| spec.salt = "x".repeat(129));
        good(|spec| spec.rollout_basis_points = 10_000);
        bad("rollout_basis_points", |spec| spec.rollout_basis_points = 10_001);
        bad("rollout_basis_points", |spec| {
            (spec.r#type, spec.rollout_basis_points) = (FeatureFlagType::Boolean.into(), 1);
        });
    }

    #[test]
    fn rules() {
        good(rule(|_| ()));
        bad("rules[0].attribute", rule(|rule| rule.attribute.clear()));
        bad("rules[0].attribute", rule(|rule| rule.attribute = "a\n".into()));
        bad("rules[0].attribute", rule(|rule| rule.attribute = "x".repeat(129)));
        bad("rules[0].operator", rule(|rule| rule.operator = 0));
        bad("rules[0].operator", rule(|rule| rule.operator = 99));
        bad("rules[0]", rule(|rule| rule.outcome = None));
        good(rule(|rule| rule.outcome = Some(Outcome::On(false))));
        good(rule(|rule| rule.outcome = Some(Outcome::RolloutBasisPoints(10_000))));
        bad(
            "rules[0].rollout_basis_points",
            rule(|rule| rule.outcome = Some(Outcome::RolloutBasisPoints(10_001))),
        );
        bad("rules", |spec| {
            rule(|_| ())(spec);
            spec.rules = vec![spec.rules[0].clone(); 101];
        });
    }

    #[test]
    fn values_fit_their_operator() {
        use FeatureFlagOperator::{Contains, EndsWith, Exists, GreaterOrEqual, GreaterThan, In};
        use FeatureFlagOperator::{LessOrEqual, LessThan, NotIn, StartsWith};
        for operator in [In, NotIn] {
            good(compared(operator, &["a", "", "b"]));
            bad("rules[0].values", compared(operator, &[]));
            bad("rules[0].values[1]", compared(operator, &["a", "b\0"]));
            bad("rules[0].values[0]", compared(operator, &[&"x".repeat(257)]));
        }
        for operator in [StartsWith, EndsWith, Contains] {
            good(compared(operator, &["a", "b"]));
            bad("rules[0].values[1]", compared(operator, &["a", ""]));
        }
        for operator in [LessThan, LessOrEqual, GreaterThan, GreaterOrEqual] {
            for number in ["0", "-5", "3.25", "-0.5", "007"] {
                good(compared(operator, &[number]));
            }
            for text in ["", "-", "1e5", "1.", ".5", "+1", " 1", "NaN", "1,5", "٣", "0x1", &"1".repeat(65)] {
                bad("rules[0].values[0]", compared(operator, &[text]));
            }
            bad("rules[0].values", compared(operator, &["1", "2"]));
            bad("rules[0].values", compared(operator, &[]));
        }
        good(compared(Exists, &[]));
        bad("rules[0].values", compared(Exists, &["a"]));
        bad("rules[0].values", rule(|rule| rule.values = vec!["x".into(); 1001]));
    }

    #[test]
    fn actions_and_warnings() {
        let (on, off) = (spec(|_| ()), spec(|spec| spec.enabled = Some(false)));
        assert_eq!(FeatureFlag.action(&on, &off, false), DISABLED);
        assert_eq!(FeatureFlag.action(&off, &on, false), ENABLED);
        assert_eq!(FeatureFlag.action(&on, &on, false), UPDATED);
        let salted = spec(|spec| spec.salt = "other".into());
        assert_eq!(FeatureFlag.warnings(Some(&on), &salted).len(), 1);
        assert!(
            FeatureFlag.warnings(Some(&on), &off).is_empty() && FeatureFlag.warnings(None, &on).is_empty()
        );
    }
}
