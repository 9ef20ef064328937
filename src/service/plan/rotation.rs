//! Keys that are turned over to another value: what becomes of the value before.

use std::time::Duration;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Draft, Planner, finish::below, import::Origin};
use crate::{
    domain::{Error, FeatureLevel, FieldPath, ResourceName, Result, Spec},
    kinds::{
        SecretInputs,
        api_key::rotation::{self, SECRET},
    },
    proto::v1::{BatchResult, Secret},
    view::Entry,
};

/// A key to turn over.
#[derive(Clone, Debug)]
pub struct RotateKey {
    /// Its name.
    pub name: String,
    /// The etag it must have, if any.
    pub etag: String,
    /// The new value; without one the present value stays, and a rotation that is under way ends.
    pub secret: Option<Secret>,
    /// What becomes of the value before.
    pub previous: Previous,
}

/// What becomes of the value before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Previous {
    /// It is kept until workers have the new one, and so long at most.
    Kept(Duration),
    /// It goes at once.
    Retired,
    /// It goes at once, and whoever has it is told not to use it.
    Revoked,
}

/// Two values at most are kept of a key: a third would take one away that workers may still use.
fn is_under_way(name: &ResourceName) -> Error {
    let description = format!(
        "{name} is being rotated already, and there may be workers that still use the value before the present one: wait until \
         it is retired (`signalbox get {name}` shows how it stands), let go of it with `retire_now` and no value (`signalbox keys \
         rotate {name} --retire-now`), or give the new value with `retire_now` or `revoke_previous`, which keeps neither"
    );
    Error::FailedPrecondition { reason: "ROTATION_UNDER_WAY", subject: name.to_string(), description }
}

impl Planner<'_> {
    /// Plans a rotation, or its end.
    pub(super) fn rotate(&mut self, path: &str, rotate: &RotateKey) -> Result<Option<BatchResult>> {
        let RotateKey { name, etag, secret, previous } = rotate;
        let field = format!("{path}resource.name");
        let Some((name, kind)) = self.name(&field, name)? else { return Ok(None) };
        let Some(entry) = self.state.get(name.as_str()).cloned() else {
            self.refuse(field, Error::NotFound { name: name.to_string() });
            return Ok(None);
        };
        if !self.check_etag(&entry.record, etag, &format!("{path}resource.etag")) {
            return Ok(None);
        }
        if secret.as_ref().is_some_and(|secret| self.is_present(&entry, secret)) {
            let (reason, subject) = ("SAME_VALUE", name.to_string());
            let description = match previous {
                Previous::Revoked => format!(
                    "`secret` is the value that {name} has now, which is the one to be revoked; give another one, or deactivate \
                     or clear the key"
                ),
                Previous::Kept(_) | Previous::Retired => format!(
                    "`secret` is the value that {name} has now; give the new one, or leave it out to end the rotation that is \
                     under way"
                ),
            };
            self.refuse(
                format!("{path}secret.value"),
                Error::FailedPrecondition { reason, subject, description },
            );
            return Ok(None);
        }
        let (labels, mut spec) = (entry.record.labels.clone(), entry.record.spec.clone());
        let under_way = rotation::of(&spec).is_some();
        match (&mut spec, secret) {
            (Spec::ApiKey(spec), Some(secret)) => spec.secret = Some(secret.clone()),
            (_, None) if !under_way => {
                let description = format!(
                    "{name} is not being rotated, so that there is no value before the present one; give a new value as \
                     `secret`, or delete the key: that cuts its only value off at once"
                );
                let (reason, subject) = ("NO_ROTATION", name.to_string());
                self.refuse(field, Error::FailedPrecondition { reason, subject, description });
                return Ok(None);
            }
            _ => {}
        }
        let (path, origin) = (path.to_owned(), Origin::Rotated(*previous));
        self.put_over(Draft { path, name, kind, labels, spec, origin }, &entry)
    }

    /// Whether a value is the one that the key has already. One that can't be read is another one.
    fn is_present(&self, entry: &Entry, secret: &Secret) -> bool {
        let present = self.parts.revealer.open(&entry.record, &entry.sealed, &FieldPath(SECRET.into()));
        let given = secret.value.as_deref().unwrap_or_default();
        present.is_some_and(|present| present.expose().as_bytes().ct_eq(given.as_bytes()).into())
    }

    /// Keeps the value before, or lets go of it, in the content that is about to be sealed.
    pub(super) fn turn_over(
        &mut self,
        path: &str,
        entry: &Entry,
        previous: Previous,
        (spec, secrets): (&mut Spec, &mut SecretInputs),
    ) {
        let Previous::Kept(timeout) = previous else { return rotation::end(spec, secrets) };
        if rotation::of(&entry.record.spec).is_some() {
            return self.refuse(format!("{path}resource.name"), is_under_way(&entry.record.name));
        }
        let level = self.parts.replicas.level();
        if level < FeatureLevel::FLEET {
            let otherwise =
                "; to keep nothing of the value before needs none: set `retire_now` (`--retire-now`)";
            let refused = below(FeatureLevel::FLEET, level, otherwise);
            return self.refuse(format!("{path}resource.retire_now"), refused);
        }
        let field = FieldPath(SECRET.into());
        match self.parts.revealer.open(&entry.record, &entry.sealed, &field) {
            Some(value) => {
                let value = Zeroizing::new(value.expose().to_owned());
                rotation::begin(spec, secrets, value, (self.parts.clock.now(), timeout));
            }
            None => {
                let name = &entry.record.name;
                self.warnings.push(format!("{name} had no value that can be read, so that none is kept"));
            }
        }
    }
}
