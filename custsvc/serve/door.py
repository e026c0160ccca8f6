"""The direct door: answers the API's own routes before Flask sees a request.

Flask and Flask-RESTful took more than half of the processor time of a small request. So this door calls the
same handlers, with the same guard before them and the same problem answers after them; a test compares both
doors. It passes everything else on to Flask: pages, HEAD and OPTIONS, unknown paths, and the question whether
a body may be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from ..domain.customers import INT64_MAX
from ..http.answer import Answer
from ..http.asked import ASK
from ..http.guard import SAFE, RouteAccess, request_id
from ..http.intake import TAKEN
from ..http.problems import problem_for
from ..http.request import Request
from ..http.resource import METHODS
from . import traced
from .finish import Finish
from .measure import observe
from .routes import Route

Environ = dict[str, Any]
Admit = Callable[[Request, RouteAccess | None], None]
Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

_ID: Final = "<id:customer_id>"
_WITH_ID: Final = re.compile(r"(/[a-z/]*/)([1-9][0-9]{0,18})((?:/[a-z]*)*)")
# An id that is text, of characters that need no decoding; any other one is left to Flask.
_TEXT: Final = re.compile(r"<(\w+)>")
_AS_GROUP: Final = r"(?P<\1>[A-Za-z0-9_-]{1,200})"
_LINES: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class _Entry(NamedTuple):
    """A method of a route."""

    route: str
    access: RouteAccess
    body_max: int
    answer: Callable[..., Answer]


class DirectDoor:
    """A WSGI application: answers the API's routes directly, all else by `flask`, which has all routes."""

    def __init__(self, flask: Wsgi, routes: Iterable[Route], guard: Admit, finish: Finish) -> None:
        self.flask = flask
        self._guard = guard
        self._finish = finish
        self._plain: dict[tuple[str, str], _Entry] = {}
        self._by_id: dict[tuple[str, str, str], _Entry] = {}
        self._by_text: list[tuple[re.Pattern[str], dict[str, _Entry]]] = []
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        before, has_id, after = route.path.partition(_ID)
        texts: dict[str, _Entry] = {}
        if "<" in before + after:
            self._by_text.append((re.compile(_TEXT.sub(_AS_GROUP, route.path) + "/?"), texts))
        handler = route.handler
        for method in METHODS:
            if not hasattr(handler, method.lower()):
                continue
            access = RouteAccess(handler.role(method), writes=method not in SAFE)
            entry = _Entry(route.path, access, handler.longest_body(), handler.answer)
            texts[method] = entry
            for slash in ("", "/"):
                if has_id:
                    self._by_id[method, before, after + slash] = entry
                else:
                    self._plain[method, before + slash] = entry

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        named: dict[str, Any] = {}
        entry = self._plain.get((method, path))
        if entry is None and (found := _WITH_ID.fullmatch(path)) is not None:
            entry = self._by_id.get((method, found[1], found[3]))
            named = {"customer_id": int(found[2])}
        if entry is None and path.startswith("/api/"):
            entry, named = self._of_text(method, path)
        if entry is None or ASK in environ or named.get("customer_id", 0) > INT64_MAX:
            return self.flask(environ, start_response)
        answer = self._answer(entry, environ, named)
        start_response(_LINES[answer.status], answer.headers)
        return [answer.body] if isinstance(answer.body, bytes) else answer.body

    def _of_text(self, method: str, path: str) -> tuple[_Entry | None, dict[str, Any]]:
        """The route of a path with ids that are text."""
        for pattern, entries in self._by_text:
            if (found := pattern.fullmatch(path)) is not None:
                return entries.get(method), found.groupdict()
        return None, {}

    def _answer(self, entry: _Entry, environ: Environ, named: dict[str, Any]) -> Answer:
        request = Request(environ, request_id(environ), entry.body_max)
        traced.begin(request)
        try:
            self._guard(request, entry.access)
            answer = entry.answer(request, **named)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it becomes a problem answer
            answer = problem_for(exc, request.id).answer(request.id)
        finally:
            if (body := environ.get(TAKEN)) is not None:
                body.close()
        observe(request, entry.route, answer.status)
        traced.end(request, entry.route, answer.status)
        return self._finish(request, answer, entry.route)
