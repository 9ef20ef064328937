//! Who runs what, on PostgreSQL: sessions that each replica writes of its own, and reports that any of them may have taken.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgConnection;

use super::{
    PostgresStore,
    session::{BEGIN_ASIDE, BEGIN_LOOK, LONG_SILENCE, Lease as Transaction, SILENCE, all, execute},
};
use crate::{
    domain::{ReplicaId, Report, Session},
    store::{
        StoreError,
        cluster::LIFETIME,
        failure::Failure,
        fleet::{Fleet, Keep, MOST_MEMBERS, Member, MemberRow, News, ReportRow, SessionRow},
    },
};

const OPEN: &str = "INSERT INTO worker_sessions \
    (id, replica, epoch, subject, worker, labels, client_version, view, secrets, silent, began) \
    SELECT id, replica, epoch, subject, worker, labels, client_version, view, secrets, silent, \
    now() - make_interval(secs => age) FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], \
    $6::text[], $7::text[], $8::text[], $9::boolean[], $10::boolean[], $11::float8[]) AS row \
    (id, replica, epoch, subject, worker, labels, client_version, view, secrets, silent, age) \
    ON CONFLICT (id) DO UPDATE SET replica = excluded.replica, ended = NULL, orphaned = false";
const END: &str = "UPDATE worker_sessions SET ended = now(), orphaned = false \
    WHERE (ended IS NULL OR orphaned) AND id = ANY($1::text[])";
/// The greatest revision counts, and of what was refused the newest.
const REPORT: &str = "INSERT INTO worker_reports \
    (session, applied, rejected, rejection_reason, rejection_names, has_left, told) \
    SELECT session, applied, rejected, reason, names, has_left, now() FROM unnest($1::text[], $2::bigint[], $3::bigint[], \
    $4::text[], $5::text[], $6::boolean[]) AS given (session, applied, rejected, reason, names, has_left) \
    ON CONFLICT (session) DO UPDATE SET applied = greatest(worker_reports.applied, excluded.applied), \
    rejection_reason = CASE WHEN excluded.rejected > worker_reports.rejected \
        THEN excluded.rejection_reason ELSE worker_reports.rejection_reason END, \
    rejection_names = CASE WHEN excluded.rejected > worker_reports.rejected \
        THEN excluded.rejection_names ELSE worker_reports.rejection_names END, \
    rejected = greatest(worker_reports.rejected, excluded.rejected), \
    has_left = worker_reports.has_left OR excluded.has_left, told = excluded.told";
/// A replica that serves is one that tells of itself; whoever asks knows that it lives. Older servers can't subtract an
/// infinite time: a row that has one was edited, and is left out. The newest, so that no name pushes others out, and chosen before
/// their texts are read, none of which is taken longer than anybody of us writes it.
const MEMBERS: &str = "SELECT left(id, 256) AS id, left(replica, 256) AS replica, left(epoch, 16) AS epoch, \
    left(subject, 1024) AS subject, left(worker, 1024) AS worker, left(labels, 65536) AS labels, \
    left(client_version, 1024) AS client_version, left(view, 32768) AS view, secrets, silent, \
    extract(epoch FROM now() - began)::float8 AS age, \
    CASE WHEN ended IS NOT NULL THEN extract(epoch FROM now() - ended)::float8 \
        WHEN replica <> $1 AND replica NOT IN \
            (SELECT id FROM replicas WHERE seen > now() - make_interval(secs => $3)) THEN 0 END AS ended, \
    orphaned, applied, rejected, left(rejection_reason, 4096) AS rejection_reason, \
    left(rejection_names, 262144) AS rejection_names, has_left \
    FROM (SELECT id AS newest FROM worker_sessions WHERE isfinite(began) AND (ended IS NULL OR isfinite(ended)) \
        ORDER BY began DESC LIMIT $2) AS chosen \
    JOIN worker_sessions ON id = newest LEFT JOIN worker_reports ON session = id";
/// Who says goodbye ends its own: of those that are left over the replica vanished, and may serve them still.
const END_ORPHANS: &str = "UPDATE worker_sessions SET ended = now(), orphaned = true WHERE ended IS NULL AND replica <> $1 \
    AND replica NOT IN (SELECT id FROM replicas WHERE seen > now() - make_interval(secs => $2))";
/// A process that began at the address of one that had vanished listens where that one did: the one before is gone, and its streams
/// with it. Only where nobody else ever told that address, and it is one machine's.
const END_REPLACED: &str = "WITH replaced AS (DELETE FROM vanished AS gone USING replicas AS again \
    WHERE again.address = gone.address AND again.began > gone.seen AND again.seen > now() - make_interval(secs => $1) \
    AND NOT gone.shared AND gone.address NOT LIKE '0.0.0.0:%' AND gone.address NOT LIKE '[::]:%' \
    AND (SELECT count(*) FROM replicas AS beside WHERE beside.address = gone.address) = 1 RETURNING gone.id) \
    UPDATE worker_sessions AS lost SET ended = now(), orphaned = false FROM replaced \
    WHERE lost.replica = replaced.id AND (lost.ended IS NULL OR lost.orphaned)";
const FORGET_VANISHED: &str =
    "DELETE FROM vanished WHERE seen NOT BETWEEN now() - make_interval(secs => $1) AND now()";
/// Also those whose times lie ahead: a clock was wrong.
const FORGET_SESSIONS: &str = "DELETE FROM worker_sessions WHERE \
    ended NOT BETWEEN now() - make_interval(secs => CASE WHEN orphaned THEN $2 ELSE $1 END) AND \
    now() + make_interval(secs => $1) OR id IN (SELECT session FROM worker_reports WHERE has_left AND told NOT BETWEEN \
    now() - make_interval(secs => $1) AND now() + make_interval(secs => $1))";
const FORGET_REPORTS: &str = "DELETE FROM worker_reports WHERE session NOT IN (SELECT id FROM worker_sessions) \
    AND told NOT BETWEEN now() - make_interval(secs => $1) AND now() + make_interval(secs => $1)";

#[async_trait]
impl Fleet for PostgresStore {
    async fn tell(&self, news: News) -> Result<(), StoreError> {
        let News { open, ended, reports } = news.sorted();
        let mut transaction = Transaction::begin(&self.engine.readers, BEGIN_ASIDE).await?;
        let connection = transaction.connection()?;
        if !open.is_empty() {
            put_sessions(connection, &open).await?;
        }
        if !ended.is_empty() {
            let ids: Vec<_> = ended.into_iter().map(|id| id.0).collect();
            execute(connection, sqlx::query(END).bind(ids), SILENCE).await.map_err(Failure::from)?;
        }
        if !reports.is_empty() {
            put_reports(connection, &reports).await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn fleet(&self, own: &ReplicaId) -> Result<Vec<Member>, StoreError> {
        // The server gives it up before we do: it is asked again every few seconds.
        let mut transaction = Transaction::begin(&self.engine.readers, BEGIN_LOOK).await?;
        let query = sqlx::query(MEMBERS).bind(&own.0).bind(MOST_MEMBERS).bind(LIFETIME.as_secs_f64());
        let rows = all(transaction.connection()?, query, SILENCE).await.map_err(Failure::from)?;
        transaction.end().await;
        let mut members = MemberRow::read(rows);
        members.sort_by(|one, other| {
            let key = |member: &Member| (member.session.worker.clone(), member.session.id.clone());
            key(one).cmp(&key(other))
        });
        Ok(members)
    }

    async fn tidy_fleet(&self, own: &ReplicaId, keep: Keep) -> Result<(), StoreError> {
        let mut transaction = Transaction::begin(&self.engine.readers, BEGIN_ASIDE).await?;
        let connection = transaction.connection()?;
        let (lifetime, ended, orphaned) =
            (LIFETIME.as_secs_f64(), keep.ended.as_secs_f64(), keep.orphaned.as_secs_f64());
        let steps = [
            sqlx::query(END_REPLACED).bind(lifetime),
            sqlx::query(END_ORPHANS).bind(&own.0).bind(lifetime),
            sqlx::query(FORGET_VANISHED).bind(orphaned),
            sqlx::query(FORGET_SESSIONS).bind(ended).bind(orphaned),
            sqlx::query(FORGET_REPORTS).bind(ended),
        ];
        for step in steps {
            execute(connection, step, LONG_SILENCE).await.map_err(Failure::from)?;
        }
        Ok(transaction.commit().await?)
    }
}

async fn put_sessions(connection: &mut PgConnection, open: &[(Session, Duration)]) -> Result<(), Failure> {
    let rows: Vec<SessionRow> =
        open.iter().map(|(session, _)| SessionRow::of(session)).collect::<Result<_, _>>()?;
    let column = |of: fn(&Session) -> &String| -> Vec<String> {
        open.iter().map(|(session, _)| of(session).clone()).collect()
    };
    let put = sqlx::query(OPEN)
        .bind(column(|session| &session.id.0))
        .bind(column(|session| &session.replica.0))
        .bind(rows.iter().map(|row| row.epoch.clone()).collect::<Vec<_>>())
        .bind(column(|session| &session.subject))
        .bind(column(|session| &session.worker))
        .bind(rows.into_iter().map(|row| row.labels).collect::<Vec<_>>())
        .bind(column(|session| &session.client_version))
        .bind(column(|session| &session.view))
        .bind(open.iter().map(|(session, _)| session.secrets).collect::<Vec<_>>())
        .bind(open.iter().map(|(session, _)| session.silent).collect::<Vec<_>>())
        .bind(open.iter().map(|(_, age)| age.as_secs_f64()).collect::<Vec<_>>());
    Ok(execute(connection, put, SILENCE).await.map(drop)?)
}

async fn put_reports(connection: &mut PgConnection, reports: &[Report]) -> Result<(), Failure> {
    let rows: Vec<ReportRow> = reports.iter().map(ReportRow::of).collect::<Result<_, _>>()?;
    let text = |of: fn(&ReportRow) -> &String| -> Vec<String> { rows.iter().map(of).cloned().collect() };
    let put = sqlx::query(REPORT)
        .bind(text(|row| &row.session))
        .bind(rows.iter().map(|row| row.applied).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.rejected).collect::<Vec<_>>())
        .bind(text(|row| &row.reason))
        .bind(text(|row| &row.names))
        .bind(rows.iter().map(|row| row.left).collect::<Vec<_>>());
    Ok(execute(connection, put, SILENCE).await.map(drop)?)
}
