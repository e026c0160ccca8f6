-- The version of the first event that a row tells of: what its place among the mails goes by. It never
-- changes; `version`, up to which a digest tells, does. Rows of the release before have none, and are ordered
-- by `version`.
-- @compatible
ALTER TABLE notification ADD COLUMN first_version bigint;
-- @concurrently
CREATE INDEX CONCURRENTLY IF NOT EXISTS notification_order
    ON notification (customer_id, recipient, (coalesce(first_version, version)))
    WHERE state IN ('queued', 'claimed', 'handing_over', 'deferred') AND customer_id IS NOT NULL;
-- @transaction
DROP INDEX IF EXISTS notification_unsettled;
