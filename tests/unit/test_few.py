"""Requests that wait for a server that is away leave lanes to all others."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from custsvc.errors import TemporaryError
from custsvc.http import few
from custsvc.http.few import Few
from tests.waiting import until


class Away:
    """A server that does not answer until it is told how."""

    def __init__(self, most: int, clock: Any = lambda: 1.0) -> None:
        self.few = Few(most, "kafka", clock=clock)
        self.asked = 0
        self.fails = True
        self.goes_on = threading.Event()

    def ask(self) -> bool:
        try:
            with self.few():
                self.asked += 1
                assert self.goes_on.wait(120)
                if self.fails:
                    raise TemporaryError("away", dependency="kafka")
        except TemporaryError:
            return False
        return True


@pytest.mark.parametrize("most", [0, 1, 4])
def test_few_wait_and_after_a_failure_one_at_a_time_asks_again(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(few, "_WITHIN", 0.05)
    now = [1.0]
    server = Away(most, lambda: now[0])
    few_are = max(most, 1)
    with ThreadPoolExecutor(12) as threads:
        first = [threads.submit(server.ask) for _ in range(12)]
        until("the others are refused", lambda: sum(each.done() for each in first) == 12 - few_are)
        assert server.asked == few_are
        server.goes_on.set()
        assert not any(each.result() for each in first)

        assert not server.ask()
        assert server.asked == few_are  # nobody tries again so soon

        now[0] += 6
        server.goes_on.clear()
        second = [threads.submit(server.ask) for _ in range(12)]
        until("the others are refused", lambda: sum(each.done() for each in second) == 11)
        server.fails = False
        server.goes_on.set()
        assert sum(each.result() for each in second) == 1

        assert all(threads.map(lambda _: server.ask(), range(12)))
