-- What was seen of resources, and is no part of them: when a key was last used, what a test found. It is in no log, digest
-- or stream. Of one resource and one matter the newest counts. Rows of resources that are gone go with the housekeeping.
CREATE TABLE observations (
    uid   TEXT NOT NULL,
    what  TEXT NOT NULL,
    value TEXT NOT NULL CHECK (value = '' OR json_valid(value)),
    time  TEXT NOT NULL,
    PRIMARY KEY (uid, what)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER observations_are_fenced BEFORE INSERT ON observations
WHEN EXISTS (SELECT 1 FROM moves WHERE state <> 'arrived')
BEGIN SELECT raise(ABORT, 'the store was moved away'); END;
