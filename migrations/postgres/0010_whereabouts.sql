-- Where the database is, by its own word, as the replicas that serve it have last seen it: so that a copy which was put into
-- another place, or goes on from another past, is told from it. It is of the place, and not of the store.
CREATE TABLE whereabouts (
    id    SMALLINT PRIMARY KEY CHECK (id = 1),
    place TEXT COLLATE "C" NOT NULL
);

INSERT INTO schema_steps (version, needs) VALUES (10, 1);
