"""Bodies that do not come: nobody else waits for them, and nobody waits for ever.

Granian hands a request to a thread as soon as its head is there, and reading the body then waits for the
client. So a body is read before its request takes one of the few lanes in which requests are worked on, by
threads of which there are many more, and only after its sender was asked for (admission.py): of strangers
nothing is read but the small forms that are for them.

A body has some seconds, and more as it comes; whatever is later is answered 408, and the client told that the
connection closes. Its thread is free when the client, or the network for it, has closed it, and until then it
counts among those that are waited for. Of these there are so many at most, and no caller may have more than a
part of those that others leave, so there is always room for another caller. Beyond that a body is refused at
once, and what needs no body goes on.
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
# A body may take a second longer for so many bytes of it that have come.
_SLOWEST: Final = 64 * 1024
_BODILESS: Final = ("GET", "HEAD", "OPTIONS", "TRACE")
# Of the room that others leave, what one caller may take.
_SHARE: Final = 0.75
# Of all the room, what strangers may take together, and each of them.
_SHARE_OF_STRANGERS: Final = 0.25
_SHARE_OF_STRANGER: Final = 1 / 16
_STRANGERS: Final = "strangers"
# What is read and dropped of a body that was refused.
_LINGER: Final = 5.0
_LINGER_BYTES: Final = 4 * 1024 * 1024
# What all bodies that are waited for may take in temporary files.
SPOOL_MAX: Final = 512 * 1024 * 1024


# Tells at a look who sends a body; None for those that must be asked for.
Known = Callable[[Any], Admitted | None]
# Gives None where it has answered the request itself, with what is wrong with its head. Raises Overloaded.
Ask = Callable[[Any, Any], Admitted | None]


def asking_most(most: int) -> int:
    """How many requests may be asked about at once, where so many bodies are waited for."""
    return max(most // 4, 4)


class Overloaded(Exception):
    """There is no room for this body."""


class Room:
    """How many bodies are waited for and how many bytes of them are kept, in all and by caller."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._asking = 0
        self._all = 0
        self._by: Counter[str] = Counter()
        self._spooled: Counter[str] = Counter()
        self._spooled_all = 0

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Within, it is asked whose body one is. Raises Overloaded where too many are asked for."""
        with self._lock:
            if self._asking >= asking_most(self._most):
                raise Overloaded
            self._asking += 1
        try:
            yield
        finally:
            with self._lock:
                self._asking -= 1

    def claim(self, who: Admitted) -> None:
        """One more is waited for. Raises Overloaded where there is no room, or its caller has too many."""
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
        """It is there, or will not be."""
        with self._lock:
            self._all -= 1
            self._give(self._by, who.caller, 1)
            if who.stranger:
                self._give(self._by, _STRANGERS, 1)

    def spool(self, caller: str, size: int) -> None:
        """So many bytes are written to a file. Raises Overloaded."""
        with self._lock:
            mine = self._spooled.get(caller, 0)
            others = self._spooled_all - mine
            if mine + size > (SPOOL_MAX - others) * _SHARE:
                raise Overloaded
            self._spooled[caller] += size
            self._spooled_all += size

    def unspool(self, caller: str, size: int) -> None:
        """They are gone."""
        with self._lock:
            self._give(self._spooled, caller, size)
            self._spooled_all -= size

    @staticmethod
    def _give(counter: Counter[str], name: str, count: int) -> None:
        counter[name] -= count
        if not counter[name]:
            del counter[name]  # callers come and go without end


@dataclass(eq=False, slots=True)
class _Waiting:
    """A request whose body is awaited. Whoever claims it first answers it, and nobody else does."""

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
    """Reads the bodies of a worker's requests before they are worked on, each within `timeout` seconds.

    At most `most` are waited for at once, for each of which the server needs a thread, and so it does for the
    `asking_most` that are asked about. `dawdling` is told how many more are found to take their time.
    """

    def __init__(
        self, most: int, timeout: float, dawdling: Callable[[int], None], known: Known, ask: Ask
    ) -> None:
        self._room = Room(most)
        self._timeout = timeout
        self._dawdling = dawdling
        self._known = known
        self._ask = ask
        self._claims = threading.Lock()
        self._waiting: set[_Waiting] = set()
        threading.Thread(target=self._watch, name="body-watch", daemon=True).start()

    def wrap(self, call: Call) -> Call:
        """`call`, granian's way to run the application, with the body read."""

        def run(proto: Any, scope: Any) -> Any:
            if scope.get("CONTENT_LENGTH", "0") == "0" and "HTTP_TRANSFER_ENCODING" not in scope:
                return call(proto, scope)
            if scope["REQUEST_METHOD"] in _BODILESS:
                _put(scope, BytesIO(), 0)  # nobody reads it, so nobody may wait for it either
                return call(proto, scope)
            return call(proto, scope) if self._read(proto, scope) else None

        return run

    def _read(self, proto: Any, scope: Any) -> bool:
        """Whether the body is there now; if not, the request has been answered."""
        try:
            who = self._known(scope)
            if who is None:
                with self._room.asking():
                    who = self._ask(proto, scope)
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
        """Let a client that still sends get its answer: closed at once, the connection would be reset."""
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
        """Put the body into the scope; gives what is to be answered where that cannot be."""
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
            return  # it has been answered that this took too long
        yield piece


def _put(scope: Any, body: Any, size: int) -> None:
    """Let the application find the body, plain and of known length."""
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
    """The client has gone before its body was there: what came must not be taken for all of it."""
    refuse(proto, "bad-request", ("connection", "close"))


def _refuse_overloaded(proto: Any) -> None:
    refuse(proto, "overloaded", ("retry-after", "2"), ("connection", "close"))
