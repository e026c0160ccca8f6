-- Pairs of customers that somebody said are not the same, while they are at these versions.
-- @compatible
CREATE TABLE dismissed_pair (
    low bigint NOT NULL,
    high bigint NOT NULL,
    low_version bigint NOT NULL,
    high_version bigint NOT NULL,
    dismissed_by text NOT NULL,
    dismissed_on timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (low, high),
    CHECK (low < high)
);
CREATE INDEX dismissed_pair_high ON dismissed_pair (high);
-- Some of the live customers that a query of terms finds. The planner takes an unknown term for a frequent one,
-- and would read the table until it has found enough; this way it can only use the index of terms.
CREATE FUNCTION custsvc_bearers(asked text, most integer)
    RETURNS TABLE (id bigint, version bigint, name text, email text, phone text)
    LANGUAGE plpgsql STABLE
    SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off
    AS $$
    BEGIN
        RETURN QUERY SELECT c.id, c.version, c.name, c.email, c.phone FROM customer AS c
        WHERE c.terms @@ asked::tsquery AND NOT c.deleted LIMIT most;
    END $$;
