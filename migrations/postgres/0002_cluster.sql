-- What replicas share beside the log: who lives, who does what only one may do, what all of them support, and secrets of
-- the service itself. Times are the database's own.

CREATE TABLE replicas (
    id            TEXT COLLATE "C" PRIMARY KEY,
    address       TEXT COLLATE "C" NOT NULL,
    version       TEXT COLLATE "C" NOT NULL,
    feature_level BIGINT NOT NULL CHECK (feature_level >= 1),
    epoch         TEXT COLLATE "C" NOT NULL CHECK (length(epoch) = 16),
    revision      BIGINT NOT NULL CHECK (revision >= 0),
    digest        BYTEA NOT NULL CHECK (octet_length(digest) = 16),
    key_ids       TEXT[] NOT NULL,
    doorbell      TEXT COLLATE "C" NOT NULL,
    watchers      BIGINT NOT NULL CHECK (watchers >= 0),
    seen          TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE leases (
    work   TEXT COLLATE "C" PRIMARY KEY,
    holder TEXT COLLATE "C" NOT NULL,
    fence  BIGINT NOT NULL CHECK (fence >= 1),
    ends   TIMESTAMPTZ NOT NULL
);

-- Kinds, fields and values above this level are not written; a binary below it does not start.
CREATE TABLE feature_level (
    id    SMALLINT PRIMARY KEY CHECK (id = 1),
    level BIGINT NOT NULL CHECK (level >= 1)
);
INSERT INTO feature_level (id, level) VALUES (1, 1);

-- Sealed as all secrets are; never read by a client.
CREATE TABLE service_secrets (
    name     TEXT COLLATE "C" PRIMARY KEY,
    id       TEXT COLLATE "C" NOT NULL,
    data_key TEXT COLLATE "C" NOT NULL REFERENCES data_keys (id),
    token    TEXT COLLATE "C" NOT NULL
);

CREATE FUNCTION signalbox_check_level() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.level < OLD.level THEN
        RAISE EXCEPTION 'the feature level only grows' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER feature_level_only_grows BEFORE UPDATE ON feature_level
    FOR EACH ROW EXECUTE FUNCTION signalbox_check_level();
CREATE TRIGGER feature_level_stays BEFORE DELETE ON feature_level
    FOR EACH ROW EXECUTE FUNCTION signalbox_refuse('the feature level only grows');

CREATE FUNCTION signalbox_check_fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.fence < OLD.fence OR (NEW.holder <> OLD.holder AND NEW.fence = OLD.fence) THEN
        RAISE EXCEPTION 'every holder of a lease has a fence of its own' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fences_only_grow BEFORE UPDATE ON leases
    FOR EACH ROW EXECUTE FUNCTION signalbox_check_fence();
CREATE TRIGGER leases_stay BEFORE DELETE ON leases
    FOR EACH ROW EXECUTE FUNCTION signalbox_refuse('a lease ends, its fence stays');
