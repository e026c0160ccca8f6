-- The version of the customer when its terms were made by the rules of fold.py's second version. A write by a
-- process of an earlier release does not update it, so such customers can be found.
-- @compatible
ALTER TABLE customer ADD COLUMN folded bigint;
ALTER TABLE IF EXISTS customer_shadow ADD COLUMN IF NOT EXISTS folded bigint;
-- @concurrently
-- Customers whose terms must be refilled; usually none.
CREATE INDEX CONCURRENTLY IF NOT EXISTS customer_unfolded ON customer (id) WHERE folded IS DISTINCT FROM version;
