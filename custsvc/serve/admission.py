"""Checks the sender of a body before reading it: the app itself decides, from the head alone.

The app runs as far as the view, without a body: its guard, or that of the pages, authenticates and authorises
the caller, and any refusal is sent as the answer. Otherwise the answer is dropped, and the body read up to
the limit of the route. For the most frequent writes, with a recently verified key, a lookup suffices.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from ..accounts.keys import KeyRing
from ..http.asked import ASK, Admitted, Asked
from ..http.guard import ALLOWANCE, sent_key
from ..http.intake import BODY_MAX
from ..http.refusals import refuse
from .bodies import Ask, Known, Overloaded

if TYPE_CHECKING:
    from ..config import Settings

_MOST: Final = re.compile(r"/(?:api/)?customers(?:/[1-9][0-9]{0,18})?/?")

# Runs the app in a lane; False if none was free in time.
Brief = Callable[[Any, Any], bool]


class _Answer:
    """A stand-in for the server's side of a request that records the app's answer."""

    def __init__(self) -> None:
        self._kept: tuple[int, Any, bytes] | None = None

    def response_bytes(self, status: int, headers: Any, body: bytes) -> None:
        self._kept = (status, headers, body)

    def response_iter(self, status: int, headers: Any, body: Any) -> None:
        try:
            self._kept = (status, headers, b"".join(iter(body.__next__, None)))
        finally:
            body.close()

    def send(self, proto: Any) -> None:
        if self._kept is None:
            refuse(proto, "internal", ("connection", "close"))
            return
        status, headers, body = self._kept
        with suppress(RuntimeError):  # the client has gone
            proto.response_bytes(status, [*headers, ("connection", "close")], body)


def question(brief: Brief) -> Ask:
    """Make the function that asks the app, which it runs by `brief`."""

    def ask(proto: Any, scope: Any) -> Admitted | None:
        asked, answer = Asked(), _Answer()
        if not brief(answer, {**scope, "wsgi.input": BytesIO(), ASK: asked}):
            raise Overloaded
        if asked.admitted is None:
            answer.send(proto)
        elif asked.allowance is not None:
            scope[ALLOWANCE] = asked.allowance
        return asked.admitted

    return ask


def known(settings: Settings, keys: KeyRing) -> Known:
    """Make the function that knows callers with a recently verified key, for writes to single customers."""
    is_open = settings.auth == "off"

    def look(scope: Any) -> Admitted | None:
        if "HTTP_CONTENT_ENCODING" in scope or not _MOST.fullmatch(scope["PATH_INFO"]):
            return None
        if int(scope.get("CONTENT_LENGTH", 0)) > BODY_MAX:
            return None
        if is_open:
            return Admitted(f"address {scope['REMOTE_ADDR']}", BODY_MAX)
        key = sent_key(scope)
        principal = keys.known(key) if key else None
        if principal is None or not principal.may("write"):
            return None
        return Admitted(f"key {principal.id}", BODY_MAX)

    return look if not settings.read_only else lambda _: None
