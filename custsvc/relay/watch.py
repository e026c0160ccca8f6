"""Looks at the topic beside the sending."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Final

from .acknowledged import Doubts

# Seconds between two looks at the topic, and the greatest age of the last look when a batch is sent.
_GUARD: Final = 1.0
_FRESH: Final = 2.0


class Watch:
    """Looks at the topic periodically in another thread; `check` returns what it found."""

    def __init__(self, aside: Executor, look: Callable[[], Doubts]) -> None:
        self._aside = aside
        self._look = look
        self._looking: Future[Doubts] | None = None
        # When the last look began, and when the last look whose result was taken began.
        self._began = self._seen = time.monotonic()

    def check(self, *, fresh: bool) -> Doubts:
        """Return what was found since the last check; with `fresh`, by a look of the last seconds."""
        entered = time.monotonic()
        if self._looking is None and entered - self._began > _GUARD:
            self._start()
        found = self._take() if self._looking is not None and self._looking.done() else {}
        if not found and fresh and self._seen < entered - _FRESH and self._looking is not None:
            found = self._take()
        if not found and fresh and self._seen < entered - _FRESH:
            self._start()
            found = self._take()
        return found

    def _start(self) -> None:
        self._began = time.monotonic()
        self._looking = self._aside.submit(self._look)

    def _take(self) -> Doubts:
        """Wait for the current look and return its result."""
        looking, self._looking = self._looking, None
        if looking is None:
            return {}
        found = looking.result()
        self._seen = self._began
        return found
