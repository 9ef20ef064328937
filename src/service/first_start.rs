//! What a new store begins with: one revision, the first, or none.
//!
//! That it is written once, whoever starts when and how often, needs no marker beside the log: the plan relies on nothing
//! having been written ever, the head row's lock decides between replicas that start together, and revisions never begin
//! anew, also not when everything is deleted, compacted, restored or moved. It must not know what is written.

use super::{
    PATIENCE, Service,
    plan::Planner,
    write::{Operation, OperationKind, Replay, WriteRequest},
};
use crate::{
    domain::{Applied, ApplyError, Principal, Read, Result, Revision},
    proto::v1::Resource,
};

/// The id of the request, and its body: replicas that differ in what they would write are at the same request.
const REQUEST: &str = "first-start";

/// What became of a first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstStart {
    /// The resources were written, at this revision.
    Written(Revision),
    /// Something had been written before: nothing was done.
    NotTheFirst,
}

impl Service {
    /// Whether nothing was ever written to the store, as far as this replica has seen.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.parts.view.state().revision == Revision::ZERO
    }

    /// Creates the resources as the store's first revision, as the service itself.
    ///
    /// # Errors
    /// As [`Service::write`]; nothing is changed then. The field of a violation begins with `operations[i].create.`.
    pub async fn begin(&self, resources: Vec<Resource>, reason: String) -> Result<FirstStart> {
        let state = self.parts.view.state();
        if state.revision != Revision::ZERO {
            return Ok(FirstStart::NotTheFirst);
        }
        let caller = Principal::service();
        let request = request(resources, reason);
        let planner = Planner::new(&self.parts, &state, &caller, Vec::new());
        let mut plan = planner.plan(&request.operations, false).map_err(|refusal| refusal.error)?;
        plan.reads.push(Read::NothingAfter { revision: Revision::ZERO });
        let replay = Replay::of(&caller, &request, &self.parts.vault);
        match self.parts.store.apply(self.write_set(&caller, &request, plan, &replay)).await {
            Ok(Applied::Committed { token, .. }) => {
                self.parts.view.reached(token.revision, PATIENCE).await;
                Ok(FirstStart::Written(token.revision))
            }
            Ok(Applied::Replayed { token, .. }) => {
                self.parts.view.reached(token.revision, PATIENCE).await;
                Ok(FirstStart::NotTheFirst)
            }
            Err(ApplyError::Stale { at }) => {
                self.parts.view.reached(at, PATIENCE).await;
                Ok(FirstStart::NotTheFirst)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn request(resources: Vec<Resource>, reason: String) -> WriteRequest {
    let operation = |(index, resource)| Operation {
        path: format!("operations[{index}].create."),
        action: OperationKind::Create(resource),
    };
    WriteRequest {
        operations: resources.into_iter().enumerate().map(operation).collect(),
        validate_only: false,
        request_id: REQUEST.to_owned(),
        reason,
        body: REQUEST.into(),
    }
}
