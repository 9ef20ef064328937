//! `keys`: makes encryption keys, and turns API keys over to new values.

use super::{
    args::{Keys, Rotate, Target},
    connect::connect,
    diff,
    failure::{Exit, Failure, Outcome},
    rotation, secret_source,
    session::{Session, canonical},
};
use crate::{
    app::{self, private_file},
    proto::v1::{RotateApiKeyRequest, Secret},
};

/// Makes or rotates a key.
pub async fn keys(session: &mut Session<'_>, target: &Target, verb: &Keys) -> Outcome {
    match verb {
        // Without a server: it is for one that has yet to start. The key alone goes to standard output.
        Keys::Generate { file } => {
            let key = app::generate_key().map_err(|error| Failure::told(Exit::Failed, error.to_string()))?;
            match file {
                None => session.line(key.expose()),
                Some(path) => private_file::create(path, &key)
                    .map_err(|error| Failure::usage(format!("--file: {error}"))),
            }
        }
        Keys::Rotate(args) => rotate(session, target, args).await,
    }
}

async fn rotate(session: &mut Session<'_>, target: &Target, args: &Rotate) -> Outcome {
    let secret = args.secret.as_ref().map(|source| value(session, source)).transpose()?;
    let mut connection = connect(session, target).await?;
    let request = RotateApiKeyRequest {
        name: args.name.clone(),
        secret,
        etag: args.etag.clone().unwrap_or_default(),
        validate_only: args.write.dry_run,
        request_id: args.write.request_id.clone(),
        reason: args.write.reason.clone(),
        timeout: args.timeout.and_then(|timeout| timeout.try_into().ok()),
        retire_now: args.retire_now,
        revoke_previous: args.revoke,
    };
    let answer = connection.api_keys.rotate_api_key(request).await?.into_inner();
    session.warn(&answer.warnings);
    let shown = session.document(&canonical(&answer)?)? || session.quiet;
    if !shown {
        diff::print(session, answer.diff.as_slice(), answer.revision, args.write.dry_run)?;
    }
    match args.wait {
        true => rotation::wait(session, &mut connection, &args.name, answer.revision).await,
        false => Ok(()),
    }
}

fn value(session: &mut Session<'_>, source: &str) -> Result<Secret, Failure> {
    let given = secret_source::read(session, source)?;
    if given.path.is_some() {
        return Err(Failure::usage("--secret: a key has one value; leave out the field's name"));
    }
    Ok(Secret { value: Some(given.value.as_str().to_owned()), ..Secret::default() })
}
