"""The last step for every answer, from either door: compression, and some headers."""

from __future__ import annotations

import logging
import time
from typing import Final

from ..http.answer import Answer
from ..http.compress import SHORTEST, compress
from ..http.limit import RateLimit
from ..http.problems import Problem
from ..http.request import Request
from ..http.streams import BigAnswers

logger = logging.getLogger(__name__)

# Headers that mark the original services' paths as deprecated (RFC 9745, RFC 8288).
_DEPRECATION: Final = "@1795392000"
_SUCCESSOR: Final = '</api/customers/>; rel="successor-version"'
_ORIGINAL: Final = "/customers"
_NOSNIFF: Final = ("X-Content-Type-Options", "nosniff")


class Finish:
    """Finishes answers."""

    def __init__(self, big: BigAnswers, limit: RateLimit | None) -> None:
        self._big = big
        self._limit = limit

    def __call__(self, request: Request, answer: Answer) -> Answer:
        """Return the finished answer."""
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
        if logger.isEnabledFor(logging.DEBUG):
            _log(request, answer)
        return answer

    def _put_long(self, request: Request, answer: Answer) -> Answer:
        compress(request, answer)
        try:
            self._big.carry(request, answer)
        except Problem as exc:
            return exc.answer(request.id)
        return answer


def _log(request: Request, answer: Answer) -> None:
    logger.debug(
        "%s %s %d",
        request.method,
        request.path,
        answer.status,
        extra={
            "action": "request",
            "request_id": request.id,
            "actor": request.principal.name,
            "ms": round((time.perf_counter() - request.began) * 1000, 2),
        },
    )
