"""Offsets of a topic: where its partitions begin and end, and how far a group has read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from .client import TIMEOUT
from .errors import END_OF_PARTITION, failure

# A partition that is new, or has lost its leader, soon has one again.
_LEADERLESS = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
)


def watermarks(
    client: Consumer, topic: str, parts: Sequence[int], servers: str, *, timeout: float = TIMEOUT
) -> dict[int, tuple[int, int]]:
    """Per partition the offsets of its first record and of its next record."""
    deadline = time.monotonic() + timeout
    found: dict[int, tuple[int, int]] = {}
    while len(found) < len(parts):
        part = parts[len(found)]
        try:
            found[part] = client.get_watermark_offsets(TopicPartition(topic, part), timeout=timeout)
        except KafkaException as exc:
            if exc.args[0].code() not in _LEADERLESS or time.monotonic() > deadline:
                raise failure(exc, servers) from exc
            time.sleep(0.1)
    return found


def committed(client: Consumer, topic: str, parts: Sequence[int], servers: str) -> dict[int, int]:
    """Per partition the offset that the client's group has committed; leaves out partitions without one."""
    try:
        found = client.committed([TopicPartition(topic, part) for part in parts], timeout=TIMEOUT)
    except KafkaException as exc:
        raise failure(exc, servers) from exc
    return {place.partition: place.offset for place in found if place.offset >= 0}


def ends(client: AdminClient, topic: str, parts: Sequence[int], servers: str) -> dict[int, int]:
    """Per partition the offset of its next record, by one request to each broker."""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    wanted = {TopicPartition(topic, part): latest for part in parts}
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            answers = client.list_offsets(wanted, request_timeout=TIMEOUT)
            return {asked.partition: int(answer.result().offset) for asked, answer in answers.items()}
        except KafkaException as exc:
            if exc.args[0].code() not in _LEADERLESS or time.monotonic() > deadline:
                raise failure(exc, servers) from exc
            time.sleep(0.1)


def ends_before(message: Any, end: int | None) -> bool:
    """Whether a consumer that got this record or end of partition has everything before offset `end`."""
    if end is None:
        return False
    error = message.error()
    if error is None:
        return bool(message.offset() + 1 >= end)
    return error.code() == END_OF_PARTITION and bool(message.offset() >= end)
