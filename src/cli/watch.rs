//! `watch`: a line for each event, until ctrl-c, until the server goes away, or until nobody reads any more.

use serde_json::Value;

use super::{
    args::{Target, Watch},
    connect::connect,
    failure::{Exit, Failure, Outcome},
    selector,
    session::{Format, Session, canonical},
    text::{duration, printable},
};
use crate::proto::v1::{
    Change, ChangeType, Resource, WatchConfigRequest, WatchConfigResponse, Worker,
    watch_config_response::Event,
};

/// Where a later watch can go on from.
#[derive(Default)]
struct Cursor {
    resume_token: String,
    view_id: String,
}

/// Prints events as they come.
pub async fn watch(session: &mut Session<'_>, target: &Target, args: &Watch) -> Outcome {
    let request = WatchConfigRequest {
        selectors: selector::parse_all(&args.selectors, &args.kind, &args.label)?,
        resume_token: args.resume_token.clone(),
        view_id: args.view_id.clone(),
        include_secrets: args.secrets,
        progress_interval: None,
        worker: Some(Worker {
            id: "signalbox watch".to_owned(),
            client_version: concat!("signalbox/", env!("CARGO_PKG_VERSION")).to_owned(),
            labels: std::collections::BTreeMap::new(),
            // It shows what it is sent, and runs nothing.
            silent: true,
        }),
        previous_session_id: String::new(),
    };
    let mut connection = connect(session, target).await?;
    let mut stream = connection.config.watch_config(request).await?.into_inner();
    let mut cursor = Cursor { resume_token: args.resume_token.clone(), view_id: args.view_id.clone() };
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    let outcome = loop {
        tokio::select! {
            _ = &mut stop => break Ok(()),
            message = stream.message() => match message {
                Ok(Some(message)) => show(session, &message, args.progress, &mut cursor)?,
                Ok(None) => break Err(Failure::told(Exit::Unavailable, "the server ended the stream")),
                Err(status) => break Err(gone(status.into())),
            },
        }
    };
    match (outcome, cursor.to_go_on()) {
        (Err(Failure::Told { exit, text }), Some(how)) => {
            Err(Failure::told(exit, format!("{text}\nhint: {how}")))
        }
        (outcome, how) => {
            how.into_iter().for_each(|how| session.remark(&how));
            outcome
        }
    }
}

/// Once a stream has begun, a cut is not for the reasons that a first call is cut for.
fn gone(failure: Failure) -> Failure {
    match failure {
        Failure::Lost(_) => Failure::told(failure.exit(), "the server has gone away"),
        told => told,
    }
}

impl Cursor {
    /// How a later watch goes on, once there is something to go on from.
    fn to_go_on(&self) -> Option<String> {
        let Self { resume_token, view_id } = self;
        let known = !resume_token.is_empty() && !view_id.is_empty();
        known.then(|| format!("to go on from here: --resume-token {resume_token} --view-id {view_id}"))
    }
}

fn show(
    session: &mut Session<'_>,
    message: &WatchConfigResponse,
    progress: bool,
    cursor: &mut Cursor,
) -> Outcome {
    let Some(event) = &message.event else { return Ok(()) };
    advance(cursor, event);
    if matches!(event, Event::Progress(_)) && !progress {
        return Ok(());
    }
    match session.format {
        Format::Table => lines(event).iter().try_for_each(|line| session.line(line))?,
        Format::Json => session.line(&canonical(message)?.to_string())?,
        Format::Yaml => drop(session.documents(&[canonical(message)?])?),
    }
    // Whoever reads wants each event when it comes.
    session.out.flush()?;
    Ok(())
}

fn advance(cursor: &mut Cursor, event: &Event) {
    let token = match event {
        Event::Synced(synced) => {
            cursor.view_id.clone_from(&synced.view_id);
            &synced.resume_token
        }
        Event::Changes(changes) if changes.last => &changes.resume_token,
        Event::Progress(progress) => &progress.resume_token,
        _ => return,
    };
    cursor.resume_token.clone_from(token);
}

fn lines(event: &Event) -> Vec<String> {
    match event {
        Event::Snapshot(part) => {
            part.resources.iter().map(|resource| snapshot(part.revision, resource)).collect()
        }
        Event::Synced(synced) => vec![format!("{} SYNCED", synced.revision)],
        Event::Changes(changes) => {
            changes.changes.iter().map(|change| line(changes.revision, change)).collect()
        }
        Event::Progress(progress) => {
            let age = progress.confirmed_age.as_ref().map(duration).unwrap_or_default();
            vec![format!("{} PROGRESS confirmed {age} ago", progress.revision)]
        }
        Event::Reset(reset) => {
            vec![format!("{} RESET {}", reset.revision, word(reset.reason().as_str_name(), "RESET_REASON_"))]
        }
        Event::Revoked(revoked) => revoked
            .names
            .iter()
            .map(|name| format!("{} REVOKED {}", revoked.revision, printable(name)))
            .collect(),
        Event::GoingAway(going) => vec![format!("- GOING AWAY {}", printable(&going.reason))],
    }
}

fn snapshot(revision: u64, resource: &Resource) -> String {
    format!("{revision} SNAPSHOT {} {}", printable(&resource.name), spec(resource))
}

fn line(revision: u64, change: &Change) -> String {
    let what = match change.r#type() {
        ChangeType::Created => "CREATED",
        ChangeType::Updated => "UPDATED",
        ChangeType::Deleted => "DELETED",
        ChangeType::Unspecified => "CHANGED",
    };
    let by = format!("{} by {}", printable(&change.action), printable(&change.actor));
    let spec = change.resource.as_ref().map(spec).unwrap_or_default();
    format!("{revision} {what} {} ({by}) {spec}", printable(&change.name)).trim_end().to_owned()
}

/// The content on one line, as JSON.
fn spec(resource: &Resource) -> String {
    let Ok(Value::Object(fields)) = canonical(resource) else { return String::new() };
    let arms: Vec<String> = super::schema::arms().map(|arm| arm.json_name().to_owned()).collect();
    let spec = fields.iter().find(|(key, _)| arms.contains(key)).map(|(_, value)| value.to_string());
    printable(&spec.unwrap_or_default())
}

fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}
