//! SQL that every database understands, once: `$1` parameters, `ON CONFLICT`, multi-row `VALUES`.
//!
//! What a database says in its own way (taking the lock, passing a list) stands in its own file.

use std::sync::OnceLock;

/// The rows of the log, as they are read. The chain does not cover which trace wrote a row, so that nothing would tell that
/// somebody put megabytes there: no more is read than belongs there.
macro_rules! log_rows {
    () => {
        "(SELECT revision, ordinal, change_type, action, name, kind, uid, labels, version, create_revision, create_time, \
            spec, secrets, previous_labels, previous_revision, actor, time, reason, request_id, digest, previous_hash, hash, \
            substr(traceparent, 1, 600) AS traceparent FROM log)"
    };
}
pub(super) use log_rows;

/// The head row.
pub const HEAD: &str = "SELECT epoch, revision, hash, digest, floor, floor_hash FROM head WHERE id = 1";
/// Moves the head row: revision, hash, digest; from the revision that was read.
pub const MOVE_HEAD: &str =
    "UPDATE head SET revision = ?, hash = ?, digest = ? WHERE id = 1 AND revision = ?";
/// Gives the store a new epoch: the new one, the one that was seen.
pub const BEGIN_LIFE: &str = "UPDATE head SET epoch = $1 WHERE id = 1 AND epoch = $2";
/// The newest creation beneath a prefix: first name, first name beyond it. By name, not by revision.
pub const NEWEST_BENEATH: &str =
    "SELECT coalesce(max(create_revision), 0) FROM resources WHERE name >= $1 AND name < $2";
/// The newest change beneath a prefix, in the same way.
pub const NEWEST_CHANGE_BENEATH: &str =
    "SELECT coalesce(max(update_revision), 0) FROM resources WHERE name >= $1 AND name < $2";
/// The chain's hash at a revision.
pub const HASH_AT: &str = "SELECT hash FROM log WHERE revision = $1 ORDER BY ordinal DESC LIMIT 1";
/// Whole revisions after one, as many as begin within a number of rows.
pub const LOG_AFTER: &str = concat!("SELECT * FROM ", log_rows!(), " AS log WHERE revision > $1 AND revision <= (
    SELECT max(revision) FROM (SELECT revision FROM log WHERE revision > $1 ORDER BY revision, ordinal LIMIT $2) AS page
) ORDER BY revision, ordinal");
/// Rows of one kind after a revision and up to another, whole revisions, as many as begin within a number of rows.
pub const LOG_OF_KIND: &str =
    concat!("SELECT * FROM ", log_rows!(), " AS log WHERE kind = $1 AND revision > $2 AND revision <= (
    SELECT coalesce(max(revision), 0) FROM (
        SELECT revision FROM log WHERE kind = $1 AND revision > $2 AND revision <= $3 ORDER BY revision, ordinal LIMIT $4
    ) AS page
) ORDER BY revision, ordinal");
/// The newest row of one name at or below a revision.
pub const LOG_ROW_AT: &str = concat!(
    "SELECT * FROM ",
    log_rows!(),
    " AS log WHERE name = $1 AND revision <= $2 ORDER BY revision DESC LIMIT 1"
);
/// The newest row of every name that was live at a revision.
pub const LOG_ROWS_AT: &str = concat!(
    "SELECT * FROM ",
    log_rows!(),
    " AS log WHERE revision <= $1 AND change_type <> 'deleted' AND NOT EXISTS (
    SELECT 1 FROM log AS newer
    WHERE newer.name = log.name AND newer.revision > log.revision AND newer.revision <= $1
) ORDER BY name"
);
/// Log rows of some names, and the rows that these followed. The parameters are a cursor (revision, name), an actor, an
/// action, two times, a limit, and then those of the names.
macro_rules! history {
    ($names:literal) => {
        concat!(
            "SELECT * FROM ",
            log_rows!(),
            " AS log WHERE ",
            $names,
            "revision <= $1 AND (revision < $1 OR name > $2) AND ($3 = '' OR actor = $3) \
             AND ($4 = '' OR action = $4) AND time >= $5 AND time < $6 AND kind <> 'revocation' \
             ORDER BY revision DESC, name LIMIT $7"
        )
    };
    (before $names:literal) => {
        concat!(
            "SELECT older.* FROM (",
            history!($names),
            ") AS page JOIN ",
            log_rows!(),
            " AS older ON older.name = page.name AND older.revision = page.previous_revision"
        )
    };
}

/// Of every name.
pub const HISTORY: [&str; 2] = [history!(""), history!(before "")];
/// Of one name.
pub const HISTORY_OF: [&str; 2] = [history!("name = $8 AND "), history!(before "name = $8 AND ")];
/// Of the names from one up to another.
pub const HISTORY_BENEATH: [&str; 2] =
    [history!("name >= $8 AND name < $9 AND "), history!(before "name >= $8 AND name < $9 AND ")];

/// The first revision above a floor that is not older than a time.
pub const FIRST_SINCE: &str =
    "SELECT revision FROM log WHERE revision > $1 AND time >= $2 ORDER BY revision, ordinal LIMIT 1";
/// The whole log.
pub const LOG: &str = concat!("SELECT * FROM ", log_rows!(), " AS log ORDER BY revision, ordinal");
/// The state's digest at a revision.
pub const DIGEST_AT: &str = "SELECT digest FROM log WHERE revision = $1 ORDER BY ordinal DESC LIMIT 1";
/// The last log row of a revision.
pub const LOG_END: &str =
    concat!("SELECT * FROM ", log_rows!(), " AS log WHERE revision = $1 ORDER BY ordinal DESC LIMIT 1");
/// The state's digest that a compaction to a revision found.
pub const CHECKPOINT_DIGEST: &str = "SELECT digest FROM checkpoints WHERE floor = $1";
/// All checkpoints.
pub const CHECKPOINTS: &str = "SELECT * FROM checkpoints ORDER BY floor";
/// The newest checkpoint and the one before it, whose MAC goes into its own. Others write this table: no text is taken longer than
/// anybody of us writes it.
pub const NEWEST_CHECKPOINTS: &str = "SELECT floor, hash, digest, substr(time, 1, 64) AS time, mac FROM checkpoints \
    ORDER BY floor DESC LIMIT 2";
/// MAC of the newest checkpoint.
pub const LAST_MAC: &str = "SELECT mac FROM checkpoints ORDER BY floor DESC LIMIT 1";
/// Writes a checkpoint.
pub const PUT_CHECKPOINT: &str =
    "INSERT INTO checkpoints (floor, hash, digest, time, mac) VALUES ($1, $2, $3, $4, $5)";
/// Raises the floor.
pub const RAISE_FLOOR: &str = "UPDATE head SET floor = $1, floor_hash = $2 WHERE id = 1";
/// Log rows that one step of a compaction looks at.
pub const STEP_ROWS: i64 = 2000;
/// Where a step ends.
pub const STEP_END: &str = "SELECT max(revision) FROM ( \
    SELECT revision FROM log WHERE revision > $1 AND revision <= $2 ORDER BY revision, ordinal LIMIT $3) AS step";
/// Everything but the newest row at the floor of every name that was live there. Older rows of a name go in the same
/// step or before, so that what is left of an interrupted compaction tells the same state.
pub const FORGET_ROWS: &str = "DELETE FROM log WHERE revision > $1 AND revision <= $2 AND (change_type = 'deleted' \
    OR EXISTS (SELECT 1 FROM log AS newer WHERE newer.name = log.name AND newer.revision > log.revision \
    AND newer.revision <= $3))";
/// All current rows by name.
pub const RESOURCES: &str = "SELECT * FROM resources ORDER BY name";
/// One answered request.
pub const REQUEST: &str = "SELECT * FROM requests WHERE principal = $1 AND request_id = $2";
/// Forgets old requests.
pub const EXPIRE_REQUESTS: &str = "DELETE FROM requests WHERE time < $1";
/// Forgets old audit events.
pub const EXPIRE_AUDIT: &str = "DELETE FROM audit WHERE time < $1";
/// Wrapped keys.
pub const DATA_KEYS: &str = "SELECT id, kek, wrapped FROM data_keys ORDER BY id";
/// Key check values.
pub const KEY_CHECKS: &str = "SELECT kek, value FROM key_checks ORDER BY kek";
/// The store's identity.
pub const IDENTITY: &str = "SELECT store_id, password_salt FROM identity WHERE id = 1";

/// The first text after everything that begins with the prefix; prefixes end in `/`.
pub fn beyond(prefix: &str) -> String {
    let mut end = prefix.strip_suffix('/').unwrap_or(prefix).to_owned();
    // The character after the slash.
    end.push('0');
    end
}

/// Writes current rows.
pub static PUT_RESOURCES: Bulk = Bulk::new(
    "INSERT INTO resources (name, kind, uid, labels, version, create_revision, create_time, update_revision, \
     update_time, updated_by, spec, secrets, digest)",
    13,
    " ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, uid = excluded.uid, labels = excluded.labels, \
     version = excluded.version, create_revision = excluded.create_revision, \
     create_time = excluded.create_time, update_revision = excluded.update_revision, \
     update_time = excluded.update_time, updated_by = excluded.updated_by, spec = excluded.spec, \
     secrets = excluded.secrets, digest = excluded.digest",
);
/// Writes log rows.
pub static PUT_LOG: Bulk = Bulk::new(
    "INSERT INTO log (revision, ordinal, change_type, action, name, kind, uid, labels, version, \
     create_revision, create_time, spec, secrets, previous_labels, previous_revision, actor, time, reason, \
     request_id, digest, previous_hash, hash, traceparent)",
    23,
    "",
);
/// Writes sealed values.
pub static PUT_SECRETS: Bulk = Bulk::new("INSERT INTO secrets (id, data_key, token)", 3, "");
/// Writes answered requests.
pub static PUT_REQUESTS: Bulk =
    Bulk::new("INSERT INTO requests (principal, request_id, mac, revision, hash, time, outcome)", 7, "");
/// Writes audit events.
pub static PUT_AUDIT: Bulk = Bulk::new("INSERT INTO audit (time, actor, event, detail)", 4, "");
/// Writes wrapped keys.
pub static PUT_DATA_KEYS: Bulk = Bulk::new("INSERT INTO data_keys (id, kek, wrapped)", 3, "");

/// An INSERT of many rows at once, in a few sizes, so that prepared statements are found again.
///
/// Parameters have no numbers: SQLite looks for a numbered one by going through all of them, which for a thousand is
/// half the cost of a write. PostgreSQL will want `$1` here.
pub struct Bulk {
    into: &'static str,
    columns: usize,
    tail: &'static str,
    texts: [OnceLock<String>; SIZES.len()],
}

/// Rows of one statement. The largest stays far below the parameters that any database allows.
const SIZES: [usize; 3] = [64, 8, 1];

impl Bulk {
    const fn new(into: &'static str, columns: usize, tail: &'static str) -> Self {
        Self { into, columns, tail, texts: [const { OnceLock::new() }; SIZES.len()] }
    }

    /// Cuts rows into statements: each with its rows, the largest first.
    pub fn statements<'r, T>(&'static self, rows: &'r [T]) -> impl Iterator<Item = (&'static str, &'r [T])> {
        let mut rest = rows;
        std::iter::from_fn(move || {
            let index = SIZES.iter().position(|size| *size <= rest.len())?;
            let (now, later) = rest.split_at(SIZES[index]);
            rest = later;
            Some((self.text(index), now))
        })
    }

    fn text(&'static self, index: usize) -> &'static str {
        self.texts[index].get_or_init(|| {
            let row = format!("({})", vec!["?"; self.columns].join(", "));
            format!("{} VALUES {}{}", self.into, vec![row.as_str(); SIZES[index]].join(", "), self.tail)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_no_row_of_the_log_is_read_with_more_of_a_trace_than_there_can_be() {
        let alone = [LOG_AFTER, LOG_OF_KIND, LOG_ROW_AT, LOG_ROWS_AT, LOG, LOG_END];
        let histories = [HISTORY, HISTORY_OF, HISTORY_BENEATH].concat();
        for text in alone.into_iter().chain(histories) {
            assert!(text.contains("substr(traceparent, 1, 600)") && !text.contains("* FROM log"), "{text}");
        }
    }

    #[test]
    fn rows_are_cut_into_statements_that_come_again() {
        let rows: Vec<u32> = (0..140).collect();
        let cut: Vec<_> = PUT_SECRETS.statements(&rows).collect();
        assert_eq!(cut.iter().map(|(_, rows)| rows.len()).collect::<Vec<_>>(), [64, 64, 8, 1, 1, 1, 1]);
        assert_eq!(cut.iter().flat_map(|(_, rows)| rows.iter().copied()).collect::<Vec<_>>(), rows);
        assert_eq!(cut[3].0, "INSERT INTO secrets (id, data_key, token) VALUES (?, ?, ?)");
        assert_eq!(cut[2].0.matches("(?, ?, ?)").count(), 8);
    }
}
