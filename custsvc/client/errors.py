"""The errors of a call: one class for each thing that the caller can do about it.

All are `ApiError`, a `CustsvcError`: the message says what failed, `fix` how to repair it. No error contains
the API key.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

import httpx

from ..errors import CustsvcError, ExitCode, FieldError
from .models import Customer


class ApiError(CustsvcError):
    """The API refused a request.

    `status` is the HTTP status, None where no answer came; `code` the stable word of the problem, which the
    server explains at `/problems/CODE`; `request_id` names the request in the server's log and in events.
    """

    # Whether the same request may be answered otherwise a little later.
    temporary: ClassVar[bool] = False
    cure: ClassVar[str | None] = None

    def __init__(
        self, message: str, *, status: int | None = None, problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, fix=self.cure)
        self.status = status
        self.problem = dict(problem or {})
        self.code = str(self.problem.get("code", ""))
        self.request_id: str | None = self.problem.get("request_id")


class Refused(ApiError):
    """The request is wrong in itself: sent again it is refused again."""

    exit_code = ExitCode.USAGE


class Invalid(Refused):
    """Fields of the customer, or parameters, are wrong. `errors` names each with a code and a message."""

    def __init__(
        self, message: str, *, status: int | None = None, problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, status=status, problem=problem)
        found = self.problem.get("errors", ())
        self.errors = tuple(FieldError(each["field"], each["code"], each["message"]) for each in found)


class NotPermitted(ApiError):
    """The key is missing, unknown, expired, or too weak for this."""

    exit_code = ExitCode.CONFIGURATION
    cure = "use a key of the role that this needs: custsvc keys create NAME --role write"


class NotFound(ApiError):
    """There is no such customer."""

    exit_code = ExitCode.NOT_FOUND


class Deleted(NotFound):
    """The customer is deleted; `restore` brings it back."""

    cure = "restore the customer first: custsvc customers restore ID"


class Merged(NotFound):
    """The customer was merged into another one, the `survivor`."""

    cure = "use the customer that it became; unmerge of that one takes it back"

    def __init__(
        self, message: str, *, status: int | None = None, problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, status=status, problem=problem)
        self.survivor: int | None = self.problem.get("survivor")


class Conflict(ApiError):
    """Somebody else did something in between. Nothing was done."""

    exit_code = ExitCode.CONFLICT


class VersionMismatch(Conflict):
    """The customer is not at the version that the write named.

    `current` is the customer as it is now, `changed` the names of the fields that others changed since.
    """

    cure = "look at the customer as it is now, and repeat the change with its version"

    def __init__(
        self, message: str, *, status: int | None = None, problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, status=status, problem=problem)
        current = self.problem.get("current")
        self.current = Customer.of(current) if current else None
        self.changed: tuple[str, ...] = tuple(self.problem.get("changed", ()))


class Busy(Conflict):
    """The same request is being worked on, or too many change the same customer; later it works."""

    temporary = True
    cure = "try again in a moment"


class KeyReused(Conflict):
    """The idempotency key was used for another request before."""

    cure = "take a new key for a new request"


class Unavailable(ApiError):
    """The server did not answer, or could not work, for as long as the call may take.

    `maybe_done` says that the write may have been done nevertheless; with the same `key` it can be sent again
    without being done twice.
    """

    exit_code = ExitCode.UNREACHABLE
    temporary = True
    cure = "see whether the server works: custsvc status, custsvc doctor"
    maybe_done: bool = False
    key: str | None = None


class CopyBehind(Unavailable):
    """The copy that is read from has not yet got what this client wrote."""

    cure = "read from the system of record, or wait longer"


class ServerFailed(ApiError):
    """The server has an error; its log has it under `request_id`."""

    cure = "look into the server's log under the request id"


class EventsLost(ApiError):
    """The events after the position are gone from the topic, and which they were is unknown.

    The stream begins again at `position`, the oldest event on the topic.
    """

    cure = "read all customers again, then follow the events from this position on"

    def __init__(self, message: str, *, position: str) -> None:
        super().__init__(message)
        self.position = position


_BY_CODE: dict[str, type[ApiError]] = {
    "validation": Invalid,
    "bad-parameter": Invalid,
    "unknown-parameter": Invalid,
    "customer-deleted": Deleted,
    "customer-merged": Merged,
    "version-mismatch": VersionMismatch,
    "idempotency-in-flight": Busy,
    "idempotency-mismatch": KeyReused,
    "conflict": Busy,
    "copy-behind": CopyBehind,
}
_BY_STATUS: dict[int, type[ApiError]] = {
    401: NotPermitted,
    403: NotPermitted,
    404: NotFound,
    408: Unavailable,
    409: Conflict,
    410: NotFound,
    412: VersionMismatch,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def error_of(response: httpx.Response) -> ApiError:
    """The error that an answer stands for; a proxy's answer, which is no problem, by its status."""
    problem = _problem(response)
    if response.is_redirect:
        where = response.headers.get("location", "elsewhere")
        error: ApiError = Refused(f"the server sends this request to {where}", status=response.status_code)
        error.fix = "use that address as the API's, as CUSTSVC_API_URL"
        return error
    return error_from(response.status_code, problem, _place(response))


def error_from(status: int, problem: Mapping[str, Any], place: str) -> ApiError:
    """The error of a status and its problem, which may be empty; `place` is what was asked."""
    kind = _BY_CODE.get(str(problem.get("code", ""))) or _BY_STATUS.get(status)
    if kind is None:
        kind = ServerFailed if status >= 500 else Refused
    said = problem.get("detail") or problem.get("title")
    return kind(str(said) if said else f"{place} was answered {status}", status=status, problem=problem)


def unreachable(exc: httpx.RequestError, address: str) -> Unavailable:
    """The error of a request that got no answer. `maybe_done` is left to the caller."""
    why = str(exc) or type(exc).__name__
    return Unavailable(f"cannot reach the API at {address} ({why})")


def retry_after(response: httpx.Response) -> float:
    """The seconds for which the server wants to be left alone; 0 where it does not say."""
    said = response.headers.get("retry-after", "").strip()
    if said.isdecimal():
        return float(said[:9])
    try:
        return max(0.0, (parsedate_to_datetime(said) - dt.datetime.now(dt.UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _place(response: httpx.Response) -> str:
    return f"{response.request.method} {response.request.url.path}"


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
