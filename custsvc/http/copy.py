"""Reading from a copy what was just written to its source: wait until the copy has it.

A write returns its position: the customer and the new version. The client sends it to a copy, which checks
repeatedly, until the caller's patience ends, whether it has that version. So a reader sees its own writes on
any copy, and the copy needs no access to the source.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Final

from ..ports.customers import CustomerStore
from .problems import Problem

WAIT_MAX: Final = 10.0
_LOOK_EVERY: Final = 0.02


class Copy:
    """The copy that an app serves. `threads`: how many requests its process handles at once."""

    def __init__(self, store: CustomerStore, threads: int) -> None:
        self._store = store
        # One thread always stays free for requests that do not wait.
        self._waiters = threading.BoundedSemaphore(max(threads - 1, 1))

    def wait(self, wanted: Mapping[int, int], patience: float) -> None:
        """Return when all these customers are at these versions. Raises Problem 504 when time is up."""
        if self._has(wanted):
            return
        if patience > 0 and self._waiters.acquire(blocking=False):
            try:
                deadline = time.monotonic() + min(patience, WAIT_MAX)
                while time.monotonic() < deadline:
                    time.sleep(_LOOK_EVERY)
                    if self._has(wanted):
                        return
            finally:
                self._waiters.release()
        raise Problem(
            504,
            "copy-behind",
            "the copy has not yet got what X-Custsvc-Min-Position asks for",
            headers=[("Retry-After", "1")],
        )

    def _has(self, wanted: Mapping[int, int]) -> bool:
        found = self._store.get_many(list(wanted))
        return all(each in found and found[each].version >= version for each, version in wanted.items())
