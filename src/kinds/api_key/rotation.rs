//! A key on its way from one value to another: the value before is kept beside the new one, and only the server says so.
//!
//! Must not know when a rotation is over; that is for who knows the workers.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use prost_types::Timestamp;
use zeroize::Zeroizing;

use crate::{
    domain::{FieldPath, Violations, record::Spec},
    kinds::{CheckContext, SecretInput, SecretInputs},
    proto::v1::{ApiKeyRotation, ApiKeySpec, Secret, api_key_rotation, secret::State},
};

/// Path of the value.
pub const SECRET: &str = "api_key.secret";
/// Path of the value before it.
pub const PREVIOUS_SECRET: &str = "api_key.previous_secret";

/// How long a rotation lasts at most where nothing is said.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3600);
/// What may be said.
pub const TIMEOUTS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);

/// The rotation that a key is in.
#[must_use]
pub fn of(spec: &Spec) -> Option<&ApiKeyRotation> {
    if let Spec::ApiKey(spec) = spec { spec.rotation.as_ref() } else { None }
}

/// How long a rotation has lasted.
#[must_use]
pub fn lasted(rotation: &ApiKeyRotation, now: DateTime<Utc>) -> TimeDelta {
    let start = rotation.start_time.unwrap_or_default();
    let nanos = u32::try_from(start.nanos).unwrap_or_default();
    DateTime::from_timestamp(start.seconds, nanos).map_or(TimeDelta::zero(), |start| now - start)
}

/// Whether the time of a rotation is over.
#[must_use]
pub fn is_over(rotation: &ApiKeyRotation, now: DateTime<Utc>) -> bool {
    let end = rotation.expire_time.unwrap_or_default();
    (end.seconds, i64::from(end.nanos)) <= (now.timestamp(), i64::from(now.timestamp_subsec_nanos()))
}

/// Begins one: `value` is the one before.
pub fn begin(
    spec: &mut Spec,
    secrets: &mut SecretInputs,
    value: Zeroizing<String>,
    (now, timeout): (DateTime<Utc>, Duration),
) {
    let Spec::ApiKey(spec) = spec else { return };
    // Within bounds that were checked, so that the time exists.
    let end = now + TimeDelta::from_std(timeout).unwrap_or_default();
    spec.previous_secret = Some(Secret { value: None, state: State::Present.into() });
    spec.rotation = Some(ApiKeyRotation {
        state: api_key_rotation::State::Retiring.into(),
        start_time: Some(timestamp(now)),
        expire_time: Some(timestamp(end)),
    });
    secrets.insert(previous(), SecretInput::Replace(value));
}

/// Ends one.
pub fn end(spec: &mut Spec, secrets: &mut SecretInputs) {
    let Spec::ApiKey(spec) = spec else { return };
    (spec.rotation, spec.previous_secret) = (None, None);
    secrets.remove(&previous());
}

/// Puts back what the caller left out.
pub(super) fn keep(spec: &mut Spec, before: Option<&Spec>) {
    let Spec::ApiKey(spec) = spec else { return };
    let before =
        before.and_then(|before| if let Spec::ApiKey(before) = before { Some(before) } else { None });
    if spec.rotation.is_none() {
        spec.rotation = before.and_then(|before| before.rotation);
    }
    if spec.previous_secret.as_ref().is_none_or(|secret| secret.value.is_none()) {
        spec.previous_secret = before.and_then(|before| before.previous_secret.clone());
    }
}

/// A rotation goes on for as long as the value stays; another one that is written directly replaces both.
pub(super) fn go_on(spec: &mut Spec, secrets: &mut SecretInputs, before: Option<&Spec>) {
    let stays =
        matches!(secrets.get(&FieldPath(SECRET.into())), Some(SecretInput::Keep | SecretInput::KeepMissing));
    match (spec, before) {
        (Spec::ApiKey(spec), Some(Spec::ApiKey(before))) if stays && before.rotation.is_some() => {
            spec.rotation = before.rotation;
            spec.previous_secret.clone_from(&before.previous_secret);
            secrets.insert(previous(), SecretInput::Keep);
        }
        (spec, _) => end(spec, secrets),
    }
}

/// Nobody but the server says that there is a value before. What an import says of it is passed over.
pub(super) fn check(context: &CheckContext<'_>, spec: &ApiKeySpec, violations: &mut Violations) {
    if context.imported {
        return;
    }
    let problem =
        "is set by the server when a key is rotated (RotateApiKey, `signalbox keys rotate`); leave it out";
    if context.secrets.get(&previous()).is_some_and(SecretInput::replaces) {
        violations.add(PREVIOUS_SECRET, "NOT_ALLOWED", problem);
    }
    let (given, stored) =
        (spec.rotation.unwrap_or_default(), context.before.and_then(of).copied().unwrap_or_default());
    let fields = [
        ("state", given.state == stored.state),
        ("start_time", given.start_time == stored.start_time),
        ("expire_time", given.expire_time == stored.expire_time),
    ];
    for (field, _) in fields.iter().filter(|(_, same)| !same) {
        violations.add(format!("api_key.rotation.{field}"), "NOT_ALLOWED", problem);
    }
}

fn previous() -> FieldPath {
    FieldPath(PREVIOUS_SECRET.into())
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::secrets;

    fn key(value: Option<&str>) -> Spec {
        let secret = Secret { value: value.map(str::to_owned), state: State::Present.into() };
        Spec::ApiKey(ApiKeySpec { secret: Some(secret), ..Default::default() })
    }

    fn rotating() -> Spec {
        let mut spec = key(None);
        let now = DateTime::from_timestamp(1000, 0).unwrap();
        begin(&mut spec, &mut SecretInputs::new(), Zeroizing::new("old".into()), (now, DEFAULT_TIMEOUT));
        spec
    }

    /// What a checked write of `spec` over a rotating key leaves.
    fn written(mut spec: Spec) -> (bool, bool) {
        let before = rotating();
        keep(&mut spec, Some(&before));
        let mut inputs = secrets::split(&mut spec);
        go_on(&mut spec, &mut inputs, Some(&before));
        (of(&spec).is_some(), inputs.contains_key(&previous()))
    }

    #[test]
    fn a_rotation_goes_on_while_the_value_stays() {
        assert_eq!(written(key(None)), (true, true));
        assert_eq!(written(rotating()), (true, true));
        assert_eq!(written(key(Some("another"))), (false, false));
        assert_eq!(written(Spec::ApiKey(ApiKeySpec::default())), (false, false), "the value goes");
        let mut cleared = rotating();
        if let Spec::ApiKey(spec) = &mut cleared {
            spec.previous_secret = Some(Secret { value: None, state: State::Absent.into() });
        }
        assert_eq!(written(cleared), (true, true), "only the server clears it");
    }

    #[test]
    fn a_rotation_ends_at_its_time() {
        let spec = rotating();
        let rotation = of(&spec).unwrap();
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        assert!(!is_over(rotation, at(4599)));
        assert!(is_over(rotation, at(4600)));
    }
}
