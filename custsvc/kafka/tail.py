"""Watches the updates topic: every record between two places, without a consumer group or commits."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ..config import Settings
from ..domain.received import ReceivedEvent
from ..errors import BadArgument, BadEvent, NewerSchema
from .offsets import ends_before
from .reader import Marks, Reader
from .record import Message

# Seconds between two checks for a stop request, and records taken at once.
_WAIT: Final = 0.2
_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Seen:
    """A record on the topic: its place, and the event with its JSON, or why it is not an event."""

    partition: int
    offset: int
    timestamp_ms: int
    value: bytes | None
    event: ReceivedEvent | None
    problem: str | None


def watch(
    settings: Settings,
    *,
    start: str = "end",
    until: dt.datetime | None = None,
    leave_at_end: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Seen]:
    """Records from `start` (`beginning`, `end` or a time) as they come.

    Ends at `until`, or with `leave_at_end` at the end of the topic as it was at the start.
    """
    with Reader(settings) as topic:
        marks = topic.marks()
        places = places_of(topic, marks, start)
        open_parts = {part for part in marks if not leave_at_end or places[part] < marks[part][1]}
        if not open_parts:
            return
        for messages in topic.follow(places, wait=_WAIT, at_once=_AT_ONCE):
            if not messages and until is not None and dt.datetime.now(dt.UTC) > until:
                return
            for message in messages:
                part = message.partition()
                if part not in marks and not leave_at_end:
                    marks[part] = 0, 0  # it was added meanwhile
                    open_parts.add(part)
                if message.error() is None and part in open_parts:
                    seen = _seen(topic, message)
                    if until is not None and seen.timestamp_ms > until.timestamp() * 1000:
                        open_parts.discard(part)
                    else:
                        yield seen
                if leave_at_end and part in marks and ends_before(message, marks[part][1]):
                    open_parts.discard(part)
            if stopped() or not open_parts:
                return


def parse_time(text: str) -> dt.datetime:
    """An ISO time (UTC unless it says otherwise), or how long ago: `30s`, `15m`, `2h`, `7d`."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    try:
        if text[-1:] in units:
            return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=float(text[:-1]) * units[text[-1]])
        time_given = dt.datetime.fromisoformat(text)
    except (ValueError, OverflowError) as exc:
        raise BadArgument(
            f"{text!r} is not a time", fix="give 2026-11-23T20:40:00Z, or how long ago: 30s, 15m, 2h, 7d"
        ) from exc
    return time_given if time_given.tzinfo else time_given.replace(tzinfo=dt.UTC)


def places_of(topic: Reader, marks: Marks, start: str) -> dict[int, int]:
    """Per partition, the offset of a place: `beginning`, `end`, a time, or how long ago."""
    if start == "beginning":
        return {part: low for part, (low, _) in marks.items()}
    if start == "end":
        return {part: high for part, (_, high) in marks.items()}
    # No record is from before 1970, and to Kafka -1 and -2 mean the end and the beginning.
    return topic.at(max(0, int(parse_time(start).timestamp() * 1000)), marks)


def _seen(topic: Reader, message: Message) -> Seen:
    value = message.value()
    event, problem = None, None
    try:
        event = topic.events.read(message, value) if value is not None else None
        problem = "tombstone" if value is None else None
    except (BadEvent, NewerSchema) as exc:
        problem = str(exc)
    said = event.value if event else value
    return Seen(message.partition(), message.offset(), message.timestamp()[1], said, event, problem)
