//! What a group of writes writes to PostgreSQL, in one statement however large it is, and the head that it is written on.

use std::time::Duration;

use sqlx::{FromRow as _, PgConnection, Postgres, Row as _, postgres::PgArguments, query::Query};

use super::{
    moment::read_head,
    session::{Answers, SILENCE, execute, first},
};
use crate::{
    domain::SealedSecret,
    store::{
        chain::ChainKeys,
        decode,
        failure::Failure,
        plan::Effects,
        rows::{HeadState, LogRow, RequestRow, ResourceRow, write_revision},
        sql,
    },
};

/// Everything that a group writes, in one statement: each way to the server and back is paid by all who wait. Lists go
/// as arrays, so that the text is the same for every group.
const WRITE_EFFECTS: &str = "WITH gone AS ( \
        DELETE FROM resources WHERE name = ANY($1::text[]) \
    ), sealed AS ( \
        INSERT INTO secrets (id, data_key, token) SELECT * FROM unnest($2::text[], $3::text[], $4::text[]) \
    ), put AS ( \
        INSERT INTO resources (name, kind, uid, labels_text, version, create_revision, create_time, \
            update_revision, update_time, updated_by, spec_text, secrets_text, digest) \
        SELECT * FROM unnest($5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bigint[], \
            $11::text[], $12::bigint[], $13::text[], $14::text[], $15::text[], $16::text[], $17::bytea[]) \
        ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, uid = excluded.uid, \
            labels_text = excluded.labels_text, version = excluded.version, \
            create_revision = excluded.create_revision, create_time = excluded.create_time, \
            update_revision = excluded.update_revision, update_time = excluded.update_time, \
            updated_by = excluded.updated_by, spec_text = excluded.spec_text, \
            secrets_text = excluded.secrets_text, digest = excluded.digest \
    ), logged AS ( \
        INSERT INTO log (revision, ordinal, change_type, action, name, kind, uid, labels, version, \
            create_revision, create_time, spec, secrets, previous_labels, previous_revision, actor, time, \
            reason, request_id, digest, previous_hash, hash, traceparent) \
        SELECT * FROM unnest($18::bigint[], $19::bigint[], $20::text[], $21::text[], $22::text[], $23::text[], \
            $24::text[], $25::text[], $26::bigint[], $27::bigint[], $28::text[], $29::text[], $30::text[], \
            $31::text[], $32::bigint[], $33::text[], $34::text[], $35::text[], $36::text[], $37::bytea[], \
            $38::bytea[], $39::bytea[], $40::text[]) \
    ), answered AS ( \
        INSERT INTO requests (principal, request_id, mac, revision, hash, time, outcome) \
        SELECT * FROM unnest($41::text[], $42::text[], $43::bytea[], $44::bigint[], $45::bytea[], $46::text[], \
            $47::bytea[]) \
    ) \
    UPDATE head SET revision = $48, hash = $49, digest = $50 WHERE id = 1 AND revision = $51";

const MEBIBYTE: usize = 1 << 20;
/// What a write is told that comes before the new life has begun.
pub const LOST: Failure = Failure::Unavailable("the database has lost commits; the store begins a new life");

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Whether the requests of a group were perhaps carried out before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Requests {
    /// Hardly: the service has looked. If one was meanwhile, the database refuses it.
    New,
    /// One was, or something else was refused: they are looked up.
    Doubtful,
}

/// What the lock was taken with: the head row, where the log ends, and its last row at the head.
pub struct Locked {
    head: HeadState,
    newest: Option<i64>,
    end: Option<LogRow>,
}

impl Locked {
    /// From what the beginning of a write answered.
    pub fn read(mut answers: Answers) -> Result<Self, Failure> {
        let mut last = || answers.pop().unwrap_or_default();
        let (end, newest, head) = (last(), last(), last());
        let newest = newest.first().map(|row| row.try_get::<Option<i64>, _>(0)).transpose()?.flatten();
        Ok(Self { head: read_head(&head)?, newest, end: end.first().map(LogRow::from_row).transpose()? })
    }

    /// The head row, and whether the log has lost what this process once saw in it. Checked where this process has not left
    /// it so (`left`): nothing is written on top of a row that was edited.
    pub async fn check(
        self,
        connection: &mut PgConnection,
        keys: &ChainKeys,
        left: Option<HeadState>,
    ) -> Result<(HeadState, bool), Failure> {
        let head = self.head;
        if self.newest.is_some_and(|newest| newest > write_revision(head.head.revision)) {
            return Err(Failure::Damaged("its log has rows above its head".into()));
        }
        if left == Some(head) {
            return Ok((head, false));
        }
        self.check_end(keys)?;
        let Some(left) = left.filter(|left| left.head.epoch == head.head.epoch) else {
            return Ok((head, false));
        };
        let then = write_revision(left.head.revision);
        let lost = match left.head.revision {
            then if then > head.head.revision => true,
            // Forgotten since: it can't be told any more.
            then if then <= head.head.floor => false,
            _ => {
                let row: Option<LogRow> = first(connection, sqlx::query(sql::LOG_END).bind(then)).await?;
                row.is_none_or(|row| row.hash != left.head.hash.0)
            }
        };
        Ok((head, lost))
    }

    /// Whether the head row is the log's end, and that a row that was written with our key.
    fn check_end(&self, keys: &ChainKeys) -> Result<(), Failure> {
        let head = &self.head;
        let whole = match &self.end {
            Some(row) => {
                decode::check_alone(keys, row)?;
                row.hash == head.head.hash.0 && row.digest == head.digest.to_bytes()
            }
            // Forgotten up to its end.
            None => head.head.floor == head.head.revision,
        };
        match whole {
            true => Ok(()),
            false => Err(Failure::Damaged("its head row was changed by another program".into())),
        }
    }
}

/// Writes everything there is to write, with the head row.
pub async fn write_effects(
    connection: &mut PgConnection,
    before: HeadState,
    effects: &Effects,
) -> Result<(), Failure> {
    let Effects { head, put, delete, log, secrets, requests } = effects;
    let mut query = sqlx::query(WRITE_EFFECTS).bind(delete);
    query = bind_secrets(query, secrets);
    query = bind_resources(query, put);
    query = bind_log(query, log);
    query = bind_requests(query, requests);
    query = query.bind(write_revision(head.head.revision)).bind(head.head.hash.0.to_vec());
    query = query.bind(head.digest.to_bytes().to_vec()).bind(write_revision(before.head.revision));
    // What is large takes its time on the line and on the disk.
    let large = Duration::from_secs((effects.weight() / MEBIBYTE) as u64);
    match execute(connection, query, SILENCE + large).await? {
        1 => Ok(()),
        _ => Err(Failure::Damaged("its head row is missing".into())),
    }
}

/// Binds a column of every row as one array.
macro_rules! bind_columns {
    ($query:ident, $rows:ident: $($column:expr),+ $(,)?) => {
        $query$(.bind($rows.iter().map($column).collect::<Vec<_>>()))+
    };
}

fn bind_secrets<'q>(query: Statement<'q>, rows: &'q [SealedSecret]) -> Statement<'q> {
    bind_columns!(query, rows: |row| row.id.0.as_str(), |row| row.data_key.as_str(), |row| row.token.as_str())
}

fn bind_resources<'q>(query: Statement<'q>, rows: &'q [ResourceRow]) -> Statement<'q> {
    bind_columns!(query, rows:
        |row| row.name.as_str(),
        |row| row.kind.as_str(),
        |row| row.uid.as_str(),
        |row| row.labels.as_str(),
        |row| row.version,
        |row| row.create_revision,
        |row| row.create_time.as_str(),
        |row| row.update_revision,
        |row| row.update_time.as_str(),
        |row| row.updated_by.as_str(),
        |row| row.spec.as_str(),
        |row| row.secrets.as_str(),
        |row| row.digest.as_slice(),
    )
}

fn bind_log<'q>(query: Statement<'q>, rows: &'q [LogRow]) -> Statement<'q> {
    bind_columns!(query, rows:
        |row| row.revision,
        |row| row.ordinal,
        |row| row.change_type.as_str(),
        |row| row.action.as_str(),
        |row| row.name.as_str(),
        |row| row.kind.as_str(),
        |row| row.uid.as_str(),
        |row| row.labels.as_str(),
        |row| row.version,
        |row| row.create_revision,
        |row| row.create_time.as_str(),
        |row| row.spec.as_deref(),
        |row| row.secrets.as_str(),
        |row| row.previous_labels.as_deref(),
        |row| row.previous_revision,
        |row| row.actor.as_str(),
        |row| row.time.as_str(),
        |row| row.reason.as_str(),
        |row| row.request_id.as_str(),
        |row| row.digest.as_slice(),
        |row| row.previous_hash.as_slice(),
        |row| row.hash.as_slice(),
        |row| row.traceparent.as_deref(),
    )
}

fn bind_requests<'q>(query: Statement<'q>, rows: &'q [RequestRow]) -> Statement<'q> {
    bind_columns!(query, rows:
        |row| row.principal.as_str(),
        |row| row.request_id.as_str(),
        |row| row.mac.as_slice(),
        |row| row.revision,
        |row| row.hash.as_slice(),
        |row| row.time.as_str(),
        |row| row.outcome.as_slice(),
    )
}
