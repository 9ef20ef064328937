//! Plans a write on one state: checks every operation by its kind's rules, seals what is secret, and declares what it
//! relied on. Pure but for sealing: nothing is written here, and the same plan is what a dry run shows.

mod fill;
mod finish;
mod import;
mod narrowed;
mod references;
mod refusal;
mod restore;
mod rotation;
mod rules;
mod warned;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::DateTime;

pub(super) use import::{LeftAlone, Mode, Why, left_alone};
pub(super) use refusal::Refusal;
pub(super) use restore::{Past, Rollback, Step};
pub(super) use rotation::{Previous, RotateKey};

use finish::{Finished, diff};
use import::Origin;
use restore::Reopened;

use super::{
    Parts,
    write::{Operation, OperationKind, parts_of},
};
use crate::{
    domain::{
        Error, FieldPath, FieldViolation, KindName, Labels, PlannedChange, Principal, Read, Record,
        ResourceName, Result, Revision, SealedSecret, SecretId, Spec, Uid, Unmet, Violations, limits, spec,
    },
    kinds::{self, Kind, mask::Mask},
    proto::v1::{BatchResult, BatchWriteResponse, ChangeType, Resource, ResourceDiff},
    view::{Entry, Reveal, State},
    watch::not_granted,
};

/// What the store is to be given, and what the caller is told once it is done.
pub(super) struct Plan {
    pub reads: Vec<Read>,
    pub changes: Vec<PlannedChange>,
    pub sealed: Vec<SealedSecret>,
    pub response: BatchWriteResponse,
}

impl Plan {
    /// Whether the state is already what was asked for.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Plans one write.
pub(super) struct Planner<'a> {
    parts: &'a Parts,
    state: &'a State,
    caller: &'a Principal,
    /// Whether this only shows what would be: then no key is made, which nobody could use.
    dry_run: bool,
    staged: BTreeMap<ResourceName, Staged>,
    /// Children that are created, with the fields that name them.
    children: Vec<(String, ResourceName)>,
    /// What points elsewhere from now on, with the fields that say so.
    moved: Vec<(String, ResourceName)>,
    /// What the write needs and is not there, and a sentence for each.
    unmet: Vec<(String, Unmet)>,
    /// New contents.
    written: BTreeMap<ResourceName, Written>,
    /// What is deleted, with the fields that say so.
    deleted: BTreeMap<ResourceName, (String, KindName)>,
    /// What stays as it is, although its secrets were given once more.
    given_again: BTreeSet<ResourceName>,
    /// What an import leaves as it is, although it would have it point elsewhere.
    elsewhere: BTreeSet<ResourceName>,
    /// What an import leaves as it is, because what uses it would no longer fit, and what is told of each.
    in_use: BTreeMap<ResourceName, String>,
    /// The providers that an import brings a key with a value for, or makes active.
    supplied: BTreeSet<ResourceName>,
    /// The sealed values that come back with what is rolled back.
    restored: BTreeMap<ResourceName, BTreeMap<FieldPath, SecretId>>,
    /// What was opened for that, to be held against where its parent points.
    reopened: Vec<Reopened>,
    reads: Vec<Read>,
    changes: Vec<PlannedChange>,
    sealed: Vec<SealedSecret>,
    violations: Violations,
    /// The first thing that the state does not allow: told only if nothing is wrong with the request itself.
    refused: Option<Error>,
    warnings: Vec<String>,
    results: Vec<BatchResult>,
    bytes: usize,
    /// Bytes of differences that an import has told so far.
    told: usize,
}

/// What the plan leaves of a resource.
enum Staged {
    Kept,
    Deleted,
}

/// The new content of a resource, as far as others look at it.
struct Written {
    path: String,
    kind: &'static dyn Kind,
    spec: Spec,
    /// Whether it is another content than before.
    changed: bool,
}

/// The new content of a resource, before its secrets are sealed.
struct Draft {
    path: String,
    name: ResourceName,
    kind: &'static dyn Kind,
    labels: Labels,
    spec: Spec,
    origin: Origin,
}

impl<'a> Planner<'a> {
    /// A planner that begins with what is already known to be wrong with the request.
    pub fn new(
        parts: &'a Parts,
        state: &'a State,
        caller: &'a Principal,
        found: Vec<FieldViolation>,
    ) -> Self {
        let mut violations = Violations::default();
        violations.extend(found);
        Self {
            parts,
            state,
            caller,
            dry_run: false,
            staged: BTreeMap::new(),
            children: Vec::new(),
            unmet: Vec::new(),
            moved: Vec::new(),
            written: BTreeMap::new(),
            deleted: BTreeMap::new(),
            given_again: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            in_use: BTreeMap::new(),
            supplied: BTreeSet::new(),
            restored: BTreeMap::new(),
            reopened: Vec::new(),
            reads: Vec::new(),
            changes: Vec::new(),
            sealed: Vec::new(),
            violations,
            refused: None,
            warnings: Vec::new(),
            results: Vec::new(),
            bytes: 0,
            told: 0,
        }
    }

    /// Plans all operations. Every violation of every operation is found before any is reported; what the state does not
    /// allow comes after them, because it may be another when the request is right. What is not granted ends it at once.
    pub fn plan(mut self, operations: &[Operation], dry_run: bool) -> Result<Plan, Refusal> {
        self.dry_run = dry_run;
        self.elsewhere = self.pointing_elsewhere(operations);
        self.supplied = Self::supplied_by(operations);
        for operation in operations {
            let result = match &operation.action {
                OperationKind::Create(resource) => self.create(&operation.path, resource),
                OperationKind::Update { resource, mask, allow_missing } => {
                    self.update(&operation.path, resource, mask, *allow_missing)
                }
                OperationKind::Delete { name, etag, allow_missing } => {
                    self.delete(&operation.path, name, etag, *allow_missing)
                }
                OperationKind::Import { resource, mask, mode, .. } => {
                    self.import(&operation.path, resource, mask, *mode)
                }
                OperationKind::Rotate(rotate) => self.rotate(&operation.path, rotate),
                OperationKind::Rollback(rollback) => self.roll_back(&operation.path, rollback),
                OperationKind::Missing => {
                    self.violations.add(
                        &operation.path,
                        "REQUIRED",
                        "must be one of create, update and delete",
                    );
                    Ok(None)
                }
            }?;
            self.results.push(result.unwrap_or_default());
        }
        self.check_parents();
        let misfits = self.check_references();
        self.check_rules();
        self.check_uses();
        let in_use = self.check_narrowed(operations);
        if !in_use.is_empty() && self.violations.is_empty() {
            return self.without(in_use).plan(operations, dry_run);
        }
        self.warn_of_staying();
        self.check_moves();
        self.check_reopened();
        self.check_size(parts_of(operations).list);
        let Self { reads, changes, sealed, warnings, results, violations, refused, .. } = self;
        violations.into_result()?;
        refused.map_or(Ok(()), Err)?;
        misfits.into_result().map_err(|error| Refusal { error, depends_on_state: true })?;
        let response = BatchWriteResponse { results, warnings, ..BatchWriteResponse::default() };
        Ok(Plan { reads, changes, sealed, response })
    }

    // -- the three operations; `None` when something was noted that stands against it

    fn create(&mut self, path: &str, resource: &Resource) -> Result<Option<BatchResult>> {
        let Some((name, kind)) = self.name(&format!("{path}resource.name"), &resource.name)? else {
            return Ok(None);
        };
        if self.state.get(name.as_str()).is_some() {
            self.refuse(format!("{path}resource.name"), Error::AlreadyExists { name: name.to_string() });
        }
        if !resource.etag.is_empty() {
            let description = "must be empty for a resource that does not exist yet";
            self.violations.add(format!("{path}resource.etag"), "NOT_ALLOWED", description);
        }
        let Some(spec) = self.arm(path, kind, resource) else { return Ok(None) };
        let (path, labels) = (path.to_owned(), resource.labels.clone());
        self.put_new(Draft { path, name, kind, labels, spec, origin: Origin::Written })
    }

    fn update(
        &mut self,
        path: &str,
        resource: &Resource,
        mask: &[String],
        allow_missing: bool,
    ) -> Result<Option<BatchResult>> {
        let Some((name, kind)) = self.name(&format!("{path}resource.name"), &resource.name)? else {
            return Ok(None);
        };
        let wanted = self.mask(path, kind, resource, mask);
        let Some(entry) = self.state.get(name.as_str()).cloned() else {
            if !allow_missing || !resource.etag.is_empty() {
                self.refuse(format!("{path}resource.name"), Error::NotFound { name: name.to_string() });
                return Ok(None);
            }
            let Some(spec) = self.arm(path, kind, resource) else { return Ok(None) };
            let (path, labels) = (path.to_owned(), resource.labels.clone());
            return self.put_new(Draft { path, name, kind, labels, spec, origin: Origin::Written });
        };
        // Merged with a newer content than the caller knows, violations would be none of the caller's.
        let current = self.check_etag(&entry.record, &resource.etag, &format!("{path}resource.etag"));
        let (Some(wanted), true) = (wanted, current) else { return Ok(None) };
        let record = &entry.record;
        let patch = (&resource.labels, resource.spec.as_ref());
        let (labels, mut spec) = wanted.apply((&record.labels, &record.spec), patch);
        kinds::secrets::keep_unsaid(&mut spec, &record.spec, |field| wanted.names(field));
        let path = path.to_owned();
        self.put_over(Draft { path, name, kind, labels, spec, origin: Origin::Written }, &entry)
    }

    fn delete(
        &mut self,
        path: &str,
        name: &str,
        etag: &str,
        allow_missing: bool,
    ) -> Result<Option<BatchResult>> {
        let Some((name, kind)) = self.name(&format!("{path}name"), name)? else { return Ok(None) };
        let Some(entry) = self.state.get(name.as_str()).cloned() else {
            if allow_missing {
                self.reads.push(Read::Absent { name: name.clone() });
                self.staged.insert(name, Staged::Deleted);
                return Ok(Some(BatchResult::default()));
            }
            self.refuse(format!("{path}name"), Error::NotFound { name: name.to_string() });
            return Ok(None);
        };
        self.check_etag(&entry.record, etag, &format!("{path}etag"));
        self.warn_if_overridden(kind, &name);
        let prefix = name.beneath();
        let state = self.state;
        let field = format!("{path}name");
        let mut diffs = vec![self.remove(&field, &entry)];
        for child in state.beneath(&prefix) {
            if !self.caller.reaches(&child.record.name, child.record.kind) {
                // Which names there are is not given away either.
                return Err(not_granted(self.caller, &format!("all that lives in {prefix}")).at(field));
            }
            match self.staged.get(&child.record.name) {
                None => {
                    self.staged.insert(child.record.name.clone(), Staged::Deleted);
                    diffs.push(self.remove(&field, child));
                }
                Some(Staged::Deleted) => {}
                // Left alone it would outlive what it belongs to.
                Some(Staged::Kept) => {
                    let child = &child.record.name;
                    let description = format!("takes {child} along, which this request writes as well");
                    self.violations.add(&field, "DUPLICATE", description);
                }
            }
        }
        self.staged.insert(name, Staged::Deleted);
        self.reads.push(Read::NoneCreatedAfter { prefix, revision: self.state.revision });
        Ok(Some(BatchResult { diffs, ..BatchResult::default() }))
    }

    // -- their parts

    /// Parses the name and takes it for this plan: no resource is written twice, and none beyond the grants.
    fn name(&mut self, field: &str, text: &str) -> Result<Option<(ResourceName, &'static dyn Kind)>> {
        let (name, kind) = match kinds::parse_name(text) {
            Ok(found) => found,
            Err(description) => {
                self.violations.add(field, "INVALID_NAME", description);
                return Ok(None);
            }
        };
        if !self.caller.reaches(&name, kind.name()) {
            return Err(not_granted(self.caller, name.as_str()).at(field));
        }
        if self.staged.contains_key(&name) {
            let description = format!("{name} is written twice in this request; once is allowed");
            self.violations.add(field, "DUPLICATE", description);
            return Ok(None);
        }
        self.staged.insert(name.clone(), Staged::Kept);
        Ok(Some((name, kind)))
    }

    /// The spec, if it is of the kind that the name says.
    fn arm(&mut self, path: &str, kind: &'static dyn Kind, resource: &Resource) -> Option<Spec> {
        let wanted = kind.name();
        match &resource.spec {
            Some(spec) if spec::kind_of(spec) == wanted => Some(spec.clone()),
            Some(spec) => {
                let given = spec::kind_of(spec);
                let description =
                    format!("does not belong to this name; a resource of this collection holds `{wanted}`");
                self.violations.add(format!("{path}resource.{given}"), "WRONG_KIND", description);
                None
            }
            None => {
                self.violations.add(format!("{path}resource.{wanted}"), "REQUIRED", "is required");
                None
            }
        }
    }

    /// The mask of an update, if it and the arm that it is for are right.
    fn mask(
        &mut self,
        path: &str,
        kind: &'static dyn Kind,
        resource: &Resource,
        mask: &[String],
    ) -> Option<Mask> {
        let wanted = Mask::parse(mask, kind.name(), &format!("{path}update_mask"));
        let wanted = wanted.map_err(|violations| self.violations.extend(violations)).ok();
        let names_spec = mask.is_empty() || mask.iter().any(|field| !field.starts_with("labels"));
        let other = resource.spec.as_ref().is_some_and(|spec| spec::kind_of(spec) != kind.name());
        if names_spec && other {
            self.arm(path, kind, resource);
            return None;
        }
        wanted
    }

    /// Whether the resource is still the one that the caller means.
    fn check_etag(&mut self, record: &Record, etag: &str, field: &str) -> bool {
        let current = record.etag(self.state.epoch);
        let holds = etag.is_empty() || etag == current.as_str();
        if !holds {
            let current = current.as_str().to_owned();
            self.refuse(field, Error::EtagMismatch { name: record.name.to_string(), current });
        }
        holds
    }

    fn put_new(&mut self, draft: Draft) -> Result<Option<BatchResult>> {
        self.put_first(draft, Uid(uuid::Uuid::now_v7().to_string()), 1)
    }

    /// Puts what is not there, under an identity and with the version that it then has.
    fn put_first(&mut self, draft: Draft, uid: Uid, version: u64) -> Result<Option<BatchResult>> {
        self.reads.push(Read::Absent { name: draft.name.clone() });
        if draft.kind.parent_required() {
            self.children.push((format!("{}resource.name", draft.path), draft.name.clone()));
        }
        let Some(mut finished) = self.finish(draft, uid, None)? else { return Ok(None) };
        finished.put.version = version;
        let diff = diff(&finished, None);
        Ok(Some(self.stage(finished, None, diff)))
    }

    fn put_over(&mut self, draft: Draft, entry: &Entry) -> Result<Option<BatchResult>> {
        let record = &entry.record;
        self.reads.push(Read::Unchanged { name: draft.name.clone(), revision: record.update_revision });
        let Some(put) = self.finish(draft, record.uid.clone(), Some(entry))? else { return Ok(None) };
        let unchanged = put.put.labels == record.labels
            && *put.put.spec_json == *record.spec_json
            && put.put.secrets == record.secrets;
        if unchanged {
            let resource =
                self.parts.revealer.resource(record, &entry.sealed, self.state.epoch, Reveal::Masked);
            let diff = ResourceDiff {
                name: record.name.to_string(),
                r#type: ChangeType::Updated.into(),
                fields: vec![],
            };
            let resource = Some(resource);
            return Ok(Some(BatchResult { resource, diffs: vec![diff], ..BatchResult::default() }));
        }
        let diff = diff(&put, Some(record));
        Ok(Some(self.stage(put, Some(record), diff)))
    }

    fn stage(&mut self, finished: Finished, before: Option<&Record>, diff: ResourceDiff) -> BatchResult {
        let Finished { put, spec, one_time_secret, .. } = finished;
        // Revision and time are filled in when the store has given them.
        let record = Record {
            name: put.name.clone(),
            kind: put.kind,
            uid: put.uid.clone(),
            labels: put.labels.clone(),
            version: put.version,
            create_revision: before.map_or(Revision::ZERO, |record| record.create_revision),
            create_time: before.map_or(DateTime::UNIX_EPOCH, |record| record.create_time),
            update_revision: Revision::ZERO,
            update_time: DateTime::UNIX_EPOCH,
            updated_by: self.caller.subject.clone(),
            spec,
            spec_json: Arc::clone(&put.spec_json),
            secrets: put.secrets.clone(),
        };
        let resource = self.parts.revealer.resource(&record, &[], self.state.epoch, Reveal::Masked);
        self.changes.push(PlannedChange::Put(Box::new(put)));
        BatchResult { resource: Some(resource), diffs: vec![diff], one_time_secret }
    }

    fn remove(&mut self, field: &str, entry: &Entry) -> ResourceDiff {
        let record = &entry.record;
        self.deleted.insert(record.name.clone(), (field.to_owned(), record.kind));
        self.reads.push(Read::Unchanged { name: record.name.clone(), revision: record.update_revision });
        self.changes.push(PlannedChange::Delete {
            name: record.name.clone(),
            kind: record.kind,
            action: kinds::DELETED,
        });
        let fields = kinds::diff::diff(Some((&record.labels, &record.spec)), None, &BTreeSet::new());
        ResourceDiff { name: record.name.to_string(), r#type: ChangeType::Deleted.into(), fields }
    }

    fn check_size(&mut self, list: &str) {
        let (changes, bytes) = (self.changes.len(), self.bytes);
        if changes > limits::BATCH_CHANGES || bytes > limits::BATCH_BYTES {
            let description = format!(
                "make {changes} changes of {bytes} bytes in one revision; at most {} changes and {} bytes are allowed",
                limits::BATCH_CHANGES,
                limits::BATCH_BYTES
            );
            self.violations.add(list, "TOO_LARGE", description);
        }
    }

    /// Notes what the state does not allow; the first is the one that is told.
    fn refuse(&mut self, field: impl Into<String>, error: Error) {
        self.refused.get_or_insert_with(|| error.at(field));
    }

    /// Notes what a kind found, under the path of the request.
    fn note(&mut self, path: &str, violations: Vec<FieldViolation>) {
        let placed = |violation: FieldViolation| FieldViolation {
            field: format!("{path}{}", violation.field),
            ..violation
        };
        self.violations.extend(violations.into_iter().map(placed));
    }
}
