"""The lanes in which a worker handles requests, and the queue before them.

There are few lanes, since more of them would only wait for each other. A request that finds no free lane
waits in a queue that is bounded in length and time. A thread that never handles requests answers 503 to those
that wait too long, so callers get an answer in time even when every lane hangs on a database.

The server has more threads than lanes, because some wait for bodies. A thread that finds no lane queues its
request and then rests, and a thread with a lane takes the next request from the queue: waking threads that
find no lane cost up to 9 % of all requests. Resting threads are called when threads are missing: when bodies
are slow, when the lanes make no progress, and now and then while no lane gets free. So every request soon
gets into the queue and is timed, and `/livez` is answered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ..http.intake import TAKEN
from ..http.refusals import refuse
from ..runtime.lane import here
from .bodies import Call

logger = logging.getLogger(__name__)

_QUEUE_MAX: Final = 2048
_LOOK_EVERY: Final = 0.25
_RELIEF: Final = 4
# While no lane gets free, all requests that have come are put into the queue between every third look and the
# next one.
_FETCH_EVERY: Final = 3
# Seconds without progress, or without a thread that takes requests. A request that needs a new connection
# takes less, one in an outage more.
_STALLED: Final = 2.0
# Shows that the process lives, whatever its lanes do, and needs no lane.
_ALIVE: Final = ("/livez", "/livez/")


class _Turn:
    """A thread's wait for a lane, for the short check before a body is read."""

    __slots__ = ("_given", "lane")

    def __init__(self) -> None:
        self._given = threading.Event()
        self.lane: int | None = None

    def give(self, lane: int | None) -> None:
        self.lane = lane
        self._given.set()

    def wait(self) -> int | None:
        """Wait for the lane; None if none was free in time."""
        self._given.wait()
        return self.lane


class _Request(NamedTuple):
    proto: Any
    scope: Any
    deadline: float
    turn: _Turn | None = None


class Lanes:
    """`count` lanes; a request waits at most `patience` seconds for one. The server has `threads` threads."""

    def __init__(self, count: int, threads: int, patience: float) -> None:
        self._threads = threads
        self._patience = patience
        self._free = list(range(count))
        self._queue: deque[_Request] = deque()
        self._lock = threading.Lock()
        self._done = 0
        self._was_free = True
        self._fetching = False
        self._moved = self._ready = time.monotonic()
        self._inside = 0
        self._resting = 0
        self._called = threading.Semaphore(0)
        threading.Thread(target=self._watch, name="queue-watch", daemon=True).start()

    def wrap(self, call: Call) -> Call:
        """Wrap `call`, granian's function that calls the application, to run in a lane."""

        def run(proto: Any, scope: Any) -> None:
            if scope["PATH_INFO"] in _ALIVE:
                call(proto, scope)
                return
            lane = self._enter(proto, scope)
            if lane is None:
                self._rest()
                return
            self._go_on(call, lane, _Request(proto, scope, 0.0))

        return run

    def serve(self, call: Call) -> Call:
        """Wrap `call`, which all requests come to, to count the threads of the server that are in it."""

        def run(proto: Any, scope: Any) -> None:
            with self._lock:
                self._inside += 1
            try:
                call(proto, scope)
            finally:
                with self._lock:
                    self._inside -= 1

        return run

    def brief(self, call: Call) -> Callable[[Any, Any], bool]:
        """Wrap `call` for a thread that does something else afterwards. Returns False if it got no lane."""

        def run(proto: Any, scope: Any) -> bool:
            lane = self._turn()
            if lane is None:
                return False
            here.lane = lane
            following: _Request | None = None
            try:
                _work(call, proto, scope)
            finally:
                here.lane = None
                following = self._next(lane)
            if following is not None:
                self._hand_over(call, lane, following)
            return True

        return run

    def _go_on(self, call: Call, lane: int, mine: _Request | None) -> None:
        """Handle this request, then the queued ones in the same lane, without waking another thread."""
        here.lane = lane
        try:
            while mine is not None:
                _work(call, mine.proto, mine.scope)
                mine = self._next(lane)
        except BaseException:
            # Others wait for the lane, whatever has happened here.
            if (following := self._next(lane)) is not None:
                self._hand_over(call, lane, following)
            raise
        finally:
            here.lane = None

    def _hand_over(self, call: Call, lane: int, following: _Request) -> None:
        try:
            threading.Thread(target=self._stand_in, args=(call, lane, following), daemon=True).start()
        except (RuntimeError, MemoryError):  # no thread can be started
            self._go_on(call, lane, following)

    def _stand_in(self, call: Call, lane: int, following: _Request) -> None:
        """Like `_go_on`, in a thread that the server does not know: it handles the queued requests only.

        All threads of the server may be resting by then, while more requests wait for one of them.
        """
        try:
            self._go_on(call, lane, following)
        finally:
            self._call(1)

    def _turn(self) -> int | None:
        """A lane for the current thread, which waits in the queue; None if none was free in time."""
        with self._lock:
            if self._free:
                return self._free.pop()
            if len(self._queue) >= _QUEUE_MAX:
                return None
            turn = _Turn()
            self._queue.append(_Request(None, None, time.monotonic() + self._patience, turn))
        return turn.wait()

    def is_worth_waiting(self, waited: float) -> bool:
        """Whether a thread should go on to wait for one that needs a lane, after so many seconds.

        Not while the lanes make no progress, or while no thread is left that would take requests.
        """
        now = time.monotonic()
        if self._inside >= self._threads:
            self._call(1)
        return waited < self._patience and now < self._moved + _STALLED and now < self._ready + _STALLED

    def relieve(self, count: int) -> None:
        """Wake resting threads to take requests, because `count` more threads wait for bodies."""
        # Wake more than are missing: more slow bodies may be next in the server's queue.
        self._call(_RELIEF * count)

    def _call(self, count: int) -> None:
        with self._lock:
            count = min(count, self._resting)
            self._resting -= count
        if count:
            self._called.release(count)

    def _rest(self) -> None:
        with self._lock:
            # While a lane is taken, its thread comes back for more requests, or calls one that rests.
            if self._fetching or self._free:
                return
            self._resting += 1
        self._called.acquire()

    def _enter(self, proto: Any, scope: Any) -> int | None:
        """A free lane; None if the request was put into the queue, or refused."""
        with self._lock:
            if self._free:
                return self._free.pop()
            if len(self._queue) < _QUEUE_MAX:
                self._queue.append(_Request(proto, scope, time.monotonic() + self._patience))
                return None
        _refuse([_Request(proto, scope, 0.0)])
        return None

    def _next(self, lane: int) -> _Request | None:
        """The next request in the queue; None if the lane was passed to a waiting thread, or set free."""
        with self._lock:
            self._done += 1
            if self._queue:
                following = self._queue.popleft()
                if following.turn is None:
                    return following
                following.turn.give(lane)
                return None
            self._free.append(lane)
            self._was_free = True
            return None

    def _watch(self) -> None:
        done, looks = 0, 0
        while True:
            time.sleep(_LOOK_EVERY)
            now = time.monotonic()
            late = []
            with self._lock:
                hang, done = not self._free and self._done == done, self._done
                looks, self._was_free = 0 if self._free or self._was_free else looks + 1, False
                self._fetching = hang or looks % _FETCH_EVERY == 1
                if not hang:
                    self._moved = now
                if self._inside - self._resting < self._threads:
                    self._ready = now
                while self._queue and self._queue[0].deadline < now:
                    late.append(self._queue.popleft())
            if self._fetching:
                self._call(self._resting if hang else 1)
            _refuse(late)


def _work(call: Call, proto: Any, scope: Any) -> None:
    try:
        call(proto, scope)
    except BaseException:
        # The app answers its own errors, so this is the server's: the client has gone, or memory is short.
        # Even an exception that would end the thread ends only the request: others may wait for its lane.
        logger.exception("A request ended without an answer", extra={"action": "request_failed"})
    finally:
        _close_body(scope)


def _close_body(scope: Any) -> None:
    if (body := scope.get(TAKEN)) is not None:
        body.close()


def _refuse(requests: list[_Request]) -> None:
    if not requests:
        return
    logger.warning(
        "Refused %d requests: all lanes were taken too long",
        len(requests),
        extra={"action": "overloaded"},
    )
    for each in requests:
        if each.turn is not None:
            each.turn.give(None)
            continue
        refuse(each.proto, "overloaded", ("retry-after", "2"))
        _close_body(each.scope)
