"""Customers, their events, and what is searched in them: pure data, no I/O."""
