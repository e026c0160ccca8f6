"""Offsets of a topic: where its partitions begin and end, and how far a group has read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from .client import TIMEOUT
from .errors import END_OF_PARTITION, failure

T = TypeVar("T")

# A partition that is new, or has lost its leader, soon has one again; or it has one that the client does not
# know of yet.
_LEADERLESS = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
)


def watermarks(
    client: Consumer, topic: str, parts: Sequence[int], servers: str, *, timeout: float = TIMEOUT
) -> dict[int, tuple[int, int]]:
    """Per partition the offsets of its first record and of its next record."""
    found = {}
    for part in parts:
        asked = TopicPartition(topic, part)
        ask = partial(client.get_watermark_offsets, asked, timeout=timeout)
        found[part] = _from_leaders(ask, client, topic, servers, timeout)
    return found


def at_times(
    client: Consumer, topic: str, times: Mapping[int, int], servers: str, *, timeout: float = TIMEOUT
) -> dict[int, int]:
    """Per partition the offset of its first record at or after a time in milliseconds; -1 if none is."""
    wanted = [TopicPartition(topic, part, millis) for part, millis in times.items()]
    ask = partial(client.offsets_for_times, wanted, timeout=timeout)
    return {place.partition: place.offset for place in _from_leaders(ask, client, topic, servers, timeout)}


def committed(client: Consumer, topic: str, parts: Sequence[int], servers: str) -> dict[int, int]:
    """Per partition the offset that the client's group has committed; leaves out partitions without one."""
    try:
        found = client.committed([TopicPartition(topic, part) for part in parts], timeout=TIMEOUT)
    except KafkaException as exc:
        raise failure(exc, servers) from exc
    return {place.partition: place.offset for place in found if place.offset >= 0}


def ends(
    client: AdminClient, topic: str, parts: Sequence[int], servers: str, *, first: bool = False
) -> dict[int, int]:
    """Per partition the offset of its next record, or of its `first`, by one request to each broker."""
    spec = OffsetSpec.earliest() if first else OffsetSpec.latest()  # type: ignore[no-untyped-call]
    wanted = {TopicPartition(topic, part): spec for part in parts}

    def ask() -> dict[int, int]:
        answers = client.list_offsets(wanted, request_timeout=TIMEOUT)
        return {asked.partition: int(answer.result().offset) for asked, answer in answers.items()}

    return _from_leaders(ask, client, topic, servers, TIMEOUT)


def _from_leaders(
    ask: Callable[[], T], client: Consumer | AdminClient, topic: str, servers: str, timeout: float
) -> T:
    """What the leaders of the topic's partitions answer, once they can; TemporaryError after `timeout`.

    The client remembers the leaders for up to a quarter of an hour, and names the epoch that it remembers.
    After an election it would be refused for as long, so it has to learn anew who leads.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return ask()
        except KafkaException as exc:
            if exc.args[0].code() not in _LEADERLESS or time.monotonic() > deadline:
                raise failure(exc, servers) from exc
            time.sleep(0.1)
        with suppress(KafkaException):
            client.list_topics(topic, timeout=timeout)


def ends_before(message: Any, end: int | None) -> bool:
    """Whether a consumer that got this record or end of partition has everything before offset `end`."""
    if end is None:
        return False
    error = message.error()
    if error is None:
        return bool(message.offset() + 1 >= end)
    return error.code() == END_OF_PARTITION and bool(message.offset() >= end)
