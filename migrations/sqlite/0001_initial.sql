-- The store, as one file of SQLite. Readable with `sqlite3`: start with the views `configuration` and `history`.
--
-- Times are RFC 3339 in UTC with microseconds, so that their order as text is their order in time.
-- Labels, specs and maps of secrets are canonical JSON; hashes and digests are keyed, see `src/store/chain.rs`.

CREATE TABLE identity (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    store_id      TEXT NOT NULL CHECK (length(store_id) = 36),
    password_salt BLOB NOT NULL CHECK (length(password_salt) = 16)
) STRICT;

-- Where the log stands. Every write locks and moves this one row.
CREATE TABLE head (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    epoch      TEXT NOT NULL CHECK (length(epoch) = 16),
    revision   INTEGER NOT NULL,
    hash       BLOB NOT NULL CHECK (length(hash) = 32),
    digest     BLOB NOT NULL CHECK (length(digest) = 16),
    floor      INTEGER NOT NULL,
    floor_hash BLOB NOT NULL CHECK (length(floor_hash) = 32),
    CHECK (floor >= 0 AND floor <= revision)
) STRICT;

-- The current state: masked specs, and which secrets belong into them.
CREATE TABLE resources (
    name            TEXT PRIMARY KEY NOT NULL,
    kind            TEXT NOT NULL,
    uid             TEXT NOT NULL,
    labels          TEXT NOT NULL CHECK (json_valid(labels)),
    version         INTEGER NOT NULL CHECK (version >= 1),
    create_revision INTEGER NOT NULL CHECK (create_revision >= 1),
    create_time     TEXT NOT NULL,
    update_revision INTEGER NOT NULL CHECK (update_revision >= create_revision),
    update_time     TEXT NOT NULL,
    updated_by      TEXT NOT NULL,
    spec            TEXT NOT NULL CHECK (json_valid(spec)),
    secrets         TEXT NOT NULL CHECK (json_valid(secrets)),
    digest          BLOB NOT NULL CHECK (length(digest) = 16)
) STRICT;

-- What happened, in order, without a gap above the head's floor. Rows are written once.
CREATE TABLE log (
    revision          INTEGER NOT NULL CHECK (revision >= 1),
    ordinal           INTEGER NOT NULL CHECK (ordinal >= 0),
    change_type       TEXT NOT NULL CHECK (change_type IN ('created', 'updated', 'deleted')),
    action            TEXT NOT NULL,
    name              TEXT NOT NULL,
    kind              TEXT NOT NULL,
    uid               TEXT NOT NULL,
    labels            TEXT NOT NULL,
    version           INTEGER NOT NULL CHECK (version >= 1),
    create_revision   INTEGER NOT NULL CHECK (create_revision BETWEEN 1 AND revision),
    create_time       TEXT NOT NULL,
    spec              TEXT CHECK ((spec IS NULL) = (change_type = 'deleted')),
    secrets           TEXT NOT NULL,
    previous_labels   TEXT CHECK ((previous_labels IS NULL) = (change_type = 'created')),
    previous_revision INTEGER CHECK ((previous_revision IS NULL) = (change_type = 'created')),
    actor             TEXT NOT NULL,
    time              TEXT NOT NULL,
    reason            TEXT NOT NULL,
    request_id        TEXT NOT NULL,
    digest            BLOB NOT NULL CHECK (length(digest) = 16),
    previous_hash     BLOB NOT NULL CHECK (length(previous_hash) = 32),
    hash              BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (revision, ordinal)
) STRICT;

CREATE UNIQUE INDEX log_by_name ON log (name, revision);
-- Small and complete: what compaction reads to find the secrets that are still referred to.
CREATE INDEX log_secrets ON log (secrets) WHERE secrets <> '{}';

-- Keys wrapped by a key-encryption key, and values sealed with them.
CREATE TABLE data_keys (
    id      TEXT PRIMARY KEY NOT NULL,
    kek     TEXT NOT NULL,
    wrapped TEXT NOT NULL
) STRICT;

CREATE TABLE key_checks (
    kek   TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE secrets (
    id       TEXT PRIMARY KEY NOT NULL,
    data_key TEXT NOT NULL REFERENCES data_keys (id),
    token    TEXT NOT NULL
) STRICT;

-- Requests of the last day, so that a repeated one is answered and not done again.
CREATE TABLE requests (
    principal  TEXT NOT NULL,
    request_id TEXT NOT NULL,
    mac        BLOB NOT NULL CHECK (length(mac) = 32),
    revision   INTEGER NOT NULL,
    hash       BLOB NOT NULL CHECK (length(hash) = 32),
    time       TEXT NOT NULL,
    outcome    BLOB NOT NULL,
    PRIMARY KEY (principal, request_id)
) STRICT;

CREATE INDEX requests_by_time ON requests (time);

-- What the log was at each floor that it was compacted to; chained by `mac`.
CREATE TABLE checkpoints (
    floor  INTEGER PRIMARY KEY CHECK (floor >= 1),
    hash   BLOB NOT NULL CHECK (length(hash) = 32),
    digest BLOB NOT NULL CHECK (length(digest) = 16),
    time   TEXT NOT NULL,
    mac    BLOB NOT NULL CHECK (length(mac) = 32)
) STRICT;

CREATE TABLE audit (
    id     INTEGER PRIMARY KEY,
    time   TEXT NOT NULL,
    actor  TEXT NOT NULL,
    event  TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE INDEX audit_by_time ON audit (time);

CREATE TRIGGER identity_stays BEFORE UPDATE ON identity BEGIN SELECT raise(ABORT, 'the identity is fixed'); END;
CREATE TRIGGER head_stays BEFORE DELETE ON head BEGIN SELECT raise(ABORT, 'the head row stays'); END;
CREATE TRIGGER log_is_written_once BEFORE UPDATE ON log BEGIN SELECT raise(ABORT, 'the log is written once'); END;
CREATE TRIGGER secrets_are_written_once BEFORE UPDATE ON secrets
BEGIN SELECT raise(ABORT, 'a new value is a new secret'); END;
CREATE TRIGGER audit_is_written_once BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'the audit is written once'); END;

-- For people. Secrets are not in them.
CREATE VIEW configuration AS
SELECT name, kind, version, spec, labels, update_revision, update_time, updated_by
FROM resources WHERE kind <> 'revocation' ORDER BY name;

CREATE VIEW history AS
SELECT revision, time, actor, action, name, version, reason, request_id FROM log ORDER BY revision, ordinal;
