//! `set`: creates or updates, one resource from flags or several from a file.

use std::path::Path;

use clap::ValueEnum;
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{
    args::{Set, Target, Wait},
    connect::connect,
    diff,
    document::{self, Document},
    edit::Edit,
    failure::{Exit, Failure, Outcome},
    input::{self, Input},
    schema, secret_source,
    session::{Session, canonical},
    workers,
};
use crate::{
    client::Connection,
    proto::v1::{
        BatchOperation, BatchWriteRequest, GetResourceRequest, Resource, UpdateResourceRequest,
        batch_operation::{Operation, Update},
    },
};

/// Creates or updates.
pub async fn set(session: &mut Session<'_>, target: &Target, args: &Set) -> Outcome {
    match (&args.file, &args.name) {
        (Some(file), name) => {
            let documents = read_documents(session, file, name.as_deref())?;
            from_documents(session, target, args, documents).await
        }
        (None, Some(name)) => {
            let edit = edit_of(session, name, args)?;
            from_edit(session, target, args, name, &edit).await
        }
        (None, None) => Err(Failure::usage("give the NAME of a resource, or a file with -f")),
    }
}

/// The change that the flags describe.
fn edit_of(session: &mut Session<'_>, name: &str, args: &Set) -> Result<Edit, Failure> {
    let mut edit = Edit::of(name).map_err(Failure::usage)?;
    for field in &args.fields {
        edit.field(field).map_err(|wrong| Failure::usage(format!("--field {wrong}")))?;
    }
    if let Some(value) = &args.value {
        let value_type = args.value_type.and_then(|value_type| value_type.to_possible_value());
        edit.setting(value, value_type.as_ref().map(clap::builder::PossibleValue::get_name))
            .map_err(Failure::usage)?;
    }
    for label in &args.labels {
        edit.label(label).map_err(|wrong| Failure::usage(format!("--label: {wrong}")))?;
    }
    for text in &args.secrets {
        let given = secret_source::read(session, text)?;
        let done = edit.secret(given.path.as_deref(), &given.value);
        done.map_err(|wrong| Failure::usage(format!("--secret {wrong}")))?;
    }
    Ok(edit)
}

async fn from_edit(
    session: &mut Session<'_>,
    target: &Target,
    args: &Set,
    name: &str,
    edit: &Edit,
) -> Outcome {
    let mut connection = connect(session, target).await?;
    let current = if edit.needs_current() { current(&mut connection, name).await? } else { None };
    let (mut resource, paths) = edit.build(current.as_ref()).map_err(Failure::usage)?;
    // Maps are read, changed and written whole: the etag keeps another's change in between from getting lost.
    let seen = current.filter(|_| edit.rewrites_maps()).map(|current| current.etag);
    resource.etag = args.etag.clone().or(seen).unwrap_or_default();
    let request = UpdateResourceRequest {
        resource: Some(resource),
        update_mask: mask(paths),
        validate_only: args.write.dry_run,
        request_id: args.write.request_id.clone(),
        reason: args.write.reason.clone(),
        allow_missing: true,
    };
    let answer = connection
        .config
        .update_resource(request)
        .await
        .map_err(|status| failure(status, name))?
        .into_inner();
    session.warn(&answer.warnings);
    let written = (answer.revision, answer.revision_token.as_str());
    if !session.document(&canonical(&answer)?)? {
        if !session.quiet {
            diff::print(session, answer.diff.as_slice(), answer.revision, args.write.dry_run)?;
        }
        diff::print_one_time(session, &[(name.to_owned(), answer.one_time_secret.clone())])?;
    }
    workers::wait_for(session, target, &args.wait, written).await
}

/// The keys that a resource can't move without, and the file that has them in one batch with it.
fn moved_with(details: &ErrorDetails, name: &str, arm: &str) -> Option<String> {
    let required =
        details.precondition_failure()?.violations.iter().filter(|one| one.r#type == "SECRET_REQUIRED");
    let keys: Vec<&str> = required.map(|one| one.subject.as_str()).filter(|key| *key != name).collect();
    let first = keys.first()?;
    // An answer has room for the names of a few.
    let all = format!(
        "\nand a document like the last one for each other key; `signalbox list '{name}/*'` shows all of them"
    );
    let more = if keys.len() > 1 { all.as_str() } else { "" };
    Some(format!(
        "hint: `signalbox set -f FILE` writes all documents of a file in one batch, here:\n  name: {name}\n  {arm}: {{...}}   # \
         this change\n  ---\n  name: {first}\n  apiKey: {{secret: {{value: ...}}}}   # its key again{more}"
    ))
}

/// The server's refusal, and if it is for want of all content, the flag that gives it.
fn failure(status: Status, name: &str) -> Failure {
    let Some(arm) = schema::arm_of_name(name) else { return status.into() };
    let details = status.get_error_details();
    if let Some(how) = moved_with(&details, name, arm.json_name()) {
        return match Failure::from(status) {
            Failure::Told { exit, text } => Failure::told(exit, format!("{text}\n{how}")),
            other => other,
        };
    }
    let whole = format!("resource.{}", arm.name());
    let lacks = details
        .bad_request()
        .is_some_and(|bad| bad.field_violations.iter().any(|field| field.field == whole));
    match Failure::from(status) {
        Failure::Told { exit, text } if lacks => {
            let how = match arm.name() {
                "setting" => {
                    "--value gives a setting's value; --secret - reads one that is kept secret from standard input, \
                     --secret @FILE from a file"
                }
                "api_key" => "--secret - reads its value from standard input, --secret @FILE from a file",
                _ => "--field PATH=VALUE gives its fields",
            };
            Failure::told(exit, format!("{text}\nhint: {how}"))
        }
        other => other,
    }
}

async fn current(connection: &mut Connection, name: &str) -> Result<Option<Resource>, Failure> {
    let request = GetResourceRequest { name: name.to_owned(), ..Default::default() };
    match connection.config.get_resource(request).await {
        Ok(answer) => Ok(answer.into_inner().resource),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status.into()),
    }
}

fn mask(paths: Vec<String>) -> Option<FieldMask> {
    (!paths.is_empty()).then_some(FieldMask { paths })
}

fn read_documents(
    session: &mut Session<'_>,
    file: &Path,
    name: Option<&str>,
) -> Result<Vec<Document>, Failure> {
    let Input { place, text, is_json } = input::read(session, file)?;
    let documents = document::read_all(&text, is_json, name)
        .map_err(|wrong| Failure::usage(format!("{place} can't be used:\n{wrong}")))?;
    if name.is_some() && documents.len() > 1 {
        return Err(Failure::usage(format!(
            "{place} holds {} resources; a NAME is for one",
            documents.len()
        )));
    }
    Ok(documents)
}

async fn from_documents(
    session: &mut Session<'_>,
    target: &Target,
    args: &Set,
    documents: Vec<Document>,
) -> Outcome {
    let operation = |document: Document| {
        let paths = if args.replace { vec!["*".to_owned()] } else { document.mask };
        let update =
            Update { resource: Some(document.resource), update_mask: mask(paths), allow_missing: true };
        BatchOperation { operation: Some(Operation::Update(update)) }
    };
    let names: Vec<String> = documents.iter().map(|document| document.resource.name.clone()).collect();
    let request = BatchWriteRequest {
        operations: documents.into_iter().map(operation).collect(),
        validate_only: args.write.dry_run,
        request_id: args.write.request_id.clone(),
        reason: args.write.reason.clone(),
    };
    let mut connection = connect(session, target).await?;
    let written = write_batch(session, target, &mut connection, request, &args.wait).await;
    written.map_err(|failure| by_name(failure, &names))
}

/// The failure with the names of the resources in place of their numbers, which the file does not have.
fn by_name(failure: Failure, names: &[String]) -> Failure {
    let Failure::Told { exit, mut text } = failure else { return failure };
    for (index, name) in names.iter().enumerate() {
        text = text.replace(&format!("operations[{index}].update.resource."), &format!("{name}: "));
    }
    Failure::told(exit, text)
}

/// Sends a batch and prints what it did; then waits for workers, if that is asked for.
pub async fn write_batch(
    session: &mut Session<'_>,
    target: &Target,
    connection: &mut Connection,
    request: BatchWriteRequest,
    wait: &Wait,
) -> Outcome {
    let dry_run = request.validate_only;
    let expected = request.operations.len();
    let answer = connection.config.batch_write(request).await?.into_inner();
    if answer.results.len() != expected {
        return Err(Failure::told(
            Exit::Failed,
            "the server answered with another number of results than was asked for",
        ));
    }
    session.warn(&answer.warnings);
    if !session.document(&canonical(&answer)?)? {
        let (mut diffs, mut secrets) = (Vec::new(), Vec::new());
        for result in answer.results {
            secrets.push((
                result.resource.map(|resource| resource.name).unwrap_or_default(),
                result.one_time_secret,
            ));
            diffs.extend(result.diffs);
        }
        if !session.quiet {
            diff::print(session, &diffs, answer.revision, dry_run)?;
        }
        diff::print_one_time(session, &secrets)?;
    }
    workers::wait_for(session, target, wait, (answer.revision, &answer.revision_token)).await
}

#[cfg(test)]
mod tests {
    use tonic_types::PreconditionViolation;

    use super::*;

    /// Of many keys an answer names nine.
    #[test]
    fn regression_who_moves_a_provider_is_told_how_to_see_all_of_its_keys() {
        let left = |id: &str| {
            PreconditionViolation::new(
                "SECRET_REQUIRED",
                format!("providers/x/apiKeys/{id}"),
                "holds a secret",
            )
        };
        let details = ErrorDetails::with_precondition_failure(vec![left("a"), left("b")]);
        let told = moved_with(&details, "providers/x", "provider").unwrap_or_default();
        assert!(told.contains("`signalbox list 'providers/x/*'` shows all of them"), "{told}");
    }
}
