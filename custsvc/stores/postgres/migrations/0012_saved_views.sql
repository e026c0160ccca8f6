-- Lists of customers under a name. `query` is that of the list's address, `owner` the subject of a session.
-- @compatible
CREATE TABLE saved_view (
    id text PRIMARY KEY,
    owner text NOT NULL,
    made_by text NOT NULL,
    name text COLLATE "C" NOT NULL,
    query text NOT NULL,
    shared boolean NOT NULL,
    changed_on timestamptz(3) NOT NULL,
    UNIQUE (owner, name)
);
CREATE INDEX saved_view_shared ON saved_view (name) WHERE shared;
