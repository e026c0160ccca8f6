"""Watching the updates topic: every record from a place to a place, without a group and without commits."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..config import Settings
from ..domain.events import ReceivedEvent, decode
from ..errors import BadEvent, ConfigurationError, NewerSchema
from . import client as kafka


@dataclass(frozen=True, slots=True)
class Seen:
    """A record on the topic: its place, and the event, or why it is none."""

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

    Ends at `until`, or with `leave_at_end` at what was the end when it began.
    """
    servers, topic = settings.kafka_servers, settings.topic_updates
    client = kafka.consumer(settings, "custsvc-tail-unused")
    try:
        marks = kafka.all_watermarks(client, topic, servers)
        places = places_of(client, topic, marks, start, servers)
        client.assign([kafka.TopicPartition(topic, part, offset) for part, offset in places.items()])
        open_parts = {part for part in marks if not leave_at_end or places[part] < marks[part][1]}
        ended: set[int] = set()
        while open_parts and not stopped():
            message = client.poll(0.2)
            if message is None:
                if until is not None and dt.datetime.now(dt.UTC) > until:
                    return
                continue
            if leave_at_end and kafka.ends_before(message, marks[message.partition() or 0][1]):
                ended.add(message.partition() or 0)
            if (error := message.error()) is not None:
                open_parts -= ended
                if kafka.is_passing(error):
                    continue
                raise kafka.failure(error, servers)
            seen = _seen(message)
            if until is not None and seen.timestamp_ms > until.timestamp() * 1000:
                open_parts.discard(seen.partition)
                continue
            if seen.partition in open_parts:
                yield seen
            open_parts -= ended
    finally:
        client.close()


def parse_time(text: str) -> dt.datetime:
    """An ISO time (UTC unless it says otherwise), or how long ago: `30s`, `15m`, `2h`, `7d`."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    try:
        if text[-1:] in units:
            return dt.datetime.fromtimestamp(time.time() - float(text[:-1]) * units[text[-1]], dt.UTC)
        time_given = dt.datetime.fromisoformat(text)
    except ValueError as exc:
        raise ConfigurationError(
            f"{text!r} is not a time", fix="give 2026-11-23T20:40:00Z, or how long ago: 30s, 15m, 2h, 7d"
        ) from exc
    return time_given if time_given.tzinfo else time_given.replace(tzinfo=dt.UTC)


def places_of(
    client: kafka.Consumer, topic: str, marks: dict[int, tuple[int, int]], start: str, servers: str
) -> dict[int, int]:
    """Per partition, the offset of a place: `beginning`, `end`, a time, or how long ago."""
    if start == "beginning":
        return {part: low for part, (low, _) in marks.items()}
    if start == "end":
        return {part: high for part, (_, high) in marks.items()}
    wanted = int(parse_time(start).timestamp() * 1000)
    try:
        found = client.offsets_for_times(
            [kafka.TopicPartition(topic, part, wanted) for part in marks], timeout=kafka.TIMEOUT
        )
    except kafka.KafkaException as exc:
        raise kafka.failure(exc, servers) from exc
    return {p.partition: p.offset if p.offset >= 0 else marks[p.partition][1] for p in found}


def _seen(message: kafka.Message) -> Seen:
    value = message.value()
    event, problem = None, None
    try:
        event = decode(value, message.key()) if value is not None else None
        problem = "tombstone" if value is None else None
    except (BadEvent, NewerSchema) as exc:
        problem = str(exc)
    partition, offset = message.partition() or 0, message.offset() or 0
    return Seen(partition, offset, message.timestamp()[1], value, event, problem)
