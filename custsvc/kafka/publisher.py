"""Sends records to Kafka, and waits until every one is acknowledged.

A callback for every acknowledgement would cost as much as the rest of sending a record. So where the
partitions are known, only the first and the last record of each have one. That suffices because the producer
is idempotent and gapless: what fails is the end of a partition's records, never one in between, and Kafka
takes no later one then. The offsets prove it once more: between the first and the last there must be room for
all others.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import repeat
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from ..config import Settings
from ..errors import CustsvcError, TemporaryError
from . import options as kafka_options
from .client import publisher_config
from .errors import failure
from .record import Headers

ANY_SIZE = 1_000_000_000
"""The limit of a publisher that leaves it to the broker which records are too big (librdkafka's most)."""

# librdkafka's PARTITION_UA, which its types lack.
_BY_KEY = -1

GiveUp = Callable[[], bool]
"""Whether to stop waiting for Kafka."""

_Callback = Callable[[KafkaError | None, Any], None]


class Record(NamedTuple):
    """A record to produce: its key decides the partition, and so the order, unless one is given."""

    key: bytes | None
    value: bytes | None
    headers: Headers | dict[str, str | bytes | None]
    partition: int = _BY_KEY


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Java's clients, and ours, choose for a key: its murmur2 hash (seed 0x9747b28c)."""
    length = len(key)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * 0x5BD1E995 & 0xFFFFFFFF
        k = (k ^ k >> 24) * 0x5BD1E995 & 0xFFFFFFFF
        h = (h * 0x5BD1E995 & 0xFFFFFFFF) ^ k
    if whole != length:
        h = (h ^ int.from_bytes(key[whole:], "little")) * 0x5BD1E995 & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return ((h ^ h >> 15) & 0x7FFFFFFF) % partitions


class Flight:
    """Records that were handed to Kafka's client together; `Publisher.land` waits for them.

    `parts` are their partitions, in the order of the records; empty if they are not known. `counts` says how
    many records there are of each. Once they have landed, `ends` says where each partition goes on, unless
    Kafka has not told.
    """

    def __init__(self, parts: Sequence[int]) -> None:
        self.counts = Counter(parts)
        self.sent = 0
        self.errors: list[KafkaError] = []
        self._parts = parts
        self._reports = 0
        self._offsets: dict[int, list[int]] = {}

    def callbacks(self) -> Iterable[_Callback | None]:
        """For each record the callback of its acknowledgement, or None."""
        if not self._parts:
            return repeat(self._report)
        count = len(self._parts)
        found: list[_Callback | None] = [None] * count
        last = dict(zip(self._parts, range(count), strict=True))
        first = dict(zip(reversed(self._parts), range(count - 1, -1, -1), strict=True))
        for number in (*first.values(), *last.values()):
            found[number] = self._report
        return found

    def _report(self, error: KafkaError | None, message: Any) -> None:
        self._reports += 1
        if error is not None:
            self.errors.append(error)
        else:
            offset = message.offset()
            # A record that Kafka had already when it was sent once more comes without its offset.
            self._offsets.setdefault(message.partition(), []).append(-1 if offset is None else offset)

    @property
    def has_landed(self) -> bool:
        if not self._parts:
            return self._reports == self.sent
        return self._reports == sum(min(count, 2) for count in self.counts.values())

    @property
    def ends(self) -> dict[int, int]:
        return {part: offsets[-1] + 1 for part, offsets in self._offsets.items() if offsets[-1] >= 0}

    def gaps(self) -> list[int]:
        """The partitions without room for all their records between the first and the last one."""
        return [
            part
            for part, count in self.counts.items()
            if len(found := self._offsets.get(part, [])) == 2
            and min(found) >= 0
            and found[1] - found[0] < count - 1
        ]


class Publisher:
    """Produces records and waits until every one is acknowledged by all in-sync replicas.

    Idempotent, so a retry inside librdkafka neither repeats nor reorders. After any delivery error it makes a
    new producer, and all records that had not landed are dropped; the caller sends them again.
    """

    def __init__(self, settings: Settings) -> None:
        self._servers = settings.kafka_servers
        self._options = settings.kafka_options
        self._config = publisher_config(settings)
        self._start()

    def _start(self) -> None:
        self._flying: deque[Flight] = deque()
        self._producer = kafka_options.make(Producer, self._config, self._options)

    def limit(self, most: int) -> None:
        """Set the largest record size in bytes: the topic's limit. Only when all records have landed."""
        wanted = {"message.max.bytes": most, "batch.size": min(most, 1_000_000)}
        if any(self._config.get(name) != value for name, value in wanted.items()):
            self._config |= wanted
            self.renew()

    def send(self, topic: str, records: Iterable[Record], *, give_up: GiveUp = lambda: False) -> int:
        """Send all records and wait for all acknowledgements; return how many were sent.

        Raises TemporaryError when Kafka refused one, or `give_up` returned true: then any of them may be on
        the topic, and the caller must send all again.
        """
        records = list(records)
        parts = [record.partition for record in records]
        flight = self.hand_over(topic, records, [] if _BY_KEY in parts else parts, give_up=give_up)
        self.land(flight, give_up=give_up)
        return flight.sent

    def hand_over(
        self,
        topic: str,
        records: Iterable[Record],
        parts: Sequence[int] = (),
        *,
        give_up: GiveUp = lambda: False,
    ) -> Flight:
        """Hand records to Kafka's client, behind all before them. `parts` are their partitions, if known.

        Raises as `send` does. Then also the flights before are dropped, where they have not landed.
        """
        flight = Flight(parts)
        with self._or_renew():
            produce = self._producer.produce
            for record, report in zip(records, flight.callbacks(), strict=bool(parts)):
                key, value, headers, partition = record
                try:
                    # By position, which saves a tenth of the call.
                    produce(topic, value, key, partition, report, None, 0, headers)
                except BufferError:
                    self._produce(topic, record, report, give_up)
                flight.sent += 1
            self._flying.append(flight)
        return flight

    def _produce(self, topic: str, record: Record, report: _Callback | None, give_up: GiveUp) -> None:
        key, value, headers, partition = record
        while True:
            try:
                self._producer.produce(topic, value, key, partition, report, headers=headers)
                return
            except BufferError:
                self._producer.poll(0.1)
                _go_on(give_up)

    def land(self, flight: Flight, *, give_up: GiveUp = lambda: False) -> None:
        """Wait until all records of the oldest flight are acknowledged. Raises as `hand_over` does."""
        if not self._flying or self._flying[0] is not flight:
            raise TemporaryError("records were dropped after an error of others", dependency="kafka")
        with self._or_renew():
            while not (flight.has_landed or flight.errors):
                if len(self._flying) > 1:
                    self._producer.poll(0.05)
                else:
                    # Nothing follows: a flush lets none of them linger for company.
                    self._producer.flush(0.05)
                if not flight.has_landed:
                    _go_on(give_up)
            self._check(flight)
        self._flying.popleft()

    def _check(self, flight: Flight) -> None:
        if flight.errors:
            raise failure(flight.errors[0], self._servers)
        if gaps := flight.gaps():
            raise TemporaryError(f"Kafka took not all records of partitions {gaps}", dependency="kafka")

    @contextmanager
    def _or_renew(self) -> Iterator[None]:
        """After any error go on with a new producer."""
        try:
            yield
        except KafkaException as exc:
            self.renew()
            raise failure(exc, self._servers) from exc
        except CustsvcError:
            self.renew()
            raise

    def renew(self) -> None:
        """Drop the records in flight and start with a new producer."""
        self.close()
        self._start()

    @contextmanager
    def dropping(self) -> Iterator[None]:
        """What has not landed at the end of the block is dropped."""
        try:
            yield
        finally:
            if self._flying:
                self.renew()

    def close(self) -> None:
        # Dropping records in flight is a fatal error for a gapless producer. The client raises it in whatever
        # code runs, even in a callback; this producer is discarded anyway.
        with suppress(KafkaException, SystemError):
            self._producer.purge()
            self._producer.flush(1)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _go_on(give_up: GiveUp) -> None:
    if give_up():
        raise TemporaryError("stopped while waiting for Kafka", dependency="kafka")
