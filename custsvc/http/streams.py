"""Long answers: the stream of events, exports. They must not occupy the threads that serve the API.

A WSGI server occupies a thread while it writes an answer, and granian has few of them; four streams on four
threads would stop all service. So each long answer gets its own thread, and their number is limited: beyond
it the app answers 503.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from ..config import Settings
from .answer import Answer
from .permits import Ask, Permit, Permits, Revoked
from .problems import Problem
from .request import Request

if TYPE_CHECKING:
    from ..kafka.feed import Feed

logger = logging.getLogger(__name__)

_RETRY_AFTER: Final = ("Retry-After", "5")
# One caller may have at most one part in this many of the room.
_PARTS: Final = 4
BIG: Final = 256 * 1024
_PIECE: Final = 64 * 1024
_thread = threading.local()


class Streams:
    """Limits the number of concurrent long answers, in total and per caller."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._of: Counter[str] = Counter()
        self._permits = Permits()
        self.open = 0

    def carried(
        self, make: Callable[[Permit], Iterable[bytes]], ask: Ask, caller: str | None = None
    ) -> Iterator[bytes]:
        """The parts from `make`, to be written by another thread. Raises Problem 503.

        `make` gets the permit, which holds while `ask` returns true; it is also checked here before each
        part. Without a `caller` only the total limit applies.
        """
        with self._lock:
            if self.open >= self._most:
                raise _too_many(f"{self._most} long answers are under way in this process")
            if caller is not None and self._of[caller] >= max(self._most // _PARTS, 1):
                raise _too_many(f"{self._of[caller]} of your long answers are under way in this process")
            self.open += 1
            if caller is not None:
                self._of[caller] += 1
        try:
            permit = self._permits.issue(ask)
        except BaseException:  # no thread can be started
            self._leave(caller)
            raise
        _thread.carry = True
        return _Parts(make, permit, partial(self._release, permit, caller))

    def _release(self, permit: Permit, caller: str | None) -> None:
        permit.close()
        self._leave(caller)

    def _leave(self, caller: str | None) -> None:
        with self._lock:
            self.open -= 1
            if caller is not None:
                self._of[caller] -= 1
                if not self._of[caller]:
                    del self._of[caller]


class BigAnswers:
    """Large answers, written piece by piece, so that a slow reader occupies the memory of one piece only.

    At most `most` are written at once.
    """

    def __init__(self, most: int = 64) -> None:
        self._room = Streams(most)

    def carry(self, request: Request, answer: Answer) -> None:
        """Write the answer in another thread if it is big. Raises Problem 503 if there are too many."""
        if not isinstance(answer.body, bytes) or len(answer.body) < BIG:
            return
        whole = memoryview(answer.body)
        answer.body = self._room.carried(
            lambda _: (bytes(whole[start : start + _PIECE]) for start in range(0, len(whole), _PIECE)),
            lambda: True,
            f"address {request.environ.get('REMOTE_ADDR')}",
        )


def _too_many(what: str) -> Problem:
    detail = f"{what}, which is as many as it takes"
    return Problem(503, "too-many-streams", detail, headers=[_RETRY_AFTER])


def takes_thread() -> bool:
    """Whether this thread just made a long answer, to be written by another thread. Clears that note."""
    carry = getattr(_thread, "carry", False)
    _thread.carry = False
    return carry


class LazyFeed:
    """The process's feed of events, made at its first use: Kafka's client is not small."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._feed: Feed | None = None
        self._closed = False

    def __call__(self) -> Feed:
        with self._lock:
            if self._feed is None:
                from ..kafka.feed import Feed

                self._feed = Feed(self._settings)
                if self._closed:
                    self._feed.close()
            return self._feed

    def close(self) -> None:
        """End all streams, now and from now on."""
        with self._lock:
            self._closed = True
            if self._feed is not None:
                self._feed.close()


class _Parts(Iterator[bytes]):
    """Frees its place when it ends or is closed, even if no part was ever read."""

    def __init__(
        self, make: Callable[[Permit], Iterable[bytes]], permit: Permit, release: Callable[[], None]
    ) -> None:
        self._make = make
        self._permit = permit
        self._release: Callable[[], None] | None = release
        self._parts: Iterator[bytes] | None = None

    def __next__(self) -> bytes:
        try:
            if self._parts is None:
                self._parts = iter(self._make(self._permit))
            part = next(self._parts)
            if not self._permit():
                # Not a normal end: the client must not take the part received for all of it.
                raise Revoked("the reader has lost the right to read")
            return part
        except BaseException as exc:
            if not isinstance(exc, StopIteration):
                logger.warning("A long answer was cut off: %s", exc, extra={"action": "stream_cut"})
            self.close()
            raise

    def close(self) -> None:
        release, self._release = self._release, None
        if release is None:
            return
        try:
            if hasattr(self._parts, "close"):
                self._parts.close()  # type: ignore[union-attr]
        finally:
            release()
