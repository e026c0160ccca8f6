"""The roles that run for ever: read, handle, commit; stop when asked, go on after an outage."""
