//! What is different about a resource that is brought from elsewhere: secrets may lack, what only a server makes comes along,
//! and what is there already is kept, changed or replaced.

use std::collections::BTreeSet;

use super::{Draft, Operation, OperationKind, Planner, fill::supplied, rotation::Previous};
use crate::{
    choice::{DEFAULT_ROUTER, is_usable, needs_no_key},
    domain::{Error, Labels, Read, Record, ResourceName, Result, Spec},
    import::{DENIES, Decision, decide, is_same_but_secrets, laid_over, moves},
    kinds::{self, Kind, SecretInput, SecretInputs, mask::Mask},
    proto::v1::{BatchResult, ChangeType, Resource, ResourceDiff},
    view::Entry,
};

/// Bytes of differences that an import tells; what became of each resource it tells in any case.
const TOLD_BYTES: usize = 256 * 1024;
/// Warnings of an import or a rollback, for each of which somebody has to do something.
const WARNINGS: usize = 100;

/// Where a new content comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A caller wrote it for this resource.
    Written,
    /// It is brought from elsewhere.
    Imported,
    /// A caller turns a key over, and says what becomes of the value before.
    Rotated(Previous),
    /// It is brought from the past of this resource.
    RolledBack,
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
    /// It gets what a mask names and it does not have, and else stays as it is.
    Fill,
}

/// A resource that an import left alone.
pub(in crate::service) struct LeftAlone<'r> {
    /// Its name.
    pub name: &'r str,
    /// Why it was left.
    pub why: Why,
}

/// Why an import left a resource alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::service) enum Why {
    /// It exists.
    Exists,
    /// Another resource stays, and points elsewhere.
    Elsewhere,
    /// What uses it would no longer fit.
    InUse,
}

/// The resource that an import left alone, by its result.
pub(in crate::service) fn left_alone(result: &BatchResult) -> Option<LeftAlone<'_>> {
    let name = result.resource.as_ref()?.name.as_str();
    let why = match result.diffs.first() {
        None => Why::Exists,
        Some(cause) if cause.name == name => Why::InUse,
        Some(_) => Why::Elsewhere,
    };
    Some(LeftAlone { name, why })
}

/// The result of one that was left alone, which is kept for a repetition. `cause` is what points elsewhere, or the resource
/// itself where it is in use.
fn leave(name: &ResourceName, cause: Option<&ResourceName>) -> BatchResult {
    let resource = Resource { name: name.to_string(), ..Resource::default() };
    let diff = |cause: &ResourceName| ResourceDiff { name: cause.to_string(), ..ResourceDiff::default() };
    let diffs = cause.map(diff).into_iter().collect();
    BatchResult { resource: Some(resource), diffs, ..BatchResult::default() }
}

/// The result of one that is stored just as it is brought.
fn unchanged(name: &ResourceName) -> BatchResult {
    let diff = ResourceDiff { name: name.to_string(), ..ResourceDiff::default() };
    BatchResult { diffs: vec![diff], ..BatchResult::default() }
}

/// The provider that a resource makes active.
fn to_be_active<'s>(name: &ResourceName, spec: &'s Spec) -> Option<&'s str> {
    match spec {
        Spec::Router(router) if name.as_str() == DEFAULT_ROUTER => Some(&router.primary),
        _ => None,
    }
}

/// The providers that a resource makes the defaults of their types.
fn type_defaults(name: &ResourceName, imported: &Resource) -> Vec<ResourceName> {
    match &imported.spec {
        Some(Spec::Router(router)) if name.as_str() == DEFAULT_ROUTER => {
            router.type_defaults.values().filter_map(|name| ResourceName::parse(name).ok()).collect()
        }
        _ => Vec::new(),
    }
}

/// What is stored, masked, as far as importers look at it.
pub(super) fn resource_of(record: &Record) -> Resource {
    Resource {
        name: record.name.to_string(),
        labels: record.labels.clone(),
        spec: Some(record.spec.clone()),
        ..Resource::default()
    }
}

impl Planner<'_> {
    /// Whether what is stored is a person's work, as far as its labels tell, or what lies beneath it is.
    fn is_edited(&self, imported: &Resource, record: &Record) -> bool {
        let stored = resource_of(record);
        let has_secrets =
            self.state.beneath(&record.name.beneath()).any(|child| !child.record.secrets.is_empty());
        matches!(decide(imported, Some(&stored), has_secrets), Decision::Keep(_))
    }

    /// Whether an import leaves what is stored as it is.
    fn keeps_stored(&self, imported: &Resource, mode: Mode, record: &Record) -> bool {
        if self.in_use.contains_key(&record.name) {
            return true;
        }
        match mode {
            Mode::Keep | Mode::Fill => true,
            Mode::KeepEdited => self.is_edited(imported, record),
            Mode::Update | Mode::Replace => false,
        }
    }

    /// The resources that an import leaves as they are, although it would have them point elsewhere: a secret that it brings
    /// for beneath one of them was meant for another place, and who should become active was another provider.
    pub(super) fn pointing_elsewhere(&self, operations: &[Operation]) -> BTreeSet<ResourceName> {
        let imports = || {
            operations.iter().filter_map(|operation| match &operation.action {
                OperationKind::Import { resource, mode, .. } => {
                    Some((kinds::parse_name(&resource.name).ok()?.0, resource, *mode))
                }
                _ => None,
            })
        };
        let primary = |(name, imported, _): (ResourceName, &Resource, Mode)| {
            kinds::parse_name(to_be_active(&name, imported.spec.as_ref()?)?).ok().map(|(name, _)| name)
        };
        let parents = imports().filter_map(|(name, ..)| name.parent());
        let defaults = imports().flat_map(|(name, imported, _)| type_defaults(&name, imported));
        let relied_on: BTreeSet<ResourceName> =
            parents.chain(imports().filter_map(primary)).chain(defaults).collect();
        let stays = |(name, imported, mode): (ResourceName, &Resource, Mode)| {
            let record = &self.state.get(name.as_str()).filter(|_| relied_on.contains(&name))?.record;
            let spec = imported.spec.as_ref()?;
            let elsewhere = moves(imported, &record.spec, spec) && self.keeps_stored(imported, mode, record);
            elsewhere.then_some(name)
        };
        imports().filter_map(stays).collect()
    }

    /// Leaves out what brings a secret for beneath a resource that points elsewhere, and says so.
    fn leave_for_parent(&mut self, name: &ResourceName, spec: &Spec) -> Option<BatchResult> {
        let parent = name.parent().filter(|parent| self.elsewhere.contains(parent))?;
        let brings = kinds::secrets::split(&mut spec.clone()).values().any(SecretInput::replaces);
        if !brings {
            return None;
        }
        self.add_bounded_warning(format!(
            "{name} was not taken: {parent} stays as it is and points elsewhere than the import says, and its secret would \
             go there; give it by hand if that is right"
        ));
        Some(leave(name, Some(&parent)))
    }

    /// Leaves out what relies on a resource that points elsewhere.
    fn left_out(&mut self, name: &ResourceName, spec: &Spec) -> Option<BatchResult> {
        self.leave_for_parent(name, spec).or_else(|| self.leave_for_active(name, spec))
    }

    /// Leaves out what would make a provider active that stays as it is and points elsewhere, and says so.
    fn leave_for_active(&mut self, name: &ResourceName, spec: &Spec) -> Option<BatchResult> {
        let primary = to_be_active(name, spec)?;
        let before = self.state.get(name.as_str()).and_then(|entry| to_be_active(name, &entry.record.spec));
        let provider =
            self.elsewhere.iter().find(|one| one.as_str() == primary && before != Some(primary))?.clone();
        self.add_bounded_warning(format!(
            "{name} was not taken: {provider} stays as it is and points elsewhere than the import says, and would become \
             active; `signalbox switch` makes it so if that is right"
        ));
        Some(leave(name, Some(&provider)))
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
        let (path, mut labels, origin) = (path.to_owned(), resource.labels.clone(), Origin::Imported);
        labels.remove(DENIES);
        let Some(entry) = self.state.get(name.as_str()).cloned() else {
            if let Some(left) = self.left_out(&name, &spec) {
                return Ok(Some(left));
            }
            let planned = self.put_new(Draft { path, name, kind, labels, spec, origin })?;
            return Ok(planned.map(|result| self.told_of(result)));
        };
        let record = &entry.record;
        if let Some(told) = self.in_use.get(&name).cloned() {
            self.reads.push(Read::Unchanged { name: name.clone(), revision: record.update_revision });
            self.add_bounded_warning(told);
            return Ok(Some(leave(&name, Some(&name))));
        }
        if mode == Mode::Fill {
            return self.fill(Draft { path, name, kind, labels, spec, origin }, resource, mask, &entry);
        }
        if self.keeps_stored(resource, mode, record) {
            // Others of this import may refer to it: it has to be there still.
            self.reads.push(Read::Unchanged { name: name.clone(), revision: record.update_revision });
            let supplied = if mode == Mode::KeepEdited { supplied(resource, &spec, record) } else { None };
            if let Some(supplied) = supplied {
                if let Some(left) = self.left_out(&name, &spec) {
                    return Ok(Some(left));
                }
                let labels = record.labels.clone();
                let planned =
                    self.put_over(Draft { path, name, kind, labels, spec: supplied, origin }, &entry)?;
                return Ok(planned.map(|result| self.told_of(result)));
            }
            let same = mode == Mode::KeepEdited && self.has_so_already(resource, &spec, &entry);
            return Ok(Some(if same { unchanged(&name) } else { leave(&name, None) }));
        }
        if let Some(left) = self.left_out(&name, &spec) {
            return Ok(Some(left));
        }
        let merged = match mode {
            Mode::KeepEdited => laid_over(&resource_of(record), resource, self.is_callable(&name, &spec)),
            Mode::Keep | Mode::Update | Mode::Replace | Mode::Fill => None,
        };
        let (labels, spec) = match merged {
            Some(Resource { labels, spec: Some(spec), .. }) => (labels, spec),
            _ => (labels, spec),
        };
        let wanted = match mode {
            Mode::Update => self.mask(&path, kind, resource, mask),
            Mode::Keep | Mode::Replace | Mode::KeepEdited | Mode::Fill => Some(Mask::Everything),
        };
        let Some(wanted) = wanted else { return Ok(None) };
        let (labels, mut spec) = wanted.apply((&record.labels, &record.spec), (&labels, Some(&spec)));
        // Also where the mask names it: an import clears a secret only by saying so.
        kinds::secrets::keep_unsaid(&mut spec, &record.spec, |_| false);
        let planned = self.put_over(Draft { path, name, kind, labels, spec, origin }, &entry)?;
        Ok(planned.map(|result| self.told_of(result)))
    }

    /// Whether what has secrets is stored just as it is brought: what is brought without a value lacks it still. That a value is
    /// the same is only for who may have secrets read: to others it would tell whether a guess is right.
    fn has_so_already(&self, imported: &Resource, spec: &Spec, entry: &Entry) -> bool {
        let record = &entry.record;
        if !is_same_but_secrets(imported, &resource_of(record)) {
            return false;
        }
        let inputs = kinds::secrets::split(&mut spec.clone());
        let may_compare = self.caller.grants_secrets;
        record.secrets.keys().all(|field| inputs.contains_key(field))
            && inputs.iter().all(|(field, input)| match input {
                SecretInput::Replace(value) => {
                    may_compare && self.parts.revealer.holds(record, &entry.sealed, field, value)
                }
                SecretInput::KeepMissing => !record.secrets.contains_key(field),
                _ => false,
            })
    }

    /// Whether a provider has what calls of it take: a key with a value, stored or of this import, or no need of one. Who becomes
    /// active by this import counts as well: it was named.
    fn is_callable(&self, name: &ResourceName, spec: &Spec) -> bool {
        let Spec::Provider(provider) = spec else { return true };
        let beneath = format!("{name}/apiKeys/");
        let usable = |spec: &Spec| matches!(spec, Spec::ApiKey(spec) if is_usable(spec));
        needs_no_key(provider)
            || self.supplied.contains(name)
            || self.state.beneath(&beneath).any(|entry| usable(&entry.record.spec))
    }

    /// The providers that an import brings a key with a value for, and the one that it makes active.
    pub(super) fn supplied_by(operations: &[Operation]) -> BTreeSet<ResourceName> {
        let supplied = |operation: &Operation| {
            let OperationKind::Import { resource, mode, .. } = &operation.action else { return None };
            let (name, spec) = (kinds::parse_name(&resource.name).ok()?.0, resource.spec.as_ref()?);
            if let Some(primary) = to_be_active(&name, spec) {
                let turns = !matches!(mode, Mode::Keep | Mode::Fill);
                return ResourceName::parse(primary).ok().filter(|_| turns);
            }
            let brings = kinds::secrets::split(&mut spec.clone()).values().any(SecretInput::replaces);
            let is_active = matches!(spec, Spec::ApiKey(spec) if spec.active.unwrap_or(true));
            name.parent().filter(|_| brings && is_active)
        };
        operations.iter().filter_map(supplied).collect()
    }

    /// What an import answers, and keeps for a repetition: thousands of resources have to fit.
    pub(super) fn told_of(&mut self, mut result: BatchResult) -> BatchResult {
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
                SecretInput::Unsaid | SecretInput::Unknown(_) => false,
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

    /// Notes what somebody has to look at of one of many, with the name of the resource.
    pub(super) fn warn_of_import(
        &mut self,
        name: &ResourceName,
        warnings: Vec<String>,
        inputs: &SecretInputs,
    ) {
        let missing = inputs.iter().filter(|(_, input)| **input == SecretInput::KeepMissing);
        let missing = missing.map(|(field, _)| format!("{field} has no value yet; set it"));
        for warning in warnings.into_iter().chain(missing) {
            self.add_bounded_warning(format!("{name}: {warning}"));
        }
    }

    /// Adds a warning of one of many resources, of which the first ones are told.
    pub(super) fn add_bounded_warning(&mut self, warning: String) {
        match self.warnings.len() {
            count if count < WARNINGS => self.warnings.push(warning),
            WARNINGS => self.warnings.push("there are more warnings than are listed".into()),
            _ => {}
        }
    }
}
