"""What a record on Kafka says of itself, read with care: anybody may write to a topic, and anything."""

from __future__ import annotations

import operator
from typing import Any, Final, Protocol, cast

Headers = list[tuple[str, str | bytes | None]]

LOST_HEADERS: Final = "dead_headers"
"""Stands alone for headers that cannot be read, with the reason. As all of `dead_…` it is never sent back."""


class Message(Protocol):
    """A record as the client gives it."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def timestamp(self) -> tuple[int, int]:
        """The kind of its time, 0 where it has none, and the time in milliseconds since 1970."""


class Arrival(Message, Protocol):
    """A record, or the end of a partition that was reached: then it has an error."""

    def error(self) -> object | None: ...


# The client returns something and sets an error too. A call that the interpreter has made short by then would
# not look at that error, which comes up anywhere later; a call by `operator` always does.
_headers: Final = operator.methodcaller("headers")


def headers_of(message: Message) -> Headers:
    """A record's headers, each a name and its bytes; `LOST_HEADERS` alone where they cannot be read.

    The client makes text of the names. Where one is not UTF-8 it fails, and what it gives when it is asked
    again ends the process; so the headers are replaced at once.
    """
    try:
        headers: Headers = list(_headers(message) or ())
    except (SystemError, UnicodeError):
        headers = [(LOST_HEADERS, b"the name of a header is not UTF-8")]
        cast("Any", message).set_headers(headers)
    return headers


def header(message: Message, name: str) -> bytes | None:
    """The bytes of the last header of this name; None where there is none, or it has no value."""
    value = dict(headers_of(message)).get(name)
    return value if isinstance(value, bytes) else None


def place_of(message: Message) -> dict[str, Any]:
    """Where a record is: its `topic`, `partition` and `offset`, for logs and for records about it."""
    return {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}


def sent_at(message: Message) -> float | None:
    """When a record was sent, in seconds since 1970, by its timestamp; None where it has none.

    Timestamps are milliseconds. Some producers write seconds, microseconds or nanoseconds: as milliseconds
    they would lie before 1973 or after 5138.
    """
    kind, stamp = message.timestamp()
    if kind == 0 or stamp <= 0:
        return None
    unit = 1.0 if stamp < 1e11 else 1e3 if stamp < 1e14 else 1e6 if stamp < 1e17 else 1e9
    return float(stamp) / unit
