-- Where the store came from, and where it went. One that went, or is just going, is fenced: nobody serves or writes it.
--
-- `arrived`: it came here from `place`. `moving`: the move to `place` has begun, and may or may not have been done there.
-- `moved`: it is there. `other_id` is what the database at `place` was called while it was empty.
CREATE TABLE moves (
    id       TEXT COLLATE "C" PRIMARY KEY CHECK (length(id) = 36),
    state    TEXT COLLATE "C" NOT NULL CHECK (state IN ('arrived', 'moving', 'moved')),
    place    TEXT COLLATE "C" NOT NULL,
    other_id TEXT COLLATE "C" NOT NULL,
    time     TEXT COLLATE "C" NOT NULL
);
-- A store goes to one place only.
CREATE UNIQUE INDEX moves_away ON moves ((state <> 'arrived')) WHERE state <> 'arrived';

-- A replica that was asleep while the store moved may wake up at any time, and must find that it can't write.
CREATE FUNCTION signalbox_check_fenced() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM moves WHERE state <> 'arrived') THEN
        RAISE EXCEPTION 'the store was moved away' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

-- Whatever writes moves the head or adds to the audit; keys and levels are changed beside them.
CREATE TRIGGER head_is_fenced BEFORE UPDATE ON head
    FOR EACH STATEMENT EXECUTE FUNCTION signalbox_check_fenced();
CREATE TRIGGER audit_is_fenced BEFORE INSERT ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION signalbox_check_fenced();
CREATE TRIGGER data_keys_are_fenced BEFORE INSERT OR UPDATE OR DELETE ON data_keys
    FOR EACH STATEMENT EXECUTE FUNCTION signalbox_check_fenced();
CREATE TRIGGER key_checks_are_fenced BEFORE INSERT OR UPDATE OR DELETE ON key_checks
    FOR EACH STATEMENT EXECUTE FUNCTION signalbox_check_fenced();
CREATE TRIGGER service_secrets_are_fenced BEFORE INSERT OR UPDATE OR DELETE ON service_secrets
    FOR EACH STATEMENT EXECUTE FUNCTION signalbox_check_fenced();
CREATE TRIGGER feature_level_is_fenced BEFORE UPDATE ON feature_level
    FOR EACH STATEMENT EXECUTE FUNCTION signalbox_check_fenced();

-- A store that moves into an empty database brings its identity along; from its first key on it is fixed.
CREATE FUNCTION signalbox_check_identity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR EXISTS (SELECT 1 FROM data_keys) OR EXISTS (SELECT 1 FROM key_checks)
        OR EXISTS (SELECT 1 FROM log) THEN
        RAISE EXCEPTION 'the identity is fixed' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
DROP TRIGGER identity_stays ON identity;
CREATE TRIGGER identity_stays BEFORE UPDATE OR DELETE ON identity
    FOR EACH ROW EXECUTE FUNCTION signalbox_check_identity();
