-- People who sign in to the pages, and their sessions. `id` of a session is the SHA-256 of its token.
CREATE TABLE app_user (
    name text PRIMARY KEY,
    password text NOT NULL,
    role text NOT NULL CHECK (role IN ('read', 'write', 'admin')),
    created_on timestamptz(3) NOT NULL,
    disabled_on timestamptz(3)
);

CREATE TABLE web_session (
    id text PRIMARY KEY,
    subject text NOT NULL,
    actor text NOT NULL,
    role text NOT NULL CHECK (role IN ('read', 'write', 'admin')),
    created_on timestamptz(3) NOT NULL,
    seen_on timestamptz(3) NOT NULL
);
CREATE INDEX web_session_subject ON web_session (subject);
CREATE INDEX web_session_created ON web_session (created_on);

-- Tries to sign in, by account and by address, within a window that begins at the first of them.
CREATE TABLE sign_in_try (
    key text PRIMARY KEY,
    count integer NOT NULL,
    since timestamptz(3) NOT NULL
);
