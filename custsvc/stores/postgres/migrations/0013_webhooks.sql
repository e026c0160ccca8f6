-- Webhook endpoints. Their secrets have a table of their own, so that the account of `serve` may add one and read none.
-- @compatible
CREATE TABLE webhook_endpoint (
    id text PRIMARY KEY,
    url text NOT NULL,
    ops text[] NOT NULL,
    changed text[] NOT NULL,
    conditions text NOT NULL,
    payload text NOT NULL CHECK (payload IN ('event', 'state')),
    email text,
    description text NOT NULL,
    created_by text NOT NULL,
    created_on timestamptz(3) NOT NULL DEFAULT now(),
    updated_on timestamptz(3) NOT NULL DEFAULT now(),
    secret_made_on timestamptz(3) NOT NULL DEFAULT now(),
    failing_since timestamptz(3),
    failure text,
    paused_on timestamptz(3),
    paused_by text,
    paused_why text,
    owner_told boolean NOT NULL DEFAULT false,
    test_asked timestamptz(3)
);

-- Each lets the earlier secrets of its endpoint stay valid for `overlap` seconds.
CREATE TABLE webhook_secret (
    endpoint_id text NOT NULL REFERENCES webhook_endpoint ON DELETE CASCADE,
    made_on timestamptz NOT NULL DEFAULT clock_timestamp(),
    secret text NOT NULL,
    overlap double precision NOT NULL
);
CREATE INDEX webhook_secret_endpoint ON webhook_secret (endpoint_id, made_on);
-- @concurrently
-- The deliveries of one endpoint, the newest first.
CREATE INDEX CONCURRENTLY IF NOT EXISTS notification_of_channel ON notification (channel, created_on, id)
    WHERE channel <> 'mail';
-- The waiting deliveries of one endpoint.
CREATE INDEX CONCURRENTLY IF NOT EXISTS notification_waiting ON notification (channel)
    WHERE channel <> 'mail' AND state IN ('queued', 'claimed', 'handing_over', 'deferred');
