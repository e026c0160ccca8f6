-- What requests with an Idempotency-Key came to, each stored with the change it made.
CREATE TABLE answer (
    principal text,
    key text,
    request bytea NOT NULL,
    body text NOT NULL,
    created_on timestamptz(3) NOT NULL,
    PRIMARY KEY (principal, key)
);
CREATE INDEX answer_age ON answer (created_on);

-- Folded words and metadata entries, made by custsvc: what a search asks for. The list of entries that wait
-- to be merged into the index is kept short, because each search reads all of it.
ALTER TABLE customer ADD COLUMN terms tsvector;
CREATE INDEX customer_terms ON customer USING gin (terms) WITH (gin_pending_list_limit = 256);

-- One index for each order of a list. Text sorts by code points, as it does in MongoDB.
CREATE INDEX customer_name ON customer (name COLLATE "C", id);
CREATE INDEX customer_email ON customer (coalesce(email, '') COLLATE "C", id);
CREATE INDEX customer_created ON customer (created_on, id);
CREATE INDEX customer_updated ON customer (updated_on, id);
CREATE INDEX customer_version ON customer (version, id);

-- The trace that a change belongs to, passed on to Kafka.
ALTER TABLE customer_event ADD COLUMN traceparent text;
