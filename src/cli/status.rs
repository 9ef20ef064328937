//! `status`.

use super::{
    args::Target,
    connect::connect,
    failure::Outcome,
    session::{Session, canonical},
    table,
    text::{age, duration, moment, printable},
};
use crate::proto::v1::{GetStatusRequest, GetStatusResponse, RaiseFeatureLevelRequest, Replica};

/// Shows how the server is.
pub async fn status(session: &mut Session<'_>, target: &Target) -> Outcome {
    let mut connection = connect(session, target).await?;
    let status = connection.admin.get_status(GetStatusRequest {}).await?.into_inner();
    if session.document(&canonical(&status)?)? {
        return Ok(());
    }
    let rows = rows(session, &status);
    session.line(&table::plain(&[], rows))
}

/// Has the level of the store raised to what the server supports.
pub async fn raise_feature_level(session: &mut Session<'_>, target: &Target) -> Outcome {
    let mut connection = connect(session, target).await?;
    let answer = connection.admin.raise_feature_level(RaiseFeatureLevelRequest {}).await?.into_inner();
    if session.document(&canonical(&answer)?)? {
        return Ok(());
    }
    session.line(&format!("the feature level is {}", answer.feature_level))
}

fn rows(session: &Session<'_>, status: &GetStatusResponse) -> Vec<Vec<String>> {
    let now = session.clock.now();
    let confirmed = status.confirmed_age.as_ref().map(duration).unwrap_or_default();
    let touch = if status.stale { "LOST" } else { "in touch" };
    let started = status
        .start_time
        .as_ref()
        .map_or_else(String::new, |time| format!("{} ({} ago)", moment(time), age(now, Some(time))));
    let row = |what: &str, value: String| vec![what.to_owned(), printable(&value)];
    let replica = |replica: &Replica| {
        let age = replica.age.as_ref().map(duration).unwrap_or_default();
        let here = if replica.answering { ", answers this" } else { "" };
        format!(
            "{} at revision {}, {} watchers, {}, version {} (level {}), heard {age} ago{here}",
            replica.address,
            replica.revision,
            replica.watchers,
            replica.doorbell,
            replica.version,
            replica.feature_level
        )
    };
    let mut rows = vec![
        row("version", status.version.clone()),
        row("started", started),
        row("revision", status.revision.to_string()),
        row("oldest revision", status.floor_revision.to_string()),
        row("resources", status.resources.to_string()),
        row("watchers", status.watchers.to_string()),
        row(
            "store",
            format!(
                "{} (schema {}), {touch}, confirmed {confirmed} ago",
                status.store_kind, status.schema_version
            ),
        ),
        row("doorbell", status.doorbell.clone()),
        row("feature level", status.feature_level.to_string()),
        row("store id", status.store_id.clone()),
        row("epoch", status.epoch.clone()),
        row("digest", hex::encode(&status.digest)),
        row("keys", status.key_ids.join(", ")),
    ];
    rows.extend(status.replicas.iter().map(|found| row("replica", replica(found))));
    rows.extend(status.undecryptable.iter().map(|name| row("undecryptable", name.clone())));
    rows.extend(status.warnings.iter().map(|warning| row("warning", warning.clone())));
    rows
}
