//! `history` and `diff`: what was changed, and what differs between two revisions.

use chrono::{DateTime, Utc};

use super::{
    args::{Diff, History, Target},
    connect::connect,
    diff,
    failure::{Failure, Outcome},
    selector,
    session::{Session, canonical_all},
    table, text,
};
use crate::{
    client::Connection,
    proto::v1::{DiffRevisionsRequest, HistoryEntry, ListHistoryRequest},
};

/// Entries that are asked for at once.
const PAGE: i32 = 500;
/// Characters of a reason and of related names.
const CELL: usize = 48;

/// Tells what was changed, newest first.
pub async fn history(session: &mut Session<'_>, target: &Target, args: &History) -> Outcome {
    let now = session.clock.now();
    let request = ListHistoryRequest {
        selectors: selector::parse_all(&args.selectors, &args.kind, &args.label)?,
        page_size: i32::try_from(args.limit).unwrap_or(PAGE).min(PAGE),
        actor: args.actor.clone(),
        action: args.action.clone(),
        since: args.since.as_deref().map(|text| moment("--since", text, now)).transpose()?,
        until: args.until.as_deref().map(|text| moment("--until", text, now)).transpose()?,
        include_resources: args.resources,
        ..Default::default()
    };
    let mut connection = connect(session, target).await?;
    let (entries, floor) = all_pages(&mut connection, request, args.limit as usize).await?;
    if session.documents(&canonical_all(&entries)?)? {
        return Ok(());
    }
    if floor > 0 {
        session.remark(&format!(
            "the log is compacted up to revision {floor}: what happened before is forgotten"
        ));
    }
    if entries.is_empty() {
        session.remark("nothing has happened that matches");
        return Ok(());
    }
    let rows = entries.iter().map(|entry| row(entry, now)).collect();
    let header = ["REVISION", "AGE", "ACTOR", "ACTION", "NAME", "REASON", "RELATED"];
    session.line(&table::plain(&header, rows))
}

async fn all_pages(
    connection: &mut Connection,
    mut request: ListHistoryRequest,
    limit: usize,
) -> Result<(Vec<HistoryEntry>, u64), Failure> {
    let mut entries = Vec::new();
    loop {
        let page = connection.config.list_history(request.clone()).await?.into_inner();
        entries.extend(page.entries);
        if page.next_page_token.is_empty() || entries.len() >= limit {
            entries.truncate(limit);
            return Ok((entries, page.floor_revision));
        }
        request.page_token = page.next_page_token;
    }
}

fn row(entry: &HistoryEntry, now: DateTime<Utc>) -> Vec<String> {
    let cell = |cell: &str| text::clipped(&text::printable(cell), CELL);
    vec![
        entry.revision.to_string(),
        text::age(now, entry.time.as_ref()),
        cell(&entry.actor),
        text::printable(&entry.action),
        text::printable(&entry.name),
        cell(&entry.reason),
        cell(&entry.related.join(", ")),
    ]
}

/// A time as it is written, or so long ago.
fn moment(flag: &str, text: &str, now: DateTime<Utc>) -> Result<prost_types::Timestamp, Failure> {
    let time = match humantime::parse_duration(text) {
        Ok(ago) => chrono::Duration::from_std(ago).ok().and_then(|ago| now.checked_sub_signed(ago)),
        Err(_) => DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc()),
    };
    let time = time.ok_or_else(|| {
        Failure::usage(format!(
            "{flag}: `{text}` is no time; give one such as 2026-03-01T12:00:00Z, or how long ago, such as 2h"
        ))
    })?;
    Ok(prost_types::Timestamp {
        seconds: time.timestamp(),
        nanos: time.timestamp_subsec_nanos().cast_signed(),
    })
}

/// The newest revision that the token reaches, and the one before it.
async fn newest(connection: &mut Connection) -> Result<(u64, u64), Failure> {
    let request = ListHistoryRequest { page_size: 1, ..Default::default() };
    let page = connection.config.list_history(request).await?.into_inner();
    let newest = page.entries.first().map_or(0, |entry| entry.revision);
    match newest.checked_sub(1).filter(|before| *before > 0) {
        Some(before) => Ok((before, newest)),
        None => Err(Failure::usage(
            "there are no two revisions to compare; `signalbox history` tells what there is",
        )),
    }
}

/// Tells what differs between two revisions.
pub async fn diff(session: &mut Session<'_>, target: &Target, args: &Diff) -> Outcome {
    let selectors = selector::parse_all(&args.selectors, &args.kind, &args.label)?;
    let mut connection = connect(session, target).await?;
    let (from_revision, to_revision) = match args.from {
        Some(from) => (from, args.to.unwrap_or_default()),
        None => newest(&mut connection).await?,
    };
    let mut request =
        DiffRevisionsRequest { from_revision, to_revision, selectors, page_size: PAGE, ..Default::default() };
    let mut diffs = Vec::new();
    loop {
        let page = connection.config.diff_revisions(request.clone()).await?.into_inner();
        diffs.extend(page.diffs);
        // Where the newest was asked for, all pages are of the same one.
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    if session.documents(&canonical_all(&diffs)?)? {
        return Ok(());
    }
    if diffs.is_empty() {
        session.remark("nothing differs");
    }
    diff::print_compared(session, &diffs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_or_counted_back() {
        let now = DateTime::from_timestamp(1_000_000, 0).unwrap();
        let seconds = |text: &str| moment("--since", text, now).map(|time| time.seconds).ok();
        assert_eq!(seconds("2h"), Some(1_000_000 - 7200));
        assert_eq!(seconds("1970-01-02T00:00:00Z"), Some(86_400));
        assert_eq!(seconds("1970-01-02T01:00:00+01:00"), Some(86_400));
        for wrong in ["", "yesterday", "1970-01-02", "999999999999y"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
