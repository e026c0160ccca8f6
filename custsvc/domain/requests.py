"""The names by which a change is followed through all roles: the request's id, and its W3C trace context."""

from __future__ import annotations

import re
from typing import Final

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

# The header of a record, a request and a mail that has the trace context.
TRACEPARENT: Final = "traceparent"


def valid_request_id(text: str | None) -> str | None:
    """The id of a request if it may stand in a header and a log line, else None."""
    return text if text and _REQUEST_ID.fullmatch(text) else None


def valid_traceparent(text: str | None) -> str | None:
    """The trace context (`traceparent` of W3C Trace Context) if it is well-formed, else None."""
    return text if text and _TRACEPARENT.fullmatch(text) else None
