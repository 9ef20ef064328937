//! Opening the database: what it has to be able to do, migrations, identity. Nothing here needs a key.
//!
//! Several replicas may start at once: the schema is made in one transaction under an advisory lock, so that one makes it
//! and the others find it, and whoever dies on the way leaves it as it was.

use sqlx::{PgConnection, migrate::Migration};

use super::{
    failure::bounded,
    moment::STANDBY,
    session::{BEGIN_LOOK, LONG_SILENCE, SILENCE, Server, all, asked, execute, say},
    whereabouts,
};
use crate::{
    domain::{
        Epoch, Release, StoreId,
        keys::{Identity, KeyCheck, WrappedKey},
    },
    store::{
        StoreError,
        failure::Failure,
        moving::fence::{FENCE, Passage},
        schema::{self, Had, NEEDS, step, steps_of, version_of},
        sql,
    },
};

/// Generated columns came with it.
const OLDEST_SERVER: i32 = 120_000;

/// The step that makes the table of where the database is.
const WHEREABOUTS: i64 = 10;

/// The schema, step by step; a step that has landed is never edited.
///
/// sqlx could run them, but only with a lock of the session, which a pooler loses and nothing bounds.
fn migrations(release: Release) -> Vec<Migration> {
    let own = vec![
        step(1, "initial", include_str!("../../../migrations/postgres/0001_initial.sql")),
        step(2, "cluster", include_str!("../../../migrations/postgres/0002_cluster.sql")),
        step(3, "moves", include_str!("../../../migrations/postgres/0003_moves.sql")),
        step(4, "environment", include_str!("../../../migrations/postgres/0004_environment.sql")),
        step(5, "observations", include_str!("../../../migrations/postgres/0005_observations.sql")),
        step(6, "fleet", include_str!("../../../migrations/postgres/0006_fleet.sql")),
        step(7, "verification", include_str!("../../../migrations/postgres/0007_verification.sql")),
        step(8, "bounds", include_str!("../../../migrations/postgres/0008_bounds.sql")),
        step(9, "steps", include_str!("../../../migrations/postgres/0009_steps.sql")),
        step(10, "whereabouts", include_str!("../../../migrations/postgres/0010_whereabouts.sql")),
        step(11, "traces", include_str!("../../../migrations/postgres/0011_traces.sql")),
        step(12, "level", include_str!("../../../migrations/postgres/0012_level.sql")),
        step(13, "orphans", include_str!("../../../migrations/postgres/0013_orphans.sql")),
        step(14, "vanished", include_str!("../../../migrations/postgres/0014_vanished.sql")),
    ];
    steps_of(release, own)
}

/// Begins the transaction of the migrations. The number is `signalbo` in ASCII: nobody else's lock.
const BEGIN_MIGRATION: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '25s'; \
    SET LOCAL statement_timeout = '10min'; SET LOCAL idle_in_transaction_session_timeout = '1min'; \
    SET LOCAL client_min_messages = 'warning'; SELECT pg_advisory_xact_lock(8316291851234042735)";
/// Looked up in the catalogue, since `to_regclass` may remember from before the lock that there is no such table.
const ABILITIES: &str = "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), \
    EXISTS (SELECT 1 FROM pg_class WHERE relname = 'signalbox_migrations' AND pg_table_is_visible(oid))";
const MAKE_TABLE: &str = "CREATE TABLE signalbox_migrations (version BIGINT PRIMARY KEY, \
    description TEXT NOT NULL, checksum BYTEA NOT NULL, time TIMESTAMPTZ NOT NULL DEFAULT now())";
const APPLIED: &str = "SELECT version, checksum FROM signalbox_migrations ORDER BY version";
const NEWEST: &str = "SELECT max(version) FROM signalbox_migrations";
const SAYS_NEEDS: &str =
    "SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname = 'schema_steps' AND pg_table_is_visible(oid))";
/// The store in words: a URL is not repeated.
const PLACE: &str = "the store";
const NOTE_APPLIED: &str =
    "INSERT INTO signalbox_migrations (version, description, checksum) VALUES ($1, $2, $3)";
const PUT_IDENTITY: &str =
    "INSERT INTO identity (id, store_id, password_salt) VALUES (1, $1, $2) ON CONFLICT DO NOTHING";
const PUT_HEAD: &str = "INSERT INTO head (id, epoch, revision, hash, digest, floor, floor_hash) \
    SELECT 1, $1, 0, $2, $3, 0, $2 WHERE NOT EXISTS (SELECT 1 FROM head) AND NOT EXISTS (SELECT 1 FROM log)";

/// What is found in a database whose schema is ours.
pub struct Prepared {
    /// What the store says of itself.
    pub identity: Identity,
    /// Whether the database knows NOTIFY.
    pub notifies: bool,
    /// Whether the database tells where it is.
    pub tells_place: bool,
    /// Where the store was moved to, if it was.
    pub fence: Option<Passage>,
}

/// Whether there is a schema of ours at all.
pub async fn exists(server: &Server, release: Release) -> Result<bool, StoreError> {
    let mut connection = server.connect_first().await?;
    Ok(look(&mut connection, release).await? > 0)
}

/// Whether the schema can be made in a database that has none of ours: it is made, and taken back.
pub async fn rehearse(server: &Server, release: Release) -> Result<(), StoreError> {
    let mut connection = server.connect_first().await?;
    apply_missing(&mut connection, release).await?;
    say(&mut connection, "ROLLBACK", LONG_SILENCE).await.map_err(Failure::from)?;
    Ok(())
}

/// Brings the schema up to date, or only looks at it.
pub async fn prepare(server: &Server, create: bool, release: Release) -> Result<Prepared, StoreError> {
    let mut connection = server.connect_first().await?;
    let done = prepare_on(&mut connection, create, release).await?;
    // It wrote nothing since its last COMMIT.
    let _ = bounded(SILENCE, sqlx::Connection::close(connection)).await;
    Ok(done)
}

async fn prepare_on(
    connection: &mut PgConnection,
    create: bool,
    release: Release,
) -> Result<Prepared, StoreError> {
    let applied = look(connection, release).await?;
    if applied < migrations(release).len() {
        if !create {
            return Err(match applied {
                0 => StoreError::Absent("there is no store in this database".into()),
                _ => StoreError::Unavailable(
                    "the store was written by an older signalbox; start the server to bring it up to date"
                        .into(),
                ),
            });
        }
        migrate(connection, release).await?;
    }
    say(connection, BEGIN_LOOK, SILENCE).await.map_err(Failure::from)?;
    let identity = read_identity(connection).await?;
    let fence: Vec<(String, String, String, String, String)> =
        asked(connection, FENCE, SILENCE).await.map_err(Failure::from)?;
    let read = |(id, state, place, other, time)| Passage::read([id, state, place, other, time]);
    let fence = fence.into_iter().next().map(read).transpose()?;
    say(connection, "COMMIT", SILENCE).await.map_err(Failure::from)?;
    // An engine that has none refuses it.
    let notifies = say(connection, "NOTIFY signalbox_probe", SILENCE).await.is_ok();
    if !notifies && is_standby(connection).await {
        return Err(StoreError::Unavailable(STANDBY.into()));
    }
    let tells_place = whereabouts::is_told(connection).await?;
    Ok(Prepared { identity, notifies, tells_place, fence })
}

/// Whether the database only follows another. An engine without that function does not.
async fn is_standby(connection: &mut PgConnection) -> bool {
    let told: Result<Vec<(bool,)>, _> = asked(connection, "SELECT pg_is_in_recovery()", SILENCE).await;
    told.is_ok_and(|told| told.contains(&(true,)))
}

/// Checks what the database can do, and which steps it has.
async fn look(connection: &mut PgConnection, release: Release) -> Result<usize, StoreError> {
    say(connection, BEGIN_LOOK, SILENCE).await.map_err(Failure::from)?;
    let applied = async {
        let found: Vec<(i32, String, bool)> =
            asked(connection, ABILITIES, SILENCE).await.map_err(Failure::from)?;
        let Some((version, encoding, ours)) = found.into_iter().next() else {
            return Err(StoreError::Internal("the database does not say what it is".into()));
        };
        if version < OLDEST_SERVER {
            return Err(StoreError::Unavailable("PostgreSQL is too old; at least 12 is needed".into()));
        }
        if encoding != "UTF8" {
            return Err(StoreError::Unavailable(format!(
                "the database's encoding is {encoding}; make one with ENCODING 'UTF8'"
            )));
        }
        if ours { check_applied(connection, release).await } else { Ok(0) }
    }
    .await?;
    say(connection, "COMMIT", SILENCE).await.map_err(Failure::from)?;
    Ok(applied)
}

/// How many of the steps that this binary knows the database has had. It must be able to run over the others.
async fn check_applied(connection: &mut PgConnection, release: Release) -> Result<usize, StoreError> {
    let failed = Failure::from;
    let steps = asked(connection, APPLIED, SILENCE).await.map_err(failed)?;
    let says: Vec<(bool,)> = asked(connection, SAYS_NEEDS, SILENCE).await.map_err(failed)?;
    let needs = match says.first() {
        Some((true,)) => asked(connection, NEEDS, SILENCE).await.map_err(failed)?,
        _ => vec![],
    };
    schema::check(PLACE, &Had { steps, needs }, &migrations(release), release.level)
}

/// Applies what is missing and names an empty database, all in one transaction.
async fn migrate(connection: &mut PgConnection, release: Release) -> Result<(), StoreError> {
    apply_missing(connection, release).await?;
    ensure_identity(connection).await.map_err(Failure::from)?;
    say(connection, "COMMIT", LONG_SILENCE).await.map_err(Failure::from)?;
    Ok(())
}

/// Begins a transaction in which the schema is up to date.
async fn apply_missing(connection: &mut PgConnection, release: Release) -> Result<(), StoreError> {
    let failed = Failure::from;
    say(connection, BEGIN_MIGRATION, LONG_SILENCE).await.map_err(failed)?;
    // Another replica may have been here while the lock was waited for.
    let found: Vec<(i32, String, bool)> = asked(connection, ABILITIES, SILENCE).await.map_err(failed)?;
    let applied = match found.first() {
        Some((_, _, true)) => check_applied(connection, release).await?,
        _ => {
            say(connection, MAKE_TABLE, SILENCE).await.map_err(failed)?;
            0
        }
    };
    for step in migrations(release).iter().skip(applied) {
        let text = sqlx::raw_sql(step.sql.clone()).execute(&mut *connection);
        bounded(LONG_SILENCE, text).await.map_err(failed)?;
        let note = sqlx::query(NOTE_APPLIED).bind(step.version).bind(&*step.description);
        execute(connection, note.bind(&*step.checksum), SILENCE).await.map_err(failed)?;
        if step.version == WHEREABOUTS {
            whereabouts::begin(connection).await?;
        }
    }
    Ok(())
}

async fn ensure_identity(connection: &mut PgConnection) -> Result<(), super::failure::Trouble> {
    let salt: [u8; 16] = rand::random();
    let identity = sqlx::query(PUT_IDENTITY).bind(uuid::Uuid::new_v4().to_string()).bind(salt.to_vec());
    execute(connection, identity, SILENCE).await?;
    let epoch = Epoch(rand::random()).to_string();
    let head = sqlx::query(PUT_HEAD).bind(epoch).bind(vec![0_u8; 32]).bind(vec![0_u8; 16]);
    execute(connection, head, SILENCE).await?;
    Ok(())
}

/// Tells of a schema that is newer than this binary's.
pub fn tell_of_schema(identity: &Identity, release: Release) {
    schema::tell(PLACE, identity.schema_version, &migrations(release));
}

/// Refuses a schema that is newer than this binary's.
pub fn know_all(identity: &Identity, release: Release) -> Result<(), StoreError> {
    schema::know_all(PLACE, identity.schema_version, &migrations(release))
}

/// What the store says of itself, within a transaction.
pub async fn read_identity(connection: &mut PgConnection) -> Result<Identity, StoreError> {
    let failed = Failure::from;
    let identity: Vec<(String, Vec<u8>)> = asked(connection, sql::IDENTITY, SILENCE).await.map_err(failed)?;
    let nameless = || StoreError::Damaged("it has no identity".into());
    let (store_id, salt) = identity.into_iter().next().ok_or_else(nameless)?;
    let checks: Vec<(String, String)> =
        all(connection, sqlx::query(sql::KEY_CHECKS), SILENCE).await.map_err(failed)?;
    let keys: Vec<(String, String, String)> =
        all(connection, sqlx::query(sql::DATA_KEYS), SILENCE).await.map_err(failed)?;
    let revision: Vec<(i64,)> =
        asked(connection, "SELECT revision FROM head WHERE id = 1", SILENCE).await.map_err(failed)?;
    let newest: Vec<(i64,)> = asked(connection, NEWEST, SILENCE).await.map_err(failed)?;
    let revision = revision.first().ok_or_else(|| StoreError::Damaged("its head row is missing".into()))?.0;
    Ok(Identity {
        store_id: StoreId(store_id),
        fresh: checks.is_empty() && keys.is_empty() && revision == 0,
        key_checks: checks.into_iter().map(|(kek, value)| KeyCheck { kek, value }).collect(),
        keys: keys.into_iter().map(|(id, kek, wrapped)| WrappedKey { id, kek, wrapped }).collect(),
        password_salt: salt
            .try_into()
            .map_err(|_| StoreError::Damaged("its salt has a wrong length".into()))?,
        schema_version: version_of(newest.first().map_or(0, |newest| newest.0)),
    })
}
