"""Whether work grows faster than its input, measured by ratios of the thread's processor time."""

from __future__ import annotations

import time
from collections.abc import Callable

# Work that is done within this is not looked at: a square would be far beyond at these sizes.
_NOTHING = 0.005
_SIZES = (24, 600, 6_000)
_STEP = 4
# Four times the text may take eight times as long; sixteen times is a square.
_MOST = 8.0


def _seconds(work: Callable[[], object], times: int = 1) -> float:
    found = []
    for _ in range(times):
        began = time.thread_time()
        work()
        found.append(time.thread_time() - began)
    return min(found)


def _ratio(made: Callable[[int], Callable[[], object]], size: int) -> float:
    long, short = _seconds(made(size), 2), _seconds(made(size // _STEP), 2)
    return long / max(short, 1e-9) if long > _NOTHING else 0.0


def too_fast(made: Callable[[int], Callable[[], object]]) -> str | None:
    """How the work grows, where that is faster than its size does; `made` gives the work of a size."""
    for size in _SIZES:
        # Where it takes long, its fourth is enough to see how it grows, and ends in time.
        if _seconds(made(size)) < _NOTHING:
            continue
        ratio = min(_ratio(made, size) for _ in range(3))
        if ratio > _MOST:
            return f"{size} take {ratio:.0f} times as long as {size // _STEP}"
    return None
