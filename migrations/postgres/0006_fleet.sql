-- Who runs what: the streams of workers, and what they report to have applied. Both are told once a second by whoever knows
-- them, and forgotten soon after a stream has ended. Times are the database's own.
CREATE TABLE worker_sessions (
    id             TEXT COLLATE "C" PRIMARY KEY,
    replica        TEXT COLLATE "C" NOT NULL,
    epoch          TEXT COLLATE "C" NOT NULL CHECK (length(epoch) = 16),
    subject        TEXT COLLATE "C" NOT NULL,
    worker         TEXT COLLATE "C" NOT NULL,
    labels         TEXT COLLATE "C" NOT NULL CHECK (labels::jsonb IS NOT NULL),
    client_version TEXT COLLATE "C" NOT NULL,
    view           TEXT COLLATE "C" NOT NULL CHECK (view::jsonb IS NOT NULL),
    secrets        BOOLEAN NOT NULL,
    silent         BOOLEAN NOT NULL,
    began          TIMESTAMPTZ NOT NULL,
    ended          TIMESTAMPTZ
) WITH (fillfactor = 90);

-- A report may come to another replica than the one that serves the stream, and be written before it.
CREATE TABLE worker_reports (
    session          TEXT COLLATE "C" PRIMARY KEY,
    applied          BIGINT NOT NULL CHECK (applied >= 0),
    rejected         BIGINT NOT NULL CHECK (rejected >= 0),
    rejection_reason TEXT COLLATE "C" NOT NULL,
    rejection_names  TEXT COLLATE "C" NOT NULL CHECK (rejection_names::jsonb IS NOT NULL),
    has_left         BOOLEAN NOT NULL,
    told             TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);
