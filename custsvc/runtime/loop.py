"""What every worker shares: how it is stopped, and how it waits out an outage."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ..errors import ExitCode, TemporaryError

logger = logging.getLogger(__name__)


class Stop:
    """The wish to stop. The first SIGINT or SIGTERM is heard after the work in hand, a second one at once."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def asked(self) -> bool:
        return self._event.is_set()

    def ask(self) -> None:
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Sleep, but not past the wish to stop; returns whether it is there."""
        return self._event.wait(seconds)

    @contextmanager
    def on_signals(self) -> Iterator[Stop]:
        """Listen to SIGINT and SIGTERM within the block; the handlers before are put back after it."""
        before = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        if self._event.is_set():
            os._exit(ExitCode.INTERRUPTED)
        self._event.set()


def backoff(attempt: int, base: float, cap: float, *, rng: Callable[[], float] = random.random) -> float:
    """Seconds before try `attempt` + 1: full jitter, so that a crowd that failed together spreads out.

    Between 0 and base × 2^(attempt - 1), never above `cap`. Source: "Exponential Backoff And Jitter",
    M. Brooker.
    """
    # 2.0 ** 1024 is no float any more, and 64 doublings are past any cap.
    return float(rng() * min(cap, base * 2.0 ** min(attempt - 1, 64)))


def keep_trying(work: Callable[[], None], stop: Stop, what: str, *, cap: float = 10.0) -> None:
    """Run `work` until stop is asked; where a dependency fails, wait with back-off and run it again.

    Work that went well for a while before it failed starts the count anew. Other errors pass: waiting does
    not mend them.
    """
    attempt = 0
    while not stop.asked():
        started = time.monotonic()
        try:
            work()
        except TemporaryError as exc:
            if stop.asked():
                return
            attempt = 1 if time.monotonic() - started > 3 * cap else attempt + 1
            delay = max(0.1, backoff(attempt, 0.5, cap))
            logger.warning(
                "%s waits %.1f s: %s",
                what,
                delay,
                exc,
                extra={"action": "wait", "dependency": exc.dependency, "attempt": attempt},
            )
            stop.wait(delay)
