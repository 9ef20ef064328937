//! From what a caller wants a resource to hold to what is stored of it: defaults, the kind's rules, sealed secrets.

use std::collections::{BTreeMap, BTreeSet};

use super::{Draft, Finished, Planner};
use crate::{
    crypto::SecretText,
    domain::{Error, FeatureLevel, FieldPath, Record, Result, SecretId, Uid, write::PlannedPut},
    kinds::{self, CheckContext, SecretInput, SecretInputs},
    service::content,
};

impl Planner<'_> {
    /// Fills defaults, takes the secrets out, checks what is left by the kind's rules, and seals the new values.
    pub(super) fn finish(
        &mut self,
        draft: Draft,
        uid: Uid,
        before: Option<&Record>,
    ) -> Result<Option<Finished>> {
        let Draft { path, name, kind, labels, mut spec } = draft;
        let old = before.map(|record| &record.spec);
        kind.fill_defaults(&mut spec, &name);
        let level = self.parts.replicas.level();
        kind.fill_newer_defaults(&mut spec, level);
        kind.keep_made(&mut spec, old);
        let mut inputs = kinds::secrets::split(&mut spec);
        let mut violations = kinds::check_labels(&labels, "labels");
        let context = CheckContext { name: &name, spec: &spec, before: old, secrets: &inputs };
        violations.extend(kinds::check(kind, &context));
        let stored = |field: &FieldPath| before.is_some_and(|record| record.secrets.contains_key(field));
        violations.extend(kinds::secrets::check_kept(&inputs, stored));
        let needed = kind.feature_level(&spec);
        if needed > level {
            self.refuse(format!("{path}resource.{}", kind.name()), below(needed, level));
        }
        let new = before.is_none() && violations.is_empty() && !self.dry_run;
        let one_time_secret = if new { content::make(kind, &mut spec, &mut inputs)? } else { String::new() };
        let Some(spec_json) = content::json(kind, &spec, &mut violations)? else {
            self.note(&format!("{path}resource."), violations);
            return Ok(None);
        };
        self.bytes += spec_json.len();
        self.warnings.extend(kind.warnings(old, &spec));
        let SealedSecrets { secrets, replaced } = self.seal(&uid, inputs, before);
        if let Some(field) = old.and_then(|old| kind.moves_secrets_beneath(old, &spec)) {
            self.moved.push((format!("{path}resource.{field}"), name.clone()));
        }
        let rotated = replaced.iter().any(stored);
        let action = kinds::action(kind, old, Some(&spec), rotated);
        let version = before.map_or(1, |record| record.version + 1);
        self.keep_written(&path, &name, kind, (old, &spec));
        let put = PlannedPut { name, kind: kind.name(), uid, labels, version, spec_json, secrets, action };
        Ok(Some(Finished { put, spec, replaced, one_time_secret }))
    }

    /// Seals new values and finds the ids of kept ones.
    fn seal(&mut self, uid: &Uid, inputs: SecretInputs, before: Option<&Record>) -> SealedSecrets {
        let mut done = SealedSecrets::default();
        for (field, input) in inputs {
            match input {
                SecretInput::Replace(value) => {
                    let value = SecretText::new(value.as_str().to_owned());
                    let sealed = self.parts.vault.seal(uid, &field, &value);
                    done.secrets.insert(field.clone(), sealed.id.clone());
                    done.replaced.insert(field);
                    self.sealed.push(sealed);
                }
                SecretInput::Keep | SecretInput::KeepMissing => {
                    if let Some(id) = before.and_then(|record| record.secrets.get(&field)) {
                        done.secrets.insert(field, id.clone());
                    }
                }
                SecretInput::Clear | SecretInput::Unknown(_) => {}
            }
        }
        done
    }
}

/// Where the secrets of a resource lie now, and which of them are new.
#[derive(Default)]
struct SealedSecrets {
    secrets: BTreeMap<FieldPath, SecretId>,
    replaced: BTreeSet<FieldPath>,
}

/// The error for what an older replica could not hold.
fn below(needed: FeatureLevel, level: FeatureLevel) -> Error {
    let description = format!(
        "needs feature level {needed}, and the store is at {level}: it is raised once every replica supports it \
         (`signalbox status` shows them), or by `signalbox raise-feature-level` where that is left to you"
    );
    Error::FailedPrecondition { reason: "FEATURE_LEVEL", subject: "feature_level".into(), description }
}
