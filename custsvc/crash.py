"""Points where a test can have the process die at once, as by `kill -9`.

`CUSTSVC_CRASH_AT=name` ends the process at its first pass of that point, `name:3` at the third.
"""

from __future__ import annotations

import os
import threading

_STATUS = 137
_lock = threading.Lock()
_passes = 0
_wanted, _, _nth = os.environ.get("CUSTSVC_CRASH_AT", "").partition(":")


def point(name: str) -> None:
    """End the process here, without a word, where that was asked for."""
    global _passes
    if name != _wanted:
        return
    with _lock:
        _passes += 1
        if _passes == int(_nth or 1):
            os._exit(_STATUS)
