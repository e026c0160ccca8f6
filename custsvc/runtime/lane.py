"""In which lane a thread runs: a server works on a few requests at once, whichever of its threads has them.

What is dear and can be used by one at a time, such as a connection to the database, is kept for the lane and
not for the thread, of which there may be many more.
"""

from __future__ import annotations

import threading


class _Here(threading.local):
    lane: int | None = None


here = _Here()
