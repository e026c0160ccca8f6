"""Reads Kafka for the pages: the newest records, those of a time, and that of a customer's last change."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple

import orjson

from ..config import Settings
from ..domain.customers import parse_time
from ..errors import TemporaryError
from ..kafka.publisher import partition_of
from ..kafka.reader import Marks, Reader
from ..kafka.record import Message

_PATIENCE: Final = 2.0
# Seconds by which the clocks of the database, this process and Kafka may differ.
_CLOCKS: Final = 60.0
_LOOK_AT: Final = 50_000


@dataclass(frozen=True, slots=True)
class Found:
    """A record of a topic."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None

    def json(self) -> dict[str, Any] | None:
        """The value if it is a JSON object, else None."""
        try:
            value = orjson.loads(self.value or b"")
        except orjson.JSONDecodeError:
            return None
        return value if isinstance(value, dict) else None


class Slice(NamedTuple):
    """Records of a time, the last one first, and the place from which older ones of it go on, if any."""

    records: list[Found]
    older: str | None


class Newest(NamedTuple):
    """The newest records of a topic, the last one first, and the place after them for the event stream."""

    records: list[Found]
    place: str


def newest(settings: Settings, topic: str, count: int) -> Newest:
    """The newest records of a topic. Raises ConfigurationError if the topic does not exist."""
    with Reader(settings, topic) as reader:
        marks = reader.marks()
        last = {part: (max(low, high - count), high) for part, (low, high) in marks.items()}
        found = list(_read(reader, last))
    found.sort(key=lambda record: (record.timestamp_ms, record.offset), reverse=True)
    return Newest(found[:count], ".".join(str(marks[part][1]) for part in sorted(marks)))


def between(
    settings: Settings,
    topic: str,
    count: int,
    *,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    older: str | None = None,
) -> Slice:
    """The newest `count` records that came to a topic from `since` to before `until`.

    `older`: go on from this place of an earlier slice. Raises ConfigurationError if there is no such topic.
    """
    with Reader(settings, topic) as reader:
        marks = reader.marks()
        low = {part: begin for part, (begin, _) in marks.items()}
        if since is not None:
            low |= reader.at(_millis(since), marks)
        high = {part: end for part, (_, end) in marks.items()}
        if until is not None:
            high = reader.at(_millis(until), marks)
        for part, offset in zip(sorted(marks), _offsets(older, len(marks)), strict=False):
            high[part] = min(high[part], offset)
        last = {part: (max(low[part], high[part] - count), high[part]) for part in marks}
        found = list(_read(reader, last))
    found.sort(key=lambda record: (record.timestamp_ms, record.offset), reverse=True)
    shown = found[:count]
    rest = {part: _rest(part, last[part], found, shown) for part in marks}
    more = any(rest[part] > low[part] for part in marks)
    return Slice(shown, ".".join(str(rest[part]) for part in sorted(rest)) if more else None)


def _rest(part: int, read: tuple[int, int], found: list[Found], shown: list[Found]) -> int:
    """The offset before which a partition's older records are: those read and not shown, else the unread."""
    if offsets := [record.offset for record in shown if record.partition == part]:
        return min(offsets)
    return read[1] if any(record.partition == part for record in found) else read[0]


def _millis(time: dt.datetime) -> int:
    return max(0, int(time.timestamp() * 1000))


def _offsets(place: str | None, count: int) -> list[int]:
    """The offsets of a place; an empty list for a text that is not a place of this topic."""
    parts = (place or "").split(".")
    return [int(part) for part in parts] if len(parts) == count and all(map(_is_offset, parts)) else []


def _is_offset(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18


def where_is(settings: Settings, customer_id: int, version: int, event_ts: str) -> Found | None:
    """The record of this version of a customer; None if the relay has not sent it yet."""
    key = str(customer_id).encode()
    since = int((parse_time(event_ts).timestamp() - _CLOCKS) * 1000)
    with Reader(settings) as topic:
        marks = topic.marks(_homes(key, len(topic.partitions())))
        starts = topic.at(since, marks)
        ranges = {part: (max(low, starts[part]), high) for part, (low, high) in marks.items()}
        for record in _read(topic, ranges):
            event = record.json() if record.key == key else None
            if event is not None and event.get("version") == version:
                return record
    return None


def _homes(key: bytes, partitions: int) -> list[int]:
    """The partitions that may hold a key: its own, and those that were before the topic grew.

    Each growth multiplies the number of partitions.
    """
    return sorted({partition_of(key, n) for n in range(1, partitions + 1) if partitions % n == 0})


def _read(topic: Reader, ranges: Marks) -> Iterator[Found]:
    """The records of these ranges that arrive within _PATIENCE seconds."""
    deadline = time.monotonic() + _PATIENCE
    # On a timeout, show the records read so far.
    with suppress(TemporaryError):
        for message in islice(topic.read(ranges, timeout=_PATIENCE), _LOOK_AT):
            if time.monotonic() > deadline:
                return
            yield _found(message)


def _found(message: Message) -> Found:
    return Found(
        message.partition(), message.offset(), message.timestamp()[1], message.key(), message.value()
    )
