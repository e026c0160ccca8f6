"""Tells a story to an installation: asks what is to be asked, and keeps each answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson
from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from tests.waiting import until

# The values that differ from answer to answer.
_OWN: Final = ("X-Request-Id", "Date")
# An event that has not come by then never will.
WITHIN: Final = 120.0


class Line(NamedTuple):
    """A request and its answer."""

    asked: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Teller:
    """Tells the story to one installation, keeps every answer, and which routes it took."""

    def __init__(self, app: Flask, callers: dict[str, Callable[..., TestResponse]]) -> None:
        self._app = app
        self._callers = callers
        self.told: list[Line] = []
        self.routes: set[tuple[str, str]] = set()

    def __call__(self, status: int, method: str, path: str, by: str = "writer", **kwargs: Any) -> Any:
        answer = self._ask(status, method, path, by, kwargs)
        assert method != "HEAD" or answer.data == b""
        assert not answer.data or answer.content_length in (len(answer.data), None)
        self._keep(f"{method} {path}", answer, answer.data)
        return answer

    def when(self, ready: Callable[[Any], bool], path: str) -> None:
        """Asks until what is answered is `ready`; that answer is told."""

        def answered() -> Any:
            answer = self._ask(200, "GET", path, "reader", {})
            return answer if ready(answer.json) else None

        answer = until(f"{path} is ready", answered, WITHIN)
        self._keep(f"GET {path}", answer, answer.data)

    def stream(self, query: str, count: int, last: str = "") -> list[tuple[str, bytes]]:
        """The next N events of the stream after `last`, and the place after each."""
        headers = {"Last-Event-ID": last} if last else {}
        answer = self._ask(200, "GET", f"/api/events/stream{query}", "reader", {"headers": headers})
        deadline, events, text = time.monotonic() + WITHIN, [], b""
        for part in answer.response:
            text += part
            *frames, text = text.split(b"\n\n")
            for frame in frames:
                fields = dict(line.split(b": ", 1) for line in frame.splitlines() if line[:1] != b":")
                if b"data" in fields:
                    events.append((fields[b"id"].decode(), fields[b"data"]))
            if len(events) >= count or time.monotonic() > deadline:
                break
        answer.close()
        assert len(events) == count
        # The order of the events of one customer is promised, and no other.
        shown = sorted((data for _, data in events), key=lambda data: orjson.loads(data)["customer_id"])
        self._keep(f"GET /api/events/stream{query}", answer, b"\n".join(shown))
        return events

    def _ask(self, status: int, method: str, path: str, by: str, kwargs: dict[str, Any]) -> Any:
        mine = f"r{len(self.told)}"
        headers = {"X-Request-Id": mine} | kwargs.pop("headers", {})
        answer = self._callers[by](method, path, headers=headers, **kwargs)
        assert answer.status_code == status, (method, path, answer.text)
        assert answer.headers["X-Request-Id"] == mine
        if status < 400:
            self.routes.add(self._route(method, path))
        return answer

    def _route(self, method: str, path: str) -> tuple[str, str]:
        try:
            rule, _ = self._app.url_map.bind("").match(path.partition("?")[0], method, return_rule=True)
        except HTTPException as exc:
            raise AssertionError(f"{method} {path} is no route") from exc
        return rule.rule.rstrip("/"), method

    def _keep(self, asked: str, answer: Any, body: bytes) -> None:
        kept = sorted((k, v) for k, v in answer.headers if k not in _OWN)
        self.told.append(Line(asked, answer.status_code, kept, body))
