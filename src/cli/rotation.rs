//! Rotations that are under way: how they stand, whom they wait for, and how they end.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    failure::{Exit, Failure, Outcome},
    session::Session,
    text::printable,
};
use crate::{
    client::Connection,
    proto::v1::{
        ApiKeyRotation, GetResourceRequest, HistoryEntry, ListHistoryRequest, ListWorkersRequest, Resource,
        Selector, WorkerState, WorkerStatus, api_key_rotation, resource::Spec, selector::Pattern,
    },
};

/// How often is looked whether a rotation is over: as often as the server looks.
const LOOK: Duration = Duration::from_secs(1);
/// Workers that are asked for at once.
const PAGE: i32 = 500;
/// Workers that are named.
const NAMED: usize = 20;
/// How often in a row those that are listed may be others than were counted: the count is some seconds old. After that it is not its
/// age that they differ by.
const DIFFERING: usize = 5;

/// How many workers lack the new value.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Standing {
    waiting: u64,
    workers: u64,
    /// Whether there are more workers than are counted.
    incomplete: bool,
}

/// Waits until a rotation is over, and tells whom it waits for and how it ended.
pub async fn wait(
    session: &mut Session<'_>,
    connection: &mut Connection,
    name: &str,
    revision: u64,
) -> Outcome {
    // How it stood, and whom it waited for.
    let mut told: Last = None;
    let mut differing = 0;
    loop {
        let request = GetResourceRequest {
            name: name.to_owned(),
            include_observations: true,
            ..GetResourceRequest::default()
        };
        let resource = connection.config.get_resource(request).await?.into_inner().resource;
        let resource = resource.unwrap_or_default();
        if under_way(&resource).is_none() {
            return conclude(session, connection, name, revision, told).await;
        }
        if let Some(now) = standing(&resource).filter(|now| told.as_ref().is_none_or(|(was, _)| was != now)) {
            let whom = if now.waiting > 0 { lacking(connection, &resource).await } else { Vec::new() };
            let agree = whom.is_empty() || whom.len() as u64 == now.waiting;
            differing = if agree { 0 } else { differing + 1 };
            if agree || differing >= DIFFERING {
                session.remark(&sentence(now, &whom));
                told = Some((now, whom));
            }
        }
        sleep(LOOK).await;
    }
}

/// How it stands, as in a list; nothing where none is under way.
pub fn in_short(resource: &Resource) -> Option<String> {
    let state = match under_way(resource)?.state() {
        api_key_rotation::State::Retiring => "retiring",
        api_key_rotation::State::Unspecified => "under way",
    };
    let waiting = standing(resource).map(|standing| format!("{state}, {} waiting", standing.waiting));
    Some(waiting.unwrap_or_else(|| state.to_owned()))
}

fn under_way(resource: &Resource) -> Option<&ApiKeyRotation> {
    match &resource.spec {
        Some(Spec::ApiKey(spec)) => spec.rotation.as_ref(),
        _ => None,
    }
}

/// How many workers lack the new value, as it was last seen of this version of the key.
fn standing(resource: &Resource) -> Option<Standing> {
    let seen = resource.observations.iter().find(|seen| seen.what == "rotation")?;
    let seen: serde_json::Value = serde_json::from_str(&seen.value_json).ok()?;
    let number = |field: &str| seen.get(field).and_then(serde_json::Value::as_u64);
    let is_of_this = number("revision")? == resource.update_revision;
    let incomplete = seen.get("incomplete").and_then(serde_json::Value::as_bool).unwrap_or_default();
    is_of_this.then_some(Standing { waiting: number("waiting")?, workers: number("workers")?, incomplete })
}

fn sentence(standing: Standing, whom: &[String]) -> String {
    let Standing { waiting, workers, incomplete } = standing;
    match waiting {
        0 if incomplete => format!(
            "all of {workers} workers that are counted run the new value; there are more, so that only the time ends it"
        ),
        0 => format!("all of {workers} workers run the new value; the one before is about to go"),
        _ => {
            let mut names: Vec<String> = whom.iter().take(NAMED).cloned().collect();
            let more = waiting.max(whom.len() as u64).saturating_sub(names.len() as u64);
            if more > 0 && !names.is_empty() {
                names.push(format!("{more} more"));
            }
            let names = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
            format!("{waiting} of {workers} workers have not said yet that they run the new value{names}")
        }
    }
}

/// Who may have the value before and has not said that it runs the new one. Nobody where the caller may not list workers.
async fn lacking(connection: &mut Connection, key: &Resource) -> Vec<String> {
    let named = Selector { pattern: Some(Pattern::Name(key.name.clone())), ..Selector::default() };
    let mut request = ListWorkersRequest {
        resources: vec![named],
        revision: key.update_revision,
        page_size: PAGE,
        ..ListWorkersRequest::default()
    };
    let mut whom = Vec::new();
    let lacks =
        |worker: &WorkerStatus| worker.include_secrets && worker.applied_revision < key.update_revision;
    while let Ok(page) = connection.fleet.list_workers(request.clone()).await {
        let page = page.into_inner();
        whom.extend(page.workers.iter().filter(|worker| lacks(worker)).map(shown));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    whom
}

fn shown(worker: &WorkerStatus) -> String {
    let id = printable(&worker.id);
    match (worker.state(), worker.connected) {
        (WorkerState::Silent, _) => format!("{id} (silent)"),
        (_, false) => format!("{id} (disconnected)"),
        _ => id,
    }
}

/// What was last seen of a rotation: how it stood, and whom it waited for.
type Last = Option<(Standing, Vec<String>)>;

/// How it ended, by the history: the server says why it let go of the value.
async fn conclude(
    session: &mut Session<'_>,
    connection: &mut Connection,
    name: &str,
    revision: u64,
    last: Last,
) -> Outcome {
    let request = ListHistoryRequest {
        selectors: vec![Selector { pattern: Some(Pattern::Name(name.to_owned())), ..Selector::default() }],
        page_size: 1,
        ..ListHistoryRequest::default()
    };
    let page = connection.config.list_history(request).await?.into_inner();
    let Some(entry) = page.entries.into_iter().find(|entry| entry.revision > revision) else {
        session.remark("nothing is kept of the value before");
        return Ok(());
    };
    let reason = if entry.reason.is_empty() { "no reason was given" } else { &entry.reason };
    let how = format!("{} at revision {}: {}", printable(&entry.action), entry.revision, printable(reason));
    if !ran_out(&entry) {
        session.remark(&how);
        return Ok(());
    }
    let stood = last.map(|(standing, whom)| format!("{}\n", sentence(standing, &whom))).unwrap_or_default();
    let hint = "hint: the value before is gone; `signalbox workers --behind` shows who may still use it";
    Err(Failure::told(Exit::Unconverged, format!("{how}\n{stood}{hint}")))
}

/// Whether the server let go of the value at its time, though workers may still use it. What it knew last decides, and not what was
/// seen of that: it may have lost sight of them since.
fn ran_out(entry: &HistoryEntry) -> bool {
    entry.action == "retired" && entry.reason.starts_with("its time is over; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(waiting: u64, named: usize) -> String {
        let whom: Vec<String> = (0..named).map(|index| format!("w{index}")).collect();
        sentence(Standing { waiting, workers: 40, incomplete: false }, &whom)
    }

    /// It named one of two that it waited for, and did not say that there is another.
    #[test]
    fn regression_all_are_named_up_to_a_bound_or_said_to_be_there() {
        assert!(told(2, 2).ends_with("new value: w0, w1"), "{}", told(2, 2));
        assert!(told(2, 1).ends_with("new value: w0, 1 more"), "{}", told(2, 1));
        assert!(told(2, 0).ends_with("new value"), "who may not list workers has no names");
        assert!(told(30, 30).ends_with("w19, 10 more"), "{}", told(30, 30));
    }
}
