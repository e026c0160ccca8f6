-- The second factor of users who sign in by a password: the secret of its codes, and hashes of recovery codes. It
-- counts once confirmed; codes of the time step `last_step` and earlier ones were used.
-- @compatible
CREATE TABLE second_factor (
    name text PRIMARY KEY,
    secret text NOT NULL,
    created_on timestamptz(3) NOT NULL,
    confirmed_on timestamptz(3),
    last_step bigint NOT NULL DEFAULT 0,
    recovery text[] NOT NULL DEFAULT '{}'
);
