"""Problem answers before the app sees the request: to slow clients, or when the server is full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ..domain.text import as_json
from .codes import CODES
from .problems import Problem

# Called with the status and code of each such answer, where there is an access log.
on_refusal: Callable[[int, str], None] | None = None


def refuse(proto: Any, code: str, *headers: tuple[str, str]) -> None:
    """Answer the current request with this problem. `proto` is granian's side of the request."""
    about = CODES[code]
    body = {
        "type": f"/problems/{code}",
        "title": about.title,
        "status": about.status,
        "detail": about.cause,
        "code": code,
        "request_id": None,
    }
    _answer(proto, about.status, body, headers)


def refuse_with(proto: Any, problem: Problem, *headers: tuple[str, str]) -> None:
    """Answer the current request with a problem of the app."""
    _answer(proto, problem.status, {**problem.body(), "request_id": None}, (*problem.headers, *headers))


def _answer(proto: Any, status: int, body: dict[str, Any], headers: Sequence[tuple[str, str]]) -> None:
    if on_refusal is not None:
        on_refusal(status, body["code"])
    text = as_json(body)
    head = [
        ("content-type", "application/problem+json"),
        ("content-length", str(len(text))),
        ("cache-control", "no-store"),
        *headers,
    ]
    with suppress(RuntimeError):  # the client has gone
        proto.response_bytes(status, head, text)
