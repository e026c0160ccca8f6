"""Every answer that is not a success, as `application/problem+json` (RFC 9457).

All have the same form: type, title, status, detail, code, request_id, and for wrong input `errors`, whose
fields are at top level too, as the original services' clients read them. No answer contains a trace, SQL or a
server's address; those are in the log, under the same request_id.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any, Final

from werkzeug.exceptions import HTTPException

from ..domain.text import as_json
from ..errors import (
    ERRORS_MAX,
    ConfigurationError,
    Conflict,
    CustomerDeleted,
    CustomerMerged,
    CustsvcError,
    DataRefused,
    FieldError,
    HistoryTrimmed,
    InFlight,
    KeyMismatch,
    NewerSchema,
    NotFound,
    TemporaryError,
    Unusable,
    ValidationError,
)
from .answer import Answer
from .codes import CODES

logger = logging.getLogger(__name__)

_BY_STATUS: Final = {
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    413: "too-large",
    415: "unsupported-media-type",
    431: "head-too-large",
}

# The framework's texts for these statuses are about typing errors in a browser.
_DETAILS: Final = {
    404: "there is nothing at this path",
    405: "this path answers the methods that the Allow header names",
    413: "the body is longer than this path takes",
    500: "the request failed; the log has the reason under its request_id",
    503: "this cannot work until an operator repairs it; the log has the reason under its request_id",
}

_RESERVED: Final = frozenset(
    ("type", "title", "status", "detail", "code", "errors", "request_id", "instance", "dependency")
)
RETRY_AFTER: Final = ("Retry-After", "2")
NO_KAFKA: Final = "this server has no address of Kafka; start it with CUSTSVC_KAFKA set"


class Problem(Exception):
    """An answer that is a problem. `members` are added at its top level."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Sequence[tuple[str, str]] = (),
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = headers
        self.members = members or {}

    def body(self) -> dict[str, Any]:
        """This problem as a JSON object."""
        body: dict[str, Any] = {
            "type": f"/problems/{self.code}",
            "title": CODES[self.code].title,
            "status": self.status,
            "detail": _shortened(self.detail, 1000),
            "code": self.code,
        }
        shown = self.errors[:ERRORS_MAX]
        if shown:
            body["errors"] = [{**e.as_dict(), "field": _shortened(e.field, 100)} for e in shown]
        for error in shown:
            if error.field and error.field not in _RESERVED:
                body.setdefault(_shortened(error.field, 100), []).append(error.message)
        return body | dict(self.members)

    def answer(self, request_id: str) -> Answer:
        """This problem as the answer to a request."""
        return Answer(
            as_json({**self.body(), "request_id": request_id}),
            self.status,
            [("Cache-Control", "no-store"), *self.headers],
            "application/problem+json",
        )


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def bad_parameter(name: str, message: str) -> Problem:
    """The problem of a query parameter with an invalid value."""
    return Problem(400, "validation", f"{name}: {message}", errors=[FieldError(name, "bad_value", message)])


def no_kafka() -> Problem:
    """The problem of a request that needs Kafka on a server without it: waiting does not help."""
    members = {"dependency": "kafka"}
    return Problem(503, "dependency-down", NO_KAFKA, headers=[RETRY_AFTER], members=members)


def problem_for(exc: Exception, request_id: str) -> Problem:
    """The problem answer for `exc`; logs our own faults. Only this function turns errors into HTTP."""
    problem = problem_of(exc)
    about = {"request_id": request_id}
    match exc:
        case DataRefused():
            logger.warning("%s", exc, extra={"action": "data_refused", **about})
        case TemporaryError():
            about["dependency"] = exc.dependency
            logger.warning("%s", exc, extra={"action": "dependency_down", **about})
        case ConfigurationError() | NewerSchema():
            if isinstance(exc, Unusable):
                about["dependency"] = exc.dependency
            fix = f"; fix: {exc.fix}" if exc.fix else ""
            logger.error("%s%s", exc, fix, extra={"action": "dependency_down", **about})
        case _ if problem.code == "internal":
            action = {"action": "request_failed"}
            logger.error("A request failed unexpectedly", exc_info=exc, extra={**action, **about})
    return problem


@singledispatch
def problem_of(exc: Exception) -> Problem:
    """The problem for `exc`."""
    del exc
    return Problem(500, "internal", _DETAILS[500])


@problem_of.register
def _(exc: Problem) -> Problem:
    return exc


@problem_of.register
def _(exc: ValidationError) -> Problem:
    return Problem(400, "validation", str(exc), errors=exc.errors)


@problem_of.register
def _(exc: DataRefused) -> Problem:
    del exc
    return Problem(400, "validation", "the database cannot store or look up a value of the request")


@problem_of.register
def _(exc: NotFound) -> Problem:
    return Problem(404, "not-found", str(exc))


@problem_of.register
def _(exc: CustomerDeleted) -> Problem:
    return Problem(404, "customer-deleted", f"{exc}; POST to its /restore brings it back")


@problem_of.register
def _(exc: CustomerMerged) -> Problem:
    survivor = f"/api/customers/{exc.survivor}/"
    return Problem(
        410,
        "customer-merged",
        f"{exc}; POST to the /unmerge of {exc.survivor} takes that back",
        headers=[("Link", f'<{survivor}>; rel="canonical"')],
        members={"survivor": exc.survivor, "survivor_url": survivor},
    )


@problem_of.register
def _(exc: HistoryTrimmed) -> Problem:
    return Problem(410, "history-trimmed", f"{exc}; /history has `begins_at`")


@problem_of.register
def _(exc: Conflict) -> Problem:
    return Problem(409, "conflict", str(exc))


@problem_of.register
def _(exc: InFlight) -> Problem:
    detail = f"{exc} Wait, then send it again to get its answer."
    return Problem(409, "idempotency-in-flight", detail, headers=[("Retry-After", "1")])


@problem_of.register
def _(exc: KeyMismatch) -> Problem:
    return Problem(422, "idempotency-mismatch", f"{exc} Take a new key for a new request.")


@problem_of.register
def _(exc: TemporaryError) -> Problem:
    return _down(exc.dependency, "does not answer now; the same request may work later")


@problem_of.register
def _(exc: Unusable) -> Problem:
    return _down(exc.dependency, "cannot be used until an operator repairs it; the log has the reason")


@problem_of.register(ConfigurationError)
@problem_of.register(NewerSchema)
def _(exc: CustsvcError) -> Problem:
    del exc
    return Problem(503, "misconfigured", _DETAILS[503], headers=[RETRY_AFTER])


def _down(dependency: str, why: str) -> Problem:
    members = {"dependency": dependency}
    return Problem(503, "dependency-down", f"{dependency} {why}", headers=[RETRY_AFTER], members=members)


@problem_of.register
def _(exc: HTTPException) -> Problem:
    status = exc.code or 500
    code = _BY_STATUS.get(status, "bad-request" if status < 500 else "internal")
    headers = [(k, v) for k, v in exc.get_headers() if k.lower() not in ("content-type", "content-length")]
    return Problem(
        status, code, _DETAILS.get(status) or exc.description or CODES[code].title, headers=headers
    )
