-- The store on PostgreSQL. Readable with `psql`: start with the views `configuration` and `history`.
--
-- Everything lies in the first schema of the connection's search_path. Times are RFC 3339 in UTC with microseconds, so
-- that their order as text is their order in time. Text is compared and ordered bytewise, as everywhere in Signalbox.
-- What hashes and digests cover is kept as the exact bytes that were covered, as TEXT: JSONB keeps neither the order of
-- keys nor the spelling of numbers. Beside it the state has the same as JSONB, for people and their queries; the database
-- makes it and nobody can write it. Hashes and digests are keyed, see `src/store/chain.rs`.

CREATE TABLE identity (
    id            SMALLINT PRIMARY KEY CHECK (id = 1),
    store_id      TEXT COLLATE "C" NOT NULL CHECK (length(store_id) = 36),
    password_salt BYTEA NOT NULL CHECK (octet_length(password_salt) = 16)
);

-- Where the log stands. Every write locks and moves this one row.
CREATE TABLE head (
    id         SMALLINT PRIMARY KEY CHECK (id = 1),
    epoch      TEXT COLLATE "C" NOT NULL CHECK (length(epoch) = 16),
    revision   BIGINT NOT NULL,
    hash       BYTEA NOT NULL CHECK (octet_length(hash) = 32),
    digest     BYTEA NOT NULL CHECK (octet_length(digest) = 16),
    floor      BIGINT NOT NULL,
    floor_hash BYTEA NOT NULL CHECK (octet_length(floor_hash) = 32),
    CHECK (floor >= 0 AND floor <= revision)
) WITH (fillfactor = 10);

-- The current state: masked specs, and which secrets belong into them.
CREATE TABLE resources (
    name            TEXT COLLATE "C" PRIMARY KEY,
    kind            TEXT COLLATE "C" NOT NULL,
    uid             TEXT COLLATE "C" NOT NULL,
    labels_text     TEXT COLLATE "C" NOT NULL,
    version         BIGINT NOT NULL CHECK (version >= 1),
    create_revision BIGINT NOT NULL CHECK (create_revision >= 1),
    create_time     TEXT COLLATE "C" NOT NULL,
    update_revision BIGINT NOT NULL CHECK (update_revision >= create_revision),
    update_time     TEXT COLLATE "C" NOT NULL,
    updated_by      TEXT COLLATE "C" NOT NULL,
    spec_text       TEXT COLLATE "C" NOT NULL,
    secrets_text    TEXT COLLATE "C" NOT NULL,
    digest          BYTEA NOT NULL CHECK (octet_length(digest) = 16),
    labels          JSONB NOT NULL GENERATED ALWAYS AS (labels_text::jsonb) STORED,
    spec            JSONB NOT NULL GENERATED ALWAYS AS (spec_text::jsonb) STORED,
    secrets         JSONB NOT NULL GENERATED ALWAYS AS (secrets_text::jsonb) STORED
);

-- What happened, in order, without a gap above the head's floor. Rows are written once.
CREATE TABLE log (
    revision          BIGINT NOT NULL CHECK (revision >= 1),
    ordinal           BIGINT NOT NULL CHECK (ordinal >= 0),
    change_type       TEXT COLLATE "C" NOT NULL CHECK (change_type IN ('created', 'updated', 'deleted')),
    action            TEXT COLLATE "C" NOT NULL,
    name              TEXT COLLATE "C" NOT NULL,
    kind              TEXT COLLATE "C" NOT NULL,
    uid               TEXT COLLATE "C" NOT NULL,
    labels            TEXT COLLATE "C" NOT NULL,
    version           BIGINT NOT NULL CHECK (version >= 1),
    create_revision   BIGINT NOT NULL CHECK (create_revision BETWEEN 1 AND revision),
    create_time       TEXT COLLATE "C" NOT NULL,
    spec              TEXT COLLATE "C" CHECK ((spec IS NULL) = (change_type = 'deleted')),
    secrets           TEXT COLLATE "C" NOT NULL,
    previous_labels   TEXT COLLATE "C" CHECK ((previous_labels IS NULL) = (change_type = 'created')),
    previous_revision BIGINT CHECK ((previous_revision IS NULL) = (change_type = 'created')),
    actor             TEXT COLLATE "C" NOT NULL,
    time              TEXT COLLATE "C" NOT NULL,
    reason            TEXT COLLATE "C" NOT NULL,
    request_id        TEXT COLLATE "C" NOT NULL,
    digest            BYTEA NOT NULL CHECK (octet_length(digest) = 16),
    previous_hash     BYTEA NOT NULL CHECK (octet_length(previous_hash) = 32),
    hash              BYTEA NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (revision, ordinal)
);

CREATE UNIQUE INDEX log_by_name ON log (name, revision);
-- Small: what compaction reads to find the secrets that are still referred to.
CREATE INDEX log_secrets ON log (revision) WHERE secrets <> '{}';

-- Keys wrapped by a key-encryption key, and values sealed with them.
CREATE TABLE data_keys (
    id      TEXT COLLATE "C" PRIMARY KEY,
    kek     TEXT COLLATE "C" NOT NULL,
    wrapped TEXT COLLATE "C" NOT NULL
);

CREATE TABLE key_checks (
    kek   TEXT COLLATE "C" PRIMARY KEY,
    value TEXT COLLATE "C" NOT NULL
);

CREATE TABLE secrets (
    id       TEXT COLLATE "C" PRIMARY KEY,
    data_key TEXT COLLATE "C" NOT NULL REFERENCES data_keys (id),
    token    TEXT COLLATE "C" NOT NULL
);

-- Requests of the last day, so that a repeated one is answered and not done again.
CREATE TABLE requests (
    principal  TEXT COLLATE "C" NOT NULL,
    request_id TEXT COLLATE "C" NOT NULL,
    mac        BYTEA NOT NULL CHECK (octet_length(mac) = 32),
    revision   BIGINT NOT NULL,
    hash       BYTEA NOT NULL CHECK (octet_length(hash) = 32),
    time       TEXT COLLATE "C" NOT NULL,
    outcome    BYTEA NOT NULL,
    PRIMARY KEY (principal, request_id)
);

CREATE INDEX requests_by_time ON requests (time);

-- What the log was at each floor that it was compacted to; chained by `mac`.
CREATE TABLE checkpoints (
    floor  BIGINT PRIMARY KEY CHECK (floor >= 1),
    hash   BYTEA NOT NULL CHECK (octet_length(hash) = 32),
    digest BYTEA NOT NULL CHECK (octet_length(digest) = 16),
    time   TEXT COLLATE "C" NOT NULL,
    mac    BYTEA NOT NULL CHECK (octet_length(mac) = 32)
);

CREATE TABLE audit (
    id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    time   TEXT COLLATE "C" NOT NULL,
    actor  TEXT COLLATE "C" NOT NULL,
    event  TEXT COLLATE "C" NOT NULL,
    detail TEXT COLLATE "C" NOT NULL
);

CREATE INDEX audit_by_time ON audit (time);

CREATE FUNCTION signalbox_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE FUNCTION signalbox_check_head() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.epoch = OLD.epoch AND (NEW.revision < OLD.revision OR NEW.floor < OLD.floor) THEN
        RAISE EXCEPTION 'within one life the head only grows' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION signalbox_check_forgotten() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM forgotten WHERE revision > (SELECT floor FROM head)) THEN
        RAISE EXCEPTION 'the log is not cut above its floor' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER identity_stays BEFORE UPDATE OR DELETE ON identity
    FOR EACH ROW EXECUTE FUNCTION signalbox_refuse('the identity is fixed');
CREATE TRIGGER head_stays BEFORE DELETE ON head
    FOR EACH ROW EXECUTE FUNCTION signalbox_refuse('the head row stays');
CREATE TRIGGER head_only_grows BEFORE UPDATE ON head
    FOR EACH ROW EXECUTE FUNCTION signalbox_check_head();
CREATE TRIGGER log_is_written_once BEFORE UPDATE ON log
    FOR EACH ROW EXECUTE FUNCTION signalbox_refuse('the log is written once');
CREATE TRIGGER log_is_not_cut AFTER DELETE ON log REFERENCING OLD TABLE AS forgotten
    FOR EACH STATEMENT EXECUTE FUNCTION signalbox_check_forgotten();
CREATE TRIGGER secrets_are_written_once BEFORE UPDATE ON secrets
    FOR EACH ROW EXECUTE FUNCTION signalbox_refuse('a new value is a new secret');
CREATE TRIGGER audit_is_written_once BEFORE UPDATE ON audit
    FOR EACH ROW EXECUTE FUNCTION signalbox_refuse('the audit is written once');
CREATE TRIGGER identity_is_not_emptied BEFORE TRUNCATE ON identity
    FOR EACH STATEMENT EXECUTE FUNCTION signalbox_refuse('the identity is fixed');
CREATE TRIGGER head_is_not_emptied BEFORE TRUNCATE ON head
    FOR EACH STATEMENT EXECUTE FUNCTION signalbox_refuse('the head row stays');
CREATE TRIGGER log_is_not_emptied BEFORE TRUNCATE ON log
    FOR EACH STATEMENT EXECUTE FUNCTION signalbox_refuse('the log is not cut above its floor');

-- For people. Secrets are not in them.
CREATE VIEW configuration AS
SELECT name, kind, version, spec, labels, update_revision, update_time, updated_by
FROM resources WHERE kind <> 'revocation' ORDER BY name;

CREATE VIEW history AS
SELECT revision, time, actor, action, name, version, reason, request_id FROM log ORDER BY revision, ordinal;
