"""Clients of the API that write until stopped, and remember the answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tests.chaos.roles import NO_ANSWER

Request = Callable[[str, str, Any], tuple[int, Any, dict[str, str]]]


class Clients:
    """Clients that create, change and delete customers over HTTP, and remember what they were told."""

    def __init__(self, request: Request, count: int = 4, pause: float = 0.05) -> None:
        self._request = request
        self._pause = pause
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(n,), daemon=True) for n in range(count)]
        self._lock = threading.Lock()
        self.acknowledged: dict[int, int] = {}
        self.refused = 0
        self.surprises: list[str] = []

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _write(self, number: int) -> None:
        mine: list[int] = []
        turn = 0
        while not self._stop.is_set():
            turn += 1
            try:
                self._one(number, turn, mine)
                self._stop.wait(self._pause)
            except NO_ANSWER:
                # No answer: the write may have happened or not, and the client was told nothing.
                self.refused += 1
                self._stop.wait(0.05)

    def _one(self, number: int, turn: int, mine: list[int]) -> None:
        body = {"name": f"Writer {number} {turn}", "email": f"w{number}.{turn}@example.com"}
        if turn % 4 == 1 or not mine:
            status, answer, _ = self._request("POST", "/api/customers/", body)
        elif turn % 40 == 0:
            status, answer, _ = self._request("DELETE", f"/api/customers/{mine.pop()}/", None)
        else:
            status, answer, _ = self._request("PATCH", f"/api/customers/{mine[turn % len(mine)]}/", body)
        if status in (200, 201):
            with self._lock:
                known = self.acknowledged.get(answer["id"], 0)
                self.acknowledged[answer["id"]] = max(known, answer["version"])
            if status == 201:
                mine.append(answer["id"])
        elif status == 503:
            self.refused += 1
            self._stop.wait(0.05)
        elif status not in (204, 409):
            self.surprises.append(f"{status} {answer}")
