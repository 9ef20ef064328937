-- What replicas tell of themselves is bounded, so that a row that somebody else wrote breaks nothing. What is there already is
-- not looked at: readers leave it out, and silent replicas are forgotten.
ALTER TABLE replicas
    ADD CONSTRAINT replicas_are_short CHECK (length(id) <= 256 AND length(address) <= 1024 AND length(version) <= 256
        AND length(doorbell) <= 1024) NOT VALID,
    ADD CONSTRAINT replicas_have_keys CHECK (coalesce(array_ndims(key_ids), 1) = 1 AND cardinality(key_ids) <= 1024
        AND array_position(key_ids, NULL) IS NULL) NOT VALID;

-- The next holder's fence has to fit.
ALTER TABLE leases ADD CONSTRAINT leases_have_room CHECK (fence < 9000000000000000000) NOT VALID;

-- No age can be told of what began at no time. Such a row could not even be ended any more.
DELETE FROM worker_sessions WHERE NOT isfinite(began) OR NOT isfinite(ended);
ALTER TABLE worker_sessions
    ADD CONSTRAINT sessions_have_times CHECK (isfinite(began) AND (ended IS NULL OR isfinite(ended))) NOT VALID;
