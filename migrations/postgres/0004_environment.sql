-- A keyed hash of what a replica's environment says of settings, so that replicas can compare theirs. Empty from a binary
-- that does not know of it.
ALTER TABLE replicas ADD COLUMN environment BYTEA NOT NULL DEFAULT '' CHECK (octet_length(environment) IN (0, 32));
