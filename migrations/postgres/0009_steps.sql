-- Which feature level a binary has to support to run over a step of the schema that it does not know. From here on each step
-- says so itself; one that says nothing needs the binary that brought it.
CREATE TABLE schema_steps (
    version BIGINT PRIMARY KEY,
    needs   BIGINT NOT NULL CHECK (needs >= 1)
);

INSERT INTO schema_steps (version, needs) VALUES (9, 1);
