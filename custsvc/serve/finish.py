"""The last step for every answer, from either door: compression, some headers, and the access log."""

from __future__ import annotations

from typing import Final

from ..http.answer import Answer
from ..http.compress import SHORTEST, compress
from ..http.limit import RateLimit
from ..http.problems import Problem
from ..http.request import Request
from ..http.streams import BigAnswers
from .access_log import AccessLog

# Headers that mark the original services' paths as deprecated (RFC 9745, RFC 8288).
_DEPRECATION: Final = "@1795392000"
_SUCCESSOR: Final = '</api/customers/>; rel="successor-version"'
_ORIGINAL: Final = "/customers"
_NOSNIFF: Final = ("X-Content-Type-Options", "nosniff")


class Finish:
    """Finishes answers."""

    def __init__(self, big: BigAnswers, limit: RateLimit | None, log: AccessLog | None = None) -> None:
        self._big = big
        self._limit = limit
        self._log = log

    def __call__(self, request: Request, answer: Answer, route: str | None) -> Answer:
        """Return the finished answer to a request of this route, None for an unknown path."""
        if not isinstance(answer.body, bytes) or len(answer.body) >= SHORTEST:
            answer = self._put_long(request, answer)
        headers = answer.headers
        headers.append(("X-Request-Id", request.id))
        headers.append(_NOSNIFF)
        if request.environ["PATH_INFO"].startswith(_ORIGINAL):
            headers.append(("Deprecation", _DEPRECATION))
            headers.append(("Link", _SUCCESSOR))
        if self._limit is not None and request.allowance is not None:
            headers.extend(self._limit.headers(request.allowance))
        if self._log is not None:
            self._log(request, route, answer)
        return answer

    def _put_long(self, request: Request, answer: Answer) -> Answer:
        compress(request, answer)
        try:
            self._big.carry(request, answer)
        except Problem as exc:
            return exc.answer(request.id)
        return answer
