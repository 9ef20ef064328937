//! `import`: resources from files, taken in together or not at all.
//!
//! A format is read into items (`own` is ours); what is sent, and what is told of it, is the same for all (`send`).

mod own;
mod send;

use super::{
    args::{Import, ImportFormat, Target},
    connect::connect,
    failure::Outcome,
    input,
    session::Session,
};
use crate::proto::v1::{ImportMode, ImportOptions};

/// Imports files.
pub async fn import(session: &mut Session<'_>, target: &Target, args: &Import) -> Outcome {
    let mut inputs = Vec::new();
    for file in &args.files {
        inputs.push(input::read(session, file)?);
    }
    let items = match args.from {
        ImportFormat::Signalbox => own::read(&inputs, args.export_key_file.as_deref())?,
    };
    let options = ImportOptions {
        mode: mode(args).into(),
        validate_only: args.write.dry_run,
        request_id: args.write.request_id.clone(),
        reason: args.write.reason.clone(),
    };
    let mut connection = connect(session, target).await?;
    let answer = send::send(&mut connection, options, items).await?;
    send::print(session, &answer, args.write.dry_run)
}

fn mode(args: &Import) -> ImportMode {
    match (args.update, args.replace) {
        (_, true) => ImportMode::Replace,
        (true, false) => ImportMode::Update,
        (false, false) => ImportMode::Keep,
    }
}
