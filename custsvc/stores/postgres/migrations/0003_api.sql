-- The answers of requests with an Idempotency-Key, each stored with the change it made.
CREATE TABLE answer (
    principal text,
    key text,
    request bytea NOT NULL,
    body text NOT NULL,
    created_on timestamptz(3) NOT NULL,
    PRIMARY KEY (principal, key)
);
CREATE INDEX answer_age ON answer (created_on);

-- Folded words and metadata entries, made by custsvc, for searches.
ALTER TABLE customer ADD COLUMN terms tsvector;

-- The trace that a change belongs to, passed on to Kafka.
ALTER TABLE customer_event ADD COLUMN traceparent text;
-- @terms
