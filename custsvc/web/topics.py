"""Looking into Kafka for the pages: the newest records, and where one customer's last change is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from ..config import Settings
from ..domain.customers import parse_time
from ..kafka import client as kafka

_PATIENCE: Final = 2.0
# The clocks of the database, of us and of Kafka may differ by so much.
_CLOCKS: Final = 60.0
_LOOK_AT: Final = 50_000
_GROUP: Final = "custsvc-pages-unused"


@dataclass(frozen=True, slots=True)
class Found:
    """A record as it lies on a topic."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None

    def json(self) -> dict[str, Any] | None:
        """The value as a JSON object; None where it is none."""
        try:
            value = orjson.loads(self.value or b"")
        except orjson.JSONDecodeError:
            return None
        return value if isinstance(value, dict) else None


@contextmanager
def _reading(settings: Settings) -> Iterator[kafka.Consumer]:
    client = kafka.consumer(settings, _GROUP)
    try:
        yield client
    finally:
        client.close()


class Newest(NamedTuple):
    """The newest records of a topic, the last one first, and the place after them as the stream takes it."""

    records: list[Found]
    place: str


def newest(settings: Settings, topic: str, count: int) -> Newest:
    """The newest records of a topic. Raises ConfigurationError where there is no such topic."""
    servers = settings.kafka_servers
    with _reading(settings) as client:
        marks = kafka.all_watermarks(client, topic, servers)
        starts = {part: max(low, high - count) for part, (low, high) in marks.items()}
        ends = {part: high for part, (_, high) in marks.items() if starts[part] < high}
        found = list(_read(client, topic, {part: starts[part] for part in ends}, ends))
    found.sort(key=lambda record: (record.timestamp_ms, record.offset), reverse=True)
    return Newest(found[:count], ".".join(str(marks[part][1]) for part in sorted(marks)))


def where_is(settings: Settings, customer_id: int, version: int, event_ts: str) -> Found | None:
    """The record of this version of a customer; None where the relay has not brought it yet."""
    servers, topic = settings.kafka_servers, settings.topic_updates
    key = str(customer_id).encode()
    with _reading(settings) as client:
        parts = kafka.partitions(client, topic, servers)
        part = kafka.partition_of(key, len(parts))
        ((low, high),) = kafka.watermarks(client, topic, [part], servers).values()
        since = int((parse_time(event_ts).timestamp() - _CLOCKS) * 1000)
        try:
            (place,) = client.offsets_for_times(
                [kafka.TopicPartition(topic, part, since)], timeout=kafka.TIMEOUT
            )
        except kafka.KafkaException as exc:
            raise kafka.failure(exc, servers) from exc
        start = place.offset if place.offset >= 0 else high
        for record in _read(client, topic, {part: max(start, low)}, {part: high}, only=key):
            event = record.json()
            if event is not None and event.get("version") == version:
                return record
    return None


def _read(
    client: kafka.Consumer,
    topic: str,
    starts: dict[int, int],
    ends: dict[int, int],
    only: bytes | None = None,
) -> Iterator[Found]:
    """Records from `starts` up to `ends`, as long as patience lasts."""
    left = {part for part, end in ends.items() if starts[part] < end}
    if not left:
        return
    client.assign([kafka.TopicPartition(topic, part, starts[part]) for part in left])
    deadline = time.monotonic() + _PATIENCE
    looked_at = 0
    while left and time.monotonic() < deadline and looked_at < _LOOK_AT:
        for message in client.consume(500, timeout=0.2):
            looked_at += 1
            part, offset = message.partition() or 0, message.offset() or 0
            if kafka.ends_before(message, ends.get(part)):
                left.discard(part)
            if message.error() is not None:
                continue
            if offset < ends[part] and (only is None or message.key() == only):
                yield _found(message)


def _found(message: kafka.Message) -> Found:
    return Found(
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        message.key(),
        message.value(),
    )
