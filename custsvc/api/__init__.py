"""The HTTP API: a resource for each path, and the description of them all."""
