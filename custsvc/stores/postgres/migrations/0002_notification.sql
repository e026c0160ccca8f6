-- One mail to one recipient because of one event. `blocked_by` names an older mail to the same recipient
-- about the same customer that is not settled; it only keeps claims from looking at the row again and
-- again, the claim itself checks the order.
CREATE TABLE notification (
    id text PRIMARY KEY,
    event_id text NOT NULL,
    customer_id bigint,
    version bigint NOT NULL,
    rule text NOT NULL,
    recipient text NOT NULL,
    subject text NOT NULL,
    text text NOT NULL,
    html text,
    state text NOT NULL CHECK (state IN
        ('queued', 'claimed', 'handing_over', 'sent', 'deferred', 'failed', 'unknown', 'suppressed')),
    attempts integer NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL DEFAULT now(),
    -- The order of rows that were added together.
    position integer NOT NULL,
    blocked_by text,
    token text,
    lease_until timestamptz,
    reason text,
    published boolean NOT NULL DEFAULT false,
    publish_lease timestamptz NOT NULL DEFAULT '-infinity',
    created_on timestamptz NOT NULL DEFAULT now(),
    updated_on timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notification_due ON notification (next_at, position)
    WHERE state IN ('queued', 'deferred') AND blocked_by IS NULL;
CREATE INDEX notification_unsettled ON notification (customer_id, recipient, version)
    WHERE state IN ('queued', 'claimed', 'handing_over', 'deferred') AND customer_id IS NOT NULL;
CREATE INDEX notification_blocked ON notification (blocked_by) WHERE blocked_by IS NOT NULL;
CREATE INDEX notification_leased ON notification (lease_until) WHERE state IN ('claimed', 'handing_over');
CREATE INDEX notification_unpublished ON notification (updated_on) WHERE state = 'failed' AND NOT published;
CREATE INDEX notification_state ON notification (state, created_on);
CREATE INDEX notification_customer ON notification (customer_id, created_on);
CREATE INDEX notification_created ON notification (created_on);

CREATE TABLE notification_attempt (
    notification_id text REFERENCES notification ON DELETE CASCADE,
    number integer,
    tried_on timestamptz NOT NULL,
    outcome text NOT NULL,
    code integer,
    text text,
    duration double precision NOT NULL,
    PRIMARY KEY (notification_id, number)
);
