//! What is different about a resource that is brought from elsewhere: secrets may lack, what only a server makes comes along,
//! and what is there already is kept, changed or replaced.

use super::{Draft, Planner};
use crate::{
    domain::{Error, Labels, Read, Record, Result, Spec},
    import::{Decision, decide},
    kinds::{Kind, SecretInput, SecretInputs, mask::Mask},
    proto::v1::{BatchResult, ChangeType, Resource},
    view::Entry,
};

/// Bytes of differences that an import tells; what became of each resource it tells in any case.
const TOLD_BYTES: usize = 256 * 1024;
/// Warnings of an import, for each of which somebody has to do something.
const WARNINGS: usize = 100;

/// Where a new content comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A caller wrote it for this resource.
    Written,
    /// It is brought from elsewhere.
    Imported,
}

/// What an import does with a resource that is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// It stays as it is.
    Keep,
    /// The fields that a mask names are changed.
    Update,
    /// It is replaced whole.
    Replace,
    /// It is replaced whole if an importer made it and nobody has edited it since, and else stays as it is.
    KeepEdited,
}

/// The name of a resource that an import left alone, by its result.
pub(in crate::service) fn kept_existing(result: &BatchResult) -> Option<&str> {
    result.resource.as_ref().map(|resource| resource.name.as_str())
}

impl Planner<'_> {
    /// Whether what is stored is a person's work, as far as its labels tell, or what lies beneath it is.
    fn is_edited(&self, imported: &Resource, record: &Record) -> bool {
        let stored = Resource {
            name: record.name.to_string(),
            labels: record.labels.clone(),
            spec: Some(record.spec.clone()),
            ..Resource::default()
        };
        let has_secrets =
            self.state.beneath(&record.name.beneath()).any(|child| !child.record.secrets.is_empty());
        matches!(decide(imported, Some(&stored), has_secrets), Decision::Keep(_))
    }

    /// Plans one resource of an import. The result holds no resource, unless it was left alone: then its name.
    pub(super) fn import(
        &mut self,
        path: &str,
        resource: &Resource,
        mask: &[String],
        mode: Mode,
    ) -> Result<Option<BatchResult>> {
        let Some((name, kind)) = self.name(&format!("{path}resource.name"), &resource.name)? else {
            return Ok(None);
        };
        let Some(spec) = self.arm(path, kind, resource) else { return Ok(None) };
        let (path, labels, origin) = (path.to_owned(), resource.labels.clone(), Origin::Imported);
        let Some(entry) = self.state.get(name.as_str()).cloned() else {
            let planned = self.put_new(Draft { path, name, kind, labels, spec, origin })?;
            return Ok(planned.map(|result| self.told_of(result)));
        };
        let record = &entry.record;
        let keeps = match mode {
            Mode::Keep => true,
            Mode::KeepEdited => self.is_edited(resource, record),
            Mode::Update | Mode::Replace => false,
        };
        let wanted = match mode {
            _ if keeps => {
                // Others of this import may refer to it: it has to be there still.
                self.reads.push(Read::Unchanged { name: name.clone(), revision: record.update_revision });
                let resource = Resource { name: name.to_string(), ..Resource::default() };
                return Ok(Some(BatchResult { resource: Some(resource), ..BatchResult::default() }));
            }
            Mode::Update => self.mask(&path, kind, resource, mask),
            Mode::Keep | Mode::Replace | Mode::KeepEdited => Some(Mask::Everything),
        };
        let Some(wanted) = wanted else { return Ok(None) };
        let (labels, spec) = wanted.apply((&record.labels, &record.spec), (&labels, Some(&spec)));
        let planned = self.put_over(Draft { path, name, kind, labels, spec, origin }, &entry)?;
        Ok(planned.map(|result| self.told_of(result)))
    }

    /// What an import answers, and keeps for a repetition: thousands of resources have to fit.
    fn told_of(&mut self, mut result: BatchResult) -> BatchResult {
        result.resource = None;
        for diff in &mut result.diffs {
            if diff.r#type() == ChangeType::Updated && diff.fields.is_empty() {
                diff.r#type = ChangeType::Unspecified.into();
            }
            let bytes = |field: &crate::proto::v1::FieldDiff| {
                field.path.len() + field.before.len() + field.after.len() + 16
            };
            self.told += diff.name.len() + diff.fields.iter().map(bytes).sum::<usize>();
            if self.told > TOLD_BYTES {
                diff.fields = Vec::new();
            }
        }
        result
    }

    /// Whoever brings what only a server makes could give out keys that nobody made: he has to be one who could read them.
    pub(super) fn check_made(&self, path: &str, kind: &dyn Kind, inputs: &SecretInputs) -> Result<()> {
        let brought = inputs.iter().find(|(_, input)| kind.maker().is_some() && input.replaces());
        let Some((field, _)) = brought.filter(|_| !self.caller.grants_secrets) else { return Ok(()) };
        let description = "bringing a key that another server has made needs the scope secrets:grant".into();
        Err(Error::PermissionDenied { reason: "SECRETS_GRANT_DENIED", description }
            .at(format!("{path}{field}")))
    }

    /// Keeps the stored secrets where the whole resource is already as it is brought, so that an import can be repeated
    /// without a change. Only for who may have secrets read: to others it would tell whether a guess is right.
    pub(super) fn keep_same(
        &mut self,
        entry: Option<&Entry>,
        (labels, spec): (&Labels, &Spec),
        inputs: &mut SecretInputs,
    ) {
        let Some(entry) = entry.filter(|_| self.caller.grants_secrets) else { return };
        let record = &entry.record;
        let same = record.labels == *labels
            && record.spec == *spec
            && inputs.iter().all(|(field, input)| match input {
                SecretInput::Replace(value) => self.parts.revealer.holds(record, &entry.sealed, field, value),
                SecretInput::Keep | SecretInput::KeepMissing | SecretInput::Clear => true,
                SecretInput::Unknown(_) => false,
            });
        if !same {
            return;
        }
        if !record.secrets.is_empty()
            && record.secrets.keys().all(|field| inputs.get(field).is_some_and(SecretInput::replaces))
        {
            self.given_again.insert(record.name.clone());
        }
        inputs.values_mut().filter(|input| input.replaces()).for_each(|input| *input = SecretInput::Keep);
    }

    /// Notes what somebody has to look at, with the name of the resource.
    pub(super) fn warn_of_import(
        &mut self,
        name: &crate::domain::ResourceName,
        warnings: Vec<String>,
        inputs: &SecretInputs,
    ) {
        let missing = inputs.iter().filter(|(_, input)| **input == SecretInput::KeepMissing);
        let missing = missing.map(|(field, _)| format!("{field} has no value yet; set it"));
        for warning in warnings.into_iter().chain(missing) {
            match self.warnings.len() {
                count if count < WARNINGS => self.warnings.push(format!("{name}: {warning}")),
                WARNINGS => self.warnings.push("there are more warnings than are listed".into()),
                _ => {}
            }
        }
    }
}
