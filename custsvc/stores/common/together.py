"""Jobs of several threads that run as one: what is paid once for each statement and each commit is shared.

One batch runs at a time. A job that finds none under way runs at once, alone; those that come meanwhile are
the next batch, which one of their threads runs for all. So no job waits for company, and the busier the
process, the more share a batch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Final, Generic, TypeVar

J = TypeVar("J")
R = TypeVar("R")

# Beyond this many a batch saves little more, and its jobs wait longer for each other.
_MOST: Final = 16
# Seconds after which a job no longer waits for the batch before its own: that one hangs, others may not.
_PATIENCE: Final = 1.0


class _Call(Generic[J, R]):
    """A thread's job. When it is woken, it has a batch to run, or another thread has run its job."""

    __slots__ = ("_asleep", "batch", "error", "job", "result")

    def __init__(self, job: J) -> None:
        self.job = job
        self.batch: list[_Call[J, R]] = []
        self.result: R | None = None
        self.error: BaseException | None = None
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def wait(self, seconds: float = -1) -> bool:
        """Sleep until woken; False after this many seconds."""
        return self._asleep.acquire(timeout=seconds)

    def wake(self) -> None:
        self._asleep.release()


class Together(Generic[J, R]):
    """Runs jobs in batches. `run` returns the results of a batch, in order; it raises for all of them.

    Two jobs of the same key are never in one batch.
    """

    def __init__(
        self,
        run: Callable[[Sequence[J]], Sequence[R]],
        key: Callable[[J], Hashable],
        *,
        patience: float = _PATIENCE,
    ) -> None:
        self._run = run
        self._key = key
        self._patience = patience
        self._lock = threading.Lock()
        self._busy = False
        self._began = 0.0
        self._waiting: list[_Call[J, R]] = []

    def do(self, job: J) -> R:
        """The result of a job; it may run in another thread."""
        call: _Call[J, R] = _Call(job)
        if not self._joined(call):
            return self._run([job])[0]
        if call.batch:
            self._lead(call)
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]

    def _joined(self, call: _Call[J, R]) -> bool:
        """Wait until the call has a batch to run, or its result. False if the batch before it hangs."""
        with self._lock:
            if not self._busy:
                self._begin([call])
                return True
            if time.monotonic() - self._began > self._patience:
                return False
            self._waiting.append(call)
        if not call.wait(self._patience):
            with self._lock:
                if call in self._waiting:
                    self._waiting.remove(call)
                    return False
            call.wait()
        return True

    def _begin(self, batch: list[_Call[J, R]]) -> None:
        self._busy, self._began, batch[0].batch = True, time.monotonic(), batch

    def _lead(self, leader: _Call[J, R]) -> None:
        """Run the batch of this call, then let the next one begin."""
        batch, error = leader.batch, None
        results: Sequence[R | None] = [None] * len(batch)
        try:
            results = self._run([call.job for call in batch])
        except BaseException as exc:  # noqa: BLE001 - each thread of the batch raises it
            error = exc
        self._pass_on()
        for call, result in zip(batch, results, strict=True):
            call.result, call.error = result, error
            if call is not leader:
                call.wake()

    def _pass_on(self) -> None:
        """Make the waiting calls, one of each key, the next batch, and wake its leader."""
        with self._lock:
            batch: dict[Hashable, _Call[J, R]] = {}
            left = []
            for call in self._waiting:
                if len(batch) == _MOST or batch.setdefault(self._key(call.job), call) is not call:
                    left.append(call)
            self._waiting, self._busy = left, False
            if not batch:
                return
            calls = list(batch.values())
            self._begin(calls)
        calls[0].wake()
