"""The lanes in which a worker's requests are worked on, and the queue before them.

There are few lanes, since more of them would only wait for each other. A request that finds all of them taken
waits its turn in a queue that is bounded, in number and in time. What has waited too long is answered 503 by
a thread that never works on a request itself: also when every lane hangs on a database that does not answer,
callers are told so in time.

The server has more threads than lanes, for bodies that are awaited. A thread that could only bring a request
into the queue does so once and then rests, and whoever has a lane takes the next: waking threads that find
no lane cost up to 9 % of all requests. Those at rest are called when threads are missing: when bodies dawdle,
and when the lanes do not get on, so that no request is left where nobody sees how long it waits.
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
# Tells that the process lives, whatever its lanes do, and needs none.
_ALIVE: Final = ("/livez", "/livez/")


class _Turn:
    """A thread that waits for a lane, for the short question that comes before a body."""

    __slots__ = ("_given", "lane")

    def __init__(self) -> None:
        self._given = threading.Event()
        self.lane: int | None = None

    def give(self, lane: int | None) -> None:
        self.lane = lane
        self._given.set()

    def wait(self) -> int | None:
        """The lane; None where there was none in time."""
        self._given.wait()
        return self.lane


class _Request(NamedTuple):
    proto: Any
    scope: Any
    deadline: float
    turn: _Turn | None = None


class Lanes:
    """So many lanes; a request waits at most `patience` seconds for one."""

    def __init__(self, count: int, patience: float) -> None:
        self._patience = patience
        self._free = list(range(count))
        self._queue: deque[_Request] = deque()
        self._lock = threading.Lock()
        self._done = 0
        self._getting_on = True
        self._resting = 0
        self._called = threading.Semaphore(0)
        threading.Thread(target=self._watch, name="queue-watch", daemon=True).start()

    def wrap(self, call: Call) -> Call:
        """`call`, granian's way to run the application, in a lane."""

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

    def brief(self, call: Call) -> Callable[[Any, Any], bool]:
        """`call` in a lane, for a thread that does something else afterwards. False: there was no lane."""

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
        """Do what waits for this lane, so that nobody need be woken."""
        here.lane = lane
        try:
            while mine is not None:
                _work(call, mine.proto, mine.scope)
                mine = self._next(lane)
        finally:
            here.lane = None
            if mine is not None:
                self._give_back(lane)

    def _hand_over(self, call: Call, lane: int, following: _Request) -> None:
        try:
            threading.Thread(target=self._go_on, args=(call, lane, following), daemon=True).start()
        except RuntimeError:  # no thread can be had
            self._go_on(call, lane, following)

    def _turn(self) -> int | None:
        """A lane for this very thread, which waits for it in the queue; None where there was none in time."""
        with self._lock:
            if self._free:
                return self._free.pop()
            if len(self._queue) >= _QUEUE_MAX:
                return None
            turn = _Turn()
            self._queue.append(_Request(None, None, time.monotonic() + self._patience, turn))
        return turn.wait()

    def relieve(self, count: int) -> None:
        """Threads are missing, so many of them wait for bodies: those at rest are to take requests again."""
        # More than are missing, as more bodies like these may be next in the server's queue.
        self._call(_RELIEF * count)

    def _call(self, count: int) -> None:
        with self._lock:
            count = min(count, self._resting)
            self._resting -= count
        if count:
            self._called.release(count)

    def _rest(self) -> None:
        with self._lock:
            if not self._getting_on:
                return
            self._resting += 1
        self._called.acquire()

    def _enter(self, proto: Any, scope: Any) -> int | None:
        """A lane; None where the request has been put into the queue, or refused."""
        with self._lock:
            if self._free:
                return self._free.pop()
            if len(self._queue) < _QUEUE_MAX:
                self._queue.append(_Request(proto, scope, time.monotonic() + self._patience))
                return None
        _refuse([_Request(proto, scope, 0.0)])
        return None

    def _next(self, lane: int) -> _Request | None:
        """The next in the queue; where there is none, the lane is free."""
        with self._lock:
            self._done += 1
            if self._queue:
                following = self._queue.popleft()
                if following.turn is None:
                    return following
                following.turn.give(lane)
                return None
            self._free.append(lane)
            return None

    def _give_back(self, lane: int) -> None:
        """The lane is free, though its request did not end as requests do."""
        with self._lock:
            self._done += 1
            self._free.append(lane)

    def _watch(self) -> None:
        done = 0
        while True:
            time.sleep(_LOOK_EVERY)
            now = time.monotonic()
            late = []
            with self._lock:
                self._getting_on, done = bool(self._free) or self._done != done, self._done
                while self._queue and self._queue[0].deadline < now:
                    late.append(self._queue.popleft())
            if not self._getting_on:
                self._call(self._resting)
            _refuse(late)


def _work(call: Call, proto: Any, scope: Any) -> None:
    try:
        call(proto, scope)
    except BaseException:
        # The app answers its own errors, so this is the server's: the client has gone, or memory is short.
        # What means to end the thread ends the request alone: others may wait for this thread's lane.
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
