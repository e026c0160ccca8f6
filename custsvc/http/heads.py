"""Limits the length of a request's head, and of each header that is parsed.

Every parser is linear. The limits still keep the cost of one request small, also in a library that reads a
header before we do. They apply on every server; granian itself refuses much longer heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .problems import Problem

HEAD_MAX: Final = 16 * 1024
FIELD_MAX: Final = 2 * 1024
# Browsers send all cookies of a host, including those of its other services.
COOKIES_MAX: Final = 8 * 1024
# As long as the head is: a list of positions, and the place in a topic of many partitions.
_LISTS: Final = ("HTTP_X_CUSTSVC_MIN_POSITION", "HTTP_LAST_EVENT_ID")

_LIMITS: Final[dict[str, int]] = {
    **dict.fromkeys(
        (
            *("CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_HOST", "HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE"),
            *("HTTP_AUTHORIZATION", "HTTP_X_API_KEY", "HTTP_X_CSRF_TOKEN", "HTTP_X_REQUEST_ID"),
            *("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE"),
            *("HTTP_IF_RANGE", "HTTP_RANGE", "HTTP_PREFER", "HTTP_IDEMPOTENCY_KEY", "HTTP_CACHE_CONTROL"),
            *("HTTP_ACCEPT", "HTTP_ACCEPT_ENCODING", "HTTP_ACCEPT_LANGUAGE", "HTTP_ACCEPT_CHARSET"),
            *("HTTP_TE", "HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_ENCODING", "HTTP_EXPECT"),
            *("HTTP_TRACEPARENT", "HTTP_TRACESTATE", "HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED"),
        ),
        FIELD_MAX,
    ),
    "HTTP_COOKIE": COOKIES_MAX,
    **dict.fromkeys(_LISTS, HEAD_MAX),
}
_HEADERS: Final = ("HTTP_", "CONTENT_")
# Names in environs that are not headers. A client can only add headers, so their number is limited.
_no_headers: set[str] = set()
# Bytes for the request line's method and protocol, and for the separators around a name and its value.
_AROUND_LINE: Final = 24
_AROUND_FIELD: Final = 4


def check_head(environ: Mapping[str, Any]) -> None:
    """Raise Problem 431 if the head or a header in it is too long."""
    size = _AROUND_LINE + len(environ.get("PATH_INFO", "")) + len(environ.get("QUERY_STRING", ""))
    for name in environ.keys() - _no_headers:
        if not name.startswith(_HEADERS):
            _no_headers.add(name)
            continue
        length = len(environ[name])
        size += length + len(name) + _AROUND_FIELD
        if length > FIELD_MAX and length > (most := _LIMITS.get(name, HEAD_MAX)):
            raise _too_long(f"the header {_header(name)} is longer than {most:,} bytes")
    if size > HEAD_MAX:
        raise _too_long(f"the request's address and headers are longer than {HEAD_MAX:,} bytes")


def _header(name: str) -> str:
    return name.removeprefix("HTTP_").replace("_", "-").title()


def _too_long(detail: str) -> Problem:
    return Problem(431, "head-too-large", detail)
