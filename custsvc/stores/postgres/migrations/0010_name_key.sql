-- The place of a customer's name in a list (see name_key.py), and the version of the customer when this and its
-- terms were made by the rules of fold.py's third version. A write by a process of an earlier release does not
-- update `keyed`, so such customers can be found. `folded` was the same for the second version.
-- @compatible
ALTER TABLE customer ADD COLUMN name_key text, ADD COLUMN keyed bigint;
ALTER TABLE IF EXISTS customer_shadow
    ADD COLUMN IF NOT EXISTS name_key text, ADD COLUMN IF NOT EXISTS keyed bigint;
-- @concurrently
-- Customers whose key and terms must be refilled; usually none.
CREATE INDEX CONCURRENTLY IF NOT EXISTS customer_unkeyed ON customer (id) WHERE keyed IS DISTINCT FROM version;
DROP INDEX CONCURRENTLY IF EXISTS customer_unfolded;
