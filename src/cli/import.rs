//! `import`: resources from files, taken in together or not at all.
//!
//! A format is read into items: `own` is ours, `foreign` those of other systems. What is sent, and what is told of it, is the
//! same for all (`send`).

mod deleted;
mod foreign;
mod own;
mod send;
mod stored;
mod summary;

use super::{
    args::{Import, OWN_FORMAT, Target},
    connect::connect,
    failure::{Failure, Outcome},
    input::{self, Input},
    session::Session,
    workers,
};
use crate::{
    import::{self, Format, Imported, Kept, Takes, format_named},
    proto::v1::{ImportMode, ImportOptions},
};

/// What can be done where what uses a resource would no longer fit.
const SKIP_IN_USE: &str = "\nor leave such resources as they are, and import the rest, with --skip-invalid";

/// Imports files.
pub async fn import(session: &mut Session<'_>, target: &Target, args: &Import) -> Outcome {
    let format = format_named(&args.from).filter(|_| args.from != OWN_FORMAT);
    check(format, args)?;
    let mut inputs = Vec::new();
    for file in &args.files {
        inputs.push(input::read(session, file)?);
    }
    match format {
        None => {
            let items = own::read(&inputs, args.export_key_file.as_deref())?;
            let mut connection = connect(session, target).await?;
            let answer = send::send(&mut connection, options(args, own_mode(args)), items).await?;
            send::print(session, &answer, args.write.dry_run)?;
            let written = (answer.revision, answer.revision_token.as_str());
            workers::wait_for(session, target, &args.wait, written).await
        }
        Some(format) => from_foreign(session, target, args, format, &inputs).await,
    }
}

/// What can be told before anything is read.
fn check(format: Option<&Format>, args: &Import) -> Outcome {
    let takes = format.map_or(Takes::Files, |format| format.takes);
    let wrong = match (takes, args.files.is_empty()) {
        (Takes::Nothing, false) => format!("--from {} takes no file", args.from),
        (Takes::Files | Takes::FilesWithBackup, true) => {
            "give at least one FILE, or - for standard input".to_owned()
        }
        _ if format.is_some() && args.update => {
            "--update is for our own format; leave it out to keep what was edited, or give --replace"
                .to_owned()
        }
        _ if format.is_none() && args.skip_invalid => {
            "--skip-invalid is for files of other systems; take what is not valid out of the file".to_owned()
        }
        _ if !args.only.is_empty() && !format.is_some_and(Format::is_of_models) => {
            "--only is for files of models: models-dev and litellm-prices".to_owned()
        }
        _ if format.is_some() && args.export_key_file.is_some() => {
            "--export-key-file is for our own format; keys of other systems go into --fernet-key-file"
                .to_owned()
        }
        _ => return Ok(()),
    };
    Err(Failure::usage(wrong))
}

async fn from_foreign(
    session: &mut Session<'_>,
    target: &Target,
    args: &Import,
    format: &Format,
    inputs: &[Input],
) -> Outcome {
    let mut imported = foreign::convert(session, format, inputs, args, &[])?;
    import::has_all(&imported, &args.only).map_err(|problem| Failure::usage(format!("--only: {problem}")))?;
    if imported.resources.is_empty() {
        return nothing(session, &imported);
    }
    let mode = if args.replace { ImportMode::Replace } else { ImportMode::KeepEdited };
    let mut connection = connect(session, target).await?;
    let ids = stored::ids(session, &mut connection, &imported, args.replace).await?;
    if !ids.is_empty() {
        imported = foreign::convert(session, format, inputs, args, &ids)?;
    }
    // Nobody has named what comes with this binary: it brings nothing back.
    if format.takes == Takes::Nothing && !args.replace {
        deleted::leave_out(session, &mut connection, &mut imported).await?;
        if imported.resources.is_empty() {
            return nothing(session, &imported);
        }
    }
    let backups = match args.write.dry_run {
        true => foreign::Backups::default(),
        false => foreign::Backups::make(format, &args.files, inputs, session.clock.now())?,
    };
    let items = foreign::items(&imported, args.replace);
    let answer = match send::send(&mut connection, options(args, mode), items).await {
        Ok(answer) => answer,
        Err(not_done) => {
            let not_done = if args.skip_invalid { not_done } else { not_done.advised(SKIP_IN_USE) };
            return Err(fail(session, &imported, backups, not_done));
        }
    };
    match answer.created + answer.updated {
        0 => backups.take_away(),
        _ => backups.keep(session),
    }
    let kept = foreign::kept(&answer);
    let there: Vec<String> =
        kept.iter().filter(|(_, why)| **why == Kept::Exists).map(|(name, _)| name.clone()).collect();
    // It is done and told in any case: what can't be asked now leaves a reason in general words.
    stored::look_up_why(session, &mut connection, &mut imported, &there).await.ok();
    imported.keep(&kept);
    imported.filled(&foreign::filled(&imported, &answer));
    imported.changes(&foreign::changed(&answer));
    imported.unchanged(&foreign::unchanged(&answer));
    let told = if args.write.dry_run { foreign::Told::WouldBe } else { foreign::Told::Done };
    foreign::tell(session, &imported, told)?;
    send::print(session, &answer, args.write.dry_run)?;
    foreign::tell_kept(session, &imported, &answer);
    let providers = imported.resources.iter().any(|resource| resource.name.starts_with("providers/"));
    if providers && !args.write.dry_run {
        summary::providers(session, &mut connection).await?;
    }
    let written = (answer.revision, answer.revision_token.as_str());
    workers::wait_for(session, target, &args.wait, written).await
}

fn nothing(session: &mut Session<'_>, imported: &Imported) -> Outcome {
    foreign::tell(session, imported, foreign::Told::Done)?;
    session.remark("there is nothing to import");
    Ok(())
}

/// Tells what would have come of an import that was refused, or may have come of one whose answer was lost.
fn fail(
    session: &mut Session<'_>,
    imported: &Imported,
    backups: foreign::Backups,
    not_done: send::NotDone,
) -> Failure {
    let told = if not_done.refused { foreign::Told::WouldBe } else { foreign::Told::Unknown };
    if not_done.refused {
        backups.take_away();
    } else {
        backups.keep(session);
    }
    // Who can't be told this is told why.
    let _ = foreign::tell(session, imported, told);
    if not_done.refused {
        session.remark("nothing was written");
    }
    not_done.failure
}

fn options(args: &Import, mode: ImportMode) -> ImportOptions {
    ImportOptions {
        mode: mode.into(),
        validate_only: args.write.dry_run,
        request_id: args.write.request_id.clone(),
        reason: args.write.reason.clone(),
        skip_in_use: args.skip_invalid,
    }
}

fn own_mode(args: &Import) -> ImportMode {
    match (args.update, args.replace) {
        (_, true) => ImportMode::Replace,
        (true, false) => ImportMode::Update,
        (false, false) => ImportMode::Keep,
    }
}
