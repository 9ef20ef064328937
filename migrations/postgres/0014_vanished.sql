-- Replicas that fell silent without a goodbye, for an hour: whoever starts later knows of them as well, and a process that begins at
-- the address of one proves that the one before is gone. Where another one had told the same address meanwhile (`shared`), an
-- address proves nothing.
ALTER TABLE replicas ADD COLUMN began TIMESTAMPTZ NOT NULL DEFAULT '-infinity';
CREATE TABLE vanished (
    id      TEXT COLLATE "C" PRIMARY KEY CHECK (length(id) <= 256),
    address TEXT COLLATE "C" NOT NULL CHECK (length(address) <= 260),
    seen    TIMESTAMPTZ NOT NULL CHECK (isfinite(seen)),
    shared  BOOLEAN NOT NULL
);

INSERT INTO schema_steps (version, needs) VALUES (14, 1);
