//! What a new store begins with: one revision, the first, or none.
//!
//! That it is written once, whoever starts when and how often, needs no marker beside the log: the plan relies on nothing
//! having been written ever, the head row's lock decides between replicas that start together, and revisions never begin
//! anew, also not when everything is deleted, compacted, restored or moved. It must not know what is written.

use super::{
    PATIENCE, Service,
    plan::{Mode, Planner},
    write::{Operation, OperationKind, Replay, WriteRequest},
};
use crate::{
    domain::{Applied, ApplyError, Principal, Read, Result, Revision, WriteSet},
    proto::v1::Resource,
};

/// The id of the request, the same for every replica. Its body is another one for each start, so that a replica can tell
/// that its own write was done from that another one's was.
const REQUEST: &str = "first-start";

/// How often what became of the write is asked for, should the store not say.
const ATTEMPTS: u32 = 3;

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
        self.settle(&caller, &self.write_set(&caller, &request, plan, &replay)).await
    }

    /// Has the write done, and finds out what became of it.
    async fn settle(&self, caller: &Principal, write: &WriteSet) -> Result<FirstStart> {
        let mut attempt = 1;
        loop {
            match self.apply(caller, write.clone()).await {
                // Replayed is what was done although the store did not say so.
                Ok(Applied::Committed { token, .. } | Applied::Replayed { token, .. }) => {
                    self.parts.view.reached(token.revision, PATIENCE).await;
                    return Ok(FirstStart::Written(token.revision));
                }
                Err(ApplyError::Stale { .. } | ApplyError::RequestMismatch) => {
                    self.parts.view.reached(Revision::ZERO.next(), PATIENCE).await;
                    return Ok(FirstStart::NotTheFirst);
                }
                Err(ApplyError::Unknown { .. }) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn request(resources: Vec<Resource>, reason: String) -> WriteRequest {
    let operation = |(index, resource)| Operation {
        path: format!("operations[{index}].create."),
        // As an import: that is what the history says of it.
        action: OperationKind::Import { resource, mask: Vec::new(), mode: Mode::Keep, yields: false },
    };
    WriteRequest {
        operations: resources.into_iter().enumerate().map(operation).collect(),
        validate_only: false,
        request_id: REQUEST.to_owned(),
        reason,
        body: uuid::Uuid::new_v4().into_bytes().into(),
    }
}
