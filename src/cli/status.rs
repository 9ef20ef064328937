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
    rows.extend(warnings(status).into_iter().map(|warning| row("warning", warning)));
    rows
}

/// What somebody has to look at: what the server names, and what follows from how it stands.
fn warnings(status: &GetStatusResponse) -> Vec<String> {
    const LOST: &str = "the store is lost: reads come from memory and are stale, writes are refused";
    const POLLING: &str = "the store is polled: what other replicas write is seen up to a second later";
    let polled = status.doorbell.starts_with("polling");
    let found = [(status.stale, LOST), (polled, POLLING)];
    let found = found.into_iter().filter(|(is, _)| *is).map(|(_, warning)| warning.to_owned());
    found.chain(status.warnings.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_a_store_that_is_lost_or_polled_is_among_the_warnings() {
        let named = vec!["a key lies beside the data".to_owned()];
        let well =
            GetStatusResponse { doorbell: "notify".into(), warnings: named.clone(), ..Default::default() };
        assert_eq!(warnings(&well), named);
        let doorbell = "polling: a pooler stands in the way".to_owned();
        let unwell = warnings(&GetStatusResponse { stale: true, doorbell, ..well });
        assert!(
            unwell[0].contains("lost") && unwell[1].contains("polled") && unwell[2] == named[0],
            "{unwell:?}"
        );
    }
}
