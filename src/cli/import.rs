//! `import`: resources from files, taken in together or not at all.
//!
//! A format is read into items: `own` is ours, `foreign` those of other systems. What is sent, and what is told of it, is the
//! same for all (`send`).

mod foreign;
mod own;
mod send;
mod summary;

use std::collections::BTreeSet;

use super::{
    args::{Import, OWN_FORMAT, Target},
    connect::connect,
    failure::{Failure, Outcome},
    input::{self, Input},
    session::Session,
};
use crate::{
    import::{Format, Takes, format_named},
    proto::v1::{ImportMode, ImportOptions},
};

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
            send::print(session, &answer, args.write.dry_run)
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
    let mut imported = foreign::convert(session, format, inputs, args)?;
    if imported.resources.is_empty() {
        foreign::tell(session, &imported)?;
        session.remark("there is nothing to import");
        return Ok(());
    }
    let mode = if args.replace { ImportMode::Replace } else { ImportMode::KeepEdited };
    let mut connection = connect(session, target).await?;
    let backups = match args.write.dry_run {
        true => foreign::Backups::default(),
        false => foreign::Backups::make(format, &args.files, inputs, session.clock.now())?,
    };
    let items = foreign::items(&imported);
    let answer = send::send(&mut connection, options(args, mode), items).await?;
    backups.keep(session);
    let kept: BTreeSet<&str> = foreign::kept(&answer).collect();
    imported.keep(|name| kept.contains(name));
    foreign::tell(session, &imported)?;
    send::print(session, &answer, args.write.dry_run)?;
    foreign::tell_kept(session, &imported, &answer);
    let providers = imported.resources.iter().any(|resource| resource.name.starts_with("providers/"));
    if providers && !args.write.dry_run {
        summary::providers(session, &mut connection).await?;
    }
    Ok(())
}

fn options(args: &Import, mode: ImportMode) -> ImportOptions {
    ImportOptions {
        mode: mode.into(),
        validate_only: args.write.dry_run,
        request_id: args.write.request_id.clone(),
        reason: args.write.reason.clone(),
    }
}

fn own_mode(args: &Import) -> ImportMode {
    match (args.update, args.replace) {
        (_, true) => ImportMode::Replace,
        (true, false) => ImportMode::Update,
        (false, false) => ImportMode::Keep,
    }
}
