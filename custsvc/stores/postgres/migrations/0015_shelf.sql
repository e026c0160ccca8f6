-- Files, jobs and records of pages and imports, kept for a while.
-- @compatible
CREATE TABLE shelf (
    name text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL,
    until timestamptz NOT NULL
);
CREATE INDEX shelf_until ON shelf (until);
-- @fill
-- Records of imports move here, so that imports can still be undone.
WITH moved AS (
    DELETE FROM custsvc_meta
    WHERE key IN (SELECT key FROM custsvc_meta WHERE starts_with(key, 'import.') LIMIT 100)
    RETURNING key, value
)
INSERT INTO shelf (name, value, until)
    SELECT key, convert_to(value, 'UTF8'), now() + interval '7 days' FROM moved
    ON CONFLICT (name) DO UPDATE SET value = excluded.value, until = excluded.until;
