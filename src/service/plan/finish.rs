//! From what a caller wants a resource to hold to what is stored of it: defaults, the kind's rules, sealed secrets.

use std::collections::{BTreeMap, BTreeSet};

use super::{Draft, Planner, import::Origin, rotation::Previous};
use crate::{
    crypto::SecretText,
    domain::{
        Error, FeatureLevel, FieldPath, Record, ResourceName, Result, SecretId, Uid, record::Spec,
        write::PlannedPut,
    },
    kinds::{self, CheckContext, Kind, SecretInput, SecretInputs},
    proto::v1::{ChangeType, ResourceDiff},
    service::content,
    view::Entry,
};

/// A put that passed every check.
pub(super) struct Finished {
    pub put: PlannedPut,
    pub spec: Spec,
    pub replaced: BTreeSet<FieldPath>,
    /// Shown to the caller, and to nobody else.
    pub one_time_secret: String,
}

/// What it changes.
pub(super) fn diff(finished: &Finished, before: Option<&Record>) -> ResourceDiff {
    let Finished { put, spec, replaced, .. } = finished;
    let old = before.map(|record| (&record.labels, &record.spec));
    let change_type = if before.is_some() { ChangeType::Updated } else { ChangeType::Created };
    let fields = kinds::diff::diff(old, Some((&put.labels, spec)), replaced);
    ResourceDiff { name: put.name.to_string(), r#type: change_type.into(), fields }
}

impl Planner<'_> {
    /// Fills defaults, takes the secrets out, checks what is left by the kind's rules, and seals the new values.
    pub(super) fn finish(
        &mut self,
        draft: Draft,
        uid: Uid,
        entry: Option<&Entry>,
    ) -> Result<Option<Finished>> {
        let Draft { path, name, kind, labels, mut spec, origin } = draft;
        let before = entry.map(|entry| &*entry.record);
        let old = before.map(|record| &record.spec);
        let imported = origin == Origin::Imported;
        let brought = imported || origin == Origin::RolledBack;
        kind.fill_defaults(&mut spec, &name);
        let level = self.parts.replicas.level();
        kind.fill_newer_defaults(&mut spec, level);
        if old.is_none() && !brought {
            kind.begin(&mut spec);
        }
        if old.is_some() || !brought {
            kind.keep_made(&mut spec, old);
        }
        let mut inputs = kinds::secrets::split(&mut spec);
        let stored = |field: &FieldPath| before.is_some_and(|record| record.secrets.contains_key(field));
        kinds::secrets::settle(&mut spec, &mut inputs, brought, stored);
        if imported {
            self.check_made(&format!("{path}resource."), kind, &inputs)?;
            self.keep_same(entry, (&labels, &spec), &mut inputs);
        }
        let mut violations = kinds::check_labels(&labels, "labels");
        let context =
            CheckContext { name: &name, spec: &spec, before: old, secrets: &inputs, imported: brought };
        violations.extend(kinds::check(kind, &context));
        violations.extend(kinds::secrets::check_kept(&inputs, stored));
        kind.conclude(&mut spec, &mut inputs, old);
        if let (Origin::Rotated(previous), Some(entry)) = (origin, entry) {
            self.turn_over(&path, entry, previous, (&mut spec, &mut inputs));
        }
        let needed = kind.feature_level(&spec);
        if needed > level {
            self.refuse(format!("{path}resource.{}", kind.name()), below(needed, level, ""));
        }
        let new = before.is_none() && !brought && violations.is_empty() && !self.dry_run;
        let one_time_secret = if new { content::make(kind, &mut spec, &mut inputs)? } else { String::new() };
        let Some(spec_json) = content::json(kind, &spec, &mut violations)? else {
            self.note(&format!("{path}resource."), violations);
            return Ok(None);
        };
        self.bytes += spec_json.len();
        let mut warnings = kind.warnings(old, &spec);
        warnings.extend(self.expired(kind, &name, &spec));
        warnings.extend(kinds::disclosed(&labels, &spec, &spec_json));
        match brought {
            true => self.warn_of_import(&name, warnings, &inputs),
            false => self.warnings.extend(warnings),
        }
        self.warn_if_overridden(kind, &name);
        let SealedSecrets { secrets, replaced } = self.seal((&name, &uid), inputs, entry);
        if let Some(field) = old.and_then(|old| kind.moves_secrets_beneath(old, &spec)) {
            self.moved.push((format!("{path}resource.{field}"), name.clone()));
        }
        let rotated = replaced.iter().any(stored);
        let action = match origin {
            Origin::Imported => kinds::IMPORTED,
            Origin::RolledBack => kinds::ROLLED_BACK,
            Origin::Rotated(Previous::Revoked) => kinds::REVOKED,
            Origin::Rotated(_) | Origin::Written => kinds::action(kind, old, Some(&spec), rotated),
        };
        let version = before.map_or(1, |record| record.version + 1);
        self.keep_written(&path, &name, kind, (old, &spec));
        let put = PlannedPut { name, kind: kind.name(), uid, labels, version, spec_json, secrets, action };
        Ok(Some(Finished { put, spec, replaced, one_time_secret }))
    }

    /// What is to be said of a resource that is not good any more when it is written.
    fn expired(&self, kind: &dyn Kind, name: &ResourceName, spec: &Spec) -> Option<String> {
        let (field, end) = kind.expiry(spec)?;
        let now = self.parts.clock.now();
        let over =
            (end.seconds, i64::from(end.nanos)) <= (now.timestamp(), i64::from(now.timestamp_subsec_nanos()));
        over.then(|| {
            format!("`{field}` of {name} is in the past, so that it is good for nothing; give a later one, or none")
        })
    }

    /// Says so where the environment of this server hides what is written.
    pub(super) fn warn_if_overridden(&mut self, kind: &dyn Kind, name: &ResourceName) {
        let Some(key) = kind.overridable(name) else { return };
        // What the environment says, it says of the global setting: who does not reach that one is not told of it.
        let global = ResourceName::parse(&format!("settings/{key}"));
        if let Some(found) = self.parts.overrides.get(key)
            && global.is_ok_and(|global| self.reached(&global))
        {
            self.warnings.push(format!(
                "{name} is hidden by {} in this server's environment, as ResolveSettings shows; a worker goes by its \
                 own environment",
                found.variable
            ));
        }
    }

    /// Seals new values and finds the ids of kept ones, and of those that come back.
    fn seal(
        &mut self,
        (name, uid): (&ResourceName, &Uid),
        inputs: SecretInputs,
        before: Option<&Entry>,
    ) -> SealedSecrets {
        let mut done = SealedSecrets::default();
        let restored = self.restored.remove(name).unwrap_or_default();
        for (field, input) in inputs {
            match input {
                SecretInput::Replace(_) if restored.contains_key(&field) => {
                    done.secrets.extend(restored.get(&field).map(|id| (field.clone(), id.clone())));
                    done.replaced.insert(field);
                }
                SecretInput::Replace(value) => {
                    let value = SecretText::new(value.as_str().to_owned());
                    let sealed = self.parts.vault.seal(uid, &field, &value);
                    done.secrets.insert(field.clone(), sealed.id.clone());
                    done.replaced.insert(field);
                    self.sealed.push(sealed);
                }
                SecretInput::Keep | SecretInput::KeepMissing => {
                    if let Some(id) = before.and_then(|entry| entry.record.secrets.get(&field)) {
                        done.secrets.insert(field, id.clone());
                    }
                }
                SecretInput::Unsaid | SecretInput::Clear | SecretInput::Unknown(_) => {}
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

/// The error for what an older replica could not hold; with what can be done otherwise, if anything.
pub(super) fn below(needed: FeatureLevel, level: FeatureLevel, otherwise: &str) -> Error {
    let description = format!(
        "needs feature level {needed}, and the store is at {level}: it is raised once every replica supports it \
         (`signalbox status` shows them), or by `signalbox raise-feature-level` where that is left to you{otherwise}"
    );
    Error::FailedPrecondition { reason: "FEATURE_LEVEL", subject: "feature_level".into(), description }
}
