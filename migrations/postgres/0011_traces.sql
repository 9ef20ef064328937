-- Which span of which trace wrote a row (W3C traceparent), where traces are made: who tells of the revision, on whatever
-- replica, goes on with that trace. It is no part of what was written, so that the chain does not cover it.
ALTER TABLE log ADD COLUMN traceparent TEXT;

INSERT INTO schema_steps (version, needs) VALUES (11, 1);
