-- Password resets, one for each name that somebody typed: when it was asked for (until it is settled), the lease of
-- the process that mails it, and the SHA-256 of the token that was mailed last.
-- @compatible
CREATE TABLE password_reset (
    name text PRIMARY KEY,
    asked_on timestamptz(3),
    leased_until timestamptz(3) NOT NULL DEFAULT '-infinity',
    token text UNIQUE,
    expires_on timestamptz(3)
);
CREATE INDEX password_reset_asked ON password_reset (asked_on) WHERE asked_on IS NOT NULL;
