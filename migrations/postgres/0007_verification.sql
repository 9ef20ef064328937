-- A keyed hash of what a replica verifies tokens with, so that replicas can compare theirs. Empty from a binary that does not
-- know of it.
ALTER TABLE replicas ADD COLUMN verification BYTEA NOT NULL DEFAULT '' CHECK (octet_length(verification) IN (0, 32));
