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
    let touch = match (is_damaged(status), status.stale) {
        (true, _) => "DAMAGED",
        (false, true) => "LOST",
        (false, false) => "in touch",
    };
    let started = status
        .start_time
        .as_ref()
        .map_or_else(String::new, |time| format!("{} ({} ago)", moment(time), age(now, Some(time))));
    let row = |what: &str, value: String| vec![what.to_owned(), printable(&value)];
    let replica = |replica: &Replica| {
        let age = replica.age.as_ref().map(duration).unwrap_or_default();
        let here = if replica.answering { ", answers this" } else { "" };
        // Only where it tells something.
        let digest = match differs(status, replica) {
            true => format!(", DIFFERS: digest {}", hex::encode(&replica.digest)),
            false => String::new(),
        };
        format!(
            "{} at revision {}, {} watchers, {}, version {} (level {}), heard {age} ago{here}{digest}",
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

/// Whether another replica holds another state at the same revision.
fn differs(status: &GetStatusResponse, replica: &Replica) -> bool {
    let here = status.replicas.iter().filter(|other| other.revision == replica.revision);
    here.into_iter().any(|other| other.digest != replica.digest)
}

/// Whether the store is in touch and holds what was never written. Only an admin is told.
pub(super) fn is_damaged(status: &GetStatusResponse) -> bool {
    status.stale && status.warnings.iter().any(|warning| warning.starts_with("the store is damaged: "))
}

/// What somebody has to look at: what the server names, and what follows from how it stands.
fn warnings(status: &GetStatusResponse) -> Vec<String> {
    const LOST: &str = "the store is lost: reads come from memory and are stale, writes are refused";
    const POLLING: &str = "the store is polled: what other replicas write is seen up to a second later";
    // One that is away is not polled either, and of one that is damaged the server says what is wrong.
    let polled = status.doorbell.starts_with("polling") && !status.stale;
    let found = [(status.stale && !is_damaged(status), LOST), (polled, POLLING)];
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
        let polled = GetStatusResponse { doorbell, ..well };
        let away = warnings(&GetStatusResponse { stale: true, ..polled.clone() });
        assert!(away.len() == 2 && away[0].contains("lost") && away[1] == named[0], "{away:?}");
        let told = "the store is damaged: a row was edited".to_owned();
        let damaged = GetStatusResponse { stale: true, warnings: vec![told.clone()], ..polled.clone() };
        assert_eq!(warnings(&damaged), [told], "it is not lost as well");
        let polled = warnings(&polled);
        assert!(polled.len() == 2 && polled[0].contains("polled") && polled[1] == named[0], "{polled:?}");
    }

    #[test]
    fn only_replicas_that_differ_at_one_revision_show_their_digests() {
        let at = |revision, digest: u8| Replica { revision, digest: vec![digest; 16], ..Replica::default() };
        let status = GetStatusResponse { replicas: vec![at(7, 1), at(7, 2), at(8, 3)], ..Default::default() };
        let differ: Vec<bool> = status.replicas.iter().map(|replica| differs(&status, replica)).collect();
        assert_eq!(differ, [true, true, false]);
    }
}
