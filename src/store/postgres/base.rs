//! The writing connection to PostgreSQL: each call is one transaction on it, under the head row's lock.
//!
//! Other replicas write too, so nothing is remembered of the head but where it was last seen. What a commit became whose
//! answer got lost is found out before anybody is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, SqlSafeStr, SqlStr};
use tokio::time::Instant;

use super::{
    aside::{expire, forget_rows, forget_secrets, raise_floor, write_audit},
    awaited,
    cluster::check_fence,
    commit::{LOST, Locked, Requests, write_effects},
    doorbell::Bell,
    facts::{Found, Question},
    failure::Trouble,
    session::{Answers, BEGIN_ASIDE, BEGIN_WRITE, SILENCE, Server, ask, asked, execute, first, say},
    whereabouts,
};
use crate::{
    domain::{Clock, Epoch, Revision, WriteSet, audit::AuditEvent},
    store::{
        Lease,
        chain::ChainKeys,
        failure::Failure,
        life,
        plan::{Effects, Facts, Group},
        rows::{HeadState, RequestRow, write_time},
        sql,
        tail::Tail,
        writer::{Answer, Base},
    },
};

/// How long a connection that lay idle may take to answer, before a new one is tried in its stead.
const STALE: Duration = Duration::from_millis(2500);
/// How long is looked for what became of a commit whose answer was lost. A session that hangs in between is ended by the
/// server after 5 s.
const SETTLE: Duration = Duration::from_secs(10);
/// Pause between attempts at that.
const PAUSE: Duration = Duration::from_millis(100);

/// Why nobody knows what became of a commit, unless something else is known.
const LOST_IN_COMMIT: &str = "the store was lost while it committed";

/// The doorbell of the others rings with the commit, or not at all. It says nothing: they look for themselves.
const COMMIT_AND_RING: &str = "NOTIFY signalbox; COMMIT";
const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";

/// The state of the writing connection.
pub struct PostgresBase {
    pub server: Server,
    /// Connections that read, to find out what a write waits for.
    pub readers: PgPool,
    /// `None` after a failure, until the next call opens it anew.
    pub connection: Option<PgConnection>,
    pub keys: Arc<ChainKeys>,
    pub clock: Arc<dyn Clock>,
    pub bell: Arc<Bell>,
    /// What this process committed last.
    pub tail: Arc<Tail>,
    /// Where this process last saw the head.
    pub left_at: Option<HeadState>,
    /// Whether the database knows NOTIFY.
    pub notifies: bool,
    /// Whether the database tells where it is.
    pub tells_place: bool,
    /// Number of the server's process that writes for us: the doorbell has rung for its commits already.
    pub session: Arc<AtomicI32>,
}

#[async_trait]
impl Base for PostgresBase {
    const SYSTEM: &'static str = "postgresql";

    async fn commit(&mut self, writes: &[WriteSet]) -> Result<Vec<Answer>, Failure> {
        let done = match self.commit_group(writes, Requests::New).await {
            Err(Failure::Refused(_)) => self.commit_group(writes, Requests::Doubtful).await,
            done => done,
        };
        match done {
            Err(Failure::Unavailable(why)) => {
                let better = awaited::instead(&self.readers, why).await;
                Err(Failure::Unavailable(better.unwrap_or(why)))
            }
            done => done,
        }
    }

    async fn audit(&mut self, events: &[AuditEvent]) -> Result<(), Failure> {
        let done = write_audit(self.begin(BEGIN_ASIDE).await?, events).await;
        self.end(done).await
    }

    async fn expire(&mut self, requests: DateTime<Utc>, audit: DateTime<Utc>) -> Result<(), Failure> {
        let done = expire(self.begin(BEGIN_ASIDE).await?, requests, audit).await;
        self.end(done).await
    }

    async fn raise_floor(&mut self, lease: Option<&Lease>, floor: Revision) -> Result<Revision, Failure> {
        let (keys, left, time) = (Arc::clone(&self.keys), self.left_at, write_time(self.clock.now()));
        let (connection, locked) = self.lock().await?;
        let done = async {
            if let Some(lease) = lease {
                check_fence(connection, lease).await?;
            }
            raise_floor(connection, locked?, &keys, left, floor, time).await
        };
        let done = done.await;
        let head = self.end(done).await?;
        self.left_at = Some(head);
        // It may hold what is being forgotten, and a reader must learn of the floor.
        self.tail.clear();
        Ok(head.head.floor)
    }

    async fn forget_rows(&mut self, from: i64, floor: Revision) -> Result<Option<(i64, u64)>, Failure> {
        let done = forget_rows(self.begin(BEGIN_WRITE).await?, from, floor).await;
        self.end(done).await
    }

    async fn forget_secrets(&mut self) -> Result<(), Failure> {
        let done = forget_secrets(self.begin(BEGIN_WRITE).await?).await;
        self.end(done).await
    }

    async fn begin_life(&mut self, seen: Epoch) -> Result<Epoch, Failure> {
        let (keys, tells_place, now) = (Arc::clone(&self.keys), self.tells_place, self.clock.now());
        let (connection, locked) = self.lock().await?;
        let done = async {
            let head = begin_life(connection, locked?, &keys, seen, now).await?;
            if tells_place {
                // With the epoch or not at all: whoever finds the old place has found the old life.
                whereabouts::note(connection).await?;
            }
            Ok(head)
        };
        let done = done.await;
        let done = self.end(done).await;
        // Even if the answer was lost: whoever looks finds either life.
        self.tail.clear();
        self.bell.ring();
        let head = done?;
        self.left_at = Some(head);
        Ok(head.head.epoch)
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            let closed = tokio::time::timeout(SILENCE, sqlx::Connection::close(connection)).await;
            if !closed.is_ok_and(|closed| closed.is_ok()) {
                tracing::warn!("the database's connection did not close in order");
            }
        }
    }
}

impl PostgresBase {
    /// One transaction for a group.
    async fn commit_group(
        &mut self,
        writes: &[WriteSet],
        requests: Requests,
    ) -> Result<Vec<Answer>, Failure> {
        let (keys, left, now) = (Arc::clone(&self.keys), self.left_at, self.clock.now());
        let question = Question::of(writes);
        let (connection, mut answers) = self.start(question.text()).await?;
        let found = question.found(&mut answers);
        let done = match Locked::read(answers) {
            Ok(locked) => {
                plan_and_write(connection, locked, &keys, (left, now), &found, (writes, requests)).await
            }
            Err(failure) => Err(failure),
        };
        let (answers, before, effects) = match done {
            Ok(Planned::Group(answers, before, effects)) => (answers, before, effects),
            Ok(Planned::Life(head)) => {
                self.end(Ok(())).await?;
                tracing::error!(epoch = %head.head.epoch, "the database has lost commits; the store is in a new life");
                self.left_at = Some(head);
                self.tail.clear();
                self.bell.ring();
                return Err(LOST);
            }
            Err(failure) => return Err(self.failed(failure).await),
        };
        let Some(effects) = effects else {
            self.left_at = Some(before);
            // Nothing was written; a connection that can't even say so is found out by the next call.
            self.finish(ROLLBACK).await.ok();
            return Ok(answers);
        };
        self.make_durable(&effects).await?;
        self.left_at = Some(effects.head);
        self.tail.push(before.head.revision, *effects);
        self.bell.ring();
        Ok(answers)
    }

    /// Begins a transaction under the head row's lock; what it found there may itself be a failure.
    async fn lock(&mut self) -> Result<(&mut PgConnection, Result<Locked, Failure>), Failure> {
        let (connection, answers) = self.start(BEGIN_WRITE).await?;
        Ok((connection, Locked::read(answers)))
    }

    /// Begins a transaction.
    async fn begin(&mut self, text: &'static str) -> Result<&mut PgConnection, Failure> {
        Ok(self.start(text).await?.0)
    }

    /// Begins a transaction, on a new connection if there is none or the old one has died, and keeps what its beginning
    /// answered.
    async fn start(&mut self, text: impl SqlSafeStr) -> Result<(&mut PgConnection, Answers), Failure> {
        let text: SqlStr = text.into_sql_str();
        if let Some(mut connection) = self.connection.take() {
            match ask(&mut connection, text.clone(), STALE).await {
                Ok(answers) => return Ok((self.connection.insert(connection), answers)),
                Err(trouble) if trouble.answered => {
                    tracing::warn!(failure = ?trouble.failure, "the database does not take a write now");
                    return Err(trouble.failure);
                }
                // Nothing was asked for yet that could have been done.
                Err(_) => {}
            }
        }
        let mut connection = self.server.connect().await?;
        let session: Vec<(i32,)> = asked(&mut connection, "SELECT pg_backend_pid()", SILENCE).await?;
        self.session.store(session.first().map_or(0, |(id,)| *id), Ordering::Relaxed);
        let answers = ask(&mut connection, text, SILENCE).await?;
        Ok((self.connection.insert(connection), answers))
    }

    /// Ends the transaction with a text.
    async fn finish(&mut self, text: &'static str) -> Result<(), Trouble> {
        let Some(mut connection) = self.connection.take() else { return Ok(()) };
        say(&mut connection, text, SILENCE).await?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Commits what can be done again without harm, so that a lost answer is only a failure.
    async fn end<T>(&mut self, done: Result<T, Failure>) -> Result<T, Failure> {
        match done {
            Ok(done) => {
                self.finish(COMMIT).await?;
                Ok(done)
            }
            Err(failure) => Err(self.failed(failure).await),
        }
    }

    /// Commits a group. If the answer is lost, it is not answered before it is known.
    async fn make_durable(&mut self, effects: &Effects) -> Result<(), Failure> {
        let text = if self.notifies { COMMIT_AND_RING } else { COMMIT };
        match self.finish(text).await {
            Ok(()) => Ok(()),
            Err(trouble) if trouble.answered => Err(trouble.failure),
            Err(trouble) => {
                tracing::warn!(failure = ?trouble.failure, "the answer to a commit was lost");
                self.settle(effects, trouble.failure).await
            }
        }
    }

    /// Finds out what became of a commit, by the requests that it answers.
    async fn settle(&mut self, effects: &Effects, lost: Failure) -> Result<(), Failure> {
        let Some(written) = effects.requests.first() else { return Err(lost) };
        let deadline = Instant::now() + SETTLE;
        loop {
            match self.is_there(written).await {
                Ok(true) => {
                    tracing::info!("the commit whose answer was lost took place");
                    return Ok(());
                }
                Ok(false) => return Err(lost),
                Err(failure) if Instant::now() >= deadline => {
                    tracing::error!(?failure, "what became of a commit could not be found out");
                    let Failure::Unavailable(why) = failure else {
                        return Err(Failure::Unknown(LOST_IN_COMMIT));
                    };
                    let better = awaited::instead(&self.readers, why).await;
                    return Err(Failure::Unknown(better.unwrap_or(LOST_IN_COMMIT)));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Whether a row of a commit is there. Asked under the head row's lock: whoever may still be committing holds it, so
    /// that what is not there then never will be.
    async fn is_there(&mut self, written: &RequestRow) -> Result<bool, Failure> {
        let connection = self.begin(BEGIN_WRITE).await?;
        let query = sqlx::query(sql::REQUEST).bind(&written.principal).bind(&written.request_id);
        let found: Result<Option<RequestRow>, Trouble> = first(connection, query).await;
        match found {
            Ok(found) => {
                self.finish(ROLLBACK).await.ok();
                Ok(found.as_ref() == Some(written))
            }
            Err(trouble) => Err(self.failed(trouble.failure).await),
        }
    }

    /// After a failure the connection is not believed any more, unless a constraint was all that failed.
    async fn failed(&mut self, failure: Failure) -> Failure {
        if matches!(failure, Failure::Refused(_)) {
            self.finish(ROLLBACK).await.ok();
            return failure;
        }
        tracing::warn!(?failure, "the store did not take a write");
        // Dropped without a word, so that a server that hangs keeps nobody waiting; it rolls back by itself.
        self.connection = None;
        failure
    }
}

/// What stands between BEGIN and COMMIT.
enum Planned {
    /// A group: the answers, where the head was, and what was written, if anything.
    Group(Vec<Answer>, HeadState, Option<Box<Effects>>),
    /// A new life in its stead, because what this process wrote or saw in the lost one is gone.
    Life(HeadState),
}

async fn plan_and_write(
    connection: &mut PgConnection,
    locked: Locked,
    keys: &ChainKeys,
    (left, now): (Option<HeadState>, DateTime<Utc>),
    found: &Found<'_>,
    (writes, requests): (&[WriteSet], Requests),
) -> Result<Planned, Failure> {
    let (before, lost) = locked.check(connection, keys, left).await?;
    if lost {
        return Ok(Planned::Life(put_epoch(connection, before, now).await?));
    }
    let mut facts = found.facts(before)?;
    if requests == Requests::Doubtful {
        found.look_up(connection, &mut facts).await?;
    }
    let (mut answers, mut effects) = plan(keys, facts, writes);
    // What no longer fits may have been carried out before.
    if requests == Requests::New && answers.iter().any(Result::is_err) {
        let mut facts = found.facts(before)?;
        found.look_up(connection, &mut facts).await?;
        (answers, effects) = plan(keys, facts, writes);
    }
    if let Some(effects) = &effects {
        write_effects(connection, before, effects).await?;
    }
    Ok(Planned::Group(answers, before, effects.map(Box::new)))
}

fn plan(keys: &ChainKeys, facts: Facts, writes: &[WriteSet]) -> (Vec<Answer>, Option<Effects>) {
    let mut group = Group::new(keys, facts);
    (writes.iter().map(|write| group.plan(write)).collect(), group.finish())
}

/// Gives the store a new epoch if it still has the one that was seen.
async fn begin_life(
    connection: &mut PgConnection,
    locked: Locked,
    keys: &ChainKeys,
    seen: Epoch,
    now: DateTime<Utc>,
) -> Result<HeadState, Failure> {
    // Wherever this process left it: that is what was lost.
    let (head, _) = locked.check(connection, keys, None).await?;
    match head.head.epoch == seen {
        true => put_epoch(connection, head, now).await,
        false => Ok(head),
    }
}

/// Gives the store a new epoch, and tells the audit with it: whoever finds the new life finds why it began.
async fn put_epoch(
    connection: &mut PgConnection,
    mut head: HeadState,
    now: DateTime<Utc>,
) -> Result<HeadState, Failure> {
    let seen = head.head.epoch;
    head.head.epoch = Epoch(rand::random());
    let query = sqlx::query(sql::BEGIN_LIFE).bind(head.head.epoch.to_string()).bind(seen.to_string());
    execute(connection, query, SILENCE).await?;
    write_audit(connection, &[life::event(now, seen, head.head)]).await?;
    Ok(head)
}
