-- Mails by the beginning of their address, for searches by people.
-- @compatible
-- @concurrently
CREATE INDEX CONCURRENTLY IF NOT EXISTS notification_address
    ON notification (recipient text_pattern_ops, created_on);
