"""Slow bodies: other requests do not wait for them, and no thread waits for ever.

Granian hands a request to a thread as soon as its head has arrived, and reading the body then waits for the
client. So a body is read before its request takes one of the few lanes, by threads of which there are many
more, and only after its sender was checked (admission.py): of strangers only the small forms meant for them
are read.

A body has some seconds, and more as it arrives; a later one is answered 408, with `Connection: close`. Its
thread is free once the client or the network has closed the connection, and until then the body counts as
awaited. The number of awaited bodies is limited, and no caller may have more than a share of the room that
others leave, so there is always room for another caller. Beyond that a body is refused at once, and requests
without a body go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from werkzeug.exceptions import RequestEntityTooLarge

from ..http.asked import Admitted
from ..http.intake import IN_MEMORY, PIECE, TAKEN, encoding_of, take
from ..http.problems import Problem
from ..http.refusals import refuse, refuse_with

logger = logging.getLogger(__name__)

Call = Callable[[Any, Any], Any]

_LOOK_EVERY: Final = 0.2
# A body may take one second longer for this many bytes received.
_SLOWEST: Final = 64 * 1024
_BODILESS: Final = ("GET", "HEAD", "OPTIONS", "TRACE")
# The share of the room left by others that one caller may take.
_SHARE: Final = 0.75
# The shares of the whole room that strangers may take, together and each.
_SHARE_OF_STRANGERS: Final = 0.25
_SHARE_OF_STRANGER: Final = 1 / 16
_STRANGERS: Final = "strangers"
# Bytes of a refused body that are read and dropped.
_LINGER: Final = 5.0
_LINGER_BYTES: Final = 4 * 1024 * 1024
# Most bytes of all awaited bodies in temporary files.
SPOOL_MAX: Final = 512 * 1024 * 1024


# Returns the sender of a body from memory; None if the app must be asked.
Known = Callable[[Any], Admitted | None]
# Returns None if it has answered the request itself, with a problem of its head. Raises Overloaded.
Ask = Callable[[Any, Any], Admitted | None]


def asking_most(most: int) -> int:
    """How many requests may be checked at once, if at most this many bodies are awaited."""
    return max(most // 4, 4)


class Overloaded(Exception):
    """There is no room for this body."""


class Room:
    """Counts awaited bodies and their spooled bytes, in total and by caller."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._checked = threading.Condition(self._lock)
        self._asking = 0
        self._all = 0
        self._by: Counter[str] = Counter()
        self._spooled: Counter[str] = Counter()
        self._spooled_all = 0

    @contextmanager
    def asking(self, worth_waiting: Callable[[float], bool]) -> Iterator[None]:
        """Count a check of a sender within the block; wait for its turn.

        Raises Overloaded if it is not `worth_waiting` any more, which is asked with the seconds waited. A
        burst of senders that are not known yet, as after a restart, is checked in turn: each check takes
        about a millisecond.
        """
        began = time.monotonic()
        with self._lock:
            while self._asking >= asking_most(self._most):
                if not worth_waiting(time.monotonic() - began):
                    raise Overloaded
                self._checked.wait(_LOOK_EVERY)
            self._asking += 1
        try:
            yield
        finally:
            with self._lock:
                self._asking -= 1
                self._checked.notify()

    def claim(self, who: Admitted) -> None:
        """Count one more awaited body. Raises Overloaded if there is no room, or its caller has too many."""
        with self._lock:
            if self._all >= self._most:
                raise Overloaded
            if who.stranger:
                self._check(_STRANGERS, _SHARE_OF_STRANGERS)
                self._check(who.caller, _SHARE_OF_STRANGER)
                self._by[_STRANGERS] += 1
            else:
                self._check(who.caller, 1.0)
            self._by[who.caller] += 1
            self._all += 1

    def _check(self, caller: str, share: float) -> None:
        mine = self._by.get(caller, 0)
        left = self._most - (self._all - mine)
        if mine >= max(min(left * _SHARE, self._most * share), 1):
            raise Overloaded

    def unclaim(self, who: Admitted) -> None:
        """A body is no longer awaited: it has arrived, or failed."""
        with self._lock:
            self._all -= 1
            self._give(self._by, who.caller, 1)
            if who.stranger:
                self._give(self._by, _STRANGERS, 1)

    def spool(self, caller: str, size: int) -> None:
        """Count bytes that are written to a file. Raises Overloaded."""
        with self._lock:
            mine = self._spooled.get(caller, 0)
            others = self._spooled_all - mine
            if mine + size > (SPOOL_MAX - others) * _SHARE:
                raise Overloaded
            self._spooled[caller] += size
            self._spooled_all += size

    def unspool(self, caller: str, size: int) -> None:
        """Discount bytes whose file is closed."""
        with self._lock:
            self._give(self._spooled, caller, size)
            self._spooled_all -= size

    @staticmethod
    def _give(counter: Counter[str], name: str, count: int) -> None:
        counter[name] -= count
        if not counter[name]:
            del counter[name]  # drop zero entries: the number of callers is unbounded


@dataclass(eq=False, slots=True)
class _Waiting:
    """A request whose body is awaited. Only the thread that claims it first answers it."""

    proto: Any
    began: float
    received: int = 0
    dawdles: bool = False
    claimed: bool = False

    def claim(self, lock: threading.Lock) -> bool:
        with lock:
            mine, self.claimed = not self.claimed, True
            return mine


class _Spooled:
    """A body in a file, and its place in the room; both are given back when it is closed."""

    def __init__(self, room: Room, caller: str) -> None:
        self._room = room
        self._caller = caller
        self._size = 0
        self.file: Any = None

    def reserve(self, size: int) -> None:
        self._room.spool(self._caller, size)
        self._size += size

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        size, self._size = self._size, 0
        self._room.unspool(self._caller, size)


class Bodies:
    """Reads the bodies of a worker's requests before they are handled, each within `timeout` seconds.

    At most `most` are awaited at once; the server needs a thread for each of them, and for each of the
    `asking_most` checks of a sender. `dawdling` is called with the number of bodies newly found to be slow;
    `worth_waiting` tells whether to wait for the turn of a check, after so many seconds.
    """

    def __init__(
        self,
        most: int,
        timeout: float,
        dawdling: Callable[[int], None],
        worth_waiting: Callable[[float], bool],
        known: Known,
        ask: Ask,
    ) -> None:
        self._room = Room(most)
        self._timeout = timeout
        self._dawdling = dawdling
        self._worth_waiting = worth_waiting
        self._known = known
        self._ask = ask
        self._claims = threading.Lock()
        self._waiting: set[_Waiting] = set()
        threading.Thread(target=self._watch, name="body-watch", daemon=True).start()

    def wrap(self, call: Call) -> Call:
        """Wrap `call`, granian's function that calls the application, to read the body first."""

        def run(proto: Any, scope: Any) -> Any:
            if scope.get("CONTENT_LENGTH", "0") == "0" and "HTTP_TRANSFER_ENCODING" not in scope:
                return call(proto, scope)
            if scope["REQUEST_METHOD"] in _BODILESS:
                _put(scope, BytesIO(), 0)  # no code reads it, so no thread may wait for it either
                return call(proto, scope)
            return call(proto, scope) if self._read(proto, scope) else None

        return run

    def _read(self, proto: Any, scope: Any) -> bool:
        """Whether the body has arrived; if not, the request has been answered."""
        try:
            who = self._known(scope)
            if who is None:
                with self._room.asking(self._worth_waiting):
                    # Another request of the same sender may have been checked in the meantime.
                    who = self._known(scope) or self._ask(proto, scope)
            if who is not None:
                return self._read_from(who, proto, scope)
        except Overloaded:
            _refuse_overloaded(proto)
        else:
            self._linger(proto, scope)
        return False

    def _read_from(self, who: Admitted, proto: Any, scope: Any) -> bool:
        self._room.claim(who)
        waiting = _Waiting(proto, time.monotonic())
        self._waiting.add(waiting)
        try:
            answer = self._take(who, waiting, scope)
        finally:
            self._waiting.discard(waiting)
            self._room.unclaim(who)
        if not waiting.claim(self._claims):
            _drop(scope)
            return False
        if answer is None:
            return True
        answer(proto)
        self._linger(proto, scope)
        return False

    def _linger(self, proto: Any, scope: Any) -> None:
        """Read on, so that a client that still sends gets its answer: closing at once would reset it."""
        who = Admitted(f"address {scope['REMOTE_ADDR']}", 0, stranger=True)
        try:
            self._room.claim(who)
        except Overloaded:
            return
        waiting = _Waiting(proto, time.monotonic(), claimed=True)
        self._waiting.add(waiting)
        try:
            until, left = time.monotonic() + _LINGER, _LINGER_BYTES
            while left > 0 and time.monotonic() < until and (piece := scope["wsgi.input"].read(PIECE)):
                left -= len(piece)
        finally:
            self._waiting.discard(waiting)
            self._room.unclaim(who)

    def _take(self, who: Admitted, waiting: _Waiting, scope: Any) -> Callable[[Any], None] | None:
        """Put the body into the scope; return the problem to answer if that fails."""
        length, encoded = scope.get("CONTENT_LENGTH"), "HTTP_CONTENT_ENCODING" in scope
        if length is not None and int(length) <= IN_MEMORY and not encoded:
            size = int(length)
            data = scope["wsgi.input"].read(size)
            if len(data) < size:
                return _cut_off
            _put(scope, BytesIO(data), size)
            return None
        spooled = _Spooled(self._room, who.caller)
        try:
            spooled.file, size = take(
                _pieces(scope["wsgi.input"], waiting), who.limit, encoding_of(scope), spooled.reserve
            )
        except (RequestEntityTooLarge, Problem, Overloaded, OSError) as exc:
            spooled.close()
            return _answer_of(exc)
        if length is not None and waiting.received < int(length):
            spooled.close()
            return _cut_off
        _put(scope, spooled.file, size)
        scope[TAKEN] = spooled
        return None

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY)
            now = time.monotonic()
            dawdling = 0
            for waiting in self._waiting.copy():
                until = waiting.began + self._timeout + waiting.received / _SLOWEST
                if until < now and waiting.claim(self._claims):
                    refuse(waiting.proto, "body-timeout", ("connection", "close"))
                elif not waiting.dawdles and waiting.began + _LOOK_EVERY < now:
                    waiting.dawdles = True
                    dawdling += 1
            if dawdling:
                self._dawdling(dawdling)


def _pieces(stream: Any, waiting: _Waiting) -> Iterator[bytes]:
    while piece := stream.read(PIECE):
        waiting.received += len(piece)
        if waiting.claimed:
            return  # the request has been answered as too slow
        yield piece


def _put(scope: Any, body: Any, size: int) -> None:
    """Give the application the body, decoded and of known length."""
    scope["wsgi.input"] = body
    scope["CONTENT_LENGTH"] = str(size)
    scope[TAKEN] = None
    scope.pop("HTTP_TRANSFER_ENCODING", None)
    scope.pop("HTTP_CONTENT_ENCODING", None)


def _drop(scope: Any) -> None:
    if (spooled := scope.get(TAKEN)) is not None:
        spooled.close()


def _answer_of(exc: Exception) -> Callable[[Any], None]:
    if isinstance(exc, RequestEntityTooLarge):
        return lambda proto: refuse(proto, "too-large", ("connection", "close"))
    if isinstance(exc, Problem):
        return lambda proto: refuse_with(proto, exc, ("connection", "close"))
    if isinstance(exc, OSError):
        logger.error("A body could not be kept in a file: %s", exc, extra={"action": "body_not_kept"})
    return _refuse_overloaded


def _cut_off(proto: Any) -> None:
    """The client has gone before its body was complete: the part received must not pass for all of it."""
    refuse(proto, "bad-request", ("connection", "close"))


def _refuse_overloaded(proto: Any) -> None:
    refuse(proto, "overloaded", ("retry-after", "2"), ("connection", "close"))
