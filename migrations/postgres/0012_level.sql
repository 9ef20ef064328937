-- Who raised the feature level: a keyed hash of it, so that a number that somebody else wrote is not believed. Empty where a binary
-- raised it that signs nothing. It is no part of what was written, as the level is not.
ALTER TABLE feature_level ADD COLUMN mac BYTEA NOT NULL DEFAULT ''
    CONSTRAINT feature_level_is_signed CHECK (octet_length(mac) IN (0, 32));

INSERT INTO schema_steps (version, needs) VALUES (12, 1);
