//! `rollback`: resources as they were at a past revision.

use super::{
    args::{Rollback, Target},
    confirm::confirm,
    connect::connect,
    diff,
    failure::{Failure, Outcome},
    selector,
    session::{Session, canonical},
    workers,
};
use crate::{
    client::Connection,
    proto::v1::{ChangeType, ResourceDiff, RollbackAllRequest, RollbackResourceRequest},
};

/// What a rollback of either form answered.
struct Answer {
    document: serde_json::Value,
    diffs: Vec<ResourceDiff>,
    warnings: Vec<String>,
    revision: u64,
    revision_token: String,
}

/// Brings resources back. Whoever is there is shown what would change, and asked.
pub async fn rollback(session: &mut Session<'_>, target: &Target, args: &Rollback) -> Outcome {
    let name = match args.what.as_slice() {
        _ if args.all => None,
        [name] => Some(name.as_str()),
        _ => return Err(Failure::usage("several names go back together with --all")),
    };
    let mut connection = connect(session, target).await?;
    if !args.yes && !args.write.dry_run {
        if session.interactive {
            let preview = ask(&mut connection, args, name, true).await?;
            preview.diffs.iter().for_each(|diff| diff::preview(session, diff));
            session.warn(&preview.warnings);
        }
        let question = format!("Go back to revision {}?", args.revision);
        confirm(session, &question, "going back", "nothing was changed")?;
    }
    let answer = ask(&mut connection, args, name, args.write.dry_run).await?;
    session.warn(&answer.warnings);
    if !session.document(&answer.document)? && !session.quiet {
        if answer.diffs.is_empty() {
            session.remark("everything is as it was then; nothing was changed");
        }
        diff::print(session, &answer.diffs, answer.revision, args.write.dry_run)?;
        if let Some(told) = name.and_then(|name| beneath(name, args.revision, &answer.diffs)) {
            session.remark(&told);
        }
    }
    workers::wait_for(session, target, &args.wait, (answer.revision, &answer.revision_token)).await
}

/// What lies beneath a resource went with it, and does not come back with it alone.
fn beneath(name: &str, revision: u64, diffs: &[ResourceDiff]) -> Option<String> {
    let is_back = diffs.iter().any(|diff| diff.name == name && diff.r#type() == ChangeType::Created);
    let holds = name.split('/').next() == Some("providers") && name.split('/').count() == 2;
    (is_back && holds).then(|| {
        format!(
            "its API keys are not part of it: `signalbox rollback --all --to {revision} {name} '{name}/*'` brings back what was \
             there of them as well"
        )
    })
}

async fn ask(
    connection: &mut Connection,
    args: &Rollback,
    name: Option<&str>,
    validate_only: bool,
) -> Result<Answer, Failure> {
    let (request_id, reason) = (args.write.request_id.clone(), args.write.reason.clone());
    let Some(name) = name else {
        let selectors = selector::parse_all(&args.what, &args.kind, &args.label)?;
        let revision = args.revision;
        let request = RollbackAllRequest { revision, selectors, validate_only, request_id, reason };
        let answer = connection.config.rollback_all(request).await?.into_inner();
        return Ok(Answer {
            document: canonical(&answer)?,
            diffs: answer.diffs,
            warnings: answer.warnings,
            revision: answer.revision,
            revision_token: answer.revision_token,
        });
    };
    let request = RollbackResourceRequest {
        name: name.to_owned(),
        revision: args.revision,
        etag: args.etag.clone().unwrap_or_default(),
        validate_only,
        request_id,
        reason,
    };
    let answer = connection.config.rollback_resource(request).await?.into_inner();
    Ok(Answer {
        document: canonical(&answer)?,
        diffs: answer.diff.into_iter().collect(),
        warnings: answer.warnings,
        revision: answer.revision,
        revision_token: answer.revision_token,
    })
}
