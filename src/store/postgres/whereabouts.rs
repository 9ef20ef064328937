//! Where the database is, by its own word: which cluster of PostgreSQL, which database there, and which timeline of its
//! write-ahead log. A dump that is restored is another database; a restore to a moment and a standby that is promoted begin
//! another timeline. Each of these may lack commits that were acknowledged, and nothing in the store itself says so.
//!
//! What leaves no such trace can't be told: files that are put back in their own place. An engine that speaks PostgreSQL's
//! protocol and lacks its functions is never asked again.

use sqlx::PgConnection;

use super::session::{BEGIN_LOOK, SILENCE, ask, asked, execute, say};
use crate::{
    domain::{Epoch, Revision},
    store::{Displaced, failure::Failure, rows::write_revision},
};

/// The place of a database that takes writes; no row from a standby.
macro_rules! place {
    () => {
        "SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || \
            (SELECT oid FROM pg_database WHERE datname = current_database()) || '/' || \
            substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS place WHERE NOT pg_is_in_recovery()"
    };
}

const PLACE: &str = place!();
/// One statement, so that place and life are of one moment. The row is written with its table: if there is none, somebody took it
/// away, and nobody knows where the store was.
const LOOK: &str = concat!(
    "SELECT head.epoch, coalesce(whereabouts.place, 'nowhere'), now.place, EXISTS (SELECT 1 FROM replicas) \
    FROM head LEFT JOIN whereabouts ON whereabouts.id = head.id CROSS JOIN (",
    place!(),
    ") AS now WHERE head.id = 1 AND (whereabouts.place IS NOT NULL OR head.revision > 0)"
);
const NOTE: &str = concat!(
    "INSERT INTO whereabouts (id, place) SELECT 1, now.place FROM (",
    place!(),
    ") AS now ON CONFLICT (id) DO UPDATE SET place = excluded.place WHERE whereabouts.place <> excluded.place"
);

/// The same by a replica that has seen so much of a life, unless the database holds less: then commits are lost, and whoever notes
/// the place must know of that.
const GO_ALONG: &str = concat!(
    "INSERT INTO whereabouts (id, place) SELECT 1, now.place FROM (",
    place!(),
    ") AS now JOIN head ON head.id = 1 AND head.epoch = $1 AND head.revision >= $2 \
    ON CONFLICT (id) DO UPDATE SET place = excluded.place WHERE whereabouts.place <> excluded.place"
);

/// Whether the database tells where it is, be it a standby.
pub async fn is_told(connection: &mut PgConnection) -> Result<bool, Failure> {
    say(connection, BEGIN_LOOK, SILENCE).await?;
    let told = match ask(connection, PLACE, SILENCE).await {
        Ok(_) => true,
        // It has no such function, or does not let us.
        Err(trouble) if trouble.answered => false,
        Err(trouble) => return Err(trouble.failure),
    };
    say(connection, "ROLLBACK", SILENCE).await?;
    Ok(told)
}

/// Notes where the database is, within a transaction of a replica that serves it and has seen nothing get lost.
pub async fn go_along(connection: &mut PgConnection, epoch: Epoch, seen: Revision) -> Result<(), Failure> {
    let note = sqlx::query(GO_ALONG).bind(epoch.to_string()).bind(write_revision(seen));
    execute(connection, note, SILENCE).await?;
    Ok(())
}

/// Notes where the database is, within the transaction that begins a life there.
pub async fn note(connection: &mut PgConnection) -> Result<(), Failure> {
    execute(connection, sqlx::query(NOTE), SILENCE).await?;
    Ok(())
}

/// Notes where the database is within the transaction that makes the table, if it tells.
pub async fn begin(connection: &mut PgConnection) -> Result<(), Failure> {
    say(connection, "SAVEPOINT whereabouts", SILENCE).await?;
    match execute(connection, sqlx::query(NOTE), SILENCE).await {
        Ok(_) => Ok(()),
        // It has no such function, or does not let us.
        Err(trouble) if trouble.answered => {
            Ok(say(connection, "ROLLBACK TO SAVEPOINT whereabouts", SILENCE).await?)
        }
        Err(trouble) => Err(trouble.failure),
    }
}

/// Whether the database is elsewhere than it was last served.
pub async fn displaced(connection: &mut PgConnection) -> Result<Option<Displaced>, Failure> {
    let found: Vec<(String, String, String, bool)> = asked(connection, LOOK, SILENCE).await?;
    let Some((epoch, from, to, served)) = found.into_iter().next().filter(|(_, from, to, _)| from != to)
    else {
        return Ok(None);
    };
    let epoch = Epoch::parse(&epoch).ok_or_else(|| Failure::Damaged("the head row is broken".into()))?;
    Ok(Some(Displaced { epoch, from, to, served }))
}
