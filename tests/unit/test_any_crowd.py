"""Lanes and bodies together, under any mix of requests in any order: each is answered once, none is stuck.

Here is a small model of the server around them: some threads that take requests from one queue. As in
granian, a body can be read only until the call that handles its request has returned. The clock is the test's
own, so a machine that stalls lets no request wait too long.
"""

from __future__ import annotations

import queue
import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from custsvc.http.asked import ASK, Admitted
from custsvc.http.intake import TAKEN
from custsvc.serve import bodies, lanes
from custsvc.serve.admission import question
from custsvc.serve.bodies import Bodies, asking_most
from custsvc.serve.lanes import Lanes
from tests.waiting import until

LIMIT = 1024 * 1024
LONG = b"x" * 200_000
# Kinds of requests, and the statuses with which they may be answered if they may wait for a lane. Room for
# bodies may be short, and a check is given up while lanes hang.
PLAIN: dict[str, set[int | None]] = {
    "plain": {200},
    "alive": {200},
    "raises": {None},
    "held": {200},
    "turn": {200},
}
WITH_BODY: dict[str, set[int | None]] = {
    "body": {200, 503},
    "long body": {200, 503},
    "raises with body": {None, 503},
    "unknown": {200, 503},
    "stranger": {401, 503},
    "late": {200, 408, 503},
    "late unknown": {200, 408, 503},
    "never": {400, 408, 503},
    "never stranger": {401, 503},
}
STATUSES = PLAIN | WITH_BODY
LATER = ("plain", "body", "unknown")


class Clock:
    """Stands for the module `time`. It goes on only when told to, and then all watchers look once."""

    def __init__(self, watchers: int) -> None:
        self._watchers = watchers
        self._now = 1000.0
        self._moved = threading.Condition()
        self._asleep: set[int] = set()
        self._is_over = False

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        with self._moved:
            end, me = self._now + seconds, threading.get_ident()
            self._asleep.add(me)
            self._moved.notify_all()
            self._moved.wait_for(lambda: self._is_over or self._now >= end)
            if self._is_over:
                raise SystemExit

    def tick(self, seconds: float) -> None:
        with self._moved:
            assert self._moved.wait_for(lambda: len(self._asleep) == self._watchers, 120)
            self._asleep.clear()
            self._now += seconds
            self._moved.notify_all()
            assert self._moved.wait_for(lambda: len(self._asleep) == self._watchers, 120)

    def end(self) -> None:
        with self._moved:
            self._is_over = True
            self._moved.notify_all()


class Request:
    """A request, and the server's side of it."""

    def __init__(self, kind: str, number: int) -> None:
        self.kind = kind
        self.answers: list[int | None] = []
        self.sent = threading.Event()  # all of the body, or the client has gone
        self.has_gone = False
        self.is_over = False
        self.data = LONG if "long" in kind or "never" in kind else b"short"
        self.scope: dict[str, Any] = {
            "PATH_INFO": "/livez" if kind == "alive" else f"/{number}",
            "REQUEST_METHOD": "POST" if kind in WITH_BODY else "GET",
            "REMOTE_ADDR": f"10.0.0.{number}",
            "wsgi.input": self,
            "request": self,
        }
        if kind in WITH_BODY:
            self.scope["CONTENT_LENGTH"] = str(len(self.data))
        if "late" not in kind and "never" not in kind:
            self.sent.set()

    def read(self, size: int) -> bytes:
        assert self.sent.wait(120)
        if self.has_gone or self.is_over:
            return b""
        piece, self.data = self.data[:size], self.data[size:]
        return piece

    def response_bytes(self, status: int, _headers: Any, _body: bytes) -> None:
        self.answers.append(status)


class Server:
    """The threads, the lanes and the bodies, and an app."""

    def __init__(self, lane_count: int, slow: int, patience: float, clock: Clock) -> None:
        self.clock = clock
        self.requests: list[Request] = []
        self.may_end = threading.Event()
        self.turns = threading.Semaphore(0)
        count = lane_count + slow + asking_most(slow) + 1
        self.lanes = Lanes(lane_count, count, patience)
        ask = question(self.lanes.brief(self._app))
        self.bodies = Bodies(slow, 15.0, self.lanes.relieve, self.lanes.is_worth_waiting, self._known, ask)
        self._run = self.lanes.serve(self.bodies.wrap(self.lanes.wrap(self._app)))
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while (request := self._queue.get()) is not None:
            try:
                self._run(request, request.scope)
            finally:
                request.is_over = True

    def _known(self, scope: Any) -> Admitted | None:
        kind = scope["request"].kind
        return None if "unknown" in kind or "stranger" in kind else Admitted(scope["PATH_INFO"], LIMIT)

    def _app(self, proto: Any, scope: Any) -> None:
        request = scope["request"]
        if (asked := scope.get(ASK)) is not None:
            if "stranger" not in request.kind:
                asked.admitted = Admitted(scope["PATH_INFO"], LIMIT)
            proto.response_bytes(401, [], b"")
            return
        if request.kind == "held":
            assert self.may_end.wait(120)
        if request.kind == "turn":
            assert self.turns.acquire(timeout=120)
        if "CONTENT_LENGTH" in scope:
            assert len(scope["wsgi.input"].read()) == int(scope["CONTENT_LENGTH"])
        if "raises" in request.kind:
            request.answers.append(None)  # granian answers 500
            raise SystemExit
        proto.response_bytes(200, [], b"")

    def send(self, *kinds: str) -> list[Request]:
        sent = []
        for kind in kinds:
            sent.append(Request(kind, len(self.requests)))
            self.requests.append(sent[-1])
            self._queue.put(sent[-1])
        return sent

    def until(self, what: str, condition: Callable[[], Any]) -> None:
        def ticked() -> Any:
            self.clock.tick(0.26)  # the longest time between two looks
            return condition()

        until(what, ticked, every=0.002)

    def answered(self, what: str, requests: list[Request]) -> list[int | None]:
        """The answers to these requests, which all come."""
        self.until(what, lambda: all(each.answers for each in requests))
        return [each.answers[0] for each in requests]

    def end_all(self) -> None:
        """All lanes go on, and all clients send what is missing or go away."""
        self.may_end.set()
        self.turns.release(len(self.requests))
        for each in self.requests:
            each.has_gone |= not each.sent.is_set()
            each.sent.set()

    def stop(self) -> None:
        self.end_all()
        for _ in self._threads:
            self._queue.put(None)
        until("all threads end", self._are_over)
        self.clock.end()

    def _are_over(self) -> bool:
        self.lanes._call(len(self._threads))
        return not any(thread.is_alive() for thread in self._threads)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock(watchers=2)
    monkeypatch.setattr(lanes, "time", clock)
    monkeypatch.setattr(bodies, "time", clock)
    tell = threading.excepthook
    monkeypatch.setattr(threading, "excepthook", lambda a: a.exc_type is SystemExit or tell(a))
    before, interval = set(threading.enumerate()), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield clock
    sys.setswitchinterval(interval)
    until("no thread is left", lambda: not set(threading.enumerate()) - before)


def act(server: Server, rnd: random.Random) -> None:
    """Something that clients, the database or time may do."""
    match rnd.choice(["one kind", "a mix", "a mix", "bodies come", "clients go", "lanes go on", "time"]):
        case "one kind":
            server.send(*[rnd.choice(list(STATUSES))] * rnd.randint(1, 30))
        case "a mix":
            server.send(*rnd.choices(list(STATUSES), k=rnd.randint(1, 30)))
        case "bodies come":
            for each in server.requests:
                if "late" in each.kind and rnd.random() < 0.5:
                    each.sent.set()
        case "clients go":
            for each in server.requests:
                if not each.sent.is_set() and rnd.random() < 0.5:
                    each.has_gone = True
                    each.sent.set()
        case "lanes go on":
            server.may_end.set()
            server.may_end.clear()
            server.turns.release(rnd.randint(1, 5))
        case _:
            server.clock.tick(rnd.choice([0.26, 3.0, 20.0]))


@pytest.mark.parametrize("seed", range(40))
def test_every_request_is_answered_once_and_the_next_one_too(seed: int, clock: Clock) -> None:
    rnd = random.Random(seed)
    waits = rnd.random() < 0.5
    server = Server(rnd.randint(1, 3), rnd.randint(1, 8), 1e9 if waits else 5.0, clock)

    for _ in range(rnd.randint(2, 12)):
        act(server, rnd)
    server.answered("it is seen to be alive", server.send("alive"))
    server.end_all()
    server.answered("all are answered", server.requests)
    room = server.bodies._room
    server.until("no body is awaited", lambda: not room._all)
    server.lanes._patience = server.bodies._timeout = 1e9  # the machine may stall while the clock goes on
    after = [server.answered("one that comes later is, too", server.send(kind)) for kind in LATER]
    server.stop()

    for each in server.requests:
        assert len(each.answers) == 1, each.kind
        allowed = STATUSES[each.kind] | (set() if waits else {503})
        if each.has_gone:
            allowed |= {400}
        if each.kind in WITH_BODY:
            allowed |= {408}  # time went on while it was read
        assert each.answers[0] in allowed, (each.kind, each.answers)
        if (taken := each.scope.get(TAKEN)) is not None:
            assert taken.file.closed
    assert after == [[200]] * len(LATER)
    assert (server.lanes._resting, len(server.lanes._queue), server.lanes._inside) == (0, 0, 0)
    assert (room._all, room._asking, room._spooled_all, len(room._by)) == (0, 0, 0, 0)


def test_a_crowd_is_timed_and_the_process_seen_to_be_alive_while_lanes_take_their_time(clock: Clock) -> None:
    """There are more requests than threads, and one ends between any two looks."""
    server = Server(1, 1, 5.0, clock)
    crowd = server.send(*["turn"] * 100)
    [alive] = server.send("alive")

    for handled in range(1, 13):
        server.turns.release()
        until("one is handled", lambda n=handled: sum(each.answers == [200] for each in crowd) >= n)
        clock.tick(0.26)
        if server.lanes._fetching:
            until("all are fetched", server._queue.empty)

    until("it is seen to be alive", lambda: alive.answers)
    clock.tick(5.0)
    assert [each.answers for each in crowd].count([503]) == 100 - 12 - 1  # and one has the lane
    server.stop()
