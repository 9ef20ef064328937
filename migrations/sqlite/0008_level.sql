-- Who raised the feature level: a keyed hash of it, so that a number that somebody else wrote is not believed. Empty where a binary
-- raised it that signs nothing. It is no part of what was written, as the level is not.
ALTER TABLE feature_level ADD COLUMN mac BLOB NOT NULL DEFAULT x'' CHECK (length(mac) IN (0, 32));

INSERT INTO schema_steps (version, needs) VALUES (8, 1);
