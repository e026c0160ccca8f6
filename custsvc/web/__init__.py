"""The web app: pages that manage customers and show the pipeline, served beside the API.

The server renders the pages, and they work without JavaScript; htmx and a small script make them faster. All
files come from this origin, under a strict Content-Security-Policy. The pages use the same use-cases and
ports as the API, but another sign-in: the API accepts no cookie, the pages accept no key in a header.
"""

from __future__ import annotations

from .app import BLUEPRINT, add_pages

__all__ = ["BLUEPRINT", "add_pages"]
