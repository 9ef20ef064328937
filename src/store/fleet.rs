//! Who runs what, in two tables that all replicas write: sessions by whoever serves them, reports by whoever took them.
//!
//! Beside the log: none of it makes a revision or stands in the way of one. Ages are judged by the database's clock.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::FromRow;

use super::{
    StoreError,
    failure::Failure,
    rows::{read_revision, write_revision},
};
use crate::domain::{Epoch, Labels, Rejection, ReplicaId, Report, Revision, Session, SessionId};

/// Sessions that are read at most.
pub const MOST_MEMBERS: i64 = 50_000;

/// Keeps who runs what.
#[async_trait]
pub trait Fleet: Send + Sync + 'static {
    /// Writes what is new; all or none. Reports of a session merge, whoever writes which first.
    async fn tell(&self, news: News) -> Result<(), StoreError>;
    /// Every session that is kept, with what it reported, by worker and session in bytewise order; at most [`MOST_MEMBERS`]. One of a
    /// replica that does not live, as far as `own` can tell, has ended.
    async fn fleet(&self, own: &ReplicaId) -> Result<Vec<Member>, StoreError>;
    /// Ends the sessions of replicas that do not live, as orphans where their streams may be open still, and forgets what ended, or
    /// was told of no session, longer than it is kept. Those of a replica in whose place another process listens are no orphans: they
    /// have ended. Who comes back under the same id proves nothing, because ids are not unique.
    async fn tidy_fleet(&self, own: &ReplicaId, keep: Keep) -> Result<(), StoreError>;
}

/// How long sessions are kept that have ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keep {
    /// One whose stream is known to have ended.
    pub ended: Duration,
    /// One whose replica vanished.
    pub orphaned: Duration,
}

/// What a replica has to tell, no two things of one session in the same list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct News {
    /// Sessions that are open, with how long they have been.
    pub open: Vec<(Session, Duration)>,
    /// Sessions that have ended.
    pub ended: Vec<SessionId>,
    /// What was reported.
    pub reports: Vec<Report>,
}

/// A session, and what is known of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The session.
    pub session: Session,
    /// What it reported, if it has.
    pub report: Option<Report>,
    /// How long ago it began.
    pub age: Duration,
    /// How long ago it ended, if it has.
    pub ended: Option<Duration>,
    /// Whether it has ended because its replica vanished: its stream may be open still.
    pub orphaned: bool,
}

impl News {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.ended.is_empty() && self.reports.is_empty()
    }

    /// In one order: replicas that write the same rows at once must not wait for each other in a circle.
    #[must_use]
    pub(super) fn sorted(mut self) -> Self {
        self.open.sort_by(|one, other| one.0.id.cmp(&other.0.id));
        self.ended.sort();
        self.reports.sort_by(|one, other| one.session.cmp(&other.session));
        self
    }
}

/// A session, as a database takes it.
pub(super) struct SessionRow {
    pub labels: String,
    pub epoch: String,
}

impl SessionRow {
    pub fn of(session: &Session) -> Result<Self, Failure> {
        Ok(Self { labels: json(&session.labels)?, epoch: session.epoch.to_string() })
    }
}

/// A report, as a database takes it.
pub(super) struct ReportRow {
    pub session: String,
    pub applied: i64,
    pub rejected: i64,
    pub reason: String,
    pub names: String,
    pub left: bool,
}

impl ReportRow {
    pub fn of(report: &Report) -> Result<Self, Failure> {
        let Report { session, applied, rejection, left } = report;
        let names = json(rejection.as_ref().map_or(&[][..], |rejection| &rejection.names))?;
        Ok(Self {
            session: session.0.clone(),
            applied: write_revision(*applied),
            rejected: rejection.as_ref().map_or(0, |rejection| write_revision(rejection.revision)),
            reason: rejection.as_ref().map(|rejection| rejection.reason.clone()).unwrap_or_default(),
            names,
            left: *left,
        })
    }
}

fn json(value: &(impl serde::Serialize + ?Sized)) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Internal(error.to_string()))
}

/// A session with its report, as a database tells it.
#[derive(FromRow)]
pub(super) struct MemberRow {
    id: String,
    replica: String,
    epoch: String,
    subject: String,
    worker: String,
    labels: String,
    client_version: String,
    view: String,
    secrets: bool,
    silent: bool,
    age: f64,
    ended: Option<f64>,
    orphaned: bool,
    applied: Option<i64>,
    rejected: Option<i64>,
    rejection_reason: Option<String>,
    rejection_names: Option<String>,
    has_left: Option<bool>,
}

impl MemberRow {
    /// Reads rows. One that somebody edited does not take the others along.
    pub fn read(rows: Vec<Self>) -> Vec<Member> {
        let read = |row: Self| {
            let id: String = row.id.escape_debug().take(64).collect();
            let member = row.member();
            if member.is_none() {
                tracing::warn!(id, "the row of a worker's session can't be read");
            }
            member
        };
        rows.into_iter().filter_map(read).collect()
    }

    fn member(self) -> Option<Member> {
        let id = SessionId(self.id);
        let labels: Labels = serde_json::from_str(&self.labels).ok()?;
        let report = match self.applied {
            None => None,
            Some(applied) => {
                let rejected = read_revision(self.rejected?).ok()?;
                let (reason, names) =
                    (self.rejection_reason?, serde_json::from_str(&self.rejection_names?).ok()?);
                let rejection = Rejection { revision: rejected, reason, names };
                Some(Report {
                    session: id.clone(),
                    applied: read_revision(applied).ok()?,
                    rejection: (rejected > Revision::ZERO).then_some(rejection),
                    left: self.has_left?,
                })
            }
        };
        let session = Session {
            id,
            replica: ReplicaId(self.replica),
            epoch: Epoch::parse(&self.epoch)?,
            subject: self.subject,
            worker: self.worker,
            labels,
            client_version: self.client_version,
            view: self.view,
            secrets: self.secrets,
            silent: self.silent,
        };
        let age = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).ok();
        let ended = match self.ended {
            None => None,
            Some(seconds) => Some(age(seconds)?),
        };
        let orphaned = self.orphaned && ended.is_some();
        Some(Member { session, report, age: age(self.age)?, ended, orphaned })
    }
}
