-- What was seen of resources, and is no part of them: when a key was last used, what a test found. It is in no log, digest
-- or stream. Of one resource and one matter the newest counts. Rows of resources that are gone go with the housekeeping.
CREATE TABLE observations (
    uid   TEXT COLLATE "C" NOT NULL,
    what  TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL CHECK (value = '' OR value::jsonb IS NOT NULL),
    time  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (uid, what)
) WITH (fillfactor = 70);

CREATE TRIGGER observations_are_fenced BEFORE INSERT OR UPDATE ON observations
    FOR EACH STATEMENT EXECUTE FUNCTION signalbox_check_fenced();
