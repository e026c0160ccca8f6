"""The lane in which a thread runs: a server handles a few requests at once, on any of its many threads.

An expensive resource for one user at a time, such as a database connection, belongs to the lane and not to
the thread, of which there may be many more.
"""

from __future__ import annotations

import threading


class _Here(threading.local):
    lane: int | None = None


here = _Here()
