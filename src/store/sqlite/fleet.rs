//! Who runs what, on SQLite. Only one process serves the file: whatever another one's name stands on is from before it.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::{SqliteStore, commit::to_json};
use crate::{
    domain::{ReplicaId, Report, Session},
    store::{
        StoreError,
        failure::Failure,
        fleet::{Fleet, Keep, MOST_MEMBERS, Member, MemberRow, News, ReportRow, SessionRow},
    },
};

const OPEN: &str = "INSERT INTO worker_sessions \
    (id, replica, epoch, subject, worker, labels, client_version, view, secrets, silent, began) \
    SELECT given.value ->> 0, given.value ->> 1, given.value ->> 2, given.value ->> 3, given.value ->> 4, given.value ->> 5, \
    given.value ->> 6, given.value ->> 7, given.value ->> 8, given.value ->> 9, unixepoch('subsec') - (given.value ->> 10) \
    FROM json_each($1) AS given WHERE true \
    ON CONFLICT (id) DO UPDATE SET replica = excluded.replica, ended = NULL";
const END: &str = "UPDATE worker_sessions SET ended = unixepoch('subsec') \
    WHERE ended IS NULL AND id IN (SELECT value FROM json_each($1))";
/// The greatest revision counts, and of what was refused the newest.
const REPORT: &str = "INSERT INTO worker_reports \
    (session, applied, rejected, rejection_reason, rejection_names, has_left, told) \
    SELECT given.value ->> 0, given.value ->> 1, given.value ->> 2, given.value ->> 3, given.value ->> 4, given.value ->> 5, \
    unixepoch('subsec') FROM json_each($1) AS given WHERE true \
    ON CONFLICT (session) DO UPDATE SET applied = max(worker_reports.applied, excluded.applied), \
    rejection_reason = CASE WHEN excluded.rejected > worker_reports.rejected \
        THEN excluded.rejection_reason ELSE worker_reports.rejection_reason END, \
    rejection_names = CASE WHEN excluded.rejected > worker_reports.rejected \
        THEN excluded.rejection_names ELSE worker_reports.rejection_names END, \
    rejected = max(worker_reports.rejected, excluded.rejected), \
    has_left = max(worker_reports.has_left, excluded.has_left), told = excluded.told";
const MEMBERS: &str = "SELECT id, replica, epoch, subject, worker, labels, client_version, view, secrets, silent, \
    unixepoch('subsec') - began AS age, \
    CASE WHEN ended IS NOT NULL THEN unixepoch('subsec') - ended WHEN replica <> $1 THEN 0.0 END AS ended, \
    false AS orphaned, applied, rejected, rejection_reason, rejection_names, has_left \
    FROM worker_sessions LEFT JOIN worker_reports ON session = id ORDER BY worker, id LIMIT $2";
/// Their process is gone, or it would hold the file: no stream of theirs is open.
const END_ORPHANS: &str =
    "UPDATE worker_sessions SET ended = unixepoch('subsec') WHERE ended IS NULL AND replica <> $1";
/// Also those whose times lie ahead: the clock was wrong.
const FORGET_SESSIONS: &str = "DELETE FROM worker_sessions WHERE ended NOT BETWEEN unixepoch('subsec') - $1 AND \
    unixepoch('subsec') + $1 OR id IN (SELECT session FROM worker_reports WHERE has_left = 1 AND told NOT BETWEEN \
    unixepoch('subsec') - $1 AND unixepoch('subsec') + $1)";
const FORGET_REPORTS: &str = "DELETE FROM worker_reports WHERE session NOT IN (SELECT id FROM worker_sessions) \
    AND told NOT BETWEEN unixepoch('subsec') - $1 AND unixepoch('subsec') + $1";

#[async_trait]
impl Fleet for SqliteStore {
    async fn tell(&self, news: News) -> Result<(), StoreError> {
        let mut transaction = self.engine.aside.begin_with("BEGIN IMMEDIATE").await.map_err(Failure::from)?;
        tell(&mut transaction, news).await?;
        Ok(transaction.commit().await.map_err(Failure::from)?)
    }

    async fn fleet(&self, own: &ReplicaId) -> Result<Vec<Member>, StoreError> {
        let rows =
            sqlx::query_as(MEMBERS).bind(&own.0).bind(MOST_MEMBERS).fetch_all(&self.engine.readers).await;
        Ok(MemberRow::read(rows.map_err(Failure::from)?))
    }

    async fn tidy_fleet(&self, own: &ReplicaId, keep: Keep) -> Result<(), StoreError> {
        let mut transaction = self.engine.aside.begin_with("BEGIN IMMEDIATE").await.map_err(Failure::from)?;
        let orphans = sqlx::query(END_ORPHANS).bind(&own.0);
        orphans.execute(&mut *transaction).await.map_err(Failure::from)?;
        for text in [FORGET_SESSIONS, FORGET_REPORTS] {
            let forget = sqlx::query(text).bind(keep.ended.as_secs_f64());
            forget.execute(&mut *transaction).await.map_err(Failure::from)?;
        }
        Ok(transaction.commit().await.map_err(Failure::from)?)
    }
}

async fn tell(connection: &mut SqliteConnection, news: News) -> Result<(), Failure> {
    let News { open, ended, reports } = news.sorted();
    let open = open.iter().map(|(session, age)| session_values(session, *age));
    let open: Vec<_> = open.collect::<Result<_, Failure>>()?;
    let ended: Vec<_> = ended.into_iter().map(|id| id.0).collect();
    let reports: Vec<_> = reports.iter().map(report_values).collect::<Result<_, Failure>>()?;
    for (text, rows) in [(OPEN, to_json(&open)?), (END, to_json(&ended)?), (REPORT, to_json(&reports)?)] {
        if rows != "[]" {
            sqlx::query(text).bind(rows).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

fn session_values(session: &Session, age: Duration) -> Result<serde_json::Value, Failure> {
    let SessionRow { labels, epoch } = SessionRow::of(session)?;
    let Session { id, replica, subject, worker, client_version, view, secrets, silent, .. } = session;
    Ok(serde_json::json!([
        id.0,
        replica.0,
        epoch,
        subject,
        worker,
        labels,
        client_version,
        view,
        u8::from(*secrets),
        u8::from(*silent),
        age.as_secs_f64()
    ]))
}

fn report_values(report: &Report) -> Result<serde_json::Value, Failure> {
    let ReportRow { session, applied, rejected, reason, names, left } = ReportRow::of(report)?;
    Ok(serde_json::json!([session, applied, rejected, reason, names, u8::from(left)]))
}
