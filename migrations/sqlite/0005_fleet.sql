-- Who runs what: the streams of workers, and what they report to have applied. Both are told once a second by whoever knows
-- them, and forgotten soon after a stream has ended. Times are the database's own, in seconds of Unix time.
CREATE TABLE worker_sessions (
    id             TEXT PRIMARY KEY NOT NULL,
    replica        TEXT NOT NULL,
    epoch          TEXT NOT NULL CHECK (length(epoch) = 16),
    subject        TEXT NOT NULL,
    worker         TEXT NOT NULL,
    labels         TEXT NOT NULL CHECK (json_valid(labels)),
    client_version TEXT NOT NULL,
    view           TEXT NOT NULL CHECK (json_valid(view)),
    secrets        INTEGER NOT NULL CHECK (secrets IN (0, 1)),
    silent         INTEGER NOT NULL CHECK (silent IN (0, 1)),
    began          REAL NOT NULL,
    ended          REAL
) STRICT, WITHOUT ROWID;

-- A report may come to another replica than the one that serves the stream, and be written before it.
CREATE TABLE worker_reports (
    session           TEXT PRIMARY KEY NOT NULL,
    applied           INTEGER NOT NULL CHECK (applied >= 0),
    rejected          INTEGER NOT NULL CHECK (rejected >= 0),
    rejection_reason  TEXT NOT NULL,
    rejection_names   TEXT NOT NULL CHECK (json_valid(rejection_names)),
    has_left          INTEGER NOT NULL CHECK (has_left IN (0, 1)),
    told              REAL NOT NULL
) STRICT, WITHOUT ROWID;
