//! `keys`: makes encryption keys, and turns API keys over to new values. Which key of a provider counts.

use tonic::Code;

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
    choice,
    client::Connection,
    proto::v1::{
        GetActiveApiKeyRequest, ProviderSpec, RotateApiKeyRequest, Secret, get_active_api_key_request::Whose,
    },
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
        true => {
            let ended = rotation::wait(session, &mut connection, &args.name, answer.revision).await;
            ended.map_err(Failure::behind_what_is_done)
        }
        false => Ok(()),
    }
}

/// Which key of a provider counts.
pub enum KeyInUse {
    /// This one.
    Key(String),
    /// None is active and has a value.
    Lacking,
    /// It is called without one.
    NotNeeded,
    /// That is not the caller's to know.
    Unseen,
}

/// Looks up which key of a provider counts.
///
/// # Errors
/// Those of the server that do not tell it.
pub async fn key_in_use(
    connection: &mut Connection,
    name: &str,
    spec: &ProviderSpec,
) -> Result<KeyInUse, Failure> {
    if choice::needs_no_key(spec) {
        return Ok(KeyInUse::NotNeeded);
    }
    let whose = Some(Whose::Provider(name.to_owned()));
    let request = GetActiveApiKeyRequest { whose, ..GetActiveApiKeyRequest::default() };
    match connection.api_keys.get_active_api_key(request).await {
        Ok(answer) => {
            let key = answer.into_inner().api_key;
            Ok(key.map_or(KeyInUse::Unseen, |key| KeyInUse::Key(key.name)))
        }
        Err(status) => match status.code() {
            Code::FailedPrecondition => Ok(KeyInUse::Lacking),
            Code::PermissionDenied | Code::NotFound => Ok(KeyInUse::Unseen),
            _ => Err(status.into()),
        },
    }
}

fn value(session: &mut Session<'_>, source: &str) -> Result<Secret, Failure> {
    let given = secret_source::read(session, source)?;
    if given.path.is_some() {
        return Err(Failure::usage("--secret: a key has one value; leave out the field's name"));
    }
    Ok(Secret { value: Some(given.value.as_str().to_owned()), ..Secret::default() })
}
