//! Keys of providers: `providers/{id}/apiKeys/{id}`.
//!
//! Must not know how a key is presented to a provider; that is the provider's.

pub mod rotation;

use super::{
    CheckContext, Kind, Outlook, REVOKED, ROTATED, Remark, SecretInput, SecretInputs, Turn, UPDATED, active,
    rules::DESCRIPTION_CHARS,
};
use crate::{
    domain::{
        Action, FeatureLevel, FieldPath, FieldViolation, KindName, ResourceName, Text, Violations,
        record::Spec,
    },
    proto::v1::{ApiKeySpec, secret::State},
};

/// The kind `api_key`.
pub struct ApiKey;

/// A key may be used again.
pub const ACTIVATED: Action = Action("activated");
/// A key may not be used any more.
pub const DEACTIVATED: Action = Action("deactivated");

/// The value before the present one is in use no more.
pub const RETIRED: Action = Action("retired");

const MAX_WEIGHT: u32 = 1000;

impl Kind for ApiKey {
    fn name(&self) -> KindName {
        KindName("api_key")
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["providers/{id}/apiKeys/{id}"]
    }

    fn parent_required(&self) -> bool {
        true
    }

    fn fill_defaults(&self, spec: &mut Spec, _name: &ResourceName) {
        if let Spec::ApiKey(spec) = spec {
            spec.active.get_or_insert(true);
            spec.weight.get_or_insert(1);
        }
    }

    fn feature_level(&self, spec: &Spec) -> FeatureLevel {
        match spec {
            Spec::ApiKey(spec) if spec.rotation.is_some() => FeatureLevel::FLEET,
            _ => FeatureLevel::FIRST,
        }
    }

    fn keep_made(&self, spec: &mut Spec, before: Option<&Spec>) {
        rotation::keep(spec, before);
    }

    fn conclude(&self, spec: &mut Spec, secrets: &mut SecretInputs, before: Option<&Spec>) {
        rotation::go_on(spec, secrets, before);
    }

    fn leave_behind(&self, spec: &mut Spec) {
        rotation::end(spec, &mut SecretInputs::new());
    }

    fn check(&self, context: &CheckContext<'_>) -> Vec<FieldViolation> {
        let Spec::ApiKey(spec) = context.spec else { return Vec::new() };
        let mut violations = Violations::default();
        check_secret(context, spec, &mut violations);
        rotation::check(context, spec, &mut violations);
        if !(1..=MAX_WEIGHT).contains(&spec.weight.unwrap_or(1)) {
            violations.add("api_key.weight", "OUT_OF_RANGE", format!("must be from 1 to {MAX_WEIGHT}"));
        }
        violations.text("api_key.description", &spec.description, Text::Prose, DESCRIPTION_CHARS);
        violations.into_vec()
    }

    fn revoker(&self) -> Option<fn(&str, Option<&Spec>) -> bool> {
        Some(|action, after| match after {
            None => true,
            Some(_) if action == REVOKED.0 => true,
            // Whatever the word is: what comes from elsewhere, or from the past, may be inactive from now on as well.
            Some(after) => !is_active(after) && ![UPDATED.0, ROTATED.0, RETIRED.0].contains(&action),
        })
    }

    fn action(&self, before: &Spec, after: &Spec, rotated: bool) -> Action {
        match (is_active(before), is_active(after)) {
            (false, true) => ACTIVATED,
            (true, false) => DEACTIVATED,
            _ if has_value(before) && !has_value(after) => REVOKED,
            _ if rotated => ROTATED,
            _ if rotation::of(before).is_some() && rotation::of(after).is_none() => RETIRED,
            _ => UPDATED,
        }
    }

    fn warnings(&self, _before: Option<&Spec>, after: &Spec) -> Vec<String> {
        match after {
            Spec::ApiKey(spec) if is_active(after) && !has_secret(spec) => {
                vec![
                    "the key is active but has no value; set `api_key.secret`, or `api_key.active` to false"
                        .into(),
                ]
            }
            _ => Vec::new(),
        }
    }

    fn remarks(&self, turn: &Turn<'_>, outlook: &dyn Outlook) -> Vec<Remark> {
        active::of_key(turn, outlook)
    }
}

fn check_secret(context: &CheckContext<'_>, spec: &ApiKeySpec, violations: &mut Violations) {
    let path = "api_key.secret";
    if context.creates() && !has_secret(spec) {
        violations.add(path, "REQUIRED", "is required; give the key as `value`");
    }
    if let Some(SecretInput::Replace(value)) = context.secrets.get(&FieldPath(path.into())) {
        // It goes into a header. A key with a line feed at its end is the commonest slip.
        if !value.is_empty() && !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            violations.add(
                path,
                "FORBIDDEN_CHARACTER",
                "may hold only visible ASCII characters; check its ends for spaces and line breaks",
            );
        }
    }
}

fn is_active(spec: &Spec) -> bool {
    matches!(spec, Spec::ApiKey(spec) if spec.active.unwrap_or(true))
}

fn has_value(spec: &Spec) -> bool {
    matches!(spec, Spec::ApiKey(spec) if has_secret(spec))
}

fn has_secret(spec: &ApiKeySpec) -> bool {
    let absent = [State::Unspecified.into(), State::Absent.into()];
    spec.secret.as_ref().is_some_and(|secret| !absent.contains(&secret.state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kinds::tests::{plan, secret, wrong},
        proto::v1::Secret,
    };

    const NAME: &str = "providers/groq/apiKeys/prod";

    fn spec(change: impl FnOnce(&mut ApiKeySpec)) -> Spec {
        let mut key = ApiKeySpec { secret: Some(secret("gsk_1")), ..Default::default() };
        change(&mut key);
        Spec::ApiKey(key)
    }

    #[track_caller]
    fn bad(field: &str, change: impl FnOnce(&mut ApiKeySpec)) {
        assert_eq!(wrong(NAME, spec(change)), [format!("api_key.{field}")]);
    }

    #[test]
    fn fields() {
        let (stored, violations) = plan(NAME, spec(|_| ()), None);
        assert_eq!(violations, []);
        let masked = Some(Secret { value: None, state: State::Present.into() });
        let expected =
            ApiKeySpec { secret: masked, active: Some(true), weight: Some(1), ..Default::default() };
        assert_eq!(stored, Spec::ApiKey(expected));

        bad("secret", |key| key.secret = None);
        bad("secret", |key| key.secret = Some(Secret::default()));
        bad("secret", |key| key.secret = Some(secret("")));
        bad("secret", |key| key.secret = Some(secret("gsk_1\n")));
        bad("secret", |key| key.secret = Some(secret(&"x".repeat(64 * 1024 + 1))));
        bad("secret", |key| key.secret = Some(Secret { value: None, state: 9 }));
        bad("weight", |key| key.weight = Some(0));
        bad("weight", |key| key.weight = Some(1001));
        bad("description", |key| key.description = "\u{7}".into());
        assert_eq!(wrong(NAME, spec(|key| (key.weight, key.active) = (Some(1000), Some(false)))), [""; 0]);
    }

    #[test]
    fn a_value_can_be_cleared_later_and_is_missed() {
        let (before, _) = plan(NAME, spec(|_| ()), None);
        let (kept, violations) = plan(NAME, spec(|key| key.secret = Some(Secret::default())), Some(&before));
        assert_eq!((kept, violations), (before.clone(), vec![]), "nothing was said of it");
        let absent = Secret { value: None, state: State::Absent.into() };
        let (after, violations) = plan(NAME, spec(|key| key.secret = Some(absent)), Some(&before));
        assert_eq!(violations, []);
        assert_eq!(ApiKey.warnings(Some(&before), &after).len(), 1);
        assert!(ApiKey.warnings(None, &before).is_empty());
    }

    #[test]
    fn actions() {
        let (on, off) = (spec(|_| ()), spec(|key| key.active = Some(false)));
        assert_eq!(ApiKey.action(&on, &off, true), DEACTIVATED);
        assert_eq!(ApiKey.action(&off, &on, false), ACTIVATED);
        assert_eq!(ApiKey.action(&on, &on, true), ROTATED);
        assert_eq!(ApiKey.action(&on, &on, false), UPDATED);
    }
}
