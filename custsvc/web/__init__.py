"""The web app: pages that manage customers and show the pipeline, served beside the API.

Pages are made on the server and work without JavaScript; htmx and a little script of our own make them
quicker. Everything comes from this origin, under a strict Content-Security-Policy. The pages use the same
use-cases and ports as the API, and share nothing of its sign-in: a cookie opens no API, a key no page.
"""

from __future__ import annotations

from .app import BLUEPRINT, add_pages

__all__ = ["BLUEPRINT", "add_pages"]
