//! Rollbacks: what was, read from the log and written once more as a new revision.
//!
//! Here is found what there was and what has changed since; how it is written, and what stands against it, is the planner's.

use std::collections::BTreeSet;

use super::{
    Service,
    active::body,
    difference::Pairs,
    fields::renamed_by,
    plan::{Past, Rollback, Step},
    store_error,
    write::{Operation, OperationKind, Replay, WriteRequest},
};
use crate::{
    domain::{Error, Principal, Record, ResourceName, Result, Revision, Spec, Violations, limits},
    kinds,
    proto::v1::{
        BatchResult, BatchWriteResponse, RollbackAllRequest, RollbackAllResponse, RollbackResourceRequest,
        RollbackResourceResponse,
    },
    store::{HistoryCursor, HistoryQuery, Names},
    watch::{Filter, not_granted},
};

/// Rows of the history that are looked at together.
const ROWS: usize = 100;

impl Service {
    /// Brings one resource back to what it was.
    ///
    /// # Errors
    /// As [`Service::write`], with the fields of this request; `NotFound` if it was not there, `OutOfRange`.
    pub async fn rollback_resource(
        &self,
        caller: &Principal,
        request: &RollbackResourceRequest,
    ) -> Result<RollbackResourceResponse> {
        let mut violations = Violations::default();
        let named = kinds::parse_name(&request.name);
        let named = violations.take(named.map_err(|why| Error::invalid("name", "INVALID_NAME", why)))?;
        check_revision(request.revision, &mut violations);
        let (name, kind) = violations.allow(named)?;
        if !caller.reaches(&name, kind.name()) {
            return Err(not_granted(caller, name.as_str()).at("name"));
        }
        let write = WriteRequest {
            operations: Vec::new(),
            validate_only: request.validate_only,
            request_id: request.request_id.clone(),
            reason: request.reason.clone(),
            body: body("RollbackResource", request),
        };
        let revision = Revision(request.revision);
        let find = async || {
            let past = self.past(&name, revision).await?;
            let past = past.ok_or_else(|| {
                Error::NotFound { name: format!("{name} at revision {revision}") }.at("name")
            })?;
            Ok(vec![Step::Restore(Box::new(past))])
        };
        let rollback = (revision, request.etag.as_str(), false);
        let answer = self.roll_back(caller, write, rollback, find).await?;
        let BatchWriteResponse { results, revision, revision_token, warnings } = answer;
        let BatchResult { resource, diffs, .. } = results.into_iter().next().unwrap_or_default();
        let diff = diffs.into_iter().next();
        Ok(RollbackResourceResponse { resource, revision, revision_token, diff, warnings })
    }

    /// Brings all that selectors pick back to what it was.
    ///
    /// # Errors
    /// As [`Service::rollback_resource`].
    pub async fn rollback_all(
        &self,
        caller: &Principal,
        request: &RollbackAllRequest,
    ) -> Result<RollbackAllResponse> {
        let mut violations = Violations::default();
        let selectors = violations.take(kinds::parse_selectors(&request.selectors, "selectors"))?;
        check_revision(request.revision, &mut violations);
        let selectors = violations.allow(selectors)?;
        let scope = Filter::authorise(caller, selectors, false)?;
        let write = WriteRequest {
            operations: Vec::new(),
            validate_only: request.validate_only,
            request_id: request.request_id.clone(),
            reason: request.reason.clone(),
            body: body("RollbackAll", request),
        };
        let revision = Revision(request.revision);
        let find = async || self.steps_back(&scope, revision).await;
        let answer = self.roll_back(caller, write, (revision, "", true), find).await?;
        let BatchWriteResponse { results, revision, revision_token, warnings } = answer;
        let BatchResult { mut diffs, .. } = results.into_iter().next().unwrap_or_default();
        diffs.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(RollbackAllResponse { revision, revision_token, diffs, warnings })
    }

    /// Carries out a rollback whose steps are found now. What was done under the same request is answered as it was, whatever
    /// the log has forgotten since.
    async fn roll_back(
        &self,
        caller: &Principal,
        mut write: WriteRequest,
        (revision, etag, many): (Revision, &str, bool),
        find: impl AsyncFnOnce() -> Result<Vec<Step>>,
    ) -> Result<BatchWriteResponse> {
        let replay = Replay::of(caller, &write, &self.parts.vault);
        if let Some(answer) = self.replayed(caller, &replay, write.validate_only).await? {
            return Ok(answer);
        }
        let rollback = Rollback { revision, steps: find().await?, etag: etag.to_owned(), many };
        let action = OperationKind::Rollback(rollback);
        write.operations = vec![Operation { path: String::new(), action }];
        self.write(caller, write).await.map_err(|error| renamed_by(error, sent))
    }

    /// A resource as it was at a revision that the log still holds; `None` if it was not there.
    async fn past(&self, name: &ResourceName, revision: Revision) -> Result<Option<Past>> {
        self.past_hash(&self.parts.view.state(), revision).await?;
        let found = self.parts.store.record_at(name, revision).await;
        self.still_held(revision).await?;
        let Some(change) = found.map_err(store_error)? else { return Ok(None) };
        let Some(record) = change.record else { return Ok(None) };
        let version = self.newest_version(&record).await?;
        let parent = self.parent_then(&record, revision).await?;
        let record = std::sync::Arc::unwrap_or_clone(record);
        Ok(Some(Past { record, sealed: change.sealed, parent, version }))
    }

    /// What the parent of a resource that held secrets was at a revision: it says where they were to go.
    async fn parent_then(&self, record: &Record, revision: Revision) -> Result<Option<Spec>> {
        let Some(parent) = record.name.parent().filter(|_| !record.secrets.is_empty()) else {
            return Ok(None);
        };
        let found = self.parts.store.record_at(&parent, revision).await;
        self.still_held(revision).await?;
        let record = found.map_err(store_error)?.and_then(|change| change.record);
        Ok(record.map(|record| record.spec.clone()))
    }

    /// The newest version of a resource's identity: where it is gone, that of its deletion, which came after `record`.
    async fn newest_version(&self, record: &Record) -> Result<u64> {
        if let Some(entry) = self.parts.view.state().get(record.name.as_str()) {
            let known = (entry.record.uid == record.uid).then_some(entry.record.version);
            return Ok(known.unwrap_or_default().max(record.version));
        }
        let mut query = HistoryQuery {
            names: vec![Names::One(record.name.to_string())],
            after: HistoryCursor::newest(),
            actor: String::new(),
            action: String::new(),
            since: None,
            until: None,
            limit: ROWS,
        };
        loop {
            let page = self.parts.store.history(query.clone()).await.map_err(store_error)?;
            if let Some(row) = page.rows.iter().find(|row| row.uid == record.uid) {
                return Ok(row.version.max(record.version));
            }
            // Others had the name since.
            let Some(last) = page.rows.last().filter(|_| page.more) else { return Ok(record.version) };
            query.after = HistoryCursor { revision: last.revision, name: record.name.to_string() };
        }
    }

    /// What has to be done so that everything in scope is what it was.
    async fn steps_back(&self, scope: &Filter, revision: Revision) -> Result<Vec<Step>> {
        let then = self.state_at(revision.0).await?;
        let now = self.parts.view.state();
        let (mut back, mut gone) = (Vec::new(), BTreeSet::new());
        for (before, current) in Pairs::new(&then, &now, None) {
            let in_scope = before.into_iter().chain(current).any(|record| scope.matches(record));
            match (before, current) {
                _ if !in_scope => {}
                (Some(before), Some(current)) if same(before, current) => {}
                (Some(before), _) => back.push(before),
                (None, Some(current)) => drop(gone.insert(current.name.clone())),
                (None, None) => {}
            }
        }
        if back.len() + gone.len() > limits::BATCH_CHANGES {
            let description = format!(
                "pick {} resources that have changed since; at most {} are brought back in one revision: name fewer",
                back.len() + gone.len(),
                limits::BATCH_CHANGES
            );
            return Err(Error::invalid("selectors", "TOO_LARGE", description));
        }
        let mut steps = Vec::with_capacity(back.len() + gone.len());
        for record in back {
            // With its sealed values, which a state of the past is read without.
            let past = self.past(&record.name, revision).await?;
            steps.extend(past.map(|past| Step::Restore(Box::new(past))));
        }
        // Children go with their parent.
        let with_parent = |name: &ResourceName| name.parent().is_some_and(|parent| gone.contains(&parent));
        steps.extend(gone.iter().filter(|name| !with_parent(name)).cloned().map(Step::Remove));
        Ok(steps)
    }
}

fn same(one: &Record, other: &Record) -> bool {
    (&one.uid, one.version) == (&other.uid, other.version)
}

fn check_revision(revision: u64, violations: &mut Violations) {
    if revision == 0 {
        let problem = "is required: the past revision to go back to; the history tells which there are";
        violations.add("revision", "REQUIRED", problem);
    }
}

/// A field of the write as the caller knows it.
fn sent(field: &str) -> Option<String> {
    match field {
        "resource.name" => Some("name".to_owned()),
        "resource.etag" => Some("etag".to_owned()),
        _ => field.starts_with("resources[").then(|| field.replacen("].resource.", "].", 1)),
    }
}
