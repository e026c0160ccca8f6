"""Wait until something holds, with a deadline: the only loop of the tests that waits by time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

# A planted bug makes some tests wait in vain: those runs set a shorter deadline for all of them.
_DEADLINE = "CUSTSVC_TEST_DEADLINE"


def patience(seconds: float) -> float:
    """The seconds to wait where a test gives `seconds`."""
    return float(os.environ.get(_DEADLINE, seconds))


def until(
    what: str,
    condition: Callable[[], Any],
    seconds: float = 120.0,
    *,
    every: float = 0.05,
    despite: type[BaseException] | tuple[type[BaseException], ...] = (),
) -> Any:
    """The first true value of `condition`, asked `every` so many seconds; AssertionError after `seconds`.

    An exception of `despite` counts as not yet: what starts does not answer. Any other ends the wait.
    """
    deadline = time.monotonic() + patience(seconds)
    while True:
        try:
            if value := condition():
                return value
            last = ""
        except despite as exc:
            last = f"; last: {exc!r}"
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}{last}")
        time.sleep(every)
