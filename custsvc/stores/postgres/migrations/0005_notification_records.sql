-- Retries and discards by people, channels other than mail, suppressed addresses, unsubscribed customers.
ALTER TABLE notification
    ADD COLUMN channel text NOT NULL DEFAULT 'mail',
    ADD COLUMN spared integer NOT NULL DEFAULT 0,
    -- The events that a digest reports so far, as JSON.
    ADD COLUMN entries text,
    -- The lease of a claim in seconds; a hand-over renews it.
    ADD COLUMN lease double precision,
    DROP CONSTRAINT notification_state_check,
    ADD CONSTRAINT notification_state_check CHECK (state IN ('queued', 'claimed', 'handing_over', 'sent',
        'deferred', 'failed', 'unknown', 'suppressed', 'discarded')) NOT VALID;

CREATE TABLE notification_suppression (
    address text PRIMARY KEY,
    reason text NOT NULL,
    detail text,
    created_on timestamptz NOT NULL DEFAULT now(),
    expires_on timestamptz
);
CREATE TABLE notification_preference (
    customer_id bigint,
    rule text,
    wanted boolean NOT NULL,
    updated_on timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer_id, rule)
);
-- @transaction
ALTER TABLE notification VALIDATE CONSTRAINT notification_state_check;
-- @concurrently
-- Each channel has its own senders, so that an outage of one does not delay the others.
CREATE INDEX CONCURRENTLY IF NOT EXISTS notification_due_of_channel ON notification (channel, next_at, position)
    WHERE state IN ('queued', 'deferred') AND blocked_by IS NULL;
-- How many mails a recipient got lately.
CREATE INDEX CONCURRENTLY IF NOT EXISTS notification_recipient ON notification (recipient, updated_on)
    WHERE state = 'sent';
-- @transaction
DROP INDEX notification_due;
ALTER INDEX notification_due_of_channel RENAME TO notification_due;
