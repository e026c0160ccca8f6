-- The version of a customer that its terms were made for, by the rules of fold.py's second version. A process
-- of an earlier release leaves it behind when it writes, so what it wrote is known.
-- @compatible
ALTER TABLE customer ADD COLUMN folded bigint;
ALTER TABLE IF EXISTS customer_shadow ADD COLUMN IF NOT EXISTS folded bigint;
-- @concurrently
-- Those whose terms are to be made anew; mostly there are none.
CREATE INDEX CONCURRENTLY IF NOT EXISTS customer_unfolded ON customer (id) WHERE folded IS DISTINCT FROM version;
