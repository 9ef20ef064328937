//! Opening the file: lock, permissions, header, pragmas, migrations, identity. Nothing here needs a key.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Read as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    str::FromStr as _,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool,
    migrate::{MigrateError, Migration, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::store::failure::Failure;
use crate::{
    domain::{
        Epoch, Release, StoreId,
        keys::{Identity, KeyCheck, WrappedKey},
    },
    store::{
        StoreError,
        moving::fence::{FENCE, Passage},
        schema::{self, Had, NEEDS, step, steps_of, version_of},
        sql,
    },
};

/// Marks our files: `SBOX`, at offset 68 of the header.
const APPLICATION_ID: u32 = 0x5342_4f58;
/// Older releases can corrupt a database in WAL mode.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);
/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that read.
const READERS: u32 = 4;
const APPLIED: &str = "SELECT version, checksum FROM _sqlx_migrations ORDER BY version";

/// The schema, step by step; a step that has landed is never edited. (`sqlx::migrate!` needs a feature of sqlx that
/// builds a second SQLite for the compiler.)
fn migrations(release: Release) -> Vec<Migration> {
    let own = vec![
        step(1, "initial", include_str!("../../../migrations/sqlite/0001_initial.sql")),
        step(2, "cluster", include_str!("../../../migrations/sqlite/0002_cluster.sql")),
        step(3, "moves", include_str!("../../../migrations/sqlite/0003_moves.sql")),
        step(4, "observations", include_str!("../../../migrations/sqlite/0004_observations.sql")),
        step(5, "fleet", include_str!("../../../migrations/sqlite/0005_fleet.sql")),
        step(6, "steps", include_str!("../../../migrations/sqlite/0006_steps.sql")),
        step(7, "traces", include_str!("../../../migrations/sqlite/0007_traces.sql")),
        step(8, "level", include_str!("../../../migrations/sqlite/0008_level.sql")),
    ];
    steps_of(release, own)
}

/// Holds the lock file. The kernel lets go of it when the process dies, however it dies.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Makes what is missing on disk, and says no before anything is touched that is not ours.
pub(super) fn prepare_files(path: &Path, create: bool) -> Result<Lock, StoreError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if create {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| cannot(path, "its directory can't be made", &error))?;
    } else if !path.exists() {
        return Err(StoreError::Absent(format!("there is no store at {}", path.display())));
    }
    let lock = take_lock(path)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).mode(0o600);
    let mut file = options.open(path).map_err(|error| cannot(path, "it can't be opened", &error))?;
    warn_if_wide(directory, 0o022);
    warn_if_wide(path, 0o077);
    check_header(path, &mut file, create)?;
    Ok(lock)
}

fn take_lock(path: &Path) -> Result<Lock, StoreError> {
    let lock_path = beside(path, ".lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file =
        options.open(&lock_path).map_err(|error| cannot(path, "its lock file can't be made", &error))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Unavailable(format!(
            "another process has {} open: it holds {}",
            path.display(),
            lock_path.display()
        ))),
        Err(error) => Err(cannot(path, "it can't be locked", &error.into())),
    }
}

/// Warns of a mode that lets in others than us.
fn warn_if_wide(path: &Path, forbidden: u32) {
    let mode = fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o777);
    if let Ok(mode) = mode
        && mode & forbidden != 0
    {
        tracing::warn!(path = %path.display(), mode = format_args!("{mode:o}"), "others have access to the store");
    }
}

/// Refuses a file that is not ours, before SQLite may touch it. An empty one is a store to be made.
fn check_header(path: &Path, file: &mut File, create: bool) -> Result<(), StoreError> {
    let mut header = [0; 100];
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            let length = file.metadata().map_err(|error| cannot(path, "it can't be read", &error))?.len();
            return match (length, create) {
                (0, true) => Ok(()),
                (0, false) => Err(StoreError::Absent(format!("there is no store at {}", path.display()))),
                _ => Err(StoreError::Damaged(format!("{} is not a store of Signalbox", path.display()))),
            };
        }
        Err(error) => return Err(cannot(path, "it can't be read", &error)),
    }
    let ours = header.starts_with(b"SQLite format 3\0") && header[68..72] == APPLICATION_ID.to_be_bytes();
    if !ours {
        return Err(StoreError::Damaged(format!("{} is not a store of Signalbox", path.display())));
    }
    let length = file.metadata().map_err(|error| cannot(path, "it can't be read", &error))?.len();
    // While a write-ahead log is there, the end of the database may stand in it.
    let log = fs::metadata(beside(path, "-wal")).map_or(0, |metadata| metadata.len());
    if log == 0 && length < written_length(&header) {
        return Err(cut(path));
    }
    Ok(())
}

/// The length that the header tells: pages, and bytes of a page, where 1 stands for 65,536.
fn written_length(header: &[u8; 100]) -> u64 {
    let size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    u64::from(u32::from_be_bytes([header[28], header[29], header[30], header[31]])) * size
}

/// The file beside the database that SQLite or we name after it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn cut(path: &Path) -> StoreError {
    StoreError::Damaged(format!("{} is shorter than it was written", path.display()))
}

fn cannot(path: &Path, what: &str, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("{}: {what}: {error}", path.display()))
}

/// Options of the connection that writes.
pub(super) fn writer_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
        // KiB, negative: a group touches many pages of a large store.
        .pragma("cache_size", "-65536")
        // Pages: less often, because neighbouring groups touch the same ones.
        .pragma("wal_autocheckpoint", "4000")
        .disable_statement_logging()
}

/// Connections that can't write.
pub(super) async fn open_readers(path: &Path) -> Result<SqlitePool, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("query_only", "ON")
        .pragma("trusted_schema", "OFF")
        .disable_statement_logging();
    let pool = SqlitePoolOptions::new().max_connections(READERS).acquire_timeout(BUSY_TIMEOUT);
    // A file does not hang up: asking each connection whether it still works would only cost a round.
    let pool = pool.test_before_acquire(false);
    pool.connect_with(options).await.map_err(|error| Failure::from(error).into())
}

/// A connection for rare writes, which is opened when it is needed and closed soon after.
pub(super) fn aside(options: SqliteConnectOptions) -> SqlitePool {
    let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(BUSY_TIMEOUT);
    pool.idle_timeout(BUSY_TIMEOUT).connect_lazy_with(options)
}

/// Opens the writer's connection on a file that [`prepare_files`] has let through, and brings the schema up to date.
pub(super) async fn open_writer(path: &Path, release: Release) -> Result<SqliteConnection, StoreError> {
    mark_if_empty(path).await?;
    let mut connection = writer_options(path).connect().await.map_err(Failure::from)?;
    check_version(&mut connection).await?;
    check_length(path, &mut connection).await?;
    migrate(path, &mut connection, release).await?;
    ensure_identity(&mut connection).await?;
    Ok(connection)
}

/// Gives an empty file our mark as its first write, in one step, so that a crash never leaves a file without it.
async fn mark_if_empty(path: &Path) -> Result<(), StoreError> {
    let length = fs::metadata(path).map_err(|error| cannot(path, "it can't be read", &error))?.len();
    if length > 0 {
        return Ok(());
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .pragma("application_id", "0x53424f58");
    let connection = options.disable_statement_logging().connect().await.map_err(Failure::from)?;
    Ok(connection.close().await.map_err(Failure::from)?)
}

async fn check_version(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let text: String =
        sqlx::query_scalar("SELECT sqlite_version()").fetch_one(connection).await.map_err(Failure::from)?;
    let mut parts = text.split('.').map(|part| u32::from_str(part).unwrap_or_default());
    let mut next = || parts.next().unwrap_or_default();
    if (next(), next(), next()) < OLDEST_SQLITE {
        let (major, minor, patch) = OLDEST_SQLITE;
        return Err(StoreError::Internal(format!(
            "SQLite is {text}; at least {major}.{minor}.{patch} is needed"
        )));
    }
    Ok(())
}

/// A file that is shorter than its database was cut, unless what is missing stands in the write-ahead log.
async fn check_length(path: &Path, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let failed = Failure::from;
    let pages: i64 =
        sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *connection).await.map_err(failed)?;
    let size: i64 =
        sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut *connection).await.map_err(failed)?;
    let length = fs::metadata(path).map_err(|error| cannot(path, "it can't be read", &error))?.len();
    if i64::try_from(length).is_ok_and(|length| length >= pages * size) {
        return Ok(());
    }
    let found: Result<String, _> = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(connection).await;
    match found.map_err(failed) {
        Ok(found) if found == "ok" => Ok(()),
        Ok(_) | Err(Failure::Damaged(_)) => Err(cut(path)),
        Err(failure) => Err(failure.into()),
    }
}

async fn migrate(path: &Path, connection: &mut SqliteConnection, release: Release) -> Result<(), StoreError> {
    let shown = path.display();
    check_applied(path, connection, release).await?;
    let mut migrator = Migrator::with_migrations(migrations(release));
    // What it would miss was just looked at.
    migrator.set_ignore_missing(true);
    // `run` takes any `Acquire`, for which the compiler can't see that the future is Send.
    migrator.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::VersionMismatch(version) | MigrateError::Dirty(version) => StoreError::Damaged(
            format!("{shown} has a schema {version} that is not the one of this signalbox"),
        ),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            Failure::from(error).into()
        }
        error => StoreError::Internal(error.to_string()),
    })
}

/// The steps that the file has had must be ours, or let this binary run over them.
async fn check_applied(
    path: &Path,
    connection: &mut SqliteConnection,
    release: Release,
) -> Result<(), StoreError> {
    let steps = rows_of(connection, "_sqlx_migrations", APPLIED).await?;
    let needs = rows_of(connection, "schema_steps", NEEDS).await?;
    let place = path.display().to_string();
    schema::check(&place, &Had { steps, needs }, &migrations(release), release.level).map(drop)
}

/// The rows of a table, if there is one.
async fn rows_of<T>(
    connection: &mut SqliteConnection,
    table: &str,
    text: &'static str,
) -> Result<Vec<(i64, T)>, StoreError>
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    let there = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = $1").bind(table);
    let there: i64 = there.fetch_one(&mut *connection).await.map_err(Failure::from)?;
    match there {
        0 => Ok(vec![]),
        _ => Ok(sqlx::query_as(text).fetch_all(connection).await.map_err(Failure::from)?),
    }
}

/// Tells of a schema that is newer than this binary's.
pub(super) fn tell_of_schema(path: &Path, identity: &Identity, release: Release) {
    schema::tell(&path.display().to_string(), identity.schema_version, &migrations(release));
}

/// Refuses a schema that is newer than this binary's.
pub(super) fn know_all(path: &Path, identity: &Identity, release: Release) -> Result<(), StoreError> {
    schema::know_all(&path.display().to_string(), identity.schema_version, &migrations(release))
}

/// Names an empty database. One statement each, and each only where nothing is: a crash between them does no harm.
async fn ensure_identity(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let store_id = uuid::Uuid::new_v4().to_string();
    let salt: [u8; 16] = rand::random();
    let identity = sqlx::query(
        "INSERT INTO identity (id, store_id, password_salt) VALUES (1, $1, $2) ON CONFLICT DO NOTHING",
    );
    identity.bind(store_id).bind(salt.to_vec()).execute(&mut *connection).await.map_err(Failure::from)?;
    let epoch = Epoch(rand::random());
    let head = sqlx::query(
        "INSERT INTO head (id, epoch, revision, hash, digest, floor, floor_hash) \
         SELECT 1, $1, 0, zeroblob(32), zeroblob(16), 0, zeroblob(32) \
         WHERE NOT EXISTS (SELECT 1 FROM head) AND NOT EXISTS (SELECT 1 FROM log)",
    );
    head.bind(epoch.to_string()).execute(connection).await.map_err(Failure::from)?;
    Ok(())
}

pub(super) async fn read_identity(connection: &mut SqliteConnection) -> Result<Identity, StoreError> {
    let failed = Failure::from;
    let (store_id, salt): (String, Vec<u8>) =
        sqlx::query_as(sql::IDENTITY).fetch_one(&mut *connection).await.map_err(failed)?;
    let checks: Vec<(String, String)> =
        sqlx::query_as(sql::KEY_CHECKS).fetch_all(&mut *connection).await.map_err(failed)?;
    let keys: Vec<(String, String, String)> =
        sqlx::query_as(sql::DATA_KEYS).fetch_all(&mut *connection).await.map_err(failed)?;
    let revision: i64 = sqlx::query_scalar("SELECT revision FROM head WHERE id = 1")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let newest: i64 = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    Ok(Identity {
        store_id: StoreId(store_id),
        fresh: checks.is_empty() && keys.is_empty() && revision == 0,
        key_checks: checks.into_iter().map(|(kek, value)| KeyCheck { kek, value }).collect(),
        keys: keys.into_iter().map(|(id, kek, wrapped)| WrappedKey { id, kek, wrapped }).collect(),
        password_salt: salt
            .try_into()
            .map_err(|_| StoreError::Damaged("its salt has a wrong length".into()))?,
        schema_version: version_of(newest),
    })
}

/// Where the store was moved to, if it was.
pub(super) async fn read_fence(connection: &mut SqliteConnection) -> Result<Option<Passage>, StoreError> {
    let found = sqlx::query_as(FENCE).fetch_optional(connection).await;
    let found: Option<(String, String, String, String, String)> = found.map_err(Failure::from)?;
    let read = |(id, state, place, other, time)| Passage::read([id, state, place, other, time]);
    Ok(found.map(read).transpose()?)
}
