//! Takes secrets out of specs and puts them back, wherever in a spec they are.
//!
//! Works on descriptors: a new secret field is found without a line here. Must not know how values are sealed.
//!
//! A spec on its way in is split into its masked form and an instruction for each secret; a stored spec on its way out
//! is filled with what the reader may see. Buffers of this module are wiped; the message that a caller sent is gone
//! with its drop, as the transport's buffers are.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::reflect;
use crate::{
    domain::{FieldPath, FieldViolation, Violations, limits, record::Spec},
    proto::v1::{Secret, secret::State},
};

/// What a caller wants done with the secret at a path.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretInput {
    /// This is the new value.
    Replace(Zeroizing<String>),
    /// The stored value stays: the caller gave back what was read. An error if there is none.
    Keep,
    /// As `Keep`, but the caller has seen that there is no value, so that none is no error. The masked form says
    /// MISSING; where a value is stored after all, [`settle`] sets it right.
    KeepMissing,
    /// Nothing was said: what is stored stays, and where nothing is, nothing is. [`settle`] turns it into one of the others.
    Unsaid,
    /// The stored value goes.
    Clear,
    /// A state that this binary does not know, which [`check`] refuses.
    Unknown(i32),
}

/// The instructions of a spec by path.
pub type SecretInputs = BTreeMap<FieldPath, SecretInput>;

/// What a reader is shown of a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretView {
    /// The value.
    Value(Zeroizing<String>),
    /// That there is a value.
    Present,
    /// That there is none.
    Absent,
    /// That it was imported without its value.
    Missing,
    /// That no loaded key opens it.
    Undecryptable,
}

/// Takes all secrets out of a spec, which is left in its masked form.
///
/// A value replaces, whatever state comes with it. Without a value PRESENT and UNDECRYPTABLE keep, MISSING and no state keep what
/// there is, ABSENT clears. A secret field that is not set at all is not listed, and is cleared as well: [`keep_unsaid`] goes
/// before, where it is to stay.
pub fn split(spec: &mut Spec) -> SecretInputs {
    let mut inputs = SecretInputs::new();
    rewrite(spec, |path, secret| {
        let (input, state) = instruction(secret);
        inputs.insert(FieldPath(path.to_owned()), input);
        Secret { value: None, state }
    });
    inputs
}

/// Leaves only the masked form.
pub fn mask(spec: &mut Spec) {
    split(spec);
}

/// Leaves the values behind, for an export: what has one is missing where it arrives.
pub fn withhold(spec: &mut Spec) {
    rewrite(spec, |_, secret| match secret.state() {
        State::Absent | State::Unspecified => Secret { value: None, state: secret.state },
        State::Present | State::Missing | State::Undecryptable => {
            Secret { value: None, state: State::Missing.into() }
        }
    });
}

/// Puts into every secret of a masked spec what `view` says for its path.
///
/// Costs some microseconds a spec; a caller on a hot path asks first whether the record has secrets at all.
pub fn fill(spec: &mut Spec, mut view: impl FnMut(&FieldPath) -> SecretView) {
    rewrite(spec, |path, _| match view(&FieldPath(path.to_owned())) {
        // The copy that the reader gets is not ours to wipe.
        SecretView::Value(value) => {
            Secret { value: Some(value.as_str().to_owned()), state: State::Present.into() }
        }
        SecretView::Present => Secret { value: None, state: State::Present.into() },
        SecretView::Absent => Secret { value: None, state: State::Absent.into() },
        SecretView::Missing => Secret { value: None, state: State::Missing.into() },
        SecretView::Undecryptable => Secret { value: None, state: State::Undecryptable.into() },
    });
}

/// Settles what is kept by what is stored, in the instructions and in the masked form: a value that the caller did not
/// know of is kept as one, and one that an import speaks of and that is not there is missing.
pub fn settle(
    spec: &mut Spec,
    inputs: &mut SecretInputs,
    imported: bool,
    stored: impl Fn(&FieldPath) -> bool,
) {
    let mut settled = BTreeMap::new();
    for (path, input) in inputs.iter_mut() {
        match input {
            SecretInput::KeepMissing if stored(path) => *input = SecretInput::Keep,
            SecretInput::Keep if imported && !stored(path) => *input = SecretInput::KeepMissing,
            SecretInput::Unsaid if stored(path) => *input = SecretInput::Keep,
            SecretInput::Unsaid if imported => *input = SecretInput::KeepMissing,
            SecretInput::Unsaid => *input = SecretInput::Clear,
            _ => continue,
        }
        let state = match input {
            SecretInput::Keep => State::Present,
            SecretInput::Clear => State::Absent,
            _ => State::Missing,
        };
        settled.insert(path.0.clone(), state.into());
    }
    if settled.is_empty() {
        return;
    }
    rewrite(spec, |path, secret| Secret {
        state: settled.get(path).copied().unwrap_or(secret.state),
        ..secret
    });
}

/// Takes each secret over from the masked form of what is stored that a new spec says nothing of: nobody clears a secret by
/// leaving it out. One whose place is gone, or holds something else now, goes with that; and so does one that `said` knows of.
pub fn keep_unsaid(spec: &mut Spec, stored: &Spec, said: impl Fn(&FieldPath) -> bool) {
    if states(stored).is_empty() {
        return;
    }
    let stored = reflect::to_dynamic(stored);
    let mut message = reflect::to_dynamic(spec);
    let kept = reflect::adopt_secrets(&mut message, &stored, &|path| !said(&FieldPath(path.to_owned())));
    if kept && let Some(changed) = reflect::from_dynamic(&message).spec {
        *spec = changed;
    }
    reflect::wipe_secrets(message);
}

/// The secrets of a masked spec, and their states.
#[must_use]
pub fn states(spec: &Spec) -> BTreeMap<FieldPath, State> {
    let mut states = BTreeMap::new();
    let mut message = reflect::to_dynamic(spec);
    reflect::visit_secrets(&mut message, &mut |path, message| {
        let secret = reflect::take_secret(message);
        drop(secret.value.map(Zeroizing::new));
        states
            .insert(FieldPath(path.to_owned()), State::try_from(secret.state).unwrap_or(State::Unspecified));
    });
    states
}

/// What is wrong with the instructions, whatever kind they belong to.
#[must_use]
pub fn check(inputs: &SecretInputs) -> Vec<FieldViolation> {
    let mut violations = Violations::default();
    for (path, input) in inputs {
        match input {
            SecretInput::Replace(value) if value.is_empty() => violations.add(
                path.to_string(),
                "INVALID_FORMAT",
                "has an empty value; give one, or set the state to STATE_ABSENT to clear it",
            ),
            SecretInput::Replace(value) if value.len() > limits::SECRET_BYTES => {
                let (length, max) = (value.len(), limits::SECRET_BYTES);
                violations.add(
                    path.to_string(),
                    "TOO_LONG",
                    format!("has {length} bytes; at most {max} are allowed"),
                );
            }
            SecretInput::Replace(value) if value.contains('\0') => {
                violations.add(path.to_string(), "FORBIDDEN_CHARACTER", "holds a NUL character; remove it")
            }
            SecretInput::Unknown(state) => violations.add(
                path.to_string(),
                "UNKNOWN_VALUE",
                format!("has the unknown state {state}; use STATE_PRESENT to keep or STATE_ABSENT to clear"),
            ),
            _ => {}
        }
    }
    violations.into_vec()
}

/// What is to be kept although `stored` says that there is nothing; the engine knows the record, and asks for it.
#[must_use]
pub fn check_kept(inputs: &SecretInputs, stored: impl Fn(&FieldPath) -> bool) -> Vec<FieldViolation> {
    let mut violations = Violations::default();
    for (path, _) in inputs.iter().filter(|(path, input)| **input == SecretInput::Keep && !stored(path)) {
        let problem = "is to be kept, but there is no stored value; give one as `value`";
        violations.add(path.to_string(), "REQUIRED", problem);
    }
    violations.into_vec()
}

fn instruction(secret: Secret) -> (SecretInput, i32) {
    if let Some(value) = secret.value {
        return (SecretInput::Replace(Zeroizing::new(value)), State::Present.into());
    }
    match State::try_from(secret.state) {
        Ok(State::Present | State::Undecryptable) => (SecretInput::Keep, State::Present.into()),
        Ok(State::Missing) => (SecretInput::KeepMissing, State::Missing.into()),
        Ok(State::Unspecified) => (SecretInput::Unsaid, State::Absent.into()),
        Ok(State::Absent) => (SecretInput::Clear, State::Absent.into()),
        Err(_) => (SecretInput::Unknown(secret.state), secret.state),
    }
}

/// Replaces every secret of a spec.
fn rewrite(spec: &mut Spec, mut change: impl FnMut(&str, Secret) -> Secret) {
    let mut message = reflect::to_dynamic(spec);
    reflect::visit_secrets(&mut message, &mut |path, message| {
        let secret = change(path, reflect::take_secret(message));
        reflect::put_secret(message, secret);
    });
    if let Some(changed) = reflect::from_dynamic(&message).spec {
        *spec = changed;
    }
    reflect::wipe_secrets(message);
}

impl SecretInput {
    /// Whether this sets a value.
    #[must_use]
    pub fn replaces(&self) -> bool {
        matches!(self, SecretInput::Replace(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{
        ApiKeySpec, HeaderValue, ProviderSpec, SettingSpec, header_value::Value, setting_spec,
    };

    fn provider(secrets: &[(&str, Secret)]) -> Spec {
        let headers = secrets.iter().map(|(name, secret)| {
            ((*name).to_owned(), HeaderValue { value: Some(Value::Secret(secret.clone())) })
        });
        Spec::Provider(ProviderSpec { headers: headers.collect(), ..Default::default() })
    }

    fn state(state: State) -> Secret {
        Secret { value: None, state: state.into() }
    }

    fn value(text: &str) -> SecretInput {
        SecretInput::Replace(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn each_state_says_what_to_do() {
        let with = |state: State| Secret { value: Some("v".into()), state: state.into() };
        let mut spec = provider(&[
            ("a", with(State::Unspecified)),
            ("b", with(State::Absent)),
            ("c", state(State::Present)),
            ("d", state(State::Undecryptable)),
            ("e", state(State::Missing)),
            ("f", state(State::Absent)),
            ("g", state(State::Unspecified)),
            ("h", Secret { value: None, state: 42 }),
        ]);
        let inputs = split(&mut spec);
        let expected = [
            ("a", value("v"), state(State::Present)),
            ("b", value("v"), state(State::Present)),
            ("c", SecretInput::Keep, state(State::Present)),
            ("d", SecretInput::Keep, state(State::Present)),
            ("e", SecretInput::KeepMissing, state(State::Missing)),
            ("f", SecretInput::Clear, state(State::Absent)),
            ("g", SecretInput::Unsaid, state(State::Absent)),
            ("h", SecretInput::Unknown(42), Secret { value: None, state: 42 }),
        ];
        for (name, input, _) in &expected {
            let path = FieldPath(format!("provider.headers.{name}.secret"));
            assert!(inputs.get(&path) == Some(input), "{name}");
        }
        let masked: Vec<(&str, Secret)> =
            expected.iter().map(|(name, _, secret)| (*name, secret.clone())).collect();
        assert_eq!(spec, provider(&masked));
        assert_eq!(check(&inputs).len(), 1);
        let missed = check_kept(&inputs, |path| path.0.contains(".c."));
        assert_eq!(missed.len(), 1);
        assert_eq!(missed[0].field, "provider.headers.d.secret");
    }

    #[test]
    fn regression_what_is_not_said_keeps_what_is_stored() {
        let (path, empty) = (FieldPath("provider.headers.a.secret".into()), Secret::default());
        for (stored, imported, input, then) in [
            (true, false, SecretInput::Keep, State::Present),
            (true, true, SecretInput::Keep, State::Present),
            (false, true, SecretInput::KeepMissing, State::Missing),
            (false, false, SecretInput::Clear, State::Absent),
        ] {
            let mut spec = provider(&[("a", empty.clone())]);
            let mut inputs = split(&mut spec);
            settle(&mut spec, &mut inputs, imported, |_| stored);
            assert!(inputs.get(&path) == Some(&input), "{stored} {imported}");
            assert_eq!(states(&spec).get(&path), Some(&then), "{stored} {imported}");
        }
    }

    #[test]
    fn regression_a_secret_that_is_left_out_is_kept_where_its_place_is_still_there() {
        let present = || Some(state(State::Present));
        let setting = |value| Spec::Setting(SettingSpec { value, ..Default::default() });
        let key = |secret| Spec::ApiKey(ApiKeySpec { secret, ..Default::default() });
        let value = |secret| Some(setting_spec::Value::SecretValue(secret));
        let bare = HeaderValue { value: None };
        let entry = |header: HeaderValue| {
            Spec::Provider(ProviderSpec { headers: [("a".to_owned(), header)].into(), ..Default::default() })
        };
        let stored_header = || provider(&[("a", state(State::Present)), ("b", state(State::Present))]);
        for (stored, given, then) in [
            (key(present()), key(None), key(present())),
            (key(Some(state(State::Missing))), key(None), key(Some(state(State::Missing)))),
            (key(present()), key(Some(state(State::Absent))), key(Some(state(State::Absent)))),
            (key(None), key(None), key(None)),
            (setting(value(state(State::Present))), setting(None), setting(value(state(State::Present)))),
            (
                setting(value(state(State::Present))),
                setting(Some(setting_spec::Value::IntValue(1))),
                setting(Some(setting_spec::Value::IntValue(1))),
            ),
            (stored_header(), entry(bare), provider(&[("a", state(State::Present))])),
            (stored_header(), provider(&[]), provider(&[])),
        ] {
            let mut kept = given.clone();
            keep_unsaid(&mut kept, &stored, |_| false);
            assert_eq!(kept, then, "{given:?} over {stored:?}");
            let mut said = given.clone();
            keep_unsaid(&mut said, &stored, |_| true);
            assert_eq!(said, given, "what is named is as it is given");
        }
    }

    #[test]
    fn secrets_are_found_in_fields_and_oneofs() {
        let secret = Some(Secret { value: Some("v".into()), state: 0 });
        let mut key = Spec::ApiKey(ApiKeySpec { secret: secret.clone(), ..Default::default() });
        let mut setting = Spec::Setting(SettingSpec {
            value: secret.map(setting_spec::Value::SecretValue),
            ..Default::default()
        });
        for (spec, path) in [(&mut key, "api_key.secret"), (&mut setting, "setting.secret_value")] {
            let whole = spec.clone();
            let inputs = split(spec);
            assert_eq!(inputs.keys().map(|path| path.0.as_str()).collect::<Vec<_>>(), [path]);
            assert_eq!(states(spec).values().collect::<Vec<_>>(), [&State::Present]);

            let mut filled = spec.clone();
            fill(&mut filled, |_| SecretView::Value(Zeroizing::new("v".into())));
            mask(&mut filled);
            assert_eq!(filled, *spec);
            fill(&mut filled, |_| SecretView::Undecryptable);
            assert_eq!(states(&filled).values().collect::<Vec<_>>(), [&State::Undecryptable]);
            assert_ne!(filled, whole);
        }
    }

    #[test]
    fn limits_hold_for_every_secret() {
        let problems = |input: SecretInput| {
            let inputs = SecretInputs::from([(FieldPath("x.y".into()), input)]);
            check(&inputs).into_iter().map(|violation| violation.reason).collect::<Vec<_>>()
        };
        assert_eq!(problems(value(&"x".repeat(64 * 1024))), [""; 0]);
        assert_eq!(problems(value(&"x".repeat(64 * 1024 + 1))), ["TOO_LONG"]);
        assert_eq!(problems(value("")), ["INVALID_FORMAT"]);
        assert_eq!(problems(value("a\0b")), ["FORBIDDEN_CHARACTER"]);
        assert_eq!(problems(SecretInput::Keep), [""; 0]);
    }
}
