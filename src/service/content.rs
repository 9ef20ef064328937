//! The content of a resource on its last steps before it is sealed: what the server makes itself, and the stored form.

use std::sync::Arc;

use crate::{
    crypto::random_bytes,
    domain::{Error, FieldViolation, Result, Spec, limits, spec},
    kinds::{Kind, SecretInputs},
};

/// Has a kind make what only the server makes of a new resource. Gives the secret that is shown once, if there is one.
pub(super) fn make(kind: &dyn Kind, spec: &mut Spec, secrets: &mut SecretInputs) -> Result<String> {
    let Some(make) = kind.maker() else { return Ok(String::new()) };
    let random = random_bytes().map_err(Error::internal)?;
    let made = make(spec, &random);
    secrets.extend(made.secrets);
    Ok(made.one_time_secret.as_str().to_owned())
}

/// The spec as it is stored, if nothing is wrong with it; it may be too large.
pub(super) fn json(
    kind: &dyn Kind,
    spec: &Spec,
    violations: &mut Vec<FieldViolation>,
) -> Result<Option<Arc<str>>> {
    let json: Arc<str> = match spec::to_json(spec) {
        Ok(json) => json.into(),
        // JSON has no form for some times and durations that a kind refuses.
        Err(_) if !violations.is_empty() => return Ok(None),
        Err(error) => return Err(Error::internal(error)),
    };
    if json.len() > limits::RESOURCE_BYTES {
        let description = format!("has {} bytes; at most {} are allowed", json.len(), limits::RESOURCE_BYTES);
        violations.push(FieldViolation::new(kind.name().0, "TOO_LARGE", description));
    }
    Ok(violations.is_empty().then_some(json))
}
