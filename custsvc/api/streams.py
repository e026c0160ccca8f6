"""Answers that take long: the stream of events, exports. They must not hold the threads that serve the API.

A WSGI server holds a thread for as long as an answer is written, and granian has few of them; four streams on
four threads would end all service. So such an answer is carried by a thread of its own, and their number is
bounded: one more than that is refused with 503.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ..config import Settings
from .bodies import Call
from .problems import Problem

if TYPE_CHECKING:
    from ..feed import Feed

logger = logging.getLogger(__name__)

_RETRY_AFTER: Final = ("Retry-After", "5")
_thread = threading.local()


class Streams:
    """Room for so many long answers at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self.open = 0

    def carried(self, make: Callable[[], Iterable[bytes]]) -> Iterator[bytes]:
        """The parts that `make` gives, to be written by a thread of their own. Raises Problem 503."""
        with self._lock:
            if self.open >= self._most:
                detail = (
                    f"{self._most} long answers are under way in this process, which is as many as it takes"
                )
                raise Problem(503, "too-many-streams", detail, headers=[_RETRY_AFTER])
            self.open += 1
        _thread.carry = True
        return _Parts(make, self._release)

    def _release(self) -> None:
        with self._lock:
            self.open -= 1


class LazyFeed:
    """The process's feed of events, made when somebody first wants it: Kafka's client is not small."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._feed: Feed | None = None
        self._closed = False

    def __call__(self) -> Feed:
        with self._lock:
            if self._feed is None:
                from ..feed import Feed

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
    """Gives its place free when it ends or is closed, also where nobody ever took a part of it."""

    def __init__(self, make: Callable[[], Iterable[bytes]], release: Callable[[], None]) -> None:
        self._make = make
        self._release: Callable[[], None] | None = release
        self._parts: Iterator[bytes] | None = None

    def __next__(self) -> bytes:
        if self._parts is None:
            self._parts = iter(self._make())
        try:
            return next(self._parts)
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


class Carrier:
    """Stands for the server's side of a request, and has a long answer written by a thread of its own."""

    __slots__ = ("_proto", "response_bytes")

    def __init__(self, proto: Any) -> None:
        self._proto = proto
        self.response_bytes = proto.response_bytes

    def response_iter(self, status: int, headers: Any, body: Any) -> None:
        if not getattr(_thread, "carry", False):
            self._proto.response_iter(status, headers, body)
            return
        _thread.carry = False
        threading.Thread(
            target=self._proto.response_iter, args=(status, headers, body), name="stream", daemon=True
        ).start()


def carry_streams(prepare: Callable[[Call], Call]) -> None:
    """Let granian's workers of this process write long answers on other threads.

    `prepare` makes of granian's way to run the application the one that is to be taken.
    """
    from granian.server import mp as granian  # it offers no way of its own; a test tells when this breaks

    mp: Any = granian
    original = mp._wsgi_call_wrap

    def wrap(callback: Any, *options: Any) -> Callable[[Any, Any], Any]:
        call = prepare(original(callback, *options))
        return lambda proto, scope: call(Carrier(proto), scope)

    mp._wsgi_call_wrap = wrap
