"""Sends records to Kafka, and waits until every one is acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from ..config import Settings
from ..errors import CustsvcError, TemporaryError
from . import options as kafka_options
from .client import publisher_config
from .errors import failure
from .record import Headers

# librdkafka's PARTITION_UA, which its types lack.
_BY_KEY = -1


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


def _note_error(errors: list[KafkaError], error: KafkaError | None, _message: Any) -> None:
    if error is not None:
        errors.append(error)


class Publisher:
    """Produces records and waits until every one is acknowledged by all in-sync replicas.

    Idempotent, so a retry inside librdkafka neither repeats nor reorders. After any delivery error it makes a
    new producer; the caller sends its batch again.
    """

    def __init__(self, settings: Settings) -> None:
        self._servers = settings.kafka_servers
        self._options = settings.kafka_options
        self._config = publisher_config(settings)
        self._start()

    def _start(self) -> None:
        self._errors: list[KafkaError] = []
        config = {**self._config, "on_delivery": partial(_note_error, self._errors)}
        self._producer = kafka_options.make(Producer, config, self._options)

    def limit(self, most: int) -> None:
        """Set the largest record size in bytes: the topic's limit."""
        wanted = {"message.max.bytes": most, "batch.size": min(most, 1_000_000)}
        if any(self._config.get(name) != value for name, value in wanted.items()):
            self._config |= wanted
            self.renew()

    def send(
        self, topic: str, records: Iterable[Record], *, give_up: Callable[[], bool] = lambda: False
    ) -> int:
        """Send all records and wait for all acknowledgements; return how many were sent.

        Raises TemporaryError when Kafka refused one, or `give_up` returned true: then any of them may be on
        the topic, and the caller must send all again.
        """
        sent = 0
        try:
            produce = self._producer.produce
            for record in records:
                key, value, headers, partition = record
                try:
                    produce(topic, value, key, partition, headers=headers)
                except BufferError:
                    self._produce(topic, record, give_up)
                sent += 1
            # The remaining records are in flight, or have an error that is not handled yet. A flush lets none
            # of them linger for company.
            while self._producer.flush(0.05) and not self._errors:
                _go_on(give_up)
            if self._errors:
                raise failure(self._errors[0], self._servers)
        except KafkaException as exc:
            self.renew()
            raise failure(exc, self._servers) from exc
        except CustsvcError:
            self.renew()
            raise
        return sent

    def _produce(self, topic: str, record: Record, give_up: Callable[[], bool]) -> None:
        key, value, headers, partition = record
        while True:
            try:
                self._producer.produce(topic, value, key, partition, headers=headers)
                return
            except BufferError:
                self._producer.poll(0.1)
                _go_on(give_up)

    def renew(self) -> None:
        """Drop the records in flight and start with a new producer."""
        self.close()
        self._start()

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


def _go_on(give_up: Callable[[], bool]) -> None:
    if give_up():
        raise TemporaryError("stopped while waiting for Kafka", dependency="kafka")
