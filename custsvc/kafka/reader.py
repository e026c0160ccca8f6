"""Reads a topic between two places, or from one place on: without a consumer group or commits.

with Reader(settings) as topic:
    for record in topic.read(topic.marks()):
        ...
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, Final, Self, cast

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Arrived

from ..config import Settings
from ..errors import PositionLost, TemporaryError
from . import offsets, topics
from .client import consumer
from .errors import END_OF_PARTITION, failure, is_passing
from .formats import Events
from .offsets import ends_before
from .record import Arrival, Message

# A consumer has to name a group. No client joins this one or commits in it.
_GROUP: Final = "reader-unused"
_AT_ONCE: Final = 1000
# Seconds between two looks for added partitions, and for their first record.
_LOOK_EVERY: Final = 5.0
_LOOK_SOON: Final = 0.5
_LOST: Final = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)

Marks = Mapping[int, tuple[int, int]]
"""Per partition the offsets of its first record and of its next record."""


class Reader:
    """A topic, by default that of the events, for one thread at a time. The caller closes it (`with`).

    Raises TemporaryError if Kafka does not answer, ConfigurationError if there is no such topic.
    """

    def __init__(self, settings: Settings, topic: str | None = None, **options: Any) -> None:
        """`options`: as those of `consumer`."""
        self.topic = topic or settings.topic_updates
        self._servers = settings.kafka_servers
        self._client = consumer(settings, _GROUP, **options)
        self.events = Events(settings)
        """Reads the events of its records."""

    def of(self, topic: str) -> Self:
        """A reader of another topic on the same connections; it is closed with this one."""
        other = copy(self)
        other.topic = topic
        return other

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- places ---------------------------------------------------------------------------------------------

    def partitions(self) -> list[int]:
        """The topic's partitions."""
        return topics.partitions(self._client, self.topic, self._servers)

    def marks(self, parts: Sequence[int] | None = None) -> dict[int, tuple[int, int]]:
        """Where these partitions, or all, begin and end."""
        parts = self.partitions() if parts is None else parts
        return offsets.watermarks(self._client, self.topic, parts, self._servers)

    def at(self, millis: int, marks: Marks) -> dict[int, int]:
        """Per partition the offset of its first record at or after this time, or its end."""
        found = offsets.at_times(self._client, self.topic, dict.fromkeys(marks, millis), self._servers)
        return {part: offset if offset >= 0 else marks[part][1] for part, offset in found.items()}

    # -- records --------------------------------------------------------------------------------------------

    def read(self, ranges: Marks, *, timeout: float = 10.0) -> Iterator[Message]:
        """The records of these partitions from the first offset to before the second.

        It tolerates offsets without a record, as compaction leaves them. Raises TemporaryError if no record
        comes for `timeout` seconds before the end.
        """
        left = {part: end for part, (start, end) in ranges.items() if start < end}
        with self._assigned({part: ranges[part][0] for part in left}):
            for message in self._while_any(left, timeout):
                part = message.partition()
                if message.error() is None and message.offset() < ranges[part][1]:
                    yield message
                if ends_before(message, left.get(part)):
                    del left[part]

    def first_times(self, ranges: Marks, *, timeout: float = 10.0) -> dict[int, int]:
        """The partitions that hold a record from the first offset to before the second.

        Each with the time of the first such record, in milliseconds since 1970. Transaction markers take
        offsets too, so a partition may end beyond its last record.
        """
        left = {part: end for part, (start, end) in ranges.items() if start < end}
        found: dict[int, int] = {}
        with self._assigned({part: ranges[part][0] for part in left}):
            for message in self._while_any(left, timeout):
                part = message.partition()
                if message.error() is None and part in left and message.offset() < left[part]:
                    found[part] = message.timestamp()[1]
                elif not ends_before(message, left.get(part)):
                    continue
                left.pop(part, None)
        return found

    def follow(self, starts: Mapping[int, int], *, wait: float, at_once: int) -> Iterator[list[Arrival]]:
        """Yield what these partitions hold from these offsets on, in batches, without end.

        A batch has records and ends of partitions that were reached; it is empty after `wait` seconds of
        silence. Partitions that are added later are read too, each customer's events in order. Raises
        PositionLost if the topic lacks the next record and `auto_offset_reset` is `error`.
        """
        self._assign(starts)
        added = _Added(self, starts)
        while True:
            messages = self._client.consume(1, wait)
            if messages:
                messages += self._client.consume(at_once, 0)
            good = cast("list[Arrival]", [message for message in messages if self._is_good(message)])
            yield good
            if more := added.after(good):
                places = [TopicPartition(self.topic, part, start) for part, start in more.items()]
                self._client.incremental_assign(places)

    def _is_good(self, message: Arrived) -> bool:
        """Whether this is a record or an end; False for a passing error. Raises all other errors."""
        error = message.error()
        if error is None or error.code() == END_OF_PARTITION:
            return True
        if error.code() in _LOST:
            raise PositionLost(f"{self.topic} does not hold what comes next: {error.str()}")
        if not is_passing(error):
            raise failure(error, self._servers)
        return False

    @contextmanager
    def _assigned(self, starts: Mapping[int, int]) -> Iterator[None]:
        """Read these partitions from these offsets within the block."""
        try:
            self._assign(starts)
            yield
        except KafkaException as exc:
            raise failure(exc, self._servers) from exc
        finally:
            self._client.unassign()

    def _assign(self, starts: Mapping[int, int]) -> None:
        self._client.assign([TopicPartition(self.topic, part, start) for part, start in starts.items()])

    def _while_any(self, left: Mapping[int, int], timeout: float) -> Iterator[Any]:
        """Yield what arrives while a partition is `left`. Raises TemporaryError after too long a silence."""
        deadline = time.monotonic() + timeout
        while left:
            messages = self._client.consume(_AT_ONCE, 0.05)
            for message in messages:
                if (error := message.error()) is not None and not is_passing(error):
                    raise failure(error, self._servers)
                yield message
            if messages:
                deadline = time.monotonic() + timeout
            if time.monotonic() > deadline:
                raise TemporaryError(
                    f"partitions {sorted(left)} of {self.topic} give nothing", dependency="kafka"
                )


class _Added:
    """Finds partitions that are added to a topic, and says when to read them.

    The relay sends nothing to an added partition before all earlier events are on the old ones. So the ends
    that the old ones have once an added one holds a record lie after these events: read to there first.
    """

    def __init__(self, topic: Reader, starts: Mapping[int, int]) -> None:
        self._topic = topic
        self._reached = dict(starts)
        self._looked, self._every = -math.inf, _LOOK_EVERY
        # The ends up to which the old partitions are read first, and where the added ones begin.
        self._until: dict[int, int] = {}
        self._waiting: dict[int, int] = {}

    def after(self, arrived: Sequence[Arrival]) -> dict[int, int]:
        """After these records and ends were handled: the added partitions to read now, and where from."""
        for message in arrived:
            self._reached[message.partition()] = message.offset() + (message.error() is None)
        if not self._waiting and time.monotonic() - self._looked > self._every:
            self._look()
        if any(self._reached[part] < end for part, end in self._until.items()):
            return {}
        ready, self._waiting, self._until = self._waiting, {}, {}
        self._reached |= ready
        return ready

    def _look(self) -> None:
        added = [part for part in self._topic.partitions() if part not in self._reached]
        begins = self._topic.marks(added)
        if any(high for _, high in begins.values()):
            self._waiting = {part: low for part, (low, _) in begins.items()}
            self._until = {part: high for part, (_, high) in self._topic.marks(list(self._reached)).items()}
        self._every = _LOOK_SOON if added else _LOOK_EVERY
        self._looked = time.monotonic()
