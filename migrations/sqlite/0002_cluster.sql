-- What the store may hold. A file has one process, so there are no replicas and no leases in it.
--
-- Kinds, fields and values above this level are not written; a binary below it does not start.
CREATE TABLE feature_level (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    level INTEGER NOT NULL CHECK (level >= 1)
) STRICT;
INSERT INTO feature_level (id, level) VALUES (1, 1);

-- Sealed as all secrets are; never read by a client.
CREATE TABLE service_secrets (
    name     TEXT PRIMARY KEY NOT NULL,
    id       TEXT NOT NULL,
    data_key TEXT NOT NULL REFERENCES data_keys (id),
    token    TEXT NOT NULL
) STRICT;

CREATE TRIGGER feature_level_only_grows BEFORE UPDATE ON feature_level WHEN new.level < old.level
BEGIN SELECT raise(ABORT, 'the feature level only grows'); END;
CREATE TRIGGER feature_level_stays BEFORE DELETE ON feature_level
BEGIN SELECT raise(ABORT, 'the feature level only grows'); END;
