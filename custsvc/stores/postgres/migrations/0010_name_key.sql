-- Where a customer's name stands in a list (see name_key.py), and the version of a customer that this and its
-- terms were made for, by the rules of fold.py's third version. A process of an earlier release leaves `keyed`
-- behind when it writes, so what it wrote is known. `folded` was the same of the second version.
-- @compatible
ALTER TABLE customer ADD COLUMN name_key text, ADD COLUMN keyed bigint;
ALTER TABLE IF EXISTS customer_shadow
    ADD COLUMN IF NOT EXISTS name_key text, ADD COLUMN IF NOT EXISTS keyed bigint;
-- @concurrently
-- Those that are to be made anew; mostly there are none.
CREATE INDEX CONCURRENTLY IF NOT EXISTS customer_unkeyed ON customer (id) WHERE keyed IS DISTINCT FROM version;
DROP INDEX CONCURRENTLY IF EXISTS customer_unfolded;
