-- Where the store came from, and where it went. One that went, or is just going, is fenced: nobody serves or writes it.
--
-- `arrived`: it came here from `place`. `moving`: the move to `place` has begun, and may or may not have been done there.
-- `moved`: it is there. `other_id` is what the database at `place` was called while it was empty.
CREATE TABLE moves (
    id       TEXT PRIMARY KEY NOT NULL CHECK (length(id) = 36),
    state    TEXT NOT NULL CHECK (state IN ('arrived', 'moving', 'moved')),
    place    TEXT NOT NULL,
    other_id TEXT NOT NULL,
    time     TEXT NOT NULL
) STRICT;
-- A store goes to one place only.
CREATE UNIQUE INDEX moves_away ON moves (state <> 'arrived') WHERE state <> 'arrived';

-- Whatever writes moves the head or adds to the audit; keys and levels are changed beside them.
CREATE TRIGGER head_is_fenced BEFORE UPDATE ON head WHEN EXISTS (SELECT 1 FROM moves WHERE state <> 'arrived')
BEGIN SELECT raise(ABORT, 'the store was moved away'); END;
CREATE TRIGGER audit_is_fenced BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM moves WHERE state <> 'arrived')
BEGIN SELECT raise(ABORT, 'the store was moved away'); END;
CREATE TRIGGER data_keys_are_fenced BEFORE INSERT ON data_keys WHEN EXISTS (SELECT 1 FROM moves WHERE state <> 'arrived')
BEGIN SELECT raise(ABORT, 'the store was moved away'); END;
CREATE TRIGGER key_checks_are_fenced BEFORE INSERT ON key_checks WHEN EXISTS (SELECT 1 FROM moves WHERE state <> 'arrived')
BEGIN SELECT raise(ABORT, 'the store was moved away'); END;
CREATE TRIGGER service_secrets_are_fenced BEFORE INSERT ON service_secrets
WHEN EXISTS (SELECT 1 FROM moves WHERE state <> 'arrived')
BEGIN SELECT raise(ABORT, 'the store was moved away'); END;
CREATE TRIGGER feature_level_is_fenced BEFORE UPDATE ON feature_level
WHEN EXISTS (SELECT 1 FROM moves WHERE state <> 'arrived')
BEGIN SELECT raise(ABORT, 'the store was moved away'); END;

-- A store that moves into an empty database brings its identity along; from its first key on it is fixed.
DROP TRIGGER identity_stays;
CREATE TRIGGER identity_stays BEFORE UPDATE ON identity
WHEN EXISTS (SELECT 1 FROM data_keys) OR EXISTS (SELECT 1 FROM key_checks) OR EXISTS (SELECT 1 FROM log)
BEGIN SELECT raise(ABORT, 'the identity is fixed'); END;
