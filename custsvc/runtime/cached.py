"""Caches slow answers for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

# An answer is kept this many times as long as it took: frequent callers then cost a tenth of one core.
_KEPT = 10.0


class Cached(Generic[T]):
    """The last answer of `ask`, kept ten times as long as it took to get; a quick one is always fresh.

    Several threads may ask at once; each gets an answer, and none waits for another's.
    """

    def __init__(self, ask: Callable[[], T], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._answer: tuple[float, T] | None = None

    def __call__(self) -> T:
        known, now = self._answer, self._clock()
        if known is not None and now < known[0]:
            return known[1]
        answer = self._ask()
        after = self._clock()
        self._answer = (after + _KEPT * (after - now), answer)
        return answer
