//! `delete`.

use super::{
    args::{Delete, Target},
    confirm::confirm,
    connect::connect,
    diff,
    failure::{Failure, Outcome},
    session::{Session, canonical},
    set::write_batch,
    workers,
};
use crate::{
    client::Connection,
    proto::v1::{
        BatchOperation, BatchWriteRequest, DeleteResourceRequest,
        batch_operation::{self, Operation},
    },
};

/// Deletes resources, together or not at all.
pub async fn delete(session: &mut Session<'_>, target: &Target, args: &Delete) -> Outcome {
    if args.etag.is_some() && args.names.len() > 1 {
        return Err(Failure::usage("--etag: is for one resource, and several are named"));
    }
    if !args.yes && !args.write.dry_run {
        let question = format!("Delete {} and whatever lies beneath?", args.names.join(", "));
        confirm(session, &question, "deleting", "nothing was deleted")?;
    }
    let mut connection = connect(session, target).await?;
    match args.names.as_slice() {
        [name] => delete_one(session, target, &mut connection, name, args).await,
        names => {
            let request = BatchWriteRequest {
                operations: names.iter().map(|name| operation(name, args)).collect(),
                validate_only: args.write.dry_run,
                request_id: args.write.request_id.clone(),
                reason: args.write.reason.clone(),
            };
            write_batch(session, target, &mut connection, request, &args.wait).await
        }
    }
}

async fn delete_one(
    session: &mut Session<'_>,
    target: &Target,
    connection: &mut Connection,
    name: &str,
    args: &Delete,
) -> Outcome {
    let request = DeleteResourceRequest {
        name: name.to_owned(),
        etag: args.etag.clone().unwrap_or_default(),
        validate_only: args.write.dry_run,
        request_id: args.write.request_id.clone(),
        reason: args.write.reason.clone(),
        allow_missing: args.allow_missing,
    };
    let answer = connection.config.delete_resource(request).await?.into_inner();
    session.warn(&answer.warnings);
    if !session.document(&canonical(&answer)?)? && !session.quiet {
        if answer.diffs.is_empty() {
            session.remark(&format!("{name} does not exist; nothing was changed"));
        }
        diff::print(session, &answer.diffs, answer.revision, args.write.dry_run)?;
    }
    workers::wait_for(session, target, &args.wait, (answer.revision, &answer.revision_token)).await
}

fn operation(name: &str, args: &Delete) -> BatchOperation {
    let delete = batch_operation::Delete {
        name: name.to_owned(),
        etag: String::new(),
        allow_missing: args.allow_missing,
    };
    BatchOperation { operation: Some(Operation::Delete(delete)) }
}
