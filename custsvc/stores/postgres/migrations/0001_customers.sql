-- Facts about this database as a whole: its role, its secret.
CREATE TABLE custsvc_meta (
    key text PRIMARY KEY,
    value text NOT NULL
);

CREATE SEQUENCE customer_id_seq;

-- `doc` is the canonical JSON, the truth. The other columns are for look-ups.
CREATE TABLE customer (
    id bigint PRIMARY KEY,
    version bigint NOT NULL,
    deleted boolean NOT NULL,
    name text NOT NULL,
    email text,
    phone text,
    created_on timestamptz(3) NOT NULL,
    updated_on timestamptz(3) NOT NULL,
    doc text NOT NULL
);
CREATE INDEX customer_live ON customer (id) WHERE NOT deleted;
CREATE INDEX customer_trash ON customer (id) WHERE deleted;

-- Append-only: the outbox and the history. A customer's next version can take its row lock, and so its
-- `seq`, only after the version before has committed; CACHE 1 keeps that true across sessions.
CREATE TABLE customer_event (
    seq bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    id uuid NOT NULL,
    customer_id bigint NOT NULL,
    version bigint NOT NULL,
    op text NOT NULL,
    created timestamptz(3) NOT NULL,
    payload text NOT NULL,
    txid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    UNIQUE (customer_id, version)
);
CREATE INDEX customer_event_txid ON customer_event (txid, seq);

-- How far the relay has sent. The window between the snapshots `prev` and `target` is sent up to `last_seq`.
CREATE TABLE outbox_cursor (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    system_identifier text NOT NULL,
    prev pg_snapshot NOT NULL,
    target pg_snapshot,
    last_seq bigint NOT NULL DEFAULT 0
);

-- How far this copy has read, per partition of a topic: the offset of the next record to read.
CREATE TABLE replica_position (
    topic text,
    part integer,
    next_offset bigint NOT NULL,
    PRIMARY KEY (topic, part)
);

CREATE TABLE api_key (
    prefix text PRIMARY KEY,
    sha256 bytea NOT NULL,
    name text NOT NULL,
    role text NOT NULL CHECK (role IN ('read', 'write', 'admin')),
    created_on timestamptz(3) NOT NULL,
    expires_on timestamptz(3),
    revoked_on timestamptz(3)
);
