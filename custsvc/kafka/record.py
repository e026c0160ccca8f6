"""Reads a Kafka record's metadata with care: any client may write anything to a topic."""

from __future__ import annotations

import datetime as dt
import operator
from typing import Any, Final, Protocol, cast

from ..domain.requests import TRACEPARENT, valid_traceparent

Headers = list[tuple[str, str | bytes | None]]

LOST_HEADERS: Final = "dead_headers"
"""The only header of a record with unreadable headers: the reason. Like all `dead_…`, never sent back."""

# The last millisecond that has a date.
_LAST_MILLIS: Final = 253_402_300_799_999


class Message(Protocol):
    """A record as the client returns it."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def timestamp(self) -> tuple[int, int]:
        """The type of the timestamp, 0 if there is none, and the time in milliseconds since 1970."""


class Arrival(Message, Protocol):
    """A record, or a reached end of partition: then it has an error."""

    def error(self) -> object | None: ...


# The client returns something and also sets an error. A call that the interpreter has specialised does not
# check that error, which then surfaces anywhere later; a call through `operator` always checks it.
_headers: Final = operator.methodcaller("headers")


def headers_of(message: Message) -> Headers:
    """A record's headers, each a name and its bytes; only `LOST_HEADERS` if they are unreadable.

    The client decodes the names. It fails on one that is not UTF-8, and a second call crashes the process; so
    the headers are replaced at once.
    """
    try:
        headers: Headers = list(_headers(message) or ())
    except (SystemError, UnicodeError):
        headers = [(LOST_HEADERS, b"the name of a header is not UTF-8")]
        cast("Any", message).set_headers(headers)
    return headers


def header(message: Message, name: str) -> bytes | None:
    """The bytes of the last header with this name; None if there is none, or it has no value."""
    value = dict(headers_of(message)).get(name)
    return value if isinstance(value, bytes) else None


def traceparent_of(message: Message) -> str | None:
    """The trace context of a record (W3C), None if it has none or a malformed one."""
    return valid_traceparent((header(message, TRACEPARENT) or b"").decode("latin-1"))


def place_of(message: Message) -> dict[str, Any]:
    """A record's coordinates, `topic`, `partition` and `offset`, for logs and for records about it."""
    return {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}


def sent_at(message: Message) -> float | None:
    """When a record was sent, as Unix time, by its timestamp; None if it has none.

    Timestamps are milliseconds. Some producers write seconds, microseconds or nanoseconds: read as
    milliseconds these lie before 1973 or after 5138.
    """
    kind, stamp = message.timestamp()
    if kind == 0 or stamp <= 0:
        return None
    unit = 1.0 if stamp < 1e11 else 1e3 if stamp < 1e14 else 1e6 if stamp < 1e17 else 1e9
    return float(stamp) / unit


def record_time(millis: int) -> dt.datetime:
    """The time of a record. Producers may write any number, so it is clamped to the valid range."""
    return dt.datetime.fromtimestamp(min(max(millis, 0), _LAST_MILLIS) / 1000, dt.UTC)
