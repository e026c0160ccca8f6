-- The version of the first event that a row reports, which decides its place among the mails. It never
-- changes; `version`, up to which a digest reports, does. Rows of the previous release lack it, and are
-- ordered by `version`.
-- @compatible
ALTER TABLE notification ADD COLUMN first_version bigint;
-- @concurrently
CREATE INDEX CONCURRENTLY IF NOT EXISTS notification_order
    ON notification (customer_id, recipient, (coalesce(first_version, version)))
    WHERE state IN ('queued', 'claimed', 'handing_over', 'deferred') AND customer_id IS NOT NULL;
-- @transaction
DROP INDEX IF EXISTS notification_unsettled;
