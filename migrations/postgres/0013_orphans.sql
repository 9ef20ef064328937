-- Sessions whose replica vanished without having ended them: their streams may be open still, so they are kept for longer than
-- those that have ended.
ALTER TABLE worker_sessions ADD COLUMN orphaned BOOLEAN NOT NULL DEFAULT false;

INSERT INTO schema_steps (version, needs) VALUES (13, 1);
