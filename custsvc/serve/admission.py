"""Who sends a body is asked before the body is read: from the head alone, by the app itself.

The app is run as far as the view, with no body to read: its guard, or that of the pages, finds out who asks
and whether they may, and anything it refuses is answered so. Else the answer is dropped, and the body read up
to the limit of the route. For the writes that come most often, with a key that was read a moment ago, a look
suffices.
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

# Runs the app in a lane; False where none was to be had in time.
Brief = Callable[[Any, Any], bool]


class _Answer:
    """Stands for the server's side of a request, and keeps what the app answers."""

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
    """The way to ask, `brief` being the way to run the app."""

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
    """Those whose key was read a moment ago, for a write to customers one by one."""
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
