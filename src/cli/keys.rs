//! `keys`: makes encryption keys, and turns API keys over to new values.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    args::{Keys, Rotate, Target},
    connect::connect,
    diff,
    failure::{Exit, Failure, Outcome},
    secret_source,
    session::{Session, canonical},
    text::printable,
};
use crate::{
    app,
    client::Connection,
    proto::v1::{
        GetResourceRequest, ListHistoryRequest, Resource, RotateApiKeyRequest, Secret, Selector,
        resource::Spec, selector::Pattern,
    },
};

/// How often is looked whether a rotation is over.
const LOOK: Duration = Duration::from_millis(500);

/// Makes or rotates a key.
pub async fn keys(session: &mut Session<'_>, target: &Target, verb: &Keys) -> Outcome {
    match verb {
        // Without a server: it is for one that has yet to start. The key alone goes to standard output.
        Keys::Generate => {
            let key = app::generate_key().map_err(|error| Failure::told(Exit::Failed, error.to_string()))?;
            session.line(key.expose())
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
        true => wait(session, &mut connection, &args.name, answer.revision).await,
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

/// Waits until a rotation is over, and tells how it ended.
async fn wait(session: &mut Session<'_>, connection: &mut Connection, name: &str, revision: u64) -> Outcome {
    let mut told = String::new();
    loop {
        let request = GetResourceRequest {
            name: name.to_owned(),
            include_observations: true,
            ..GetResourceRequest::default()
        };
        let resource = connection.config.get_resource(request).await?.into_inner().resource;
        let resource = resource.unwrap_or_default();
        if !is_rotating(&resource) {
            return tell_end(session, connection, name, revision).await;
        }
        if let Some(standing) = standing(&resource).filter(|standing| *standing != told) {
            session.remark(&standing);
            told = standing;
        }
        sleep(LOOK).await;
    }
}

fn is_rotating(resource: &Resource) -> bool {
    matches!(&resource.spec, Some(Spec::ApiKey(spec)) if spec.rotation.is_some())
}

/// How many workers lack the new value, as it was last seen of this version of the key.
fn standing(resource: &Resource) -> Option<String> {
    let seen = resource.observations.iter().find(|seen| seen.what == "rotation")?;
    let seen: serde_json::Value = serde_json::from_str(&seen.value_json).ok()?;
    let number = |field: &str| seen.get(field).and_then(serde_json::Value::as_u64);
    if number("revision")? != resource.update_revision {
        return None;
    }
    let (waiting, workers) = (number("waiting")?, number("workers")?);
    Some(match waiting {
        0 => format!("all of {workers} workers run the new value; the one before is about to go"),
        _ => format!("{waiting} of {workers} workers have not said yet that they run the new value"),
    })
}

/// How it ended, by the history: the server says why it let go of the value.
async fn tell_end(
    session: &mut Session<'_>,
    connection: &mut Connection,
    name: &str,
    revision: u64,
) -> Outcome {
    let request = ListHistoryRequest {
        selectors: vec![Selector { pattern: Some(Pattern::Name(name.to_owned())), ..Selector::default() }],
        page_size: 1,
        ..ListHistoryRequest::default()
    };
    let page = connection.config.list_history(request).await?.into_inner();
    match page.entries.into_iter().find(|entry| entry.revision > revision) {
        Some(entry) => {
            let reason = if entry.reason.is_empty() { "no reason was given" } else { &entry.reason };
            session.remark(&format!(
                "{} at revision {}: {}",
                printable(&entry.action),
                entry.revision,
                printable(reason)
            ));
        }
        None => session.remark("nothing is kept of the value before"),
    }
    Ok(())
}
