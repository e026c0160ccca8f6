-- Where a user gets links to reset the password; a user without one gets them at a name that is an address.
-- @compatible
ALTER TABLE app_user ADD COLUMN IF NOT EXISTS email text;
