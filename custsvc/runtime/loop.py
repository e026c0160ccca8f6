"""Shared by all workers: stopping, and waiting out an outage."""

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
from typing import TypeVar

from ..errors import ExitCode, TemporaryError

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Stop:
    """The stop request. The first SIGINT or SIGTERM takes effect after the current work, a second at once."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def asked(self) -> bool:
        return self._event.is_set()

    def hurries(self) -> bool:
        """Whether the current work should be given up if it has to wait."""
        return self.asked()

    def ask(self) -> None:
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Sleep until stop is asked, at most this long; return whether stop is asked."""
        return self._event.wait(seconds)

    @contextmanager
    def on_signals(self) -> Iterator[Stop]:
        """Handle SIGINT, SIGTERM and SIGHUP within the block; restore the previous handlers after it."""
        handled = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
            handled.append(signal.SIGHUP)
        before = {s: signal.signal(s, self._on_signal) for s in handled}
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
    """Seconds before try `attempt` + 1: full jitter, so that clients that failed together spread out.

    Between 0 and base × 2^(attempt - 1), never above `cap`. Source: "Exponential Backoff And Jitter",
    M. Brooker.
    """
    # 2.0 ** 1024 overflows a float, and 64 doublings exceed any cap.
    return float(rng() * min(cap, base * 2.0 ** min(attempt - 1, 64)))


class Outage:
    """Consecutive failures of a dependency: each is logged, and the wait after it grows."""

    def __init__(
        self,
        what: str,
        *,
        base: float = 0.5,
        cap: float = 10.0,
        least: float = 0.1,
        level: int = logging.WARNING,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """`what`: the name in the log of the work that fails. Times are in seconds."""
        self._what = what
        self._base = base
        self._cap = cap
        self._least = least
        self._level = level
        self._rng = rng
        self.failures = 0

    def failed(self, exc: TemporaryError) -> float:
        """Log a failure; return how many seconds to wait before the next try."""
        self.failures += 1
        delay = max(self._least, backoff(self.failures, self._base, self._cap, rng=self._rng))
        logger.log(
            self._level,
            "%s waits %.1f s: %s",
            self._what,
            delay,
            exc,
            extra={"action": "wait", "dependency": exc.dependency, "attempt": self.failures},
        )
        return delay

    def over(self) -> None:
        """The work succeeded: the next failure counts as the first one again."""
        self.failures = 0


def insist(
    work: Callable[[], T], outage: Outage, rest: Callable[[float], object], *, give_up: Callable[[], bool]
) -> T:
    """Run `work` until it succeeds, with a `rest` after each failure.

    Raises the TemporaryError after which `give_up` returns true; other errors propagate.
    """
    while True:
        try:
            return work()
        except TemporaryError as exc:
            if give_up():
                raise
            rest(outage.failed(exc))


def keep_trying(work: Callable[[], None], stop: Stop, what: str, *, cap: float = 10.0) -> None:
    """Run `work` until stop is asked; if a dependency fails, wait with back-off and run it again.

    Work that ran well for a while before it failed resets the count. Other errors propagate: waiting does
    not fix them.
    """
    outage = Outage(what, cap=cap)
    while not stop.asked():
        started = time.monotonic()
        try:
            work()
        except TemporaryError as exc:
            if stop.asked():
                return
            if time.monotonic() - started > 3 * cap:
                outage.over()
            stop.wait(outage.failed(exc))
