-- Which feature level a binary has to support to run over a step of the schema that it does not know. From here on each step
-- says so itself; one that says nothing needs the binary that brought it.
CREATE TABLE schema_steps (
    version INTEGER PRIMARY KEY NOT NULL,
    needs   INTEGER NOT NULL CHECK (needs >= 1)
) STRICT;

INSERT INTO schema_steps (version, needs) VALUES (6, 1);
