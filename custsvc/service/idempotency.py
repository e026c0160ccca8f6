"""Idempotent requests: a repeated request gets the answer of the first one and does nothing.

The answer is stored by the same atomic step as its change, so there is never one without the other, whenever
a process dies. It holds only the resulting customer id and version, so it keeps no personal data of an erased
customer.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import orjson

from ..errors import CustsvcError, InFlight, KeyMismatch, TemporaryError, Unusable
from ..ports.answers import Answer, Answers

T = TypeVar("T")

_PRUNE_EVERY: Final = 60.0


@dataclass(frozen=True, slots=True)
class Keyed:
    """A request with an Idempotency-Key: its principal, and a hash of its content."""

    principal: str
    key: str
    request: bytes

    def answer(self, body: dict[str, Any], now: dt.datetime) -> Answer:
        """The answer record of the request, for a store to save."""
        return Answer(self.principal, self.key, self.request, orjson.dumps(body), now)


class Idempotency:
    """Does each keyed request once."""

    def __init__(self, answers: Answers | None, clock: Callable[[], dt.datetime]) -> None:
        self._kept = answers
        self._clock = clock
        self._running: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._prune_at = time.monotonic() + _PRUNE_EVERY

    def once(
        self, keyed: Keyed | None, work: Callable[[], T], replay: Callable[[dict[str, Any]], T]
    ) -> tuple[T, bool]:
        """The result of `work`; for a request that was answered before, the result of `replay`.

        The second value says whether it is a replay. `work` must store the answer together with its change.
        Raises KeyMismatch if the key was used for another request, and InFlight while this process handles
        it. If another process handles it, the store makes one of them wait for the other.
        """
        if keyed is None:
            return work(), False
        self._begin(keyed)
        try:
            kept = self._find(keyed)
            if kept is not None:
                return replay(kept), True
            try:
                return work(), False
            except (TemporaryError, Unusable):
                raise
            except CustsvcError:
                # Maybe another process has handled the same request meanwhile.
                kept = self._find(keyed)
                if kept is None:
                    raise
                return replay(kept), True
        finally:
            self._end(keyed)

    def keep(self, keyed: Keyed | None, body: dict[str, Any]) -> None:
        """Store the answer to a keyed request that changed nothing."""
        if keyed is not None:
            self._answers.add(keyed.answer(body, self._clock()))

    @property
    def _answers(self) -> Answers:
        if self._kept is None:
            raise TypeError("a service without answers has no idempotency keys")
        return self._kept

    def _begin(self, keyed: Keyed) -> None:
        with self._lock:
            if (keyed.principal, keyed.key) in self._running:
                raise InFlight
            self._running.add((keyed.principal, keyed.key))

    def _end(self, keyed: Keyed) -> None:
        with self._lock:
            self._running.discard((keyed.principal, keyed.key))
            due = time.monotonic() >= self._prune_at
            if due:
                self._prune_at = time.monotonic() + _PRUNE_EVERY
        if due:
            self._answers.prune(self._clock())

    def _find(self, keyed: Keyed) -> dict[str, Any] | None:
        kept = self._answers.find(keyed.principal, keyed.key, self._clock())
        if kept is None:
            return None
        if kept.request != keyed.request:
            raise KeyMismatch
        body: dict[str, Any] = orjson.loads(kept.body)
        return body
