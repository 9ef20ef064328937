//! What replicas share beside the log, in tables of the database that all of them write.
//!
//! Whoever joins and whoever raises the level lock the level's row, so that no binary slips in below a level that is just
//! being raised.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{
    FromRow, PgConnection, PgPool, Postgres, Row as _,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::time::Instant;

use super::{
    PostgresStore,
    moment::MOVED,
    session::{
        Answers, BEGIN_ASIDE, BEGIN_READ, Lease as Session, SILENCE, begin_aside, each, execute, first,
    },
    whereabouts,
};
use crate::{
    domain::{Epoch, FeatureLevel, ReplicaId, SealedSecret, SecretId},
    store::{
        BegunLife, StoreError,
        chain::ChainKeys,
        cluster::{
            Cluster, Displaced, Heartbeat, LIFETIME, Lease, Living, MOST_REPLICAS, Replica, Vanished, Work,
            let_in,
        },
        failure::Failure,
        level::{self, LEVEL, RAISE, level},
        life,
        rows::{read_revision, write_revision},
    },
};

const LEVEL_LOCKED: &str = concat!(level!(), " FOR UPDATE");
/// As far as asked, and no further than the oldest replica that lives.
const SUPPORTED: &str = "SELECT least($1, min(feature_level)) FROM replicas \
    WHERE seen > now() - make_interval(secs => $2) AND seen <= clock_timestamp()";
/// Begins a heartbeat in one message, since a database may be far away and others wait for what it tells: takes the lock on the level,
/// which a move takes before it looks for replicas, so that whoever comes after it learns of it from the fence; and forgets those
/// that have been silent for [`LIFETIME`], and those whose time is none of this database's. Rows that are more than a second ahead
/// are counted in the same statement, so that none is taken away unseen; a clock that is put right moves by less. Those that were
/// silent are noted for all, and whether another one told the same address while they lived.
const BEGIN_BEAT: &str = concat!(
    begin_aside!(),
    "; ",
    level!(),
    " FOR SHARE; SELECT 1 FROM moves WHERE state <> 'arrived'; WITH ahead AS (SELECT count(*) AS ahead FROM ( \
    SELECT 1 FROM replicas WHERE seen > clock_timestamp() + interval '1 second' LIMIT 128) AS counted), \
    gone AS (DELETE FROM replicas AS silent WHERE seen < now() - interval '10 seconds' OR seen > now() + interval '10 seconds' \
    RETURNING left(id, 256) AS id, left(address, 260) AS address, seen, EXISTS (SELECT 1 FROM replicas AS beside \
        WHERE beside.id <> silent.id AND beside.address = silent.address \
        AND beside.began <= silent.seen AND beside.seen >= silent.began) AS shared), \
    noted AS (INSERT INTO vanished (id, address, seen, shared) SELECT id, address, seen, shared FROM gone \
    WHERE seen BETWEEN now() - interval '1 hour' AND now() ORDER BY seen DESC LIMIT 128 \
    ON CONFLICT DO NOTHING RETURNING id, address, seen), \
    told AS (SELECT id, address, extract(epoch FROM now() - seen)::float8 AS age FROM \
    (TABLE noted UNION ALL SELECT id, address, seen FROM vanished) AS missing \
    WHERE seen BETWEEN now() - interval '1 hour' AND now() ORDER BY seen DESC LIMIT 128) \
    SELECT ahead, id, address, age FROM ahead LEFT JOIN told ON true"
);
const _: () = assert!(LIFETIME.as_secs() == 10, "the text above says it as well");
/// Whoever was noted as vanished and tells of itself again has not. When it began does not change.
const BEAT: &str = "WITH back AS (DELETE FROM vanished WHERE id = $1) INSERT INTO replicas \
    (id, address, version, feature_level, epoch, revision, digest, key_ids, doorbell, watchers, environment, verification, \
    began, seen) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, clock_timestamp() - make_interval(secs => $13), \
    clock_timestamp()) ON CONFLICT (id) DO UPDATE SET \
    address = excluded.address, version = excluded.version, feature_level = excluded.feature_level, \
    epoch = excluded.epoch, revision = excluded.revision, digest = excluded.digest, key_ids = excluded.key_ids, \
    doorbell = excluded.doorbell, watchers = excluded.watchers, environment = excluded.environment, \
    verification = excluded.verification, seen = excluded.seen";
/// Others write this table: no text is taken longer than anybody of us writes it, and no more rows than anybody runs. Our own is
/// one of them, whatever the others say. A time that is still to come is not of this database's clock, and so no word of a
/// replica; the clock of now, as others may have told of themselves after this transaction began.
const LIVING: &str = "SELECT left(id, 256) AS id, left(address, 260) AS address, left(version, 256) AS version, \
    feature_level, epoch, revision, digest, ARRAY(SELECT left(key_id, 64) FROM unnest(key_ids[1:64]) AS key_id) AS key_ids, \
    left(doorbell, 256) AS doorbell, watchers, environment, verification, greatest(extract(epoch FROM now() - seen), 0)::float8 AS age FROM replicas \
    WHERE seen <= clock_timestamp() OR id = $1 ORDER BY (replicas.id = $1) DESC, seen DESC LIMIT $2";
const CLOCK: &str = "SELECT clock_timestamp()";
const LEAVE: &str = "DELETE FROM replicas WHERE id = $1";
/// Who says goodbye has not vanished, if it was noted as that.
const LEAVE_NOTE: &str = "DELETE FROM vanished WHERE id = $1";
/// In one with it: streams of a replica that vanished are taken for open, also of one that is back only to say goodbye.
const LEAVE_WORKERS: &str = "UPDATE worker_sessions SET ended = now(), orphaned = false \
    WHERE (ended IS NULL OR orphaned) AND replica = $1";
/// A lease that another one holds stays as it is, and no row is answered; unless it ends later than anybody asks for: it was
/// taken while a clock was wrong, or by nobody of us.
const ACQUIRE: &str = "INSERT INTO leases (work, holder, fence, ends) \
    VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3)) ON CONFLICT (work) DO UPDATE SET \
    holder = excluded.holder, ends = excluded.ends, \
    fence = leases.fence + CASE WHEN leases.holder = excluded.holder THEN 0 ELSE 1 END \
    WHERE (leases.holder = excluded.holder OR leases.ends < clock_timestamp() \
        OR leases.ends > clock_timestamp() + make_interval(secs => 2 * $3)) AND leases.fence < 8999999999999999999 \
    RETURNING fence";
/// A lease that nobody can take any more: no fence comes after its own, by the table's own bound.
const SPENT: &str = "SELECT 1 FROM leases WHERE work = $1 AND fence >= 8999999999999999999";
const RELEASE: &str = "UPDATE leases SET ends = clock_timestamp() WHERE work = $1 AND fence = $2";
/// Whether a lease is still the newest, for as long as the transaction lasts.
const HELD: &str = "SELECT fence FROM leases WHERE work = $1 FOR SHARE";
const OFFER: &str = "INSERT INTO service_secrets (name, id, data_key, token) VALUES ($1, $2, $3, $4) \
    ON CONFLICT DO NOTHING";
const SHARED: &str = "SELECT id, data_key, token FROM service_secrets WHERE name = $1";

#[derive(FromRow)]
struct ReplicaRow {
    id: String,
    address: String,
    version: String,
    feature_level: i64,
    epoch: String,
    revision: i64,
    digest: Vec<u8>,
    key_ids: Vec<String>,
    doorbell: String,
    watchers: i64,
    environment: Vec<u8>,
    verification: Vec<u8>,
    age: f64,
}

impl TryFrom<ReplicaRow> for Replica {
    type Error = Failure;

    fn try_from(row: ReplicaRow) -> Result<Self, Failure> {
        let damaged = || Failure::Damaged("a replica's row can't be read".into());
        let heartbeat = Heartbeat {
            id: ReplicaId(row.id),
            address: row.address,
            version: row.version,
            feature_level: level_of(row.feature_level)?,
            epoch: Epoch::parse(&row.epoch).ok_or_else(damaged)?,
            revision: read_revision(row.revision).map_err(|_| damaged())?,
            digest: row.digest.try_into().map_err(|_| damaged())?,
            key_ids: row.key_ids,
            doorbell: row.doorbell,
            watchers: row.watchers.try_into().map_err(|_| damaged())?,
            environment: row.environment,
            verification: row.verification,
        };
        let age = Duration::try_from_secs_f64(row.age).map_err(|_| damaged())?;
        Ok(Self { heartbeat, age })
    }
}

#[async_trait]
impl Cluster for PostgresStore {
    async fn beat(&self, own: &Heartbeat) -> Result<Living, StoreError> {
        let (mut session, mut answers) = Session::ask(&self.engine.readers, BEGIN_BEAT).await?;
        let found = answers.pop().unwrap_or_default();
        may_beat(answers, self.keys(), own.feature_level)?;
        let age = self.engine.first_beat.get_or_init(Instant::now).elapsed();
        let replicas = beat(session.connection()?, own, age).await?;
        if self.engine.tells_place {
            // Whoever follows the log here would have found that it lost commits.
            whereabouts::go_along(session.connection()?, own.epoch, own.revision).await?;
        }
        session.commit().await?;
        let ahead = found.first().and_then(|row| row.try_get::<i64, _>("ahead").ok()).unwrap_or_default();
        let ahead = usize::try_from(ahead).unwrap_or_default();
        Ok(Living { replicas, vanished: found.iter().filter_map(vanished).collect(), ahead })
    }

    async fn leave(&self, id: &ReplicaId) -> Result<(), StoreError> {
        let mut session = Session::begin(&self.engine.readers, BEGIN_ASIDE).await?;
        for text in [LEAVE_WORKERS, LEAVE, LEAVE_NOTE] {
            let leave = sqlx::query(text).bind(&id.0);
            execute(session.connection()?, leave, SILENCE).await.map_err(Failure::from)?;
        }
        Ok(session.commit().await?)
    }

    async fn acquire(
        &self,
        work: Work,
        holder: &ReplicaId,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        let mut session = Session::begin(&self.engine.readers, BEGIN_ASIDE).await?;
        let query = sqlx::query(ACQUIRE).bind(work.0).bind(&holder.0).bind(ttl.as_secs_f64());
        let connection = session.connection()?;
        let fence: Option<(i64,)> = first(connection, query).await.map_err(Failure::from)?;
        if fence.is_none() {
            let spent: Option<(i32,)> =
                first(connection, sqlx::query(SPENT).bind(work.0)).await.map_err(Failure::from)?;
            if spent.is_some() {
                tracing::warn!(
                    work = work.0,
                    "nobody can take this lease: its row in `leases` has a fence that none follows"
                );
                return Err(StoreError::Unavailable(format!(
                    "the lease of {0} was edited, so that nobody can take it: delete the row `{0}` of the table `leases`, with its triggers disabled",
                    work.0
                )));
            }
        }
        session.commit().await?;
        Ok(fence.map(|(fence,)| Lease { work, fence: fence.unsigned_abs() }))
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        write(&self.engine.readers, sqlx::query(RELEASE).bind(lease.work.0).bind(fence_of(lease))).await
    }

    async fn displaced(&self) -> Result<Option<Displaced>, StoreError> {
        if !self.engine.tells_place {
            return Ok(None);
        }
        let mut session = Session::begin(&self.engine.readers, BEGIN_ASIDE).await?;
        let found = whereabouts::displaced(session.connection()?).await?;
        session.end().await;
        Ok(found)
    }

    async fn clock(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        let mut session = Session::begin(&self.engine.readers, BEGIN_READ).await?;
        let now: Option<(DateTime<Utc>,)> =
            first(session.connection()?, sqlx::query(CLOCK)).await.map_err(Failure::from)?;
        session.end().await;
        Ok(now.map(|(now,)| now))
    }

    async fn begun_life(&self, now: DateTime<Utc>) -> Result<Option<BegunLife>, StoreError> {
        let [from, to] = life::between(now);
        let mut session = Session::begin(&self.engine.readers, BEGIN_READ).await?;
        let newest = sqlx::query(life::NEWEST).bind(from).bind(to);
        let found: Option<(String, String)> =
            first(session.connection()?, newest).await.map_err(Failure::from)?;
        session.end().await;
        Ok(found.map(BegunLife::read).transpose().map_err(Failure::from)?)
    }

    async fn feature_level(&self) -> Result<FeatureLevel, StoreError> {
        let mut session = Session::begin(&self.engine.readers, BEGIN_ASIDE).await?;
        let row = first(session.connection()?, sqlx::query(LEVEL)).await.map_err(Failure::from)?;
        session.commit().await?;
        Ok(level::believed(row, self.keys())?)
    }

    async fn share_secret(
        &self,
        name: &'static str,
        offer: Option<SealedSecret>,
    ) -> Result<Option<SealedSecret>, StoreError> {
        let mut session = Session::begin(&self.engine.readers, BEGIN_ASIDE).await?;
        let connection = session.connection()?;
        if let Some(SealedSecret { id, data_key, token }) = offer {
            let offer = sqlx::query(OFFER).bind(name).bind(id.0).bind(data_key).bind(token);
            execute(connection, offer, SILENCE).await.map_err(Failure::from)?;
        }
        let shared: Option<(String, String, String)> =
            first(connection, sqlx::query(SHARED).bind(name)).await.map_err(Failure::from)?;
        session.commit().await?;
        Ok(shared.map(|(id, data_key, token)| SealedSecret { id: SecretId(id), data_key, token }))
    }

    async fn raise_feature_level(&self, to: FeatureLevel) -> Result<FeatureLevel, StoreError> {
        let mut session = Session::begin(&self.engine.readers, BEGIN_ASIDE).await?;
        let connection = session.connection()?;
        // Whoever joins meanwhile waits, and then finds the new level.
        read_level(connection, self.keys(), LEVEL_LOCKED).await?;
        let supported = sqlx::query(SUPPORTED).bind(i64::from(to.0)).bind(LIFETIME.as_secs_f64());
        let supported: Option<(i64,)> = first(connection, supported).await.map_err(Failure::from)?;
        if let Some((supported,)) = supported {
            let mac = self.keys().level_mac(level_of(supported)?).to_vec();
            let raise = sqlx::query(RAISE).bind(supported).bind(mac);
            execute(connection, raise, SILENCE).await.map_err(Failure::from)?;
        }
        let level = read_level(connection, self.keys(), LEVEL).await?;
        session.commit().await?;
        Ok(level)
    }
}

/// One that vanished; a row that somebody edited tells nothing. Where none did the columns are empty.
fn vanished(row: &PgRow) -> Option<Vanished> {
    let age = Duration::try_from_secs_f64(row.try_get("age").ok()?).ok()?;
    Some(Vanished { id: ReplicaId(row.try_get("id").ok()?), address: row.try_get("address").ok()?, age })
}

/// Whether a replica may tell of itself, by what the beginning answered.
fn may_beat(mut answers: Answers, keys: &ChainKeys, own: FeatureLevel) -> Result<(), StoreError> {
    let (fence, level) = (answers.pop(), answers.pop());
    let level = level.unwrap_or_default();
    let row: Option<(i64, Vec<u8>)> =
        level.first().map(FromRow::from_row).transpose().map_err(Failure::from)?;
    let_in(level::believed(row, keys), own)?;
    match fence.is_none_or(|moves| moves.is_empty()) {
        true => Ok(()),
        false => Err(StoreError::Unavailable(MOVED.into())),
    }
}

/// Tells of this replica, which has told of itself for `age`.
async fn beat(
    connection: &mut PgConnection,
    own: &Heartbeat,
    age: Duration,
) -> Result<Vec<Replica>, StoreError> {
    let failed = Failure::from;
    let beat = sqlx::query(BEAT)
        .bind(&own.id.0)
        .bind(&own.address)
        .bind(&own.version)
        .bind(i64::from(own.feature_level.0))
        .bind(own.epoch.to_string())
        .bind(write_revision(own.revision))
        .bind(own.digest.to_vec())
        .bind(&own.key_ids)
        .bind(&own.doorbell)
        .bind(i64::try_from(own.watchers).unwrap_or(i64::MAX))
        .bind(&own.environment)
        .bind(&own.verification)
        .bind(age.as_secs_f64());
    execute(connection, beat, SILENCE).await.map_err(failed)?;
    living(connection, own).await
}

/// Reads who lives. Rows that somebody edited must not take the others along.
async fn living(connection: &mut PgConnection, own: &Heartbeat) -> Result<Vec<Replica>, StoreError> {
    let (mut replicas, mut unreadable) = (vec![], vec![]);
    let most = i64::try_from(MOST_REPLICAS).unwrap_or(i64::MAX);
    let living = sqlx::query(LIVING).bind(&own.id.0).bind(most);
    let take = |row: PgRow| match ReplicaRow::from_row(&row).ok().and_then(|row| Replica::try_from(row).ok())
    {
        Some(replica) => replicas.push(replica),
        None => unreadable.push(row.try_get::<String, _>("id").unwrap_or_default()),
    };
    each(connection, living, SILENCE, take).await.map_err(Failure::from)?;
    if let Some(first) = unreadable.first() {
        let id: String = first.escape_debug().take(64).collect();
        tracing::warn!(count = unreadable.len(), id, "rows of replicas can't be read; the first is named");
    }
    replicas.sort_by(|one, other| one.heartbeat.id.cmp(&other.heartbeat.id));
    Ok(replicas)
}

/// Refuses what a holder does after another one has taken its work over, within the transaction that does it.
pub async fn check_fence(connection: &mut PgConnection, lease: &Lease) -> Result<(), Failure> {
    let held: Option<(i64,)> = first(connection, sqlx::query(HELD).bind(lease.work.0)).await?;
    match held {
        Some((fence,)) if fence == fence_of(lease) => Ok(()),
        _ => Err(Failure::Unavailable("another replica has taken this work over")),
    }
}

fn fence_of(lease: &Lease) -> i64 {
    i64::try_from(lease.fence).unwrap_or(i64::MAX)
}

async fn read_level(
    connection: &mut PgConnection,
    keys: &ChainKeys,
    text: &'static str,
) -> Result<FeatureLevel, Failure> {
    level::believed(first(connection, sqlx::query(text)).await?, keys)
}

fn level_of(level: i64) -> Result<FeatureLevel, Failure> {
    let level = u32::try_from(level).map_err(|_| Failure::Damaged("a feature level can't be read".into()))?;
    Ok(FeatureLevel(level))
}

async fn write(pool: &PgPool, query: Query<'_, Postgres, PgArguments>) -> Result<(), StoreError> {
    let mut session = Session::begin(pool, BEGIN_ASIDE).await?;
    execute(session.connection()?, query, SILENCE).await.map_err(Failure::from)?;
    Ok(session.commit().await?)
}
