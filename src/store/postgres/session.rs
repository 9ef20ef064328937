//! Connections to PostgreSQL, and statements on them: each bounded, by the server and by us.
//!
//! It works through a pooler that gives each transaction another connection of the server's. Therefore:
//!
//! - Everything happens within an explicit transaction. sqlx prepares and executes in two round trips, between which
//!   such a pooler would change the connection.
//! - Statements have no names (`persistent(false)`): sqlx never closes the named ones that its cache is too small for, and
//!   the next client of the connection would find its own names taken. What has no parameters goes as plain text.
//! - Nothing is set for a session. The bounds are `SET LOCAL`, in the same message as `BEGIN`, so that they cost no round
//!   trip; nor are they given at the start of a connection, where poolers refuse what they don't know.
//!
//! The driver offers no TCP keepalives. The bounds here stand in for them: nothing ever waits for a silent server longer.

use std::{io::ErrorKind, str::FromStr as _, time::Duration};

use futures_util::TryStreamExt as _;
use sqlx::{
    ConnectOptions as _, Either, FromRow, PgConnection, PgPool, Postgres, SqlSafeStr,
    pool::PoolConnection,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
    query::Query,
};
use tokio::time::Instant;

use super::failure::{NO_DATABASE, Trouble, bounded};
use crate::store::{
    StoreError,
    failure::{Failure, UNREACHABLE},
    sql::log_rows,
};

/// After so long without a word the server is given up. Longer than its own bounds, so that it can say why.
pub const SILENCE: Duration = Duration::from_millis(4000);
/// The same for statements that read or write much before they answer.
pub const LONG_SILENCE: Duration = Duration::from_secs(30);
/// How long opening a connection may take: with TLS and password that is six ways to the server and back, of which each may take half
/// a second. Less than [`SILENCE`], so that it is told apart.
const CONNECT: Duration = Duration::from_millis(3500);
/// Connections that read.
const READERS: u32 = 8;
/// An idle connection is closed before firewalls forget it.
const IDLE: Duration = Duration::from_secs(60);

/// The head row, and who answers. In the message that begins, so that it costs no round trip of its own.
macro_rules! head {
    () => {
        "SELECT epoch, revision, hash, digest, floor, floor_hash, pg_is_in_recovery() AS standby, \
            EXISTS (SELECT 1 FROM moves WHERE state <> 'arrived') AS moved FROM head WHERE id = 1"
    };
}

/// Begins a short read, and tells the head row: all of it sees one moment. The server counts the time that a slow line
/// takes, too; a silent one is given up by us.
pub const BEGIN_READ: &str = concat!(
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
    SET LOCAL statement_timeout = '30s'; SET LOCAL lock_timeout = '2s'; \
    SET LOCAL idle_in_transaction_session_timeout = '10s'; ",
    head!()
);
/// Begins a read of everything, and tells the head row.
pub const BEGIN_LONG_READ: &str = concat!(
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
    SET LOCAL statement_timeout = '10min'; SET LOCAL lock_timeout = '2s'; \
    SET LOCAL idle_in_transaction_session_timeout = '1min'; ",
    head!()
);
/// Begins a look at what there is, for which nothing is waited for long.
pub const BEGIN_LOOK: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL statement_timeout = '3s'; \
    SET LOCAL lock_timeout = '2s'; SET LOCAL idle_in_transaction_session_timeout = '10s'";
/// Begins a write, takes the lock that all writes take first, and tells the head row, where the log ends, and its last row at the
/// head. A row beyond that is not ours, however large it is. What follows the lock sees everything that was committed before.
///
/// A server whose commits don't wait for the disk is made to wait: what is acknowledged has to survive.
pub const BEGIN_WRITE: &str = concat!(
    "BEGIN ISOLATION LEVEL READ COMMITTED; \
    SET LOCAL statement_timeout = '30s'; SET LOCAL lock_timeout = '2s'; \
    SET LOCAL idle_in_transaction_session_timeout = '5s'; \
    SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'; \
    SELECT 1 FROM head WHERE id = 1 FOR UPDATE; ",
    head!(),
    "; SELECT max(revision) FROM log; SELECT * FROM ",
    log_rows!(),
    " AS log WHERE revision = (SELECT revision FROM head WHERE id = 1) ORDER BY ordinal DESC LIMIT 1"
);

/// The head row, in a transaction that began otherwise.
pub const HEAD: &str = head!();

macro_rules! begin_aside {
    () => {
        "BEGIN ISOLATION LEVEL READ COMMITTED; \
        SET LOCAL statement_timeout = '30s'; SET LOCAL lock_timeout = '2s'; \
        SET LOCAL idle_in_transaction_session_timeout = '5s'; \
        SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
    };
}
pub(super) use begin_aside;

/// Begins a write that has nothing to do with the log.
pub const BEGIN_ASIDE: &str = begin_aside!();

/// Begins a part of a move to or from another database: under the lock that writes take, and those of the audit, of
/// observations and of whoever tells of itself. What an earlier one was still committing is done or gone by then. The server waits while the
/// other database is written, and ends the transaction if this process dies.
pub const BEGIN_MOVE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
    SET LOCAL statement_timeout = '10min'; SET LOCAL lock_timeout = '2s'; \
    SET LOCAL idle_in_transaction_session_timeout = '1h'; \
    SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'; \
    SELECT 1 FROM head WHERE id = 1 FOR UPDATE; SELECT 1 FROM feature_level WHERE id = 1 FOR UPDATE; \
    LOCK TABLE audit, observations IN SHARE MODE";

/// What a server says that is starting, stopping or full: it comes by itself.
const PASSING: [&str; 4] = ["57P03", "57P01", "57P02", "53300"];

/// Whether an error of a connection may pass by itself. Not one of a file with a certificate or a key, nor of TLS.
fn may_come(kind: ErrorKind, at: &str) -> bool {
    match kind {
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::PermissionDenied => false,
        // A socket is not there while the server is not.
        ErrorKind::NotFound => at.starts_with('/'),
        _ => true,
    }
}

/// Where the database is and who we are there. It can't be printed: it holds a password.
#[derive(Clone)]
pub struct Server {
    options: PgConnectOptions,
}

impl Server {
    /// Reads a URL, in the form that `psql` takes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] without the URL's text, which may hold a password.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| StoreError::Unavailable("the database's URL can't be read".into()))?;
        // Poolers refuse parameters that they don't know at the start of a connection.
        let options = options.extra_float_digits(None).statement_cache_capacity(0);
        let options = if options.get_application_name().is_some() {
            options
        } else {
            options.application_name("signalbox")
        };
        Ok(Self { options: options.disable_statement_logging() })
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Result<PgConnection, Trouble> {
        bounded(CONNECT, self.options.connect()).await
    }

    /// Opens a connection for the first time: who is refused has to see as whom, and where.
    ///
    /// # Errors
    /// As [`Server::connect`], with user, database and place; [`StoreError::Absent`] where there is no such database. The password is
    /// not told.
    pub async fn connect_first(&self) -> Result<PgConnection, StoreError> {
        let told = |trouble: Trouble| match StoreError::from(Failure::from(trouble)) {
            StoreError::Unavailable(why) if why == NO_DATABASE => {
                StoreError::Absent(format!("{why}: {}", self.asked_for()))
            }
            StoreError::Unavailable(why) => StoreError::Unavailable(format!("{why}: {}", self.asked_for())),
            other => other,
        };
        self.connect().await.map_err(told)
    }

    /// What the URL asks for.
    fn asked_for(&self) -> String {
        let options = &self.options;
        let user = options.get_username();
        let name = options.get_database().unwrap_or(user);
        let place = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        format!("the URL asks for the database {name:?} as {user:?} at {place}")
    }

    /// Why nobody answers where the database is, if it is that: it may be waited for. `None` where it answers, whatever it says,
    /// unless it says that it is starting, stopping or full. Names host and port, never the password.
    pub async fn out_of_reach(&self) -> Option<String> {
        let options = &self.options;
        let at = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let why = match tokio::time::timeout(CONNECT, options.connect()).await {
            Err(_) => "it does not answer".to_owned(),
            Ok(Err(sqlx::Error::Io(error))) if may_come(error.kind(), &at) => error.to_string(),
            Ok(Err(sqlx::Error::Database(error)))
                if error.code().is_some_and(|code| PASSING.contains(&&*code)) =>
            {
                error.message().to_owned()
            }
            Ok(_) => return None,
        };
        Some(format!("the database at {at} can't be reached: {why}"))
    }

    /// A pool for reads, which opens connections when they are needed.
    pub fn readers(&self) -> PgPool {
        let pool = PgPoolOptions::new().max_connections(READERS).acquire_timeout(CONNECT);
        // `Lease::begin` finds out by itself, without a round trip of its own.
        let pool = pool.test_before_acquire(false).idle_timeout(IDLE);
        pool.connect_lazy_with(self.options.clone())
    }

    /// A pool of one connection, to listen on. A new one for each attempt: the driver cleans up behind a listener, and a
    /// connection that hangs would keep the place of the next.
    pub fn listener(&self) -> PgPool {
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT);
        pool.idle_timeout(None).max_lifetime(None).connect_lazy_with(self.options.clone())
    }
}

/// A reading connection within a transaction. Only [`Lease::end`] gives it back: one that is dropped, because its reader
/// was cancelled or the server failed, is closed, since nobody knows what it is in the middle of.
pub struct Lease(Option<PoolConnection<Postgres>>);

impl Lease {
    /// Begins a transaction with one of the texts above.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] after [`SILENCE`] at the latest.
    pub async fn begin(pool: &PgPool, text: &'static str) -> Result<Self, Failure> {
        Ok(Self::ask(pool, text).await?.0)
    }

    /// The same, with what each of the text's statements answered.
    ///
    /// # Errors
    /// As [`Lease::begin`].
    pub async fn ask(pool: &PgPool, text: &'static str) -> Result<(Self, Answers), Failure> {
        let deadline = Instant::now() + SILENCE;
        loop {
            let mut lease = Self(Some(acquire(pool).await?));
            let left = deadline.saturating_duration_since(Instant::now());
            match ask(lease.connection()?, text, left).await {
                Ok(answers) => return Ok((lease, answers)),
                Err(trouble) if trouble.answered => return Err(trouble.failure),
                // It had died while it lay idle. So have the others, most likely: none of them is to cost a wait of its own.
                Err(trouble) => {
                    while let Some(idle) = pool.try_acquire() {
                        drop(idle.detach());
                    }
                    if Instant::now() >= deadline {
                        return Err(trouble.failure);
                    }
                }
            }
        }
    }

    /// The connection.
    pub fn connection(&mut self) -> Result<&mut PgConnection, Failure> {
        self.0.as_deref_mut().ok_or(Failure::Unavailable("the database is closed"))
    }

    /// Commits what was written, and gives the connection back.
    ///
    /// # Errors
    /// [`Failure::Unavailable`]: whether it was committed is not known then.
    pub async fn commit(mut self) -> Result<(), Failure> {
        say(self.connection()?, "COMMIT", SILENCE).await?;
        drop(self.0.take());
        Ok(())
    }

    /// Gives the connection back, after a transaction whose end was told by other means.
    pub fn give_back(&mut self) {
        drop(self.0.take());
    }

    /// Ends a transaction that only read, and gives the connection back.
    pub async fn end(mut self) {
        if let Ok(connection) = self.connection()
            && say(connection, "COMMIT", SILENCE).await.is_ok()
        {
            drop(self.0.take());
        }
    }
}

/// A connection of a pool. One that has room left and still gives none could not open it.
async fn acquire(pool: &PgPool) -> Result<PoolConnection<Postgres>, Failure> {
    let acquired = tokio::time::timeout(SILENCE, pool.acquire()).await.map_err(Trouble::silence)?;
    acquired.map_err(|error| not_opened(pool, error))
}

/// Why a pool gave no connection.
pub fn not_opened(pool: &PgPool, error: sqlx::Error) -> Failure {
    match error {
        sqlx::Error::PoolTimedOut if pool.size() < pool.options().get_max_connections() => {
            Failure::Unavailable(UNREACHABLE)
        }
        error => error.into(),
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// What each statement of a text answered, in order.
pub type Answers = Vec<Vec<PgRow>>;

/// Carries out text without parameters in one round trip, and keeps what each of its statements answered. Between two words of the
/// server there may be `patience`: rows may be many and large.
pub async fn ask(
    connection: &mut PgConnection,
    text: impl SqlSafeStr,
    patience: Duration,
) -> Result<Answers, Trouble> {
    let (mut answers, mut rows) = (vec![], vec![]);
    let mut steps = sqlx::raw_sql(text).fetch_many(connection);
    while let Some(step) = bounded(patience, steps.try_next()).await? {
        match step {
            Either::Left(_) => answers.push(std::mem::take(&mut rows)),
            Either::Right(row) => rows.push(row),
        }
    }
    Ok(answers)
}

/// Carries out text without parameters, whatever it answers.
pub async fn say(
    connection: &mut PgConnection,
    text: &'static str,
    patience: Duration,
) -> Result<(), Trouble> {
    bounded(patience, sqlx::raw_sql(text).execute(connection)).await.map(drop)
}

/// The rows that text without parameters answers.
pub async fn asked<T: for<'r> FromRow<'r, PgRow>>(
    connection: &mut PgConnection,
    text: &'static str,
    patience: Duration,
) -> Result<Vec<T>, Trouble> {
    let rows = bounded(patience, sqlx::raw_sql(text).fetch_all(connection)).await?;
    Ok(rows.iter().map(T::from_row).collect::<Result<_, _>>()?)
}

/// Gives each row of a query to `each` as it comes.
pub async fn each(
    connection: &mut PgConnection,
    query: Query<'_, Postgres, PgArguments>,
    patience: Duration,
    mut each: impl FnMut(PgRow),
) -> Result<(), Trouble> {
    let mut rows = query.persistent(false).fetch(connection);
    while let Some(row) = bounded(patience, rows.try_next()).await? {
        each(row);
    }
    Ok(())
}

/// All rows of a query.
pub async fn all<T: for<'r> FromRow<'r, PgRow>>(
    connection: &mut PgConnection,
    query: Query<'_, Postgres, PgArguments>,
    patience: Duration,
) -> Result<Vec<T>, Trouble> {
    let mut found = vec![];
    each(connection, query, patience, |row| found.push(T::from_row(&row))).await?;
    Ok(found.into_iter().collect::<Result<_, _>>()?)
}

/// The first row of a query.
pub async fn first<T: for<'r> FromRow<'r, PgRow>>(
    connection: &mut PgConnection,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Option<T>, Trouble> {
    Ok(all(connection, query, SILENCE).await?.into_iter().next())
}

/// Carries out a statement; how many rows it wrote.
pub async fn execute(
    connection: &mut PgConnection,
    query: Query<'_, Postgres, PgArguments>,
    patience: Duration,
) -> Result<u64, Trouble> {
    Ok(bounded(patience, query.persistent(false).execute(connection)).await?.rows_affected())
}
