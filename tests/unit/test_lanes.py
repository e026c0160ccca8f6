"""No lane is ever lost: however a request ends, the next one gets its lane."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from custsvc.runtime.lane import here
from custsvc.serve import lanes
from custsvc.serve.lanes import Lanes
from tests.waiting import until


class Server:
    """One lane, and a way to run requests that wait, end badly or note in which lane they were."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int | None]] = []
        self.ends: dict[str, BaseException] = {}
        self.may_go = threading.Event()
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.lanes = Lanes(1, threads=9, patience=600)
        self._run = self.lanes.wrap(self._call)

    def __call__(self, path: str) -> None:
        self._run(None, {"PATH_INFO": path})

    def _call(self, _proto: Any, scope: Any) -> None:
        path = scope["PATH_INFO"]
        if path == "/slow":
            self.begun.set()
            assert self.may_go.wait(120)
        if path == "/held":
            assert self.may_end.wait(120)
        self.done.append((path, here.lane))
        if path in self.ends:
            raise self.ends[path]


ENDS = [ValueError(), MemoryError(), SystemExit(), KeyboardInterrupt(), GeneratorExit()]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
def test_a_request_that_ends_badly_leaves_its_lane_to_those_that_wait_and_to_the_next(
    end: BaseException,
) -> None:
    server = Server()
    server.ends["/slow"] = end
    first = threading.Thread(target=server, args=("/slow",))
    waiting = threading.Thread(target=server, args=("/waiting",), daemon=True)
    first.start()
    assert server.begun.wait(120)
    waiting.start()
    until("it waits for a lane", lambda: server.lanes._queue)
    server.may_go.set()
    first.join(120)

    server("/next")
    assert server.done == [("/slow", 0), ("/waiting", 0), ("/next", 0)]
    assert here.lane is None


def test_a_lane_is_given_back_also_where_nothing_can_even_be_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_args: Any, **_kwargs: Any) -> None:
        raise MemoryError

    server = Server()
    server.ends["/bad"] = MemoryError()
    monkeypatch.setattr(lanes.logger, "exception", cannot)

    with pytest.raises(MemoryError):
        server("/bad")

    server("/next")
    assert server.done == [("/bad", 0), ("/next", 0)]
    assert here.lane is None


@pytest.mark.parametrize("late", [False, True])
def test_a_thread_comes_back_for_more_requests_when_all_have_left_theirs_in_the_queue(
    monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """One has checked a sender and queues its request like the other, so both rest while a third works.

    It may be done before they are `late` to rest.
    """
    server = Server()
    rest, left, may_rest = server.lanes._rest, threading.Semaphore(0), threading.Event()

    def rest_when_told() -> None:
        left.release()
        assert may_rest.wait(120)
        rest()

    monkeypatch.setattr(server.lanes, "_rest", rest_when_told)
    check, checked = server.lanes.brief(server._call), threading.Event()

    def check_first() -> None:
        check(None, {"PATH_INFO": "/slow"})
        assert checked.wait(120)
        server("/next")

    threads = [
        threading.Thread(target=check_first, daemon=True),
        threading.Thread(target=server, args=("/held",), daemon=True),
    ]
    threads[0].start()
    assert server.begun.wait(120)
    threads[1].start()
    until("it waits for a lane", lambda: server.lanes._queue)
    server.may_go.set()
    until("a third thread has the lane", lambda: server.done and not server.lanes._queue)
    checked.set()
    assert all(left.acquire(timeout=120) for _ in threads)
    if not late:
        may_rest.set()
        until("both rest", lambda: server.lanes._resting == 2)
    server.may_end.set()
    until("all are done", lambda: server.lanes._free)
    may_rest.set()

    until("one comes back", lambda: not all(each.is_alive() for each in threads))
    assert [path for path, _ in server.done] == ["/slow", "/held", "/next"]
